"""Two results side by side."""

import pytest

from extractor import UserError, tables
from tools.compare import CompareArgs, main

NAMES = "abcdef"
GAINS = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]  # mean 2, never below 1


def result(folder, rows: dict[str, list[dict]], names=NAMES, kinds=None) -> str:
    kinds = kinds or ["game"] * len(names)
    items = [{"name": name, "kind": kind, "snr_db": None, "seconds": 1.0, "present": kind != "absent"}
             for name, kind in zip(names, kinds, strict=True)]
    tables.write_json(folder / "scores.json", {"items": items, "scores": rows, "summary": {"mixture": {}}})
    return str(folder)


def rows(*values: float, measure: str = "si_sdri") -> list[dict]:
    return [{measure: x} for x in values]


@pytest.fixture
def two(tmp_path) -> dict[str, str]:
    """In the first, alice gains 1 to 3 dB more than in the second, and her level error is worse."""
    before = [{"si_sdri": 5.0 * i, "level_error": 0.5, "wer": 10.0, "words": 4.0} for i in range(6)]
    after = [{"si_sdri": row["si_sdri"] + gain, "level_error": -2.0, "wer": 10.0 - gain, "words": 4.0}
             for row, gain in zip(before, GAINS, strict=True)]
    mixture = rows(*[0.0] * 6)
    return {"ours": result(tmp_path / "2", {"mixture": mixture, "alice": after, "bob": mixture}),
            "theirs": result(tmp_path / "1", {"mixture": mixture, "alice": before})}


def test_the_differences_of_what_is_not_the_mixture_and_their_verdicts(two, capsys):
    found = main(CompareArgs(**two))["game"]
    assert {m: (gap.mean, gap.n, verdict) for m, (gap, verdict) in found.items()} == {
        "si_sdri": (2.0, 6, "better"), "level_error": (1.5, 6, "worse"), "wer": (-2.0, 6, "better"),
    }
    assert 1 <= found["si_sdri"][0].low < 2 < found["si_sdri"][0].high <= 3
    head, _, *table = capsys.readouterr().out.splitlines()
    assert head == f"alice of {two['ours']} minus alice of {two['theirs']}, 6 pairs in common of 6 and 6"
    assert table[0] == "| measure | game |"
    assert table[2].startswith("| SI-SDRi | +2.0 [+1.") and table[2].endswith("] better |")
    assert table[3] == "| level error | +1.5 [+1.5, +1.5] worse |"
    assert len(table) == 5


def test_the_other_way_around_better_is_worse_and_a_result_is_not_better_than_itself(two, capsys):
    found = main(CompareArgs(two["theirs"], two["ours"]))["game"]
    assert found["si_sdri"][0].mean == -2 and found["si_sdri"][1] == "worse"
    found = main(CompareArgs(two["ours"], f"{two['ours']}/scores.json"))["game"]  # the same, by its file
    assert {verdict for _, verdict in found.values()} == {"within"}
    assert "| SI-SDRi | +0.0 [+0.0, +0.0] |\n" in capsys.readouterr().out


def test_systems_may_be_named_on_either_side(two, capsys):
    found = main(CompareArgs(**two, our_system="bob", their_system="mixture"))["game"]
    assert found["si_sdri"][0].mean == 0
    assert capsys.readouterr().out.startswith(f"bob of {two['ours']} minus mixture of {two['theirs']}")
    assert main(CompareArgs(**two, their_system="mixture"))["game"]["si_sdri"][0].mean == 12.5 + 2


def test_pairs_are_matched_by_name_and_counted_where_one_side_lacks_some(tmp_path, capsys):
    ours = result(tmp_path / "2", {"mixture": rows(0, 0, 0), "x": rows(1, 20, 300)}, names="abc")
    theirs = result(tmp_path / "1", {"mixture": rows(0, 0, 0, 0), "y": rows(70, 200, 10, 0)}, names="dcbe")
    (gap, _) = main(CompareArgs(ours, theirs))["game"]["si_sdri"]
    assert (gap.mean, gap.n) == (((20 - 10) + (300 - 200)) / 2, 2)
    assert capsys.readouterr().out.startswith(f"x of {ours} minus y of {theirs}, 2 pairs in common of 3 and 4\n")


def test_each_kind_has_a_column_and_a_dash_where_nothing_was_measured(tmp_path, capsys):
    kinds = ["game", "game", "absent"]
    after = [{"si_sdri": 3.0}, {"si_sdri": 5.0}, {"residual_level": -30.0}]
    before = [{"si_sdri": 3.0}, {"si_sdri": 3.0}, {"residual_level": -10.0}]
    folders = [result(tmp_path / str(i), {"mixture": x, "x": x}, "abc", kinds) for i, x in enumerate((after, before))]
    main(CompareArgs(*folders))
    table = capsys.readouterr().out.splitlines()[2:]
    assert table[0] == "| measure | game | absent | all with the target |"
    assert table[2:] == [
        "| SI-SDRi | +1.0 [+0.0, +2.0] | - | +1.0 [+0.0, +2.0] |",
        "| left of absent | - | -20.0 | - |",
    ]


def test_results_without_a_pair_in_common_are_refused(tmp_path):
    folders = [result(tmp_path / x, {"mixture": rows(0), "x": rows(1)}, names=x) for x in "ab"]
    with pytest.raises(UserError, match="a and .*b have no pair in common; score both on the same pairs"):
        main(CompareArgs(*folders))


@pytest.mark.parametrize("side", ["our_system", "their_system"])
def test_an_unknown_system_is_refused_with_those_there_are(side, two):
    with pytest.raises(UserError, match=r"scores\.json: no system 'carol' in it, but mixture, alice"):
        main(CompareArgs(**two, **{side: "carol"}))


@pytest.mark.parametrize("content", [
    None, "{}", "no JSON", "[1, 2]", '{"items": [], "scores": {}}', '{"items": [{"name": "b"}]}',
    '{"items": [{"name": "a", "seconds": 1}], "scores": {"mixture": [{"level_in": -20}], "alice": [{"speech_s": 1}]}}',
], ids=["nothing there", "empty", "no JSON", "a list", "no items", "no scores", "a page of infer.py"])
def test_what_is_no_result_is_refused(content, two, tmp_path):
    if content is not None:
        (tmp_path / "scores.json").write_text(content)
    with pytest.raises(UserError, match=r"scores\.json: no result; evaluate\.py writes it"):
        main(CompareArgs(two["ours"], str(tmp_path)))


@pytest.mark.parametrize("changed", [{"seconds": 2.0}, {"present": False}])
def test_mixtures_that_share_nothing_but_their_names_are_not_compared(changed, two, tmp_path):
    found = tables.read_json(tmp_path / "1" / "scores.json")
    found["items"][2] |= changed
    tables.write_json(tmp_path / "1" / "scores.json", found)
    with pytest.raises(UserError, match=r"other mixtures have the same name \(c\); score both on the same pairs"):
        main(CompareArgs(**two))


def test_nor_are_mixtures_at_other_snrs(tmp_path):
    folders = [result(tmp_path / name, {"mixture": rows(snr, 3.0, measure="si_sdr"), "alice": rows(9.0, 9.0)}, "ab")
               for name, snr in (("1", -5.0), ("2", -5.001), ("3", 2.0))]
    main(CompareArgs(*folders[:2]))
    with pytest.raises(UserError, match=r"the same name \(a\)"):
        main(CompareArgs(folders[0], folders[2]))
