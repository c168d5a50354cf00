"""`ood`: areas and their errors by an independent count, and what a model sees of other data."""

import io
import json
import math

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from sklearn.metrics import roc_auc_score

from tests.test_data import settings
from train import data, flags
from train.auroc import auroc
from train.data import pipeline
from train.main import main
from train.ood import png_bits

RANDOM = np.random.RandomState(0)
INSIDE, OUTSIDE = RANDOM.randn(60), RANDOM.randn(90) + 0.8
TIED = INSIDE.round(1), OUTSIDE.round(1)


@pytest.mark.parametrize("inside, outside", [(INSIDE, OUTSIDE), TIED, (INSIDE, INSIDE[:20])])
def test_area_and_error_are_those_of_all_pairs(inside, outside):
    """DeLong's placements, one pair after the other."""
    wins = (outside[:, None] > inside) + 0.5 * (outside[:, None] == inside)
    variance = wins.mean(0).var(ddof=1) / len(inside) + wins.mean(1).var(ddof=1) / len(outside)
    area, error = auroc(inside, outside)
    assert area == pytest.approx(wins.mean(), abs=1e-12)
    assert error == pytest.approx(math.sqrt(variance), rel=1e-10)
    truth = np.repeat([0, 1], [len(inside), len(outside)])
    assert area == roc_auc_score(truth, np.concatenate([inside, outside]))


def test_the_error_is_that_of_a_bootstrap():
    random, areas = np.random.RandomState(1), []
    for _ in range(1000):
        areas.append(auroc(random.choice(INSIDE, 60), random.choice(OUTSIDE, 90))[0])
    # Its own error is 1 / sqrt(2000), 2 per cent.
    assert auroc(INSIDE, OUTSIDE)[1] == pytest.approx(np.std(areas), rel=0.1)


def test_of_a_single_score_no_error_is_known():
    area, error = auroc([1.0], [0.0, 2.0])
    assert area == 0.5 and math.isnan(error)


@pytest.mark.parametrize("nbits, channels", [(8, 1), (5, 3)])
def test_png_bits_are_those_of_a_file_that_holds_the_levels(nbits, channels):
    levels = RANDOM.randint(0, 2 ** nbits, (2, 8, 8, channels)).astype(np.uint8)
    levels[1] = 3
    x = pipeline.dequantize(levels, RANDOM.uniform(size=levels.shape).astype("float32"), nbits)
    found = png_bits(x.numpy(), nbits)
    for image, bits in zip(levels * 2 ** (8 - nbits), found):
        file = io.BytesIO()
        PIL.Image.fromarray(image.squeeze()).save(file, "PNG", optimize=True)
        np.testing.assert_array_equal(PIL.Image.open(file), image.squeeze())
        assert bits == 8 * len(file.getvalue())
    assert found[1] < found[0] - 200


def seen(chosen, most=100):
    """All that a model is shown of --data_out, without noise."""
    batches = data.load_outside(chosen, most)
    return np.concatenate(list(batches.as_numpy_iterator()))


def of_digits(folder, *given):
    flags.save(settings("--data=digits", "--nbits=4"), folder, "")
    return settings("ood", f"--workdir={folder}", "--noadd_noise", *given)


def test_images_are_made_grey_and_small(tmp_path):
    colours = RANDOM.randint(0, 256, (6, 3)).astype(np.uint8)
    for i, colour in enumerate(colours):
        PIL.Image.fromarray(np.full((20, 30, 3), colour)).save(tmp_path / f"{i}.png")
    found = seen(of_digits(tmp_path, f"--data_out={tmp_path}"))
    assert found.shape == (6, 8, 8, 1)
    grey = np.rint(colours @ [0.2989, 0.5870, 0.1140]) // 16
    np.testing.assert_allclose(np.sort(found[:, 3, 3, 0]), np.sort((grey + 0.5) / 16))
    assert np.ptp(found, axis=(1, 2)).max() == 0


def test_images_are_made_large_and_get_channels(tmp_path):
    flags.save(settings("--data=photos"), tmp_path, "")
    found = seen(settings("ood", f"--workdir={tmp_path}", "--data_out=digits"), most=200)
    assert found.shape == (200, 32, 32, 3)
    levels = np.floor(found * 256)
    np.testing.assert_array_equal(levels, np.repeat(levels[..., :1], 3, axis=3))


def test_the_test_part_comes_first_and_no_more_than_asked_for(tmp_path):
    numbers = (16 + 10 * RANDOM.rand(40, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", train=numbers[:30], test=numbers[30:] + 100)
    found = seen(of_digits(tmp_path, f"--data_out={tmp_path / 'x.npz'}"), most=25)
    assert len(found) == 25
    assert found[:10].min() > 0.35 and found[10:].max() < 0.2


COLUMNS = ["height, cm", "income"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a table, in which a row of `strange.csv` is 8 deviations off."""
    folder = tmp_path_factory.mktemp("table")
    rows = np.random.RandomState(0).randn(300, 2)
    frame = pd.DataFrame(rows * [8, 900] + [170, 3000], columns=COLUMNS)
    frame.to_csv(folder / "x.csv", index=False)
    (frame + [64, 0])[COLUMNS[::-1]].to_csv(folder / "strange.csv", index=False)
    np.save(folder / "x.npy", rows)
    frame[COLUMNS[:1]].to_csv(folder / "one.csv", index=False)
    PIL.Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "x.png")
    assert main(["x", "--data=csv", f"--dataroot={folder / 'x.csv'}", f"--workdir={folder / 'run'}",
                 "--nblocks=1", "--dims=8", "--batchsize=50", "--niters=20", "--val_every=20",
                 "--warmup_iters=5", "--lr=3e-3"]) == 0
    return folder


def test_a_table_is_read_in_the_units_and_by_the_names_of_the_run(run):
    chosen = flags.parse(["x", "ood", f"--workdir={run / 'run'}",
                          f"--data_out={run / 'strange.csv'}"])
    scaler = data.describe(chosen).scaler
    rows = scaler.original(seen(chosen, most=1000))
    strange = pd.read_csv(run / "strange.csv")[COLUMNS].to_numpy()
    np.testing.assert_allclose(np.sort(rows, axis=0), np.sort(strange, axis=0), rtol=1e-5)


@pytest.mark.slow
def test_the_command_finds_what_is_far_away(run, capsys):
    workdir = run / "run"
    assert main(["x", "ood", f"--workdir={workdir}", f"--data_out={run / 'strange.csv'}"]) == 0
    printed = capsys.readouterr().out
    assert "-log p, nats" in printed and "PNG" not in printed
    found, scores = json.loads((workdir / "ood.json").read_text()), pd.read_csv(workdir / "ood.csv")
    assert found["num_inside"] == 30 and found["num_outside"] == 300 and len(scores) == 330
    outside = scores["part"] == "outside"
    for name in ("nll", "typicality"):
        area, error = auroc(scores[name][~outside], scores[name][outside])
        assert area > 0.99 and found[f"auroc_{name}"] == pytest.approx(area, abs=1e-9)
        assert found[f"auroc_{name}_stderr"] == pytest.approx(error, abs=1e-9)
    np.testing.assert_allclose(scores["typicality"],
                               np.abs(scores["nll"] - found["mean_nll_train"]), atol=1e-9)
    assert main(["x", "eval", f"--workdir={workdir}"]) == 0
    evaluated = json.loads((workdir / "metrics.json").read_text())
    assert scores["nll"][~outside].mean() == pytest.approx(evaluated["nll_nats"], rel=1e-6)
    assert PIL.Image.open(workdir / "ood.png").size[0] > 500


@pytest.mark.parametrize("given, message", [
    ([], "--data_out must name a data set, a folder of images or a file for ood"),
    (["--data_out=nowhere"], "--data_out must be a data set (mnist5k, digits, photos, mnist, "),
    (["--data_out={run}/x.csv"], "--data_out must be other data than that of the run"),
    (["--data_out={run}/one.csv"], "one.csv has 1 columns ('height, cm'), and the model was"),
    (["--data_out={run}/x.npy"], "--data_out must be of the same kind as the data of the run, "),
    (["--data_out=digits"], "--data_out must be of the same kind as the data of the run, --data="),
    (["--data_out={run}/x.png"], "x.png is an image, and --data=csv reads a table of text: give")])
def test_bad_input_is_one_clear_line(run, given, message, capsys):
    given = [text.format(run=run) for text in given]
    assert main(["x", "ood", f"--workdir={run / 'run'}", *given]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error


@pytest.mark.exhaustive
def test_images_of_another_kind_are_found(tmp_path, capsys):
    from tests.command import SMOKE
    workdir = tmp_path / "run"
    assert main(["x", SMOKE, f"--workdir={workdir}", "--nblocks=1"]) == 0
    assert main(["x", "ood", f"--workdir={workdir}", "--data_out=photos", "--exact"]) == 0
    assert "-log p - PNG, bits" in capsys.readouterr().out
    found, scores = json.loads((workdir / "ood.json").read_text()), pd.read_csv(workdir / "ood.csv")
    bits = scores["nll"] / math.log(2) + 64 * 4 - scores["png_bits"]
    np.testing.assert_allclose(scores["complexity"], bits, rtol=1e-9)
    assert found["num_inside"] == 180 and found["auroc_nll"] > 0.9
