"""demo.py: what of an earlier call is used. (README's line itself is run by test_readme.py.)"""

import pytest

import demo
from extractor import UserError, tables


def test_a_set_made_of_other_numbers_is_not_taken_for_this_one(tmp_path):
    args = demo.DemoArgs(str(tmp_path), speech_minutes=6, n_pairs=4)
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "list.tsv").touch()
    demo.make_set(tmp_path, args)  # of a version that noted nothing
    tables.write_json(tmp_path / "made.json", {"speech_minutes": 6.0, "n_pairs": 4})
    demo.make_set(tmp_path, args)
    tables.write_json(tmp_path / "made.json", {"speech_minutes": 6.0, "n_pairs": 8})
    with pytest.raises(UserError, match="has a set of .*'n_pairs': 8.*; choose another DemoArgs.folder, or"):
        demo.make_set(tmp_path, args)
