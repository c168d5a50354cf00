"""Tables as people write them: the numbers of the file, or one line that names what is wrong."""

import io

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.test_data import settings
from train import data
from train.data.table import read_table

ROWS = np.random.RandomState(0).randn(40, 3).round(6) * [1, 50, 0.1] + [0, 100, 5]
FRAME = pd.DataFrame(ROWS, columns=["a", "b", "c"])


def csv_settings(path, *given):
    return settings("--data=csv", f"--dataroot={path}", "--batchsize=4", *given)


def text(**kwargs):
    return FRAME.to_csv(index=False, **kwargs)


def savetxt(**kwargs):
    file = io.BytesIO()
    np.savetxt(file, ROWS, **kwargs)
    return file.getvalue().decode()


@pytest.mark.parametrize("content, columns", [
    (text(), "abc"), (text(sep=";"), "abc"), (text(sep="\t"), "abc"), (text(sep="|"), "abc"),
    (text(sep=" "), "abc"), (text(sep=";", decimal=","), "abc"),
    (text(sep="\t", decimal=","), "abc"), (text(header=False), None),
    (text(header=False, sep=";", decimal=","), None), (text(lineterminator="\r\n"), "abc"),
    (text(lineterminator="\r"), "abc"), ("\ufeff" + text(), "abc"), (text(quoting=1), "abc"),
    (text(quoting=1, sep=";", decimal=","), "abc"), (savetxt(), None),
    (savetxt(delimiter=",", header="a,b,c"), "abc"), (savetxt(header="a b c"), "abc"),
    (text().replace(",", " , "), "abc"), (text().replace("\n", "\n\n"), "abc"),
    (text().replace("\n", ",\n"), "abc"), (text().replace("a,b,c", '"a","b","c"'), "abc"),
    (text().replace("a,b,c", '"a;1","b, 2",c c'), ("a;1", "b, 2", "c c"))])
def test_numbers_and_names_are_those_of_the_file(tmp_path, content, columns):
    path = tmp_path / "x.csv"
    path.write_bytes(content.encode())
    found, rows = read_table(path)
    assert found == tuple(columns or ("column 1", "column 2", "column 3"))
    np.testing.assert_allclose(rows, ROWS, rtol=1e-12)


@pytest.mark.parametrize("name, write", [
    ("x.csv", {"encoding": "utf-16", "sep": "\t"}), ("x.csv.gz", {}), ("x.tsv", {"sep": "\t"})])
def test_other_files(tmp_path, name, write):
    FRAME.to_csv(tmp_path / name, index=False, **write)
    columns, rows = read_table(tmp_path / name)
    assert columns == ("a", "b", "c")
    np.testing.assert_allclose(rows, ROWS, rtol=1e-12)


def test_one_column(tmp_path):
    for header in ("a\n", "a b\n", ""):
        (tmp_path / "x.csv").write_text(header + "\n".join(map(str, ROWS[:, 0])))
        columns, rows = read_table(tmp_path / "x.csv")
        assert columns == (header.strip() or "column 1",)
        np.testing.assert_allclose(rows, ROWS[:, :1])


@pytest.mark.parametrize("frame", [
    FRAME, FRAME.sample(frac=1, random_state=0), FRAME.rename(index=lambda i: 10 * i + 3),
    FRAME.rename(columns={"a": "0", "b": "1", "c": "2"}), FRAME.rename_axis("Unnamed: 0"),
    FRAME.rename_axis("__index_level_0__")])
def test_the_index_of_a_data_frame_is_no_feature(tmp_path, frame, capsys):
    frame.to_csv(tmp_path / "x.csv")
    columns, rows = read_table(tmp_path / "x.csv")
    assert columns == tuple(frame.columns)
    np.testing.assert_array_equal(rows, frame.to_numpy())
    assert "numbers the rows: it is left out, as an index" in capsys.readouterr().err


def test_what_may_be_an_index_is_said(tmp_path, capsys):
    FRAME.to_csv(tmp_path / "x.csv", header=False)
    assert read_table(tmp_path / "x.csv")[1].shape == (40, 4)
    assert "the 1st column numbers the rows. If it is an" in capsys.readouterr().err
    FRAME.reset_index(names="id").to_csv(tmp_path / "x.csv", index=False)
    read_table(tmp_path / "x.csv")
    assert "column 'id' numbers the rows" in capsys.readouterr().err
    FRAME.to_csv(tmp_path / "x.csv", index=False)
    read_table(tmp_path / "x.csv")
    assert not capsys.readouterr().err


def first_line(path, header, rows, capsys):
    """What is said of a table with this first line."""
    path.write_text(header + pd.DataFrame(rows).to_csv(index=False, header=False))
    assert len(read_table(path)[1]) == len(rows) + bool(header)
    return capsys.readouterr().err


WHOLE = np.random.RandomState(1).randint(0, 50, (60, 3))


@pytest.mark.parametrize("header, rows, shown", [
    ("0,1,2\n", ROWS, "0,1,2"), ("2019,2020,2021\n", ROWS, "2019,2020,2021"),
    ("2019,2017,2024\n", WHOLE, "2019,2017,2024"), ("0,1\n", WHOLE[:, :2], "0,1"),
    ("2,0,5\n", ROWS, "2,0,5"), ("1,2,3\n", WHOLE, "1,2,3"), ("2019\n", ROWS[:, :1], "2019"),
    ("0.1,0.2,0.3,0.4\n", np.c_[ROWS, ROWS[:, 0]], "0.1,0.2,0.3, ..."),
    ("2019,2020\n", np.c_[WHOLE[:, 0], np.random.RandomState(0).randn(60)], "2019,2020")])
def test_numbers_that_may_be_a_header_are_said(tmp_path, header, rows, shown, capsys):
    said = first_line(tmp_path / "x.csv", header, rows, capsys)
    assert f"the first line, {shown}, is taken as a row, and is unlike those below. If it" in said
    names = ",".join("abcd"[:rows.shape[1]]) + "\n"
    assert "unlike" not in first_line(tmp_path / "x.csv", "# " + names + header, rows, capsys)
    (tmp_path / "x.csv").write_text(names + (tmp_path / "x.csv").read_text().split("\n", 1)[1])
    assert len(read_table(tmp_path / "x.csv")[1]) == len(rows) + 1
    assert "unlike" not in capsys.readouterr().err


@pytest.mark.parametrize("make", [
    lambda r: r.randn(30, 2), lambda r: r.randn(30, 1).round(2),
    lambda r: r.standard_cauchy((99, 3)),
    lambda r: r.randint(0, 9, (30, 3)), lambda r: np.c_[r.randint(0, 2, 40), r.rand(40)],
    lambda r: np.cumsum(r.rand(40, 2), axis=0), lambda r: r.rand(30, 1) + np.arange(3),
    lambda r: r.randint(0, 99, (30, 1)) + np.arange(3), lambda r: np.exp(3 * r.randn(60, 2))])
def test_a_first_row_like_the_others_is_not(tmp_path, make, capsys):
    said = [first_line(tmp_path / "x.csv", "", make(np.random.RandomState(seed)), capsys)
            for seed in range(30)]
    assert not any("unlike" in line for line in said)


def with_column(values, **kwargs):
    return FRAME.assign(new=values).to_csv(index=False, **kwargs)


@pytest.mark.parametrize("content, message", [
    (with_column(["red", "blue"] * 20),
     r"column 'new' holds no numbers \('red', 'blue', ...\). Remove it"),
    (with_column(pd.date_range("2020-01-01", periods=40)),
     r"column 'new' holds no numbers \('2020-01-01', '2020-01-02', "),
    (with_column([True, False] * 20), r"column 'new' holds no numbers \('True', 'False'"),
    (with_column([1.5, None] * 20), r"line 3, column 'new' must be a finite number. Received: ''"),
    (with_column([1.5, None] * 20, na_rep="NA"), r"line 3, column 'new' .* Received: 'NA'"),
    (with_column(["1,234.5"] + [1.5] * 39),
     r"line 2, column 'new' must be .* Received: '1,234.5'. Write thousands without a separator"),
    (with_column(["1,234"] * 39 + ["2,345"]),
     r"column 'new' holds no numbers \('1,234', '2,345', ...\). Write thousands without a"),
    (with_column(["1.234,5"] * 40, sep=";", decimal=","), r"'1.234,5'. Write thousands without"),
    ('"1,234",2\n' + "3,4\n" * 9, r"line 1, the 1st column .* '1,234'. Write thousands without a"),
    (with_column(["1,5"] + ["1.5"] * 39, sep=";"), r"line 2, column 'new', '1,5', has a decimal "
     r"comma, and line 2, column 'a', '1.764052', a point. Write decimals in one way, and thousan"),
    ("p;q\n1.234;-0,941\n2.345;-1,295\n", r"line 2, column 'q', '-0,941', has a decimal comma, "
     r"and line 2, column 'p', '1.234', a point"),
    (with_column(["01.02.2020", "02.02.2020"] * 20, sep=";", decimal=","),
     r"column 'new' holds no numbers \('01.02.2020', '02.02.2020', ...\). Remove it, or turn it"),
    (with_column([1.5] * 39 + ["x"], lineterminator="\n\n"), r"line 81, .* Received: 'x'"),
    (FRAME.assign(new="x").set_index("new").to_csv(), r"column 'new' must be a finite number"),
    (FRAME.rename(index=lambda i: i // 2).to_csv(), r"the first column has no name. Name it"),
    (text() + "1,2\n", r"line 42, column 'c' must be a finite number. Received: ''"),
    (text() + "1,2,3,4\n", r"not a readable .csv file \(Expected 3 fields in line 42, saw 4\)"),
    ("1,NA,2\n" + text(header=False), r"line 1, the 2nd column must .* Received: 'NA'. If this "
     r"line is a header, give it names with letters"),
    ("1,2,\n3,4,\n5,,\n", r"line 3, the 2nd column must be a finite number"),
    ("# note\n\n1,2\n3,x\n", r"line 4, the 2nd column must be a finite number. Received: 'x'"),
    ("a,b,c\n", r"there are no rows below the header"),
    ("\n\n", r"not a readable .csv file"), ("\0PAR1\xff\xfe", r"x.csv: ")])
def test_what_is_no_table_of_numbers(tmp_path, content, message):
    (tmp_path / "x.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "x.csv")


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9 + 0.3])
def test_a_constant_column_is_refused_however_its_mean_is_rounded(tmp_path, value):
    (tmp_path / "x.csv").write_text(with_column(value))
    with pytest.raises(ValueError, match="column 'new' is constant: it has no density"):
        data.describe(csv_settings(tmp_path / "x.csv"))


def test_a_column_whose_squares_are_beyond_float64_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text(with_column(1e200 * np.arange(40)))
    with pytest.raises(ValueError, match="column 'new' has values to 3.9e.201, whose squares are "):
        data.describe(csv_settings(tmp_path / "x.csv"))


def test_standardised_rows_are_those_of_before(tmp_path):
    """The numbers that runs were trained on, with their digits where a column is near 1e9."""
    rows = ROWS + [0, 0, 1e9]
    pd.DataFrame(rows).to_csv(tmp_path / "x.csv", index=False, header=["a", "b", "c"])
    source = data.describe(csv_settings(tmp_path / "x.csv"))
    order = np.random.RandomState(0).permutation(40)
    train = rows[order[:32]]
    want = ((train - train.mean(0)) / train.std(0)).astype(np.float32)
    np.testing.assert_array_equal(source.fetch["train"](tf.range(32)), want)
    np.testing.assert_allclose(source.scaler.original(want), train, rtol=1e-15, atol=1e-5)
    assert source.scaler.log_scale == pytest.approx(np.log(train.std(0)).sum(), rel=1e-12)
