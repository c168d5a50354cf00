"""log.csv: one kind of line, the columns it was begun with, and no half lines."""

import pandas as pd
import pytest

from train import log
from train.errors import UserError

ROW = {"epoch": 0, "step": 4, "nll": 1.5, "val_nll": 2.5}


def test_rows_of_a_callback_and_by_hand_are_alike(tmp_path):
    path = tmp_path / "log.csv"
    log.Log(path).on_epoch_end(0, {"val_nll": 2.5, "step": 4, "nll": 1.5})
    log.add(path, {**ROW, "epoch": 1, "step": 8, "other": 3})
    assert path.read_bytes() == b"epoch,nll,step,val_nll\n0,1.5,4,2.5\n1,1.5,8,2.5\n"


def test_a_log_with_other_line_ends_goes_on_with_one_kind(tmp_path):
    """As those of earlier versions, which may have both."""
    path = tmp_path / "log.csv"
    path.write_bytes(b"epoch,step,nll,bpd\r\n0,4,1.50,3\n1,8,2.5,\r\n2,12,1,")
    assert log.cut(path, 10) == 8
    log.add(path, {**ROW, "epoch": 2, "step": 12})
    assert path.read_bytes() == b"epoch,step,nll,bpd\n0,4,1.50,3\n1,8,2.5,\n2,12,1.5,\n"
    assert log.cut(path, 3) == 0
    log.add(path, ROW)
    assert list(pd.read_csv(path).step) == [4]


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"step,b\nx,2\n", b"\xff\xfe\n"])
def test_what_is_no_log(tmp_path, content):
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(UserError, match="must be the log of a run"):
        log.cut(tmp_path / "log.csv", 3)
    assert (tmp_path / "log.csv").read_bytes() == content


def test_no_log_yet(tmp_path):
    assert log.cut(tmp_path / "log.csv", 3) == 0
    (tmp_path / "log.csv").touch()
    assert log.cut(tmp_path / "log.csv", 3) == 0
    log.add(tmp_path / "log.csv", ROW)
    assert (tmp_path / "log.csv").read_text() == "epoch,nll,step,val_nll\n0,1.5,4,2.5\n"
