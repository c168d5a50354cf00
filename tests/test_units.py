"""A table's model is of the units that it was trained in, whatever file it is given afterwards."""

import json
import shutil

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tensorflow as tf

from train import build, data, plots
from train.flags import parse
from train.main import main

COLUMNS = ["height, cm", "income"]
TRAIN = ["x", "--flagfile=configs/tabular.cfg", "--nblocks=1", "--dims=8", "--niters=4",
         "--val_every=2", "--exact", "--batchsize=50", "--n_sample_images=40"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of four steps on a table that a data frame has written."""
    folder = tmp_path_factory.mktemp("units")
    rows = np.random.RandomState(0).randn(300, 2) * [10, 40] + [170, 300]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "table.csv")
    assert main([*TRAIN, f"--dataroot={folder / 'table.csv'}", f"--workdir={folder / 'run'}"]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run; TensorFlow's own file `checkpoint` has paths relative to it."""
    return shutil.copytree(trained / "run", tmp_path / "run")


def frame(folder):
    return pd.read_csv(folder / "table.csv", index_col=0)


def evaluated(run, path):
    assert main(["x", "eval", f"--workdir={run}", f"--dataroot={path}"]) == 0
    return json.loads((run / "metrics.json").read_text())


@pytest.mark.slow
def test_the_same_rows_times_5_plus_100_score_differently(trained, run, tmp_path, capsys):
    metrics = json.loads((run / "metrics.json").read_text())
    scale = metrics["nll_nats_original_units"] - metrics["nll_nats"]
    train = frame(trained).to_numpy()[np.random.RandomState(0).permutation(300)[:240]]
    assert scale == pytest.approx(np.log(train.std(0)).sum(), abs=1e-9)

    (5 * frame(trained) + 100).to_csv(tmp_path / "other.csv", index=False)
    other = evaluated(run, tmp_path / "other.csv")
    assert "is not what the run was trained on" in capsys.readouterr().err
    assert other["nll_nats_original_units"] - other["nll_nats"] == pytest.approx(scale, abs=1e-9)
    assert other["nll_nats"] > metrics["nll_nats"] + 100
    test = 5 * frame(trained).to_numpy()[np.random.RandomState(0).permutation(300)[270:]] + 100
    source = data.describe(parse(["x", "eval", f"--workdir={run}",
                                  f"--dataroot={tmp_path / 'other.csv'}"]))
    np.testing.assert_allclose(source.fetch["test"](tf.range(30)),
                               (test - train.mean(0)) / train.std(0), rtol=1e-5, atol=1e-5)


def test_a_run_does_not_go_on_with_another_table(trained, run, tmp_path, capsys):
    pd.concat([frame(trained)] * 2).to_csv(tmp_path / "other.csv", index=False)
    assert main([*TRAIN, f"--workdir={run}", f"--dataroot={tmp_path / 'other.csv'}"]) == 2
    assert "content of dataroot (there " in capsys.readouterr().err
    shutil.copy(tmp_path / "other.csv", tmp_path / "table.csv")
    settings = {**json.loads((run / "settings.json").read_text()),
                "dataroot": str(tmp_path / "table.csv")}
    (run / "settings.json").write_text(json.dumps(settings))
    assert main([*TRAIN, f"--workdir={run}", f"--dataroot={tmp_path / 'table.csv'}"]) == 2
    assert f"content of dataroot ({tmp_path / 'table.csv'} has changed)" in capsys.readouterr().err


def test_columns_are_found_by_name(trained, run, tmp_path):
    metrics = json.loads((run / "metrics.json").read_text())
    frame(trained)[COLUMNS[::-1]].to_csv(tmp_path / "turned.csv", index=False, sep=";")
    turned = evaluated(run, tmp_path / "turned.csv")
    assert turned["nll_nats"] == pytest.approx(metrics["nll_nats"], abs=1e-6)


@pytest.mark.parametrize("columns", [["height, cm"], ["height, cm", "income", "more"],
                                     ["height, cm", "wage"]])
def test_another_table_is_one_line(trained, run, tmp_path, columns, capfd):
    table = frame(trained).reindex(columns=columns).fillna(1.5)
    table.to_csv(tmp_path / "other.csv", index=False)
    for command in ("eval", "sample"):
        assert main(["x", command, f"--workdir={run}", f"--dataroot={tmp_path / 'other.csv'}"]) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1 and f"other.csv has {len(columns)} columns" in error
        assert "the model was trained on 2 ('height, cm', 'income')" in error


def test_samples_are_in_units_and_names_of_the_file(trained):
    samples = pd.read_csv(trained / "run" / "samples.csv")
    assert list(samples) == COLUMNS and len(samples) == 40
    real = frame(trained)
    np.testing.assert_allclose(samples.mean(), real.mean(), atol=3 * real.std().max())
    assert np.all(np.abs(samples.mean() - real.mean()) < real.std())
    assert np.all((0.3 < samples.std() / real.std()) & (samples.std() / real.std() < 3))
    assert PIL.Image.open(trained / "run" / "columns.png").size[0] > 300


@pytest.mark.slow
def test_samples_have_a_seed_of_their_own(trained, run):
    kept, drawn = (run / "settings.json").read_text(), [(run / "samples.csv").read_text()]
    for seed in ("--sample_seed=0", "--sample_seed=5", "--sample_seed=5"):
        assert main(["x", "sample", f"--workdir={run}", seed]) == 0
        drawn.append((run / "samples.csv").read_text())
    of_run, same, other, again = drawn
    assert of_run == same != other == again
    assert (run / "settings.json").read_text() == kept


@pytest.mark.slow
def test_one_pass_does_not_tell_the_error_of_the_probes(trained, run, capsys, monkeypatch):
    monkeypatch.setattr(build, "SMALL", 0)
    bounded = "+- 0.0000 (truncation, proven)\n"
    one = ["--noexact", "--tolerance=0", "--eval_probes=1"]
    for args, said in ((one, "(probes: unknown, one pass)\n"),
                       (["--exact"], f"(probes) {bounded}")):
        assert main(["x", "eval", f"--workdir={run}", *args]) == 0
        assert said in capsys.readouterr().out
        metrics = json.loads((run / "metrics.json").read_text())
        errors = {metrics[name] for name in metrics if name.endswith("_stderr_probes")}
        assert errors == ({0.0} if "--exact" in args else {None})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [2, 400])
def test_histograms_are_of_all_rows(rows, tmp_path, monkeypatch):
    """Of data up to a few outermost rows, of samples what is among them, perhaps none."""
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    data = np.random.RandomState(0).randn(rows, 1).astype("float32")
    for samples, share in ((data + 1e3, 0), (np.r_[data, data + 1e3], 0.5)):
        plots.columns(data, samples, ["a"], tmp_path / "x.png")
        areas = []
        for patch in figures[-1].axes[0].patches:
            x, y = patch.get_xy().T
            areas.append(abs(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)))
        assert areas[0] == pytest.approx(1, abs=0.01)
        assert areas[1] == pytest.approx(share, abs=0.01)
        plots.plt.close(figures[-1])


def test_axes_are_labelled_in_units_and_names_of_the_file(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    rows = np.random.RandomState(0).randn(500, 2) * [1, 3] + [0, 1e9]
    plots.columns(rows, rows, ["price in $", "of $a_i$"], tmp_path / "x.png")
    axes = figures[0].axes
    assert [ax.get_xlabel() for ax in axes] == [r"price in \$", r"of \$a_i\$"]
    assert 1e9 - 12 < axes[1].get_xlim()[0] < axes[1].get_xlim()[1] < 1e9 + 12
    plots.plt.close(figures[0])


def test_a_damaged_or_missing_scaler_is_named(trained, run, tmp_path, capsys):
    (5 * frame(trained)).to_csv(tmp_path / "other.csv", index=False)
    for text in ("{", "[]", '{"event_shape": [2], "scaler": {"mean": 3}}', '{"event_shape": [2]}'):
        (run / "data.json").write_text(text)
        assert main(["x", "eval", f"--workdir={run}"]) == 2
        error = capsys.readouterr().err
        assert f"{run / 'data.json'} is damaged" in error and error.count("\n") == 1
    (run / "data.json").unlink()
    assert main(["x", "eval", f"--workdir={run}", f"--dataroot={tmp_path / 'other.csv'}"]) == 2
    assert f"{run / 'data.json'} is missing" in capsys.readouterr().err
    settings = parse(["x", "eval", f"--workdir={run}"])  # of its own table the scaler is known
    np.testing.assert_array_equal(data.describe(settings).scaler.columns, COLUMNS)


@pytest.mark.parametrize("text, message", [
    ("", "Expecting value"), ("{\"batchsize\": 3", "Expecting"), ("[]", "not a table of settings"),
    ("{\"batchsize\": \"many\"}", "batchsize must be of type int"),
    ("{\"act\": \"tahn\"}", "act must be one of"), ("\udcff\udcfe", "codec can't decode")])
def test_a_damaged_settings_file_is_named(tmp_path, text, message, capsys):
    (tmp_path / "settings.json").write_bytes(text.encode(errors="surrogateescape"))
    for command in ("eval", "sample", "train"):
        assert main(["x", command, "--data=8gaussians", f"--workdir={tmp_path}",
                     "--nblocks=1", "--dims=4"]) == 2
        error = capsys.readouterr().err
        assert f"{tmp_path / 'settings.json'} is damaged" in error and message in error
        assert error.count("\n") == 1
