"""What is scored: checkpoints, folders of estimates and enhancers, by the names of the pairs, at their rate."""

import shutil
from math import log10
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
import torch
from scored import RATE, N, folder_of, net_does, put, put_pair, run, two_signals

from extractor import UserError


def test_checkpoints_folders_and_enhancers_are_scored_side_by_side(half, quarter, pairs, tmp_path):
    report = run(tmp_path, half, folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d), "quarter")
    errors = {name: [row["level_error"] for row in rows] for name, rows in report["scores"].items()}
    expected = {"mixture": 0, "alice": 20 * log10(1 / 2), "good": 0, "quarter": 20 * log10(1 / 4)}
    assert errors == {name: pytest.approx([x, x], abs=1e-3) for name, x in expected.items()}
    assert list(report["scores"]) == list(expected)
    assert report["versions"]["einops"] and quarter == [RATE]
    assert sorted(p.name for p in (tmp_path / "out" / "estimate" / "quarter").iterdir()) == ["a.wav", "b.wav"]
    assert not (tmp_path / "out" / "estimate" / "good").exists()


def test_an_estimate_belongs_to_the_pair_of_its_name_whatever_its_suffix(pairs, tmp_path):
    folder = Path(folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d))
    samples, _ = sf.read(folder / "b.wav")
    (folder / "b.wav").unlink()
    put(folder / "b.flac", samples, subtype="PCM_24")
    put(folder / "c.wav", np.ones(3))  # of no pair
    assert [row["si_sdri"] for row in run(tmp_path, str(folder))["scores"]["good"]] == pytest.approx([20, 20], abs=0.01)


def test_systems_are_named_by_their_run_or_folder_and_by_their_path_where_that_is_taken(
    half, pairs, tmp_path, monkeypatch
):
    last, exported = half.replace("best", "last"), str(tmp_path / "bob.pt")
    for copy in (last, exported):
        shutil.copy(half, copy)
    taken = [folder_of(tmp_path, name, lambda x, d: x) for name in ("mixture", "target", "residual", "x/alice")]
    monkeypatch.chdir(tmp_path)  # where the folder `mixture` has no longer path than the name of a signal
    report = run(tmp_path, half, exported, last, "mixture", *taken[1:])
    assert list(report["scores"]) == ["mixture", "alice", "bob", *(path.replace("/", "_") for path in (last, *taken))]
    assert report["scores"]["mixture"][0]["si_sdri"] == 0  # still the mixture itself


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


def test_names_with_dots_and_pairs_in_folders_below_find_their_estimates(half, tmp_path):
    for seed, name in enumerate(("deep/c", "a.flac", "a.b")):
        put_pair(tmp_path / "pairs", name, seed=seed)
    for side in ("mixture", "target"):
        put(tmp_path / "pairs" / side / "a.flac", two_signals()[0], subtype="PCM_16")
    report = run(tmp_path, half)
    assert report["failures"] == [] and {item["name"] for item in report["items"]} == {"a", "a.b", "a.flac", "c"}


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


@pytest.mark.parametrize("samples, rate, says", [
    *((np.ones(n), rate, f"{n} samples at {rate} Hz, its mixture {N} at {RATE} Hz")
      for n, rate in ((N - 1, RATE), (N + 1, RATE), (N, 48000), (7266, 16000))),
    (np.full(N, np.nan), RATE, "NaN or infinite samples near 0.0 s"), (None, RATE, "no sound file that can be read"),
], ids=["short", "long", "short at 48 kHz", "short at 16 kHz", "NaN", "text"])
def test_an_estimate_of_another_duration_or_that_cannot_be_read_is_named_and_the_others_are_scored(
    samples, rate, says, pairs, tmp_path, capsys
):
    folder = folder_of(tmp_path, "good", lambda x, d: x + 0.1 * d)
    path = tmp_path / "good" / "a.wav"
    path.write_text("words") if samples is None else put(path, samples, rate)
    report = run(tmp_path, folder, page=samples is None)
    assert [failure.startswith(f"good: {path}: {says}") for failure in report["failures"]] == [True]
    assert report["scores"]["good"][0] == {} and report["scores"]["good"][1]["si_sdri"] == pytest.approx(20, abs=0.01)
    assert report["summary"]["good"]["all"]["si_sdri"][3] == 1 and report["summary"]["mixture"]["all"]["si_sdr"][3] == 2
    assert f"not scored (1):\n  {report['failures'][0]}\n" in capsys.readouterr().err


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
