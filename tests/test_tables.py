"""Tables that are whole at any moment, and JSON that anyone can read."""

import json
from math import inf, nan
from typing import NamedTuple

import numpy as np
import pytest

from extractor import UserError, tables


def test_a_table_has_its_columns_first_and_a_line_for_every_row(tmp_path):
    tables.write(tmp_path / "new" / "a.tsv", ["name", "kind"], [{"name": "a b", "kind": 1}, {"name": "ü", "kind": ""}])
    assert (tmp_path / "new" / "a.tsv").read_bytes().decode("utf-8") == "name\tkind\na b\t1\nü\t\n"


def test_a_table_that_breaks_off_leaves_the_old_one_and_nothing_else(tmp_path):
    tables.write(tmp_path / "a.tsv", ["name"], [{"name": "old"}])
    old = (tmp_path / "a.tsv").read_bytes()
    rows = ({"name": 1 / n} for n in (1, 0))
    with pytest.raises(ZeroDivisionError):
        tables.write(tmp_path / "a.tsv", ["name"], rows)
    assert (tmp_path / "a.tsv").read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["a.tsv"]


def test_a_folder_where_the_table_should_be_or_a_file_for_its_folder_is_named_and_nothing_is_left_beside_it(tmp_path):
    (tmp_path / "a.tsv").mkdir()
    (tmp_path / "out").write_text("a file where the folder should be")
    for path in ("a.tsv", "out/b.tsv"):
        with pytest.raises(UserError, match=rf"{path}: cannot be written \(.+\); choose another output folder"):
            tables.write(tmp_path / path, ["name"], [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tsv", "out"]


# ---------------------------------------------------------------------------------------------------------------------
# JSON


def strict(text: str):
    """As other programs read it."""
    def refuse(word: str):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_json_does_not_know_is_null_at_any_depth_and_is_read_so(tmp_path):
    class Point(NamedTuple):
        x: float
        y: float

    x = {"a": nan, "b": [1.5, inf, {"c": (-inf, "d", Point(np.float64("nan"), 0.0))}], 3: None, "e": True}
    path = tmp_path / "new" / "a.json"
    tables.write_json(path, x)
    expected = {"a": None, "b": [1.5, None, {"c": [None, "d", [None, 0.0]]}], "3": None, "e": True}
    assert strict(tables.to_json(x)) == tables.read_json(path) == expected
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_letters_of_any_language_stay_readable_and_bytes_that_are_none_are_question_marks():
    assert tables.to_json({"ключ": "日本 <é>"}) == '{\n "ключ": "日本 <é>"\n}'
    assert strict(tables.to_json({"a\udcff": ["b\udce9c"]})) == {"a?": ["b?c"]}


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00", b"[1, 2]", b"7"],
                         ids=["empty", "cut off", "no text", "a list", "a number"])
def test_json_that_is_missing_broken_or_no_dict_reads_as_an_empty_dict(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    for path in (tmp_path / "a.json", tmp_path / "missing.json", tmp_path):
        assert tables.read_json(path) == {}


# --- tables that are read --------------------------------------------------------------------------------------------


def test_a_table_that_was_written_is_read_again_whatever_is_in_it(tmp_path):
    rows = [{"a": "1", "b": 'tab\t "quote"\nline'}, {"a": "", "b": "\udce9 Алиса/音声 🎧"}, {"a": "2  3,", "b": ""}]
    tables.write(tmp_path / "a.tsv", ["a", "b"], rows)
    assert tables.read(tmp_path / "a.tsv") == rows == tables.read(tmp_path / "a.tsv", ["a", "b"])
    tables.write(tmp_path / "none.tsv", ["a"], [])
    assert tables.read(tmp_path / "none.tsv") == [] == tables.read(tmp_path / "missing.tsv")


@pytest.mark.parametrize("content", [
    b"a\tb\n1\n", b"a\tb\n1\t2\t3\n", b"", b"c\td\n1\t2\n", b"a\n1\n", b"c\td\n", b"notes on the takes\n",
    "prix\tcafé\n1\t2\n".encode("latin-1"),
], ids=["a cell less", "a cell more", "nothing", "other columns", "a column less", "head only", "one line", "latin-1"])
def test_what_is_no_such_table_is_named(content, tmp_path):
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tsv: is no table with the columns a, b; move it away"):
        tables.read(tmp_path / "a.tsv", ["a", "b"])
