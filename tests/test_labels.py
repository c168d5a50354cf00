"""Labels of a user's own data: folders, arrays and tables; as many classes as there are."""

import json

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tensorflow as tf

from tests.test_data import settings
from train import data
from train.build import build_model
from train.data import array_file
from train.main import main
from train.reference import write

RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, (60, 6, 6)).astype(np.uint8)
Y = np.tile([3, 5, 7], 20)
TASKS = pytest.mark.parametrize("task", ["--conditional", "--task=hybrid"])


def described(kind, path, *given):
    return data.describe(settings(f"--data={kind}", f"--dataroot={path}", "--batchsize=4", *given))


def pairs(source):
    """`(bytes of an example, code of its class)` of all parts, sorted."""
    found = []
    for split, count in source.counts.items():
        rows = tf.range(count)
        codes = source.fetch_context[split](rows).numpy()
        codes = codes.argmax(axis=1) if codes.ndim == 2 else codes.astype(int)
        found += zip([x.tobytes() for x in source.fetch[split](rows).numpy()], codes.tolist())
    return sorted(found)


def folder(root, names=("cat", "dog", "bird"), images=IMAGES, y=Y):
    for i, (image, label) in enumerate(zip(images, y)):
        place = root / names[[3, 5, 7].index(label)] / "some"  # below the folder of a class
        place.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(place / f"{i:02}.png")
    return root


def of_folder(root):
    return "folder", folder(root / "images")


def of_parts_of_a_folder(root):
    for part, own in (("train", slice(0, 30)), ("test", slice(30, 45)), ("val", slice(45, 60))):
        folder(root / "images" / part, images=IMAGES[own], y=Y[own])
    return "folder", root / "images"


def of_one_array(root):
    np.savez(root / "x.npz", x=IMAGES, y=Y)
    return "array", root / "x.npz"


def of_arrays(root):
    np.savez(root / "x.npz", x_train=IMAGES[:40], y_train=Y[:40], x_test=IMAGES[40:],
             test_labels=Y[40:, None].astype(float))
    return "array", root / "x.npz"


def of_two_files(root):
    np.save(root / "x.npy", IMAGES)
    np.save(root / "y.npy", Y)
    return "array", root / "x.npy", f"--labels={root / 'y.npy'}"


def of_tensors(root):
    write({"images": IMAGES, "labels": Y}, root / "x.pth")
    return "array", root / "x.pth"


def of_two_tensors(root):
    write(IMAGES, root / "x.pth")
    write(Y, root / "y.pt")
    return "array", root / "x.pth", f"--labels={root / 'y.pt'}"


FILES = {"train_batch_1": slice(0, 20), "train_batch_2": slice(20, 45), "val": slice(45, 60)}


def of_many_files(root):
    """As downsampled ImageNet, with labels in each."""
    (root / "x").mkdir()
    for name, own in FILES.items():
        np.savez(root / "x" / f"{name}.npz", data=IMAGES[own], labels=Y[own], mean=IMAGES.mean(0))
    return "array", root / "x"


def beside_many_files(root):
    for folder, arrays in (("x", IMAGES), ("y", Y)):
        (root / folder).mkdir()
        for name, own in FILES.items():
            np.save(root / folder / f"{name}.npy", arrays[own])
    return "array", root / "x", f"--labels={root / 'y'}"


def beside_their_parts(root):
    beside_many_files(root)
    np.savez(root / "y.npz", train=Y[:45], validation=Y[45:])
    return "array", root / "x", f"--labels={root / 'y.npz'}"


ARRAYS = [of_one_array, of_arrays, of_two_files, of_tensors, of_two_tensors, of_many_files,
          beside_many_files, beside_their_parts]


@TASKS
@pytest.mark.parametrize("made", [of_folder, of_parts_of_a_folder, *ARRAYS])
def test_each_image_has_its_label(made, task, tmp_path, capsys):
    """In three classes, whatever they are called, in each part."""
    source = described(*made(tmp_path), task)
    names = sorted(["cat", "dog", "bird"]) if "folder" in made.__name__ else ["3", "5", "7"]
    assert source.classes == tuple(names)
    assert source.context_shape == ((3,) if task == "--conditional" else ())
    own = ["cat", "dog", "bird"] if "folder" in made.__name__ else names
    want = [names.index(own[[3, 5, 7].index(label)]) for label in Y]
    assert pairs(source) == sorted(zip([image.tobytes() for image in IMAGES], want))
    assert not {"y", "labels"} & set(capsys.readouterr().err.split())  # of what is left out


@pytest.mark.parametrize("made", ARRAYS)
def test_images_that_stay_in_their_files_have_their_labels(made, tmp_path, monkeypatch):
    wanted = pairs(described(*made(tmp_path), "--conditional"))
    monkeypatch.setattr(array_file, "LARGE", 0)
    (own := tmp_path / "own").mkdir()
    assert pairs(described(*made(own), "--conditional")) == wanted


def csv(path, y=Y):
    frame = pd.DataFrame({"a": RNG.randn(len(y)), "kind": y, "b": RNG.randn(len(y))})
    frame["a"] += 3 * frame["kind"]
    frame.to_csv(path, index=False)
    return "csv", path, "--labels=kind"


@TASKS
def test_a_column_of_labels(task, tmp_path):
    source = described(*csv(tmp_path / "x.csv"), task)
    assert source.classes == ("3", "5", "7") and source.scaler.columns == ("a", "b")
    rows = source.fetch["train"](tf.range(source.counts["train"])).numpy()
    codes = source.fetch_context["train"](tf.range(len(rows))).numpy()
    codes = codes.argmax(axis=1) if codes.ndim == 2 else codes
    means = [source.scaler.original(rows)[codes == i, 0].mean() for i in range(3)]
    np.testing.assert_allclose(means, [9, 15, 21], atol=1.5)


def test_without_need_of_labels_there_are_none(tmp_path, capsys):
    source = described(*of_one_array(tmp_path))
    assert source.classes is None and source.context_shape is None
    assert "left out: y" in capsys.readouterr().err


def test_a_model_has_as_many_classes_as_the_data(tmp_path):
    """The head's logits, and the context of a flow."""
    tiny = "--nblocks=1", "--idim=4", "--cdim=4", "--nofc_end", "--dims=4"
    kind, path = of_folder(tmp_path)
    given = f"--data={kind}", f"--dataroot={path}", *tiny
    assert build_model(settings(*given, "--conditional")).flow.context_shape == (3,)
    model = build_model(settings(*given, "--task=classification"))
    assert model.classify(tf.fill([2, 6, 6, 1], 0.5)).shape == [2, 3]
    kind, path, labels = csv(tmp_path / "x.csv")
    given = f"--data={kind}", f"--dataroot={path}", labels, *tiny
    assert build_model(settings(*given, "--conditional")).flow.context_shape == (3,)
    assert build_model(settings(*given, "--task=hybrid")).classify(tf.zeros([2, 2])).shape == [2, 3]


def changed(**arrays):
    return lambda root: (np.savez(root / "x.npz", **arrays), ("array", root / "x.npz"))[1]


def in_no_folder(root):
    folder(root)
    PIL.Image.fromarray(IMAGES[0]).save(root / "alone.png")
    return "folder", root


def a_test_of_its_own(root):
    of_parts_of_a_folder(root)
    (root / "images" / "test" / "cat").rename(root / "images" / "test" / "cow")
    return "folder", root / "images"


def without_labels_in_one(root):
    given = of_many_files(root)
    np.savez(root / "x" / "val.npz", data=IMAGES[45:])
    return given


def in_a_table(root):
    return *of_one_array(root), f"--labels={csv(root / 'y.csv')[1]}"


@pytest.mark.parametrize("made, message", [
    (without_labels_in_one, "val.npz: one array of labels is expected, named y. Found 0"),
    (in_a_table, "--labels must be a .npy, .npz or .pth file or a folder of them. .*/y.csv"),
    (lambda root: (*beside_their_parts(root)[:2], f"--labels={root / 'x' / 'val.npy'}"),
     "labels are missing. Expected arrays named y_train, y_validation$"),
    (changed(x=IMAGES), r"labels are missing. Expected arrays named y, or --labels=FILE.npy"),
    (changed(x_train=IMAGES, x_test=IMAGES, y_train=Y), "Expected arrays named y_test"),
    (changed(x=IMAGES, y=Y[:9]), "a label for each of the 60 examples .* Found 9"),
    (changed(x=IMAGES, y=Y + 0.5), "labels must be whole numbers. Received: 3.5 in row 0"),
    (changed(x=IMAGES, y=np.where(Y == 5, np.nan, Y)), "whole numbers. Received: nan in row 1"),
    (changed(x=IMAGES, y=Y.astype(str)), "labels must be whole numbers. Received: <U"),
    (changed(x=IMAGES, y=np.eye(8)[Y]), r"labels must be \[n\], .* Of one-hot labels, labels.arg"),
    (changed(x=IMAGES, y=np.ones(60, int)), "at least two classes in the training part. Found 1"),
    (changed(x_train=IMAGES, x_test=IMAGES, y_train=Y, y_test=Y + 2),
     "the test part must have classes of the training part alone, 3, 5, 7. Found 9"),
    (lambda root: (*of_two_files(root)[:2], f"--labels={root / 'z.npy'}"), "z.npy: no such file"),
    (in_no_folder, "alone.png: labels are the folders of images, CLASS/image.png, and this im"),
    (a_test_of_its_own, "the test part must have classes of .* bird, cat, dog. Found cow"),
    (lambda root: (*csv(root / "x.csv")[:2], "--labels=colour"), "--labels must be one of several"),
    (lambda root: csv(root / "x.csv", Y + 0.5), "column 'kind': labels must be whole numbers")])
def test_labels_that_are_not_right_are_one_line(made, message, tmp_path):
    with pytest.raises((ValueError, OSError), match=message) as error:
        described(*made(tmp_path), "--conditional")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given, message", [
    (["--data=csv", "--dataroot=x.csv", "--conditional"], "--labels must name the column of the"),
    (["--data=folder", "--dataroot=x", "--conditional", "--labels=y"], "come with --data=csv or"),
    (["--data=csv", "--dataroot=x", "--labels=y"], "--labels must come with --conditional, or"),
    (["--data=moons", "--conditional"], "--conditional must come with --data=mnist5k"),
    (["--data=photos", "--task=hybrid"], "--task must be density unless --data is mnist5k"),
    (["--data=csv", "--dataroot=x", "--labels=y", "--context_columns=a", "--task=hybrid"],
     "--context_columns must not come with --conditional")])
def test_flags_that_do_not_fit(given, message):
    with pytest.raises(ValueError, match=message):
        settings(*given)


RUN = ("--nblocks=1", "--idim=4", "--nofc_end", "--dims=8", "--cdim=8", "--batchsize=8",
       "--niters=4", "--val_every=2", "--n_sample_images=12")


@pytest.mark.slow
@pytest.mark.parametrize("made, task", [
    (of_folder, "--conditional"), (of_one_array, "--task=hybrid"),
    (lambda root: csv(root / "x.csv"), "--conditional"),
    (lambda root: csv(root / "x.csv"), "--task=hybrid")],
    ids=["folder", "array", "csv", "csv_hybrid"])
def test_a_run(made, task, tmp_path):
    """From training to evaluation and samples: a row for each of three classes."""
    kind, path, *labels = made(tmp_path)
    workdir = tmp_path / "run"
    given = f"--data={kind}", f"--dataroot={path}", *labels, task, *RUN
    assert main(["x", *given, f"--workdir={workdir}"]) == 0
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["num_test_examples"] == 6 and metrics["reconstruction_error"] < 1e-3
    assert metrics.get("num_classes") == (3 if task == "--task=hybrid" else None)
    assert len(json.loads((workdir / "data.json").read_text())["classes"]) == 3
    if kind == "folder":
        assert PIL.Image.open(workdir / "samples.png").size == (3 * (4 * 7 + 1), 3 * (3 * 7 + 1))
    if kind == "csv":
        samples = pd.read_csv(workdir / "samples.csv")
        assert list(samples)[:2] == ["a", "b"]
        assert task == "--task=hybrid" or set(samples["kind"]) <= {3, 5, 7}
    assert main(["x", "eval", f"--workdir={workdir}"]) == 0


@pytest.mark.slow
def test_other_data_has_the_classes_of_the_run(tmp_path, capsys):
    """`eval` of a table without one of them numbers the others as the run did."""
    kind, path, labels = csv(tmp_path / "x.csv")
    workdir = f"--workdir={tmp_path / 'run'}"
    assert main(["x", f"--data={kind}", f"--dataroot={path}", labels, "--task=classification",
                 *RUN, workdir]) == 0
    csv(tmp_path / "two.csv", np.tile([3, 7], 30))
    assert main(["x", "eval", workdir, f"--dataroot={tmp_path / 'two.csv'}"]) == 0
    csv(tmp_path / "other.csv", Y + 1)
    assert main(["x", "eval", workdir, f"--dataroot={tmp_path / 'other.csv'}"]) == 2
    error = capsys.readouterr().err
    assert "classes of the training part of the model alone, 3, 5, 7. Found 4, 6, 8" in error
