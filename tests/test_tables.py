"""Tables that are whole at any moment."""

import pytest

from extractor import UserError, tables


def test_a_table_has_its_columns_first_and_a_line_for_every_row(tmp_path):
    tables.write(tmp_path / "new" / "a.tsv", ["name", "kind"], [{"name": "a b", "kind": 1}, {"name": "ü", "kind": ""}])
    assert (tmp_path / "new" / "a.tsv").read_text("utf-8").splitlines() == ["name\tkind", "a b\t1", "ü\t"]


def test_a_table_that_breaks_off_leaves_the_old_one_and_nothing_else(tmp_path):
    tables.write(tmp_path / "a.tsv", ["name"], [{"name": "old"}])
    old = (tmp_path / "a.tsv").read_bytes()
    rows = ({"name": 1 / n} for n in (1, 0))
    with pytest.raises(ZeroDivisionError):
        tables.write(tmp_path / "a.tsv", ["name"], rows)
    assert (tmp_path / "a.tsv").read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a.tsv"]


def test_a_folder_where_the_table_should_be_is_named_and_nothing_is_left_beside_it(tmp_path):
    (tmp_path / "a.tsv").mkdir()
    with pytest.raises(UserError, match=r"a\.tsv: cannot be written \(.+\); choose another output folder"):
        tables.write(tmp_path / "a.tsv", ["name"], [])
    assert [p.name for p in tmp_path.iterdir()] == ["a.tsv"]
