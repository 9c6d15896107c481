"""The table of curves."""

import csv
from unittest.mock import patch

import pytest

from extractor import UserError, curves
from extractor.curves import Table, read


def lines(folder) -> list[list[str]]:
    with open(folder / curves.NAME, newline="") as f:
        return list(csv.reader(f))


def table_of(folder, n_rows: int) -> Table:
    table = Table(folder, 0)
    for step in range(1, n_rows + 1):
        table.add(step, {"loss": step / 8})
    return table


def test_every_point_in_time_is_a_row_and_later_curves_are_new_columns(tmp_path):
    table = Table(tmp_path, 0)
    table.add(20, {"train/loss": -1.5, "train/lr": 0.25})
    table.add(30, {"valid/loss": -2.0})
    table.add(40, {"train/loss": float("inf"), "train/lr": 1e-7})
    assert lines(tmp_path) == [
        ["step", "train/loss", "train/lr", "valid/loss"],
        ["20", "-1.5", "0.25", ""], ["30", "", "", "-2.0"], ["40", "inf", "1e-07", ""],
    ]
    assert read(tmp_path) == read(str(tmp_path)) == {
        "train/loss": [(20, -1.5), (40, float("inf"))], "train/lr": [(20, 0.25), (40, 1e-7)], "valid/loss": [(30, -2.0)]
    }


def test_a_run_that_goes_on_at_a_step_takes_back_what_came_after_it(tmp_path):
    table_of(tmp_path, 9)
    table = Table(tmp_path, 4)
    assert read(tmp_path)["loss"] == [(step, step / 8) for step in range(1, 5)]
    table.add(5, {"loss": 100.0})
    assert read(tmp_path)["loss"][-2:] == [(4, 0.5), (5, 100.0)]


@pytest.mark.parametrize("lost", [1, 2, 3, 7])
def test_a_row_that_a_kill_cut_off_is_left_out_and_overwritten(lost, tmp_path):
    table_of(tmp_path, 3)
    path = tmp_path / curves.NAME
    path.write_bytes(path.read_bytes()[:-lost])
    assert read(tmp_path) == {"loss": [(1, 0.125), (2, 0.25)]}
    Table(tmp_path, 3).add(4, {"loss": 0.5})
    assert read(tmp_path) == {"loss": [(1, 0.125), (2, 0.25), (4, 0.5)]}


def test_where_nothing_was_trained_there_is_no_curve(tmp_path):
    assert read(tmp_path) == {} == read(tmp_path / "nowhere")
    (tmp_path / curves.NAME).touch()
    assert read(tmp_path) == {}


def test_a_table_that_cannot_be_written_is_one_sentence(tmp_path):
    table = table_of(tmp_path, 1)
    table.path = tmp_path / "nowhere" / curves.NAME
    with pytest.raises(UserError, match=r"curves\.csv: cannot be written \(No such file.*\); make room, and run again"):
        table.add(2, {"loss": 1.0})


def test_while_a_spreadsheet_has_the_table_rows_wait_for_the_next_one(tmp_path):
    table = table_of(tmp_path, 1)
    with patch("builtins.open", side_effect=PermissionError(13, "Permission denied")):
        table.add(2, {"loss": 2.0})
    table.add(3, {"loss": 3.0})
    assert read(tmp_path)["loss"] == [(1, 0.125), (2, 2.0), (3, 3.0)]
