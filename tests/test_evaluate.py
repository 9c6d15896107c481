"""Whole runs over small pairs: the numbers, what is written, and the command line.

Most tests put a net in the checkpoint's place that turns its mixture down by half, so that all numbers are known.
"""

import re
import subprocess
import sys
from importlib.metadata import version
from math import log10
from pathlib import Path
from unittest.mock import Mock, call

import numpy as np
import pytest
import soundfile as sf
from scored import RATE, N, folder_of, put, put_list, put_pair, run, two_signals, uniform, written

from extractor import curves, perceptual
from extractor.scoring import PRESENT

ROOT = Path(__file__).parent.parent


# ---------------------------------------------------------------------------------------------------------------------
# numbers


def test_half_the_mixture_by_hand(half, tmp_path):
    target, interference = put_pair(tmp_path / "pairs", "a", 6.0)
    report = run(tmp_path, half)
    assert report["scores"]["alice"][0] == pytest.approx({
        "si_sdr": 6.0, "si_sdri": 0, "sdr": 6.0, "sdri": 0, "gained": 0, "level_error": 20 * log10(0.5),
        "target_loss": 75, "leakage": 20 * log10(0.5), "high_lost": 75, "high_kept": 20 * log10(0.5),
    }, abs=0.2)  # SDR's 512 taps fit 0.1 dB of the noise
    exact = {"si_sdr": 6.0, "si_sdri": 0, "sdri": 0, "level_error": -6.0206, "leakage": -6.0206, "target_loss": 75}
    assert {m: report["scores"]["alice"][0][m] for m in exact} == pytest.approx(exact, abs=1e-3)
    samples, rate = sf.read(tmp_path / "out" / "estimate" / "alice" / "a.wav")
    assert rate == RATE
    np.testing.assert_allclose(samples, (target + interference) / 2, atol=1e-6)


def test_gained_asks_for_more_than_1_db(pairs, tmp_path):
    gains_db = {"barely": 1.1, "hardly": 0.9, "worse": -5}
    made = [folder_of(tmp_path, name, lambda x, d, g=g: x + 10 ** (-g / 20) * d) for name, g in gains_db.items()]
    scores = run(tmp_path, *made)["scores"]
    assert {name: scores[name][0]["gained"] for name in gains_db} == {"barely": 100, "hardly": 0, "worse": 0}


@pytest.mark.parametrize("dither", [0, 2**-15], ids=["zeros", "dither"])
def test_of_a_silent_target_only_what_is_left_is_measured(dither, half, tmp_path):
    put_pair(tmp_path / "pairs", "a")
    put_pair(tmp_path / "pairs", "b", None)
    put(tmp_path / "pairs" / "target" / "b.wav", dither * np.random.default_rng(0).uniform(-1, 1, N))
    put_list(tmp_path / "pairs", "a\tgame\t0\t", "b\tabsent\t0\t")
    report = run(tmp_path, half)
    assert [(item["present"], item["snr_db"]) for item in report["items"]] == [(True, 0), (False, None)]
    assert report["scores"]["alice"][1] == {"residual_level": pytest.approx(20 * log10(0.5), abs=1e-3)}
    assert report["scores"]["mixture"][1] == {"residual_level": pytest.approx(0, abs=1e-6)}
    assert "residual_level" not in report["scores"]["alice"][0]
    assert list(report["summary"]["alice"]["absent"]) == ["residual_level"]


def test_pairs_that_all_lack_the_target_are_scored_by_what_is_left(half, tmp_path, capsys):
    put_pair(tmp_path / "pairs", "a", None)
    put_pair(tmp_path / "pairs", "b", None, seed=1)
    report = run(tmp_path, half)
    assert list(report["summary"]["alice"]) == ["all"] and list(report["summary"]["alice"]["all"]) == ["residual_level"]
    assert "| alice | -6.0 [-6.0, -6.0] |\n" in capsys.readouterr().out


@pytest.mark.parametrize("n", [1, 500])
def test_a_pair_shorter_than_any_window_is_scored(n, half, tmp_path):
    put(tmp_path / "pairs" / "mixture" / "a.wav", np.full(n, 0.5))
    put(tmp_path / "pairs" / "target" / "a.wav", np.linspace(0.1, 0.2, n))
    report = run(tmp_path, half)
    assert report["failures"] == [] and np.isfinite(report["scores"]["alice"][0]["si_sdr"])


# ---------------------------------------------------------------------------------------------------------------------
# what is written


def test_a_report_says_what_made_it(half, pairs, tmp_path):
    report = run(tmp_path, half, folder_of(tmp_path, "good", lambda x, d: x))
    assert report["name"] == "out" and report["sample_rate"] == RATE and report["failures"] == []
    assert re.fullmatch(r"[0-9a-f]{40}\+?", report["commit"]) and report["versions"]["torch"] == version("torch")
    assert report["args"]["systems"] == [half, str(tmp_path / "good")] and report["args"]["pairs"] == str(pairs)
    sha256 = subprocess.run(["sha256sum", half], capture_output=True, text=True, check=True).stdout[:16]
    assert report["systems"] == [
        {"name": "mixture", "source": str(pairs)},
        {"name": "alice", "source": half, "step": 1, "sha256": sha256},
        {"name": "good", "source": str(tmp_path / "good")},
    ]


def test_items_are_as_they_are_listed_and_a_quote_that_does_not_end_keeps_to_its_line(half, pairs, tmp_path):
    put_list(pairs, 'b\tvoices\t-2.5\t"What a day!', "", "a\tgame\t\t", "c\tof no pair\t1\t")
    assert run(tmp_path, half)["items"] == [
        {"name": "a", "kind": "game", "snr_db": 0, "seconds": round(N / RATE, 3), "present": True},
        {"name": "b", "kind": "voices", "snr_db": -2.5, "seconds": round(N / RATE, 3), "present": True,
         "text": "What a day!"},
    ]


def test_an_snr_that_nobody_listed_is_measured_to_the_nearest_5_db(half, tmp_path):
    expected = {-7.6: -10, -7.4: -5, 0.4: 0, 2.4: 0, 2.6: 5, 17.9: 20}
    for i, snr_db in enumerate(expected):
        put_pair(tmp_path / "pairs", f"{i}", snr_db)
    assert [item["snr_db"] for item in run(tmp_path, half)["items"]] == list(expected.values())


def test_where_nothing_interferes_there_is_no_snr_and_nothing_leaks(half, tmp_path):
    target, _ = two_signals()
    for side in ("mixture", "target"):
        put(tmp_path / "pairs" / side / "a.wav", target)
    report = run(tmp_path, half)
    assert report["items"][0]["snr_db"] is None and report["failures"] == []
    assert "leakage" not in report["scores"]["alice"][0]  # of nothing, nothing can come through


def test_the_first_system_is_compared_with_the_mixture_and_with_each_of_the_others(half, tmp_path, capsys):
    names = "abcdef"
    for i, name in enumerate(names):
        put_pair(tmp_path / "pairs", name, seed=i)
    good = folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d, names)
    against = run(tmp_path, half, good)["against"]
    assert list(against) == ["mixture", "good"]
    (gap, verdict) = against["mixture"]["all"]["level_error"]
    assert gap == pytest.approx([6.0206, 6.0206, 6.0206, 6], abs=1e-3) and verdict == "worse"
    (gap, verdict) = against["good"]["all"]["si_sdri"]
    assert gap == pytest.approx([-20, -20, -20, 6], abs=1e-2) and verdict == "worse"
    assert "\nalice against good, all: SI-SDRi -20.0 [-20.0, -20.0] worse\n" in capsys.readouterr().out


def test_the_tables_hold_all_systems(half, tmp_path, capsys):
    for i, name in enumerate("ab"):
        put_pair(tmp_path / "pairs", name, 6.0, seed=i)
    put_pair(tmp_path / "pairs", "c", None, seed=2)
    put_list(tmp_path / "pairs", "a\tgame\t6\t", "b\tgame\t6\t", "c\tabsent\t\t")
    run(tmp_path, half)
    printed = capsys.readouterr().out
    assert "not measured" not in printed  # nobody was asked to listen
    first, second = printed.partition("\n\n")[2].split("\n\n")[:2]
    assert first.splitlines() == [
        f"| system | SI-SDRi, game | SI-SDRi, {PRESENT} | gained | left of absent |",
        "| --- | --- | --- | --- | --- |",
        "| mixture | +0.0 [+0.0, +0.0] | +0.0 [+0.0, +0.0] | 0% [0, 0] | +0.0 |",
        "| alice | +0.0 [+0.0, +0.0] | +0.0 [+0.0, +0.0] | 0% [0, 0] | -6.0 |",
    ]
    head, _, mixture, alice = ([cell.strip() for cell in line.split("|")[1:-1]] for line in second.splitlines())
    mixture, alice = (dict(zip(head, cells, strict=True)) for cells in (mixture, alice))
    assert (mixture["level error"], alice["level error"]) == ("+0.0 [+0.0, +0.0]", "-6.0 [-6.0, -6.0]")
    assert (alice["SI-SDR"], alice["speech lost"]) == ("+6.0 [+6.0, +6.0]", "75.0% [75.0, 75.0]")


def test_the_page_has_the_sounds_and_the_curves_and_is_left_out_on_request(half, pairs, tmp_path):
    curves.Table(Path(half).parent, 0).add(7, {"loss/curve of alice": 0.5})
    report = run(tmp_path, half)
    assert not (tmp_path / "out" / "index.html").exists() and "sound" not in report["items"][0]
    report = run(tmp_path, half, page=True)
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "loss/curve of alice" in page and "curves" not in report
    for item in report["items"]:
        sound = (tmp_path / "out" / item["sound"]).read_text("utf-8")
        assert all(f'"{name}": "' in sound for name in ("mixture", "target", "alice"))
        assert item["sound"] in page


# ---------------------------------------------------------------------------------------------------------------------
# ears


@pytest.fixture
def ears(monkeypatch) -> Mock:
    """In place of the models that listen: half of all words are wrong, and PESQ is NaN."""
    found = Mock()
    scores = {"wer": 0.5, "words": np.float64(4), "pesq": np.nan, "estoi": np.float32(0.25)}
    found.return_value.score.side_effect = lambda **signals: scores.copy()
    monkeypatch.setattr(perceptual, "Perceptual", found)
    monkeypatch.setattr(perceptual, "missing", dict)
    return found


def test_what_is_heard_joins_the_row_and_what_is_missing_is_named(pairs, tmp_path, ears, monkeypatch, capsys):
    lacking = {"dnsmos": "speechmos", "pesq": "pesq (OSError: no)"}
    monkeypatch.setattr(perceptual, "missing", lambda: lacking)
    put_pair(tmp_path / "pairs", "c", None)  # nobody to be heard
    put_list(pairs, "a\tgame\t\tone two three four", "b\tgame\t\t", "c\tgame\t\t")
    report = run(tmp_path, folder_of(tmp_path, "good", lambda x, d: x / 2, "abc"), perceptual=True)
    row = report["scores"]["good"][0]
    assert {m: row.get(m) for m in ("wer", "words", "estoi", "pesq")} == {
        "wer": 50.0, "words": 4.0, "estoi": 0.25, "pesq": None,
    }
    assert "pesq" not in row and list(report["scores"]["good"][2]) == ["residual_level"]
    text = "one two three four"
    assert ears.call_args_list == [call(RATE, None)]
    heard = [given.kwargs for given in ears.return_value.score.call_args_list]
    assert [x["text"] for x in heard] == [text, text, None, None]
    ratios = [x["estimate"].std() / x["target"].std() for x in heard]
    assert ratios == pytest.approx([2**0.5, 0.5] * 2, abs=1e-3)
    out = capsys.readouterr().out
    assert "| ESTOI |" in out and "50% [50, 50]" in out
    said = out.splitlines()[-1]
    assert said.startswith("not measured: ") and "WER" not in said  # there were words
    for words in ("DNSMOS (", "speechmos", "PESQ (", "pesq (OSError: no)", "speaker (", "clean"):
        assert words in said


def test_words_and_a_voice_that_were_not_given_are_named_as_not_measured(pairs, tmp_path, ears, capsys):
    good = folder_of(tmp_path, "good", lambda x, d: x)
    run(tmp_path, good, perceptual=True)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("not measured: ") and "speaker (" in said and "WER (" in said and "PESQ" not in said
    put_list(pairs, "a\tgame\t\tone two", "b\tgame\t\t")
    put(tmp_path / "clean" / "1.wav", np.ones(RATE, np.float32))
    run(tmp_path, good, perceptual=True, clean=(str(tmp_path / "clean"),))
    assert "not measured" not in capsys.readouterr().out


def test_the_voice_is_the_first_minute_of_the_clean_recordings(half, pairs, tmp_path, ears):
    pieces = [uniform(seconds * RATE) for seconds in (45, 5, 30)]
    for name, x in zip(("clean/1", "clean/2", "more/3"), pieces, strict=True):
        put(tmp_path / f"{name}.wav", x)
    run(tmp_path, half, clean=(str(tmp_path / "clean"), str(tmp_path / "more")), perceptual=True)
    rate, voice = ears.call_args.args
    assert ears.call_count == 1
    assert rate == RATE
    np.testing.assert_array_equal(voice, np.concatenate(pieces)[: 60 * RATE])


# ---------------------------------------------------------------------------------------------------------------------
# from the command line


def test_a_script_that_could_not_score_an_estimate_says_so_and_its_status_is_1(pairs, tmp_path):
    folder = folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d)
    put(tmp_path / "good" / "b.wav", np.full(N, np.nan))
    words = ["--systems", folder, "--pairs", pairs, "--out-dir", tmp_path / "out", "--perceptual", False]
    command = [sys.executable, "evaluate.py", *map(str, words), "--page", "False"]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert f"not scored (1):\n  good: {folder}/b.wav: NaN or infinite samples near 0.0 s\n" in ended.stderr
    assert "| good | +20.0 | 100% |\n" in ended.stdout
    assert written(tmp_path)["scores"]["good"][1] == {}
