"""Files of the PyTorch reference: read without running them, and as runs on the command line."""

import dataclasses
import doctest
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from bijectors import flows
from bijectors.flows.published import _entries, parameters
from bijectors.flows.reference_args import architecture, read_args
from tests.command import ROOT
from tests.reference import ARGS, FILE, arrays, model, state_dict
from tfresflow import FlowModel, logdet
from tfresflow.layers.induced_norm import vectors_given
from train import checkpoints, data, flags
from train.build import build_model, build_optimizer
from train.main import main
from train.reference import Checkpoint, Record, command_line, reading, write

with_oracle = pytest.mark.skipif(not FILE.exists(), reason="the reference's file is not here")


class Planted:
    """Runs a command where it is read by Python's own `pickle`."""

    def __init__(self, function, *args):
        self._call = function, args

    def __reduce__(self):
        return self._call


def zipped(pickled, path, **entries):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for name, value in entries.items():
            file.writestr(f"archive/{name}", value)
    return path


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("name", ["os.system", "eval", "exec", "__reduce__", "getattr"])
def test_what_would_run_code_is_refused(name, old, tmp_path):
    there = tmp_path / "ran"
    text = f"open({str(there)!r}, 'w')"
    planted = {"os.system": Planted(os.system, f"touch {there}"), "eval": Planted(eval, text),
               "exec": Planted(exec, text), "getattr": Planted(getattr, "x", "upper"),
               "__reduce__": {"args": [Planted(os.mkdir, str(there))]}}[name]
    pickled = pickle.dumps(planted, 2)
    path = tmp_path / "x.pth"
    if old:
        magic = pickle.dumps(0x1950a86a20f9469cfc6c, 2)
        path.write_bytes(magic + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + pickled)
    else:
        zipped(pickled, path)
    with pytest.raises(ValueError, match=r"it names (posix|nt|builtins|__builtin__)\.\w+, which is "
                                         r"no part of such a checkpoint and is not run"):
        Checkpoint(path)
    assert not there.exists()
    pickle.loads(pickled)  # the plant is one
    assert there.exists() or name == "getattr"


def test_classes_of_the_reference_are_records(tmp_path):
    """Whatever they are called with, and whatever state they are given."""
    pickled = (b"\x80\x02cresflows.utils\nExponentialMovingAverage\n(X\x01\x00\x00\x00atR"
               b"}X\x05\x00\x00\x00decayK\x02sb.")
    with Checkpoint(zipped(pickled, tmp_path / "x.pth")) as checkpoint:
        found = checkpoint.content
    assert isinstance(found, Record) and found.fields == {"decay": 2}
    assert found.kind == "resflows.utils.ExponentialMovingAverage"


@pytest.mark.parametrize("pickled, message", [
    (b"\x80\x02ctorch._utils\n_rebuild_parameter\n}X\x01\x00\x00\x00aK\x01sb.", "changes a func"),
    (b"\x80\x04\x8c\x08torch.nn\x94\x8c\x0bos.system()\x94\x93.", "it names torch.nn.os.system()"),
    (b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00"
     b"cpuK\x09tQ.", "it ends within the tensor 0"),
    (b"\x80\x02X\x01\x00\x00\x00aQ.", "something other than tensors"),
    (b"\x80\x02ctorch\nload\n.", "it names torch.load"),
    (b"\x80\x02", "no whole file of torch.save"), (b"", "no whole file of torch.save")])
def test_what_is_no_checkpoint_is_refused(pickled, message, tmp_path):
    path = zipped(pickled, tmp_path / "x.pth", **{"data/0": b"\0" * 8})
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        Checkpoint(path)
    assert str(error.value).startswith(str(path))


def test_what_is_no_file_of_torch(tmp_path):
    (tmp_path / "x.pth").write_text("weights\n")
    with pytest.raises(ValueError, match="no whole file of torch.save"):
        Checkpoint(tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "y.pth", "w") as file:
        file.writestr("a.txt", "a")
    with pytest.raises(ValueError, match="a zip without data.pkl"):
        Checkpoint(tmp_path / "y.pth")


def test_what_is_written_is_read(tmp_path):
    content = {"a": [1, -2.5, None, True, "x", (), 2 ** 70], 3: {"b": np.arange(6.).reshape(2, 3)},
               "empty": np.zeros([0, 2], np.float32), "scalar": np.int64(7) * np.ones((), int)}
    write(content, tmp_path / "x.pth")
    with Checkpoint(tmp_path / "x.pth") as checkpoint:
        found = checkpoint.content
        assert found["a"] == content["a"] and list(found) == list(content)
        for one, other in ((found[3]["b"], content[3]["b"]), (found["empty"], content["empty"]),
                           (found["scalar"], content["scalar"])):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            np.testing.assert_array_equal(np.asarray(one), other)
    with pytest.raises(ValueError, match="`content` has a set"):
        write({"a": {1}}, tmp_path / "y.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_the_older_format(tmp_path):
    """Pickles one after the other, then the numbers: the published checkpoints are of it."""
    pickled = (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
               b"ctorch\nFloatStorage\nX\x01\x00\x00\x00aX\x03\x00\x00\x00cpuK\x06NtQ"
               b"K\x01K\x02K\x02\x86K\x01K\x02\x86\x89ccollections\nOrderedDict\n)RtR.")
    numbers = np.arange(6, dtype="<f4")
    parts = [pickle.dumps(value, 2) for value in (0x1950a86a20f9469cfc6c, 1001, {
        "little_endian": True})]
    whole = b"".join([*parts, pickled, pickle.dumps(["a"], 2), struct.pack("<q", 6),
                      numbers.tobytes()])
    (tmp_path / "x.pth").write_bytes(whole)
    with Checkpoint(tmp_path / "x.pth") as checkpoint:
        np.testing.assert_array_equal(np.asarray(checkpoint.content), [[1, 3], [2, 4]])
    (tmp_path / "x.pth").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="it ends within a tensor"):
        Checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("module", [reading, command_line])
def test_examples(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


@pytest.mark.slow
@with_oracle
def test_averaged_weights():
    """z, the exact log-determinants, and the test score, which is of other images than here."""
    flow, x = model("mnist_small")
    with Checkpoint(FILE) as checkpoint:
        shadow = checkpoint.content["ema"].fields["shadow_params"]
        assert list(parameters(flow, ARGS["mnist_small"])) == list(shadow)
        for weight, value in flows.reference_average(flow, ARGS["mnist_small"], shadow):
            weight.assign(value)
        test_bpd = float(np.asarray(checkpoint.content["test_bpd"]))
    for layers in flow.lipschitz_layers().values():
        for layer in layers:
            layer.refresh_norm()
    known = arrays("mnist_small")
    z, log_det = flow.with_log_det(logdet.Exact()).forward_and_log_det(x)
    np.testing.assert_allclose(z, known["ema_z"], atol=1e-5 * np.max(np.abs(known["ema_z"])))
    np.testing.assert_allclose(log_det, known["ema_log_det_exact"], rtol=1e-10)
    assert test_bpd == known["test_bpd"]
    images = data.levels(flags.parse(["x", "--data=mnist5k"]), "test")[:400]
    x = (images + np.random.RandomState(0).rand(*images.shape)) / 256
    scored = FlowModel(flow, eval_log_det=logdet.LogDet(logdet.Truncated(6)))
    nats = np.concatenate([scored.log_prob(x[i:i + 100], seed=i) for i in range(0, 400, 100)])
    bpd = 8 - nats / (784 * np.log(2))
    assert abs(bpd.mean() - test_bpd) < 4 * bpd.std() / 20, (bpd.mean(), bpd.std() / 20)


# The command line ---------------------------------------------------------------------------

README = [
    "--data mnist --imagesize 28 --actnorm True --wd 0 --save experiments/mnist",
    "--data cifar10 --actnorm True --save experiments/cifar10",
    "--data imagenet32 --actnorm True --nblocks 32-32-32 --save experiments/imagenet32",
    "--data imagenet64 --imagesize 64 --actnorm True --nblocks 32-32-32 --factor-out True "
    "--squeeze-first True --save experiments/imagenet64",
    "--data celebahq --imagesize 256 --nbits 5 --actnorm True --act elu --batchsize 8 "
    "--update-freq 5 --n-exact-terms 8 --fc-end False --factor-out True --squeeze-first True "
    "--nblocks 16-16-16-16-16-16 --save experiments/celebahq256"]
SMALL = ["--idim=2", "--fc_idim=2", "--n_fc_blocks=1"]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(30):
        pixels = np.random.RandomState(i).randint(0, 256, [64, 64, 3], np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.mark.fast("celebahq-read", "imagenet64-read", "imagenet32-read", "cifar10-read",
                  "mnist-read")
@pytest.mark.parametrize("build", [False, True], ids=["read", "built"])
@pytest.mark.parametrize("line", README, ids=lambda line: line.split()[1])
def test_commands_of_the_references_readme(line, build, images):
    words = line.split()
    own = {"mnist": ["--data=mnist5k"], "cifar10": ["--data=photos"]}.get(
        words[1], ["--data=folder", f"--dataroot={images}"])
    if own[0] == "--data=folder":
        with pytest.raises(ValueError, match="--dataroot must name the file or folder for --data="
                                             + words[1]):
            flags.parse(["x", *words])
        assert flags.parse(["x", *words, f"--dataroot={images}"]).data == words[1]
    settings = flags.parse(["x", *own, *words[2:]])
    assert settings.workdir == words[-1] and settings.actnorm
    assert settings.fc_end == ("--fc-end" not in line)
    assert settings.squeeze_first == settings.factor_out == ("--squeeze-first" in line)
    scales = len(settings.nblocks)
    side = 64 if own[0] == "--data=folder" else 0
    small = flags.parse(["x", *own, *words[2:], *SMALL, f"--imagesize={side}",
                         f"--nblocks={'-'.join('1' * scales)}"])
    made = build_model(small) if build else None
    assert made is None or len(made.flow.branches()) == scales + settings.fc_end


@pytest.mark.parametrize("args, message", [
    (["--padding", "3"], "--padding must be 0 or not given: channels of noise"),
    (["--quadratic", "True"], "--quadratic must be False or not given: put `bijectors.Invert"),
    (["--batchnorm=True"], "--batchnorm must be False or not given: a block whose output depends"),
    (["--dropout", "0.5"], "--dropout must be 0 or not given: a branch that is random"),
    (["--resume", "a.pth"], "`import --checkpoint=FILE.pth --workdir=DIR` makes a run"),
    (["--arch", "realnvp"], "--block=coupling trains affine couplings"),
    (["--scheduler", "True"], "--lr_decay lets the learning rate fall"),
    (["--data", "svhn"], "of svhn, give the images by --data=folder"),
    (["import"], "--checkpoint must name a .pth file for import. Received: ''"),
    (["--checkpoint=a.pth"], "--checkpoint must be best or last"),
    (["import", "--checkpoint=setup.cfg"], "setup.cfg is no whole file of torch.save")])
def test_flags_that_are_refused_say_what_else(args, message, tmp_path, capsys):
    assert main(["x", *args, f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_flags_of_the_reference_that_change_nothing(capsys):
    line = ("--padding 0 --quadratic False --dropout 0. --batchnorm False --fc False --nworkers 4 "
            "--scheduler False --arch iresnet --annealing-iters 0 --batch_size 7 --mem-eff False")
    settings = flags.parse(["x", *line.split()])
    assert (settings.batchsize, settings.mem_eff) == (7, False)
    assert capsys.readouterr().err == ("warning: --nworkers has no effect: data is read in "
                                       "threads\n")


@with_oracle
@pytest.mark.slow
def test_an_imported_run_goes_on(tmp_path, capsys):
    """`import`, `export` to the same bytes, training without a jump, `eval` and `sample`."""
    run, back = f"--workdir={tmp_path / 'run'}", tmp_path / "back.pth"
    assert main(["x", "import", f"--checkpoint={FILE}", run, "--data=mnist5k"]) == 0
    assert "at step 1, with averaged weights; the optimizer" in capsys.readouterr().out
    assert main(["x", "import", f"--checkpoint={FILE}", run, "--data=mnist5k"]) == 2
    assert main(["x", "export", f"--checkpoint={back}", run]) == 0
    with Checkpoint(FILE) as one, Checkpoint(back) as other:
        assert one.content["args"].fields == other.content["args"].fields
        for name in ("state_dict", "ema"):
            old, new = (c.content[name] if name == "state_dict" else
                        c.content[name].fields["shadow_params"] for c in (one, other))
            assert list(old) == list(new)
            for key in old:
                assert (old[key].dtype, old[key].shape) == (new[key].dtype, new[key].shape)
                assert np.asarray(old[key]).tobytes() == np.asarray(new[key]).tobytes(), key
    settings = flags.parse(["x", "train", run, "--tolerance=0"])
    before, steps, stderr = losses_before_and_in(settings, 10)
    error = np.hypot(stderr, np.std(steps, ddof=1) / np.sqrt(len(steps)))
    assert abs(np.mean(steps) - before) < 3 * error, (before, steps, error)
    few = ["--eval_probes=1", "--tolerance=0", "--n_sample_images=4"]
    assert main(["x", "train", run, "--niters=2", *few]) == 0
    assert main(["x", "eval", run, *few[:2]]) == 0 and main(["x", "sample", run, few[2]]) == 0


def losses_before_and_in(settings, count, rows=256):
    """Bits/dim before training, those of so many steps, and the standard error of the first."""
    made = build_model(settings)
    made.compile(build_optimizer(settings))
    *_, path = checkpoints.restore(made, settings, "last")
    assert path is not None
    batches = data.load(settings, "train")
    x = np.concatenate([batch for batch, _ in zip(batches, range(rows // settings.batchsize))])
    before = -np.asarray(made.log_prob(x, seed=0)) / (x[0].size * np.log(2)) + made.scale_bits
    history = made.fit(batches, steps_per_epoch=1, epochs=count, verbose=0).history
    return before.mean(), history["bpd"], before.std(ddof=1) / np.sqrt(rows)


@with_oracle
def test_moments_and_a_run_of_the_plane(tmp_path, capsys):
    """With an `optimizer_state_dict` as that of `train_img.py`, of random numbers."""
    args = {**ARGS["toy"], "data": "moons", "lr": 2e-3, "batch_size": 256, "weight_decay": 1e-5,
            "n_dist": "geometric", "coeff": 0.9, "test_batch_size": 500, "niters": 7, "seed": 3}
    namespace = Record()
    namespace.kind, namespace.fields = "argparse.Namespace", args
    names = parameters(model("toy")[0], args)
    random, keys = np.random.RandomState(0), range(100, 100 + len(names))
    moments = {key: {"step": 40, **{name: random.rand(*entry.shape).astype(np.float32)
                                    for name in ("exp_avg", "exp_avg_sq")}}
               for key, entry in zip(keys, names.values()) if entry.weight is not None}
    content = {"args": namespace, "state_dict": state_dict("toy"), "optimizer_state_dict": {
        "state": moments, "param_groups": [{"params": list(keys)}]}}
    path, run = tmp_path / "toy.pth", f"--workdir={tmp_path / 'run'}"
    write(content, path)
    assert main(["x", "import", f"--checkpoint={path}", run]) == 0
    assert "at step 40, with the optimizer's moments" in capsys.readouterr().out
    settings = flags.parse(["x", run])
    assert (settings.data, settings.lr, settings.batchsize, settings.wd, settings.n_test,
            settings.ema_val, settings.nblocks, settings.seed) == (
        "moons", 2e-3, 256, 0.0, 500, False, (3,), 3)
    made = build_model(settings)
    made.compile(build_optimizer(settings))
    checkpoints.restore(made, settings, "last")
    index = {id(v): i for i, v in enumerate(made.trainable_variables)}
    for key, (name, entry) in zip(keys, parameters(made.flow, args).items()):
        if entry.weight is not None:
            slots = made.optimizer._momentums, made.optimizer._velocities
            for slot, moment in zip(slots, ("exp_avg", "exp_avg_sq")):
                found = entry.theirs(slot[index[id(entry.weight)]].numpy())
                np.testing.assert_array_equal(found, moments[key][moment], name)
    assert main(["x", "export", f"--checkpoint={tmp_path / 'back.pth'}", run]) == 0
    with Checkpoint(tmp_path / "back.pth") as back:
        assert list(back.content) == ["state_dict", "args"]
        assert all(np.asarray(back.content["state_dict"][key]).tobytes() == value.tobytes()
                   for key, value in state_dict("toy").items())


FULL = {"cifar10": {"data": "cifar10"},
        "celebahq": {"data": "celebahq", "imagesize": 256, "act": "elu", "fc_end": False,
                     "factor_out": True, "squeeze_first": True, "nblocks": "16-16-16-16-16-16"}}


@dataclasses.dataclass
class Drawn:
    """A tensor of random numbers that is made when it is asked for."""

    shape: tuple
    dtype: type = np.float32

    def __array__(self, dtype=None, copy=None):
        return np.asarray(
            np.random.default_rng(0).random(self.shape, np.float32) * np.float32(0.01))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10", pytest.param(
    "celebahq", marks=pytest.mark.exhaustive)])
def test_the_full_models_are_imported_in_time_and_memory(name, tmp_path):
    """In a process of its own, whose peak is looked at: 60 s and 4 GB."""
    with vectors_given():
        flow = architecture(read_args(FULL[name]))
    content = {key: Drawn(entry.shape) for key, entry in _entries(flow, FULL[name]).items()}
    write({"state_dict": content}, tmp_path / "x.pth")
    del flow
    code = IMPORT.format(path=str(tmp_path / "x.pth"), args=FULL[name])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, check=True,
                          capture_output=True)
    seconds, kilobytes = map(float, done.stdout.split()[-2:])
    assert seconds < 60 and kilobytes < 4e6, (seconds, kilobytes)


IMPORT = """
import re, time
from bijectors import flows
from train.reference import Checkpoint
with Checkpoint({path!r}) as checkpoint:
    began = time.monotonic()
    flows.from_reference(checkpoint.content["state_dict"], {args})
    print(time.monotonic() - began)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
