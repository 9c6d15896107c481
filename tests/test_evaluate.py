"""Whole runs over small pairs: what is scored, what is written, what is refused.

Most tests put a net in the checkpoint's place that turns its mixture down by half, so that all numbers are known.
"""

import json
import os
import re
import runpy
import subprocess
import sys
from importlib.metadata import version
from math import log10
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import evaluate
import models
from evaluate import EvalArgs
from extractor import UserError, checkpoint, rivals
from extractor.scores import PRESENT

ROOT = Path(__file__).parent.parent
RATE, N = 44100, 20_000


@pytest.fixture
def half(monkeypatch, state, tmp_path) -> str:
    """The path of a checkpoint; every checkpoint holds a net that turns its mixture down by half."""
    path = tmp_path / "runs" / "alice" / "best.pt"
    checkpoint.save(path, state)
    net_does(monkeypatch, lambda mixture: mixture / 2)
    return str(path)


def net_does(monkeypatch, extract):
    net = nn.Identity()
    net.args = models.FAMILIES["dptnet"].args(sample_rate=RATE)
    family = models.FAMILIES["dptnet"]._replace(extract=lambda net, mixture, start: extract(mixture))
    monkeypatch.setattr(models, "load", lambda path: (net, family))


def two_signals(seed: int = 0, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Of equal energy, without means, orthogonal: SI-SDR is the ratio of what is made of them."""
    x, y = np.random.default_rng(seed).normal(size=(2, n))
    x, y = x - x.mean(), y - y.mean()
    y -= x * (x @ y) / (x @ x)
    return 0.1 * x / x.std(), 0.1 * y / y.std()


def put(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate, "FLOAT")
    return path


def put_pair(folder: Path, name: str, snr_db: float | None = 0.0, *, seed: int = 0, n: int = N, rate: int = RATE):
    """snr_db: None where the target is silent. Returns target and interference. [T]"""
    target, interference = two_signals(seed, n)
    target = 0 * target if snr_db is None else 10 ** (snr_db / 20) * target
    put(folder / "mixture" / f"{name}.wav", target + interference, rate)
    put(folder / "target" / f"{name}.wav", target, rate)
    return target, interference


def put_list(folder: Path, *lines: str):
    (folder / "list.tsv").write_text("\n".join(["name\tkind\tsnr_db\ttext", *lines]) + "\n", encoding="utf-8")


def run(tmp_path: Path, *systems: str, **changed) -> dict:
    """scores.json, read as other programs read it."""
    folders = {"pairs": str(tmp_path / "pairs"), "out_dir": str(tmp_path / "out")}
    evaluate.main(EvalArgs(systems, **folders, **{"device": "cpu", "perceptual": False, "page": False} | changed))
    return written(tmp_path)


def written(tmp_path: Path) -> dict:
    def refuse(word: str):
        raise AssertionError(f"{word} is no JSON")

    return json.loads((tmp_path / "out" / "scores.json").read_text("utf-8"), parse_constant=refuse)


@pytest.fixture
def pairs(tmp_path) -> Path:
    """a and b, the speaker as loud as everything else."""
    put_pair(tmp_path / "pairs", "a")
    put_pair(tmp_path / "pairs", "b", seed=1)
    return tmp_path / "pairs"


def folder_of(tmp_path: Path, name: str, make, names: str = "ab") -> str:
    """A folder of estimates: make(target, interference) of each pair of `pairs`."""
    for i, pair in enumerate(names):
        put(tmp_path / name / f"{pair}.wav", make(*two_signals(seed=i)))
    return str(tmp_path / name)


# ---------------------------------------------------------------------------------------------------------------------
# numbers


def test_half_the_mixture_by_hand(half, tmp_path):
    target, interference = put_pair(tmp_path / "pairs", "a", 6.0)
    report = run(tmp_path, half)
    assert report["scores"]["alice"][0] == pytest.approx({
        "si_sdr": 6.0, "si_sdri": 0, "sdr": 6.0, "sdri": 0, "gained": 0, "level_error": 20 * log10(0.5),
        "eaten": 75, "leakage": 20 * log10(0.5), "high_lost": 75, "high_kept": 20 * log10(0.5),
    }, abs=0.2)  # SDR's 512 taps fit 0.1 dB of the noise
    exact = {"si_sdr": 6.0, "si_sdri": 0, "sdri": 0, "level_error": -6.0206, "leakage": -6.0206, "eaten": 75}
    assert {m: report["scores"]["alice"][0][m] for m in exact} == pytest.approx(exact, abs=1e-3)
    samples, rate = sf.read(tmp_path / "out" / "estimate" / "alice" / "a.wav")
    assert rate == RATE
    np.testing.assert_allclose(samples, (target + interference) / 2, atol=1e-6)


def test_an_estimate_with_a_tenth_of_the_interference_by_hand(pairs, tmp_path):
    row = run(tmp_path, folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d))["scores"]["good"][0]
    exact = {"si_sdr": 20, "si_sdri": 20, "gained": 100, "level_error": 0, "eaten": 0, "leakage": -20, "high_kept": 0}
    assert {m: row[m] for m in exact} == pytest.approx(exact, abs=1e-2)
    assert row["sdri"] == pytest.approx(20, abs=0.2)


def test_a_dull_estimate_has_lost_what_lies_above_8_khz(pairs, tmp_path):
    hz = np.fft.rfftfreq(N, 1 / RATE)
    source = folder_of(tmp_path, "dull", lambda x, d: np.fft.irfft(np.fft.rfft(x) * (hz < 8000), N))
    row = run(tmp_path, source)["scores"]["dull"][0]
    assert row["high_lost"] > 98 and row["high_kept"] < -20
    assert row["eaten"] == pytest.approx(100 * (1 - 8000 / (RATE / 2)), abs=2)


def test_an_estimate_that_comes_late_is_forgiven_by_sdr_alone(pairs, tmp_path):
    row = run(tmp_path, folder_of(tmp_path, "late", lambda x, d: np.roll(x, 100)))["scores"]["late"][0]
    assert row["sdr"] > 20 and row["si_sdr"] < -20 and row["eaten"] > 1


def test_the_mixture_is_scored_first_and_gains_nothing(half, pairs, tmp_path):
    report = run(tmp_path, half)
    assert list(report["scores"]) == ["mixture", "alice"]
    exact = {"si_sdr": 0, "si_sdri": 0, "sdri": 0, "gained": 0, "level_error": 0, "eaten": 0, "leakage": 0}
    for row in report["scores"]["mixture"]:
        assert {m: row[m] for m in exact} == pytest.approx(exact, abs=1e-3)


def test_gained_asks_for_more_than_1_db(pairs, tmp_path):
    for name, gain_db, share in [("barely", 1.1, 100), ("hardly", 0.9, 0), ("worse", -5, 0)]:
        source = folder_of(tmp_path, name, lambda x, d, g=gain_db: x + 10 ** (-g / 20) * d)
        report = run(tmp_path, source)
        assert [row["gained"] for row in report["scores"][name]] == [share, share]


def test_of_a_silent_target_only_what_is_left_is_measured(half, tmp_path):
    put_pair(tmp_path / "pairs", "a")
    put_pair(tmp_path / "pairs", "b", None)
    put_list(tmp_path / "pairs", "a\tgame\t0\t", "b\tabsent\t0\t")
    report = run(tmp_path, half)
    assert [(item["present"], item["snr_db"]) for item in report["items"]] == [(True, 0), (False, None)]
    assert report["scores"]["alice"][1] == {"attenuation": pytest.approx(20 * log10(0.5), abs=1e-3)}
    assert report["scores"]["mixture"][1] == {"attenuation": pytest.approx(0, abs=1e-6)}
    assert "attenuation" not in report["scores"]["alice"][0]
    assert list(report["summary"]["alice"]["absent"]) == ["attenuation"]


def test_pairs_that_all_lack_the_target_are_scored_by_what_is_left(half, tmp_path, capsys):
    put_pair(tmp_path / "pairs", "a", None)
    put_pair(tmp_path / "pairs", "b", None, seed=1)
    report = run(tmp_path, half)
    assert list(report["summary"]["alice"]) == ["all"] and list(report["summary"]["alice"]["all"]) == ["attenuation"]
    assert "| alice | -6.0 [-6.0, -6.0] |\n" in capsys.readouterr().out


@pytest.mark.parametrize("n", [1, 2, 500])
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


def test_items_are_as_they_are_listed(half, pairs, tmp_path):
    put_list(pairs, "b\tvoices\t-2.5\tWhat a day!", "a\tgame\t\t", "c\tof no pair\t1\t")
    assert run(tmp_path, half)["items"] == [
        {"name": "a", "kind": "game", "snr_db": 0, "seconds": round(N / RATE, 3), "present": True},
        {"name": "b", "kind": "voices", "snr_db": -2.5, "seconds": round(N / RATE, 3), "present": True,
         "text": "What a day!"},
    ]


@pytest.mark.parametrize("snr_db, rounded", [(-7.6, -10), (-7.4, -5), (0.4, 0), (2.4, 0), (2.6, 5), (17.9, 20)])
def test_an_snr_that_nobody_listed_is_measured_to_the_nearest_5_db(snr_db, rounded, half, tmp_path):
    put_pair(tmp_path / "pairs", "a", snr_db)
    assert run(tmp_path, half)["items"][0]["snr_db"] == rounded


def test_where_nothing_interferes_there_is_no_snr_and_nothing_leaks(half, tmp_path):
    target, _ = two_signals()
    for side in ("mixture", "target"):
        put(tmp_path / "pairs" / side / "a.wav", target)
    report = run(tmp_path, half)
    assert report["items"][0]["snr_db"] is None and report["failures"] == []
    assert "leakage" not in report["scores"]["alice"][0]  # of nothing, nothing can come through


def test_a_list_may_have_no_column_but_the_name_and_lines_that_are_no_pair(half, pairs, tmp_path):
    (pairs / "list.tsv").write_text("name\na\nb\nc\n")
    assert [item["kind"] for item in run(tmp_path, half)["items"]] == ["all", "all"]


def test_a_pair_without_a_line_in_the_list_is_refused(half, pairs, tmp_path):
    (pairs / "list.tsv").write_text("name\tkind\na.wav\tgame\nb\tgame\n")
    with pytest.raises(UserError, match=r"list\.tsv: has no line for a; names have no suffix$"):
        run(tmp_path, half)


def test_the_summary_is_by_kind_and_snr_with_intervals(half, tmp_path):
    for i, (name, snr_db) in enumerate([("a", -5), ("b", 5), ("c", 5), ("d", None)]):
        put_pair(tmp_path / "pairs", name, snr_db, seed=i)
    put_list(tmp_path / "pairs", "a\tgame\t\t", "b\tgame\t\t", "c\tvoices\t\t", "d\tabsent\t\t")
    summary = run(tmp_path, half)["summary"]["alice"]
    assert list(summary) == ["game", "voices", "absent", "at -5 dB", "at 5 dB", PRESENT]
    assert summary["game"]["si_sdr"] == pytest.approx([0, -5, 5, 2], abs=1e-3)
    assert summary["voices"]["si_sdr"] == [pytest.approx(5, abs=1e-3), None, None, 1]
    assert summary["at 5 dB"]["si_sdr"] == pytest.approx([5, 5, 5, 2], abs=1e-3)
    mean, low, high, n = summary[PRESENT]["si_sdr"]
    assert mean == pytest.approx(5 / 3, abs=1e-3) and -5 < low + 1e-2 < mean < high < 5 + 1e-2 and n == 3


def test_the_first_system_is_compared_with_the_mixture_and_with_each_of_the_others(half, tmp_path, capsys):
    names = "abcdef"
    for i, name in enumerate(names):
        put_pair(tmp_path / "pairs", name, seed=i)
    good = folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d, names)
    against = run(tmp_path, half, good)["against"]
    assert list(against) == ["mixture", "good"]
    (gap, verdict) = against["mixture"]["all"]["level_error"]
    assert gap == pytest.approx([6.0206, 6.0206, 6.0206, 6], abs=1e-3) and verdict == "worse"
    assert against["mixture"]["all"]["leakage"][1] == "better" and against["mixture"]["all"]["eaten"][1] == "worse"
    (gap, verdict) = against["good"]["all"]["si_sdri"]
    assert gap == pytest.approx([-20, -20, -20, 6], abs=1e-2) and verdict == "worse"
    assert "\nalice against good, all: SI-SDRi -20.0 [-20.0, -20.0] worse\n" in capsys.readouterr().out
    against = run(tmp_path, good, half)["against"]
    assert list(against) == ["mixture", "alice"] and against["alice"]["all"]["si_sdri"][1] == "better"


def test_the_tables_hold_all_systems(half, tmp_path, capsys):
    for i, name in enumerate("ab"):
        put_pair(tmp_path / "pairs", name, 6.0, seed=i)
    put_pair(tmp_path / "pairs", "c", None, seed=2)
    put_list(tmp_path / "pairs", "a\tgame\t6\t", "b\tgame\t6\t", "c\tabsent\t\t")
    run(tmp_path, half)
    first, second = capsys.readouterr().out.partition("\n\n")[2].split("\n\n")[:2]
    assert first.splitlines() == [
        f"| system | SI-SDRi, game | SI-SDRi, {PRESENT} | gained | left of absent |",
        "| --- | --- | --- | --- | --- |",
        "| mixture | +0.0 [+0.0, +0.0] | +0.0 [+0.0, +0.0] | 0% [0, 0] | +0.0 |",
        "| alice | +0.0 [+0.0, +0.0] | +0.0 [+0.0, +0.0] | 0% [0, 0] | -6.0 |",
    ]
    head, _, mixture, alice = ([cell.strip() for cell in line.split("|")[1:-1]] for line in second.splitlines())
    mixture, alice = (dict(zip(head, cells, strict=True)) for cells in (mixture, alice))
    assert (mixture["level error"], alice["level error"]) == ("+0.0 [+0.0, +0.0]", "-6.0 [-6.0, -6.0]")
    assert (alice["SI-SDR"], alice["speech eaten"]) == ("+6.0 [+6.0, +6.0]", "75.0% [75.0, 75.0]")


def test_the_page_has_the_sounds_and_the_curves_and_is_left_out_on_request(half, pairs, tmp_path):
    with SummaryWriter(str(Path(half).parent)) as writer:
        writer.add_scalar("loss/curve of alice", 0.5, 7)
    report = run(tmp_path, half)
    assert not (tmp_path / "out" / "index.html").exists() and "sound" not in report["items"][0]
    report = run(tmp_path, half, page=True)
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "loss/curve of alice" in page and "curves" not in report
    for item in report["items"]:
        sound = (tmp_path / "out" / item["sound"]).read_text("utf-8")
        assert all(f'"{name}": "' in sound for name in ("mixture", "target", "alice"))
        assert item["sound"] in page


def test_names_in_any_letters_work_from_end_to_end(half, tmp_path):
    name = "<b>\"two\" 'words' & 日本 é"
    put_pair(tmp_path / "pairs", name)
    put_list(tmp_path / "pairs", f"{name}\tmusic & <i>\t5\tça")
    report = run(tmp_path, half, folder_of(tmp_path, "ΣΔ", lambda x, d: x, [name]), page=True)
    assert report["failures"] == [] and list(report["scores"]) == ["mixture", "alice", "ΣΔ"]
    assert [report["items"][0][key] for key in ("name", "kind", "text")] == [name, "music & <i>", "ça"]
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "日本 é" in page and "<b>" not in page and "music & <i>" not in page
    assert (tmp_path / "out" / "estimate" / "alice" / f"{name}.wav").exists()


# ---------------------------------------------------------------------------------------------------------------------
# systems


@pytest.fixture
def quarter(monkeypatch) -> list:
    """The only ready-made enhancer, "quarter"; the list is of the voices that it was told."""
    told = []

    def load(enrolment, rate):
        told.append(enrolment)
        return lambda mixture: mixture / 4

    monkeypatch.setattr(rivals, "RIVALS", {"quarter": rivals.Rival(load, "einops", None, 0)})
    return told


def test_checkpoints_folders_and_enhancers_are_scored_side_by_side(half, quarter, pairs, tmp_path):
    report = run(tmp_path, half, folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d), "quarter")
    errors = {name: [row["level_error"] for row in rows] for name, rows in report["scores"].items()}
    expected = {"mixture": 0, "alice": 20 * log10(1 / 2), "good": 0, "quarter": 20 * log10(1 / 4)}
    assert errors == {name: pytest.approx([x, x], abs=1e-3) for name, x in expected.items()}
    assert list(report["scores"]) == list(expected)
    assert report["versions"]["einops"] and quarter == [None]
    assert sorted(p.name for p in (tmp_path / "out" / "estimate" / "quarter").iterdir()) == ["a.wav", "b.wav"]
    assert not (tmp_path / "out" / "estimate" / "good").exists()


def test_an_estimate_belongs_to_the_pair_of_its_name_whatever_its_suffix(pairs, tmp_path):
    folder = Path(folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d))
    samples, _ = sf.read(folder / "b.wav")
    (folder / "b.wav").unlink()
    sf.write(folder / "b.flac", samples, RATE, "PCM_24")
    put(folder / "c.wav", np.ones(3))  # of no pair
    assert [row["si_sdri"] for row in run(tmp_path, str(folder))["scores"]["good"]] == pytest.approx([20, 20], abs=0.01)


def test_systems_are_named_by_their_run_or_folder_and_by_their_path_where_that_is_taken(half, pairs, tmp_path):
    last = half.replace("best", "last")
    Path(last).write_bytes(Path(half).read_bytes())
    taken = [folder_of(tmp_path, name, lambda x, d: x) for name in ("mixture", "target", "residual", "x/alice")]
    report = run(tmp_path, half, last, *taken)
    assert list(report["scores"]) == ["mixture", "alice", *(path.replace("/", "_") for path in (last, *taken))]
    assert report["scores"]["mixture"][0]["si_sdri"] == 0  # still the mixture itself


@pytest.mark.parametrize("name", ["mixture", "target", "residual"])
def test_a_folder_in_reach_with_the_name_of_a_signal_does_not_take_its_place(name, pairs, tmp_path, monkeypatch):
    folder_of(tmp_path, name, lambda x, d: x + 0.1 * d)
    monkeypatch.chdir(tmp_path)
    scores = run(tmp_path, name)["scores"]
    assert len(scores) == 2 and name not in set(scores) - {"mixture"}
    assert scores["mixture"][0]["si_sdri"] == 0


def test_a_run_and_an_enhancer_of_one_name_are_both_scored(half, quarter, pairs, tmp_path):
    run_of = Path(half).parent.rename(tmp_path / "runs" / "quarter") / "best.pt"
    errors = [rows[0]["level_error"] for rows in run(tmp_path, str(run_of), "quarter")["scores"].values()]
    assert errors == pytest.approx([0, 20 * log10(1 / 2), 20 * log10(1 / 4)], abs=1e-3)


def test_estimates_of_an_earlier_run_that_this_one_would_write_over_are_refused(half, pairs, tmp_path, monkeypatch):
    run(tmp_path, half)
    before = str(tmp_path / "out" / "estimate" / "alice")
    net_does(monkeypatch, lambda mixture: mixture / 8)
    with pytest.raises(UserError, match=f"^{before}: "):
        run(tmp_path, half, before)
    assert sf.read(f"{before}/a.wav")[0] == pytest.approx(sum(two_signals()) / 2, abs=1e-6)
    errors = [rows[0]["level_error"] for rows in run(tmp_path, before, half)["scores"].values()]  # named by its path
    assert errors == pytest.approx([0, 20 * log10(1 / 2), 20 * log10(1 / 8)], abs=1e-3)


def test_stale_estimates_are_never_scored(half, pairs, tmp_path, monkeypatch):
    run(tmp_path, half)

    def fails_on_b(mixture):
        if mixture.allclose(b, atol=1e-6):
            raise UserError("no luck with b")
        return mixture / 8

    b = torch.from_numpy(sf.read(pairs / "mixture" / "b.wav", dtype="float32")[0])
    net_does(monkeypatch, fails_on_b)
    report = run(tmp_path, half)
    assert report["scores"]["alice"][0]["level_error"] == pytest.approx(20 * log10(1 / 8), abs=1e-3)
    assert report["scores"]["alice"][1] == {}
    (failure,) = report["failures"]
    assert failure.startswith("alice: ") and "b.wav" in failure


def test_pairs_in_folders_below_find_their_estimates(half, tmp_path):
    put_pair(tmp_path / "pairs", "deep/a")
    report = run(tmp_path, half)
    assert report["failures"] == [] and report["items"][0]["name"] == "a"


def test_names_with_dots_find_their_estimates(half, tmp_path):
    put_pair(tmp_path / "pairs", "a.flac")
    put_pair(tmp_path / "pairs", "a.b", seed=1)
    sf.write(tmp_path / "pairs" / "mixture" / "a.flac", sum(two_signals()), RATE)
    sf.write(tmp_path / "pairs" / "target" / "a.flac", two_signals()[0], RATE)
    report = run(tmp_path, half)
    assert report["failures"] == [] and {item["name"] for item in report["items"]} == {"a", "a.b", "a.flac"}


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_estimates_of_another_rate_are_brought_to_that_of_the_pairs(rate, tmp_path):
    n = RATE // 2 + 7  # no whole number of samples at the other rates
    target, interference = two_signals(n=n)
    hz = np.fft.rfftfreq(n, 1 / RATE)
    dull = np.fft.irfft(np.fft.rfft(target) * (hz < 6000), n) * np.hanning(n)
    put(tmp_path / "pairs" / "mixture" / "a.wav", dull + interference)
    put(tmp_path / "pairs" / "target" / "a.wav", dull)
    for samples in (soxr.resample(dull, RATE, rate), soxr.resample(dull, RATE, rate)[: n * rate // RATE]):
        put(tmp_path / "other" / "a.wav", samples, rate)
        report = run(tmp_path, str(tmp_path / "other"))
        assert report["failures"] == []
        row = report["scores"]["other"][0]
        assert row["si_sdr"] > 40 and row["level_error"] == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("n, rate", [(N - 1, RATE), (N + 1, RATE), (N, 48000), (N // 2, 16000), (7266, 16000)])
def test_an_estimate_of_another_duration_is_named_and_the_others_are_scored(n, rate, pairs, tmp_path, capsys):
    folder = folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d)
    put(tmp_path / "good" / "a.wav", np.ones(n), rate)
    report = run(tmp_path, folder)
    assert report["failures"] == [f"good: {folder}/a.wav: {n} samples at {rate} Hz, its mixture {N} at {RATE} Hz"]
    assert report["scores"]["good"][0] == {} and report["scores"]["good"][1]["si_sdri"] == pytest.approx(20, abs=0.01)
    assert report["summary"]["good"]["all"]["si_sdri"][3] == 1 and report["summary"]["mixture"]["all"]["si_sdr"][3] == 2
    assert f"not scored (1):\n  {report['failures'][0]}\n" in capsys.readouterr().err


def test_an_estimate_that_cannot_be_read_is_named_and_the_others_are_scored(pairs, tmp_path):
    folder = folder_of(tmp_path, "good", lambda x, d: x)
    for content, says in [(np.full(N, np.nan), "NaN or infinite samples"), ("words", "no sound file that can be read")]:
        path = tmp_path / "good" / "b.wav"
        path.write_text(content) if isinstance(content, str) else put(path, content)
        report = run(tmp_path, folder, page=True)
        assert [f.startswith(f"good: {path}: {says}") for f in report["failures"]] == [True]
        assert report["scores"]["good"][1] == {} and report["scores"]["good"][0]["si_sdri"] > 50
        assert report["scores"]["mixture"][1]["si_sdri"] == 0


def test_a_net_whose_output_is_nan_is_no_silent_zero(half, pairs, tmp_path, monkeypatch):
    net_does(monkeypatch, lambda mixture: mixture * np.nan)
    report = run(tmp_path, half)
    assert report["scores"]["alice"] == [{}, {}] and len(report["failures"]) == 2
    assert report["summary"]["alice"] == {"all": {}} and report["against"]["mixture"] == {"all": {}}


@pytest.mark.parametrize("side", ["mixture", "target"])
def test_a_pair_that_cannot_be_read_is_left_out_and_named(side, half, quarter, pairs, tmp_path):
    bad = put(pairs / side / "a.wav", np.full(N, np.nan))
    report = run(tmp_path, half, "quarter")
    assert report["failures"] == [f"{bad}: NaN or infinite samples near 0.0 s"]
    assert [item["name"] for item in report["items"]] == ["b"]
    assert [len(rows) for rows in report["scores"].values()] == [1, 1, 1]
    put(pairs / side / "b.wav", np.full(N, np.nan))
    with pytest.raises(UserError, match=r"pairs: no pair could be scored \(.*a\.wav: NaN or infinite samples"):
        run(tmp_path, half)


def test_the_voice_is_the_first_minute_of_the_clean_recordings(quarter, pairs, tmp_path, monkeypatch):
    first, second, third = np.random.default_rng(0).uniform(-0.5, 0.5, (3, RATE)).astype(np.float32)
    put(tmp_path / "clean" / "1.wav", first)
    put(tmp_path / "clean" / "2.wav", second)
    put(tmp_path / "more" / "3.wav", third)
    clean = (str(tmp_path / "clean"), str(tmp_path / "more"))
    run(tmp_path, "quarter", clean=clean)
    np.testing.assert_array_equal(quarter[-1], np.concatenate([first, second, third]))
    assert evaluate.ENROLMENT_S == 60
    monkeypatch.setattr(evaluate, "ENROLMENT_S", 2)
    put(tmp_path / "clean" / "2.wav", second[: RATE // 2])
    run(tmp_path, "quarter", clean=clean)
    np.testing.assert_array_equal(quarter[-1], np.concatenate([first, second[: RATE // 2], third[: RATE // 2]]))


# ---------------------------------------------------------------------------------------------------------------------
# ears


class Ears:
    """Hears half of all words wrong, and NaN where PESQ is asked."""

    heard: list = []

    def __init__(self, sample_rate, enrolment):
        self.heard.append((sample_rate, enrolment))

    def score(self, *, estimate, target, text):
        self.heard.append((estimate.std() / target.std(), text))
        return {"wer": 0.5, "words": np.float64(4), "pesq": np.nan, "estoi": np.float32(0.25)}


def test_what_is_heard_joins_the_row_and_what_is_missing_is_named(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate.perceptual, "Perceptual", Ears)
    monkeypatch.setattr(Ears, "heard", [])
    lacking = {"dnsmos": "speechmos", "pesq": "pesq (OSError: no)"}
    monkeypatch.setattr(evaluate.perceptual, "missing", lambda: lacking)
    put_pair(tmp_path / "pairs", "c", None)  # nobody to be heard
    put_list(pairs, "a\tgame\t\tone two three four", "b\tgame\t\t", "c\tgame\t\t")
    report = run(tmp_path, folder_of(tmp_path, "good", lambda x, d: x / 2, "abc"), perceptual=True)
    row = report["scores"]["good"][0]
    assert {m: row.get(m) for m in ("wer", "words", "estoi", "pesq")} == {
        "wer": 50.0, "words": 4.0, "estoi": 0.25, "pesq": None,
    }
    assert "pesq" not in row and list(report["scores"]["good"][2]) == ["attenuation"]
    text = "one two three four"
    assert Ears.heard[0] == (RATE, None)
    assert [t for _, t in Ears.heard[1:]] == [text, text, None, None]
    assert [ratio for ratio, _ in Ears.heard[1:]] == pytest.approx([2**0.5, 0.5] * 2, abs=1e-3)
    out = capsys.readouterr().out
    assert "| ESTOI |" in out and "50% [50, 50]" in out
    said = out.splitlines()[-1]
    assert said.startswith("not measured: ") and "WER" not in said  # there were words
    for words in ("DNSMOS (", "speechmos", "PESQ (", "pesq (OSError: no)", "speaker (", "clean"):
        assert words in said


def test_words_and_a_voice_that_were_not_given_are_named_as_not_measured(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate.perceptual, "Perceptual", Ears)
    monkeypatch.setattr(Ears, "heard", [])
    monkeypatch.setattr(evaluate.perceptual, "missing", dict)
    good = folder_of(tmp_path, "good", lambda x, d: x)
    run(tmp_path, good, perceptual=True)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("not measured: ") and "speaker (" in said and "WER (" in said and "PESQ" not in said
    put_list(pairs, "a\tgame\t\tone two", "b\tgame\t\t")
    put(tmp_path / "clean" / "1.wav", np.ones(RATE, np.float32))
    run(tmp_path, good, perceptual=True, clean=(str(tmp_path / "clean"),))
    assert "not measured" not in capsys.readouterr().out
    rate, voice = Ears.heard[-5]  # before two pairs by two systems
    assert rate == RATE and voice.shape == (RATE,)


def test_without_perceptual_nobody_listens(half, pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate.perceptual, "Perceptual", None)
    run(tmp_path, half)
    assert "not measured" not in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------------------
# refusals


def only_one_side(folder: Path):
    (folder / "mixture" / "a.wav").rename(folder / "mixture" / "c.wav")


def another_length(folder: Path):
    put(folder / "target" / "b.wav", np.ones(N - 1))


def another_rate_within(folder: Path):
    put(folder / "target" / "b.wav", np.ones(N), 48000)


def another_rate_between(folder: Path):
    put_pair(folder, "b", rate=48000)


def nothing(folder: Path):
    for path in folder.glob("*/*.wav"):
        path.unlink()


def away(folder: Path):
    folder.rename(folder.with_name("elsewhere"))


def twice(folder: Path):
    sf.write(folder / "target" / "a.flac", np.zeros(N), RATE)


def no_sound(folder: Path):
    (folder / "mixture" / "a.wav").write_text("words")


def no_name(folder: Path):
    (folder / "list.tsv").write_text("file\tkind\na\tgame\n")


def commas(folder: Path):
    (folder / "list.tsv").write_text("name,kind\na,game\n")


def no_number(folder: Path):
    put_list(folder, "a\tgame\t5\t", "b\tgame\tloud\t")


def not_finite(folder: Path):
    put_list(folder, "a\tgame\t5\t", "b\tgame\tnan\t")


def not_utf8(folder: Path):
    (folder / "list.tsv").write_bytes("name\tkind\na\tcafé\n".encode("latin-1"))


@pytest.mark.parametrize(
    "change, sentence",
    [
        (only_one_side, r"pairs: mixture/ and target/ must hold files of the same names \(a, c\)$"),
        (another_length, rf"mixture/b\.wav: {N} samples, its target {N - 1}; they must be as long$"),
        (another_rate_within, r"target/b\.wav: 48000 Hz, others 44100 Hz; all pairs must be of one rate$"),
        (another_rate_between, r"mixture/b\.wav: 48000 Hz, others 44100 Hz; all pairs must be of one rate$"),
        (nothing, r"pairs: mixture/ and target/ must hold files of the same names \(nothing there\)$"),
        (away, r"pairs: mixture/ and target/ must hold files of the same names \(nothing there\)$"),
        (twice, r"target/a\.flac: a\.wav has the same name; a pair is one mixture, one target$"),
        (no_sound, r"mixture/a\.wav: no sound file that can be read"),
        (no_name, r"list\.tsv: no column `name` in line 2; separate columns by tabs$"),
        (commas, r"list\.tsv: no column `name` in line 2; separate columns by tabs$"),
        (no_number, r"list\.tsv: snr_db = 'loud' of b is no number$"),
        (not_finite, r"list\.tsv: snr_db = 'nan' of b is no number$"),
        (not_utf8, r"list\.tsv: "),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_pairs_that_are_no_pairs_are_refused_in_one_sentence(change, sentence, half, pairs, tmp_path):
    change(pairs)
    with pytest.raises(UserError, match=sentence):
        run(tmp_path, half)
    assert not (tmp_path / "out").exists()


def test_without_a_system_there_is_nothing_to_score():
    with pytest.raises(UserError, match=r"EvalArgs\.systems: name a checkpoint, a folder of estimates, or"):
        EvalArgs(systems=())


def test_a_system_that_is_not_there_is_refused_with_the_enhancers_there_are(pairs, tmp_path):
    with pytest.raises(UserError, match=r"^demucs: no checkpoint, no folder .* known here \(deepfilternet3, rnnoise, "):
        run(tmp_path, "demucs")


@pytest.mark.parametrize("which", ["a folder", "a checkpoint", "an enhancer"])
def test_the_same_system_twice_is_refused(which, half, quarter, pairs, tmp_path):
    folder = folder_of(tmp_path, "good", lambda x, d: x)
    source = {"a folder": folder, "a checkpoint": half, "an enhancer": "quarter"}[which]
    for systems in ((source, source), (source, *{folder, half} - {source}, source)):
        with pytest.raises(UserError, match=f"^{source}: named twice among the systems; name it once$"):
            run(tmp_path, *systems)


def test_a_folder_that_lacks_estimates_is_refused_before_another_system_works(half, quarter, pairs, tmp_path):
    folder = folder_of(tmp_path, "good", lambda x, d: x, "b")
    with pytest.raises(UserError, match="no estimate of a; "):
        run(tmp_path, half, "quarter", folder)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_lacks_estimates_is_refused_with_their_names(tmp_path):
    for i, name in enumerate("abcdefgh"):
        put_pair(tmp_path / "pairs", name, seed=i, n=100)
    folder = folder_of(tmp_path, "good", lambda x, d: x[:100], "b")
    with pytest.raises(UserError, match="good: no estimate of a, c, d, e, f and 2 more; files are matched by name$"):
        run(tmp_path, folder)
    folder = folder_of(tmp_path, "good", lambda x, d: x[:100], "bcdefgh")
    with pytest.raises(UserError, match="good: no estimate of a; files are matched by name$"):
        run(tmp_path, folder)


def test_two_estimates_of_one_pair_are_refused(pairs, tmp_path):
    folder = folder_of(tmp_path, "good", lambda x, d: x)
    put(tmp_path / "good" / "more" / "b.wav", np.ones(N))
    with pytest.raises(UserError, match=r"good/b\.wav: b\.wav has the same name"):
        run(tmp_path, folder)


def test_clean_folders_without_recordings_are_refused(half, pairs, tmp_path):
    (tmp_path / "clean").mkdir()
    for folder in (tmp_path / "clean", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"{folder}: no recordings there; name folders of the speaker's clean rec"):
            run(tmp_path, half, clean=(str(folder),))


def test_a_file_that_is_no_checkpoint_is_refused(pairs, tmp_path):
    (tmp_path / "best.pt").write_text("words")
    with pytest.raises(UserError, match=r"best\.pt: damaged, or no checkpoint"):
        run(tmp_path, str(tmp_path / "best.pt"))


# ---------------------------------------------------------------------------------------------------------------------
# from the command line


def words_for(tmp_path: Path, *systems: str) -> list[str]:
    words = ["--systems", *systems, "--pairs", tmp_path / "pairs", "--out-dir", tmp_path / "out"]
    return list(map(str, [*words, "--perceptual", False, "--page", False]))


def test_a_script_that_could_not_score_an_estimate_says_so_and_its_status_is_1(pairs, tmp_path):
    folder = folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d)
    put(tmp_path / "good" / "b.wav", np.full(N, np.nan))
    command = [sys.executable, str(ROOT / "evaluate.py"), *words_for(tmp_path, folder)]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, check=False, env={**os.environ})
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert f"not scored (1):\n  good: {folder}/b.wav: NaN or infinite samples near 0.0 s\n" in ended.stderr
    assert "| good | +20.0 | 100% |\n" in ended.stdout
    assert written(tmp_path)["scores"]["good"][1] == {}


def test_a_script_that_could_score_everything_has_status_0(pairs, tmp_path, monkeypatch):
    folder = folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d)
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *words_for(tmp_path, folder)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "evaluate.py"), run_name="__main__")
    assert not ended.value.code
    assert written(tmp_path)["failures"] == []
