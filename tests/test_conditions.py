"""bench/conditions.py: each condition is what its name says, and is done to the target as to the mixture."""

import json

import numpy as np
import pytest
from scored import net_does, put, put_list, put_pair

from bench.conditions import AS_RECORDED, CONDITIONS, BenchArgs, main
from extractor import UserError

RATE = 44100
N = 2 * RATE


def noise(seed: int = 0, n: int = N) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def level(x: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(x, dtype=np.float64)) + 1e-20)


def band(x: np.ndarray, low_hz: float, high_hz: float) -> float:
    """dB, of white noise of level 1 about 0"""
    hz = np.fft.rfftfreq(len(x), 1 / RATE)
    power = np.square(np.abs(np.fft.rfft(x))) / len(x)
    return 10 * np.log10(power[(hz >= low_hz) & (hz < high_hz)].mean() + 1e-20)


@pytest.fixture(scope="module")
def changed() -> dict[str, tuple]:
    """Condition -> mixture, target."""
    pytest.importorskip("av")
    return {name: condition(noise(0), noise(1), RATE) for name, condition in CONDITIONS.items()}


def test_lengths_and_types_are_kept_and_all_but_one_change_the_mixture(changed):
    for name, pair in changed.items():
        for x in pair:
            assert x.shape == (N,) and x.dtype == np.float32 and np.isfinite(x).all(), name
        same = np.array_equal(pair.mixture, noise(0) + noise(1))
        assert same == (name in (AS_RECORDED, "target gated")), name  # which has no pause


def test_what_is_of_one_part_leaves_the_other(changed):
    for name, (mixture, target) in changed.items():
        if name.startswith("target "):
            np.testing.assert_allclose(mixture - target, noise(1), atol=1e-6, err_msg=name)
        if name.startswith("interference "):
            np.testing.assert_array_equal(target, noise(0), err_msg=name)


@pytest.mark.parametrize("khz", ["17", "8", "4"])
@pytest.mark.parametrize("of", ["", "target ", "interference "])
def test_a_low_pass_ends_where_it_says(khz, of, changed):
    mixture, target = changed[f"{of}low-pass {khz} kHz"]
    ends = {"": mixture, "target ": target, "interference ": mixture - target}[of]
    before = {"": noise(0) + noise(1), "target ": noise(0), "interference ": noise(1)}[of]
    cutoff = 1000 * float(khz)
    assert band(ends, 1.03 * cutoff, 22_000) < band(before, 1.03 * cutoff, 22_000) - 60
    assert band(ends, 100, 0.85 * cutoff) == pytest.approx(band(before, 100, 0.85 * cutoff), abs=0.1)


@pytest.mark.parametrize("db", [3.0, 1.5, -1.5, -3.0])
def test_a_tilt_changes_every_octave_by_as_much(db, changed):
    _, target = changed[f"target tilt {db:+g} dB/octave"]
    for octave in (-2, -1, 0, 1, 2, 3):
        edges = 990 * 2.0**octave, 1010 * 2.0**octave
        assert band(target, *edges) - band(noise(0), *edges) == pytest.approx(db * octave, abs=0.3)


def test_codecs_lose_more_at_their_lower_rate_and_shift_nothing(changed):
    mixture = noise(0) + noise(1)
    losses = {}
    for name, pair in changed.items():
        if (codec := name.split()[0]) in ("MP3", "AAC", "Opus", "Vorbis"):
            coded, n = pair.mixture, 2 * N
            correlation = np.fft.irfft(np.fft.rfft(coded, n) * np.conj(np.fft.rfft(mixture, n)))
            assert np.argmax(correlation) == 0, name
            losses.setdefault(codec, []).append(level(coded - mixture) - level(mixture))
    assert len(losses) == 4
    assert all(better < worse < 1 for better, worse in losses.values()), losses


def test_a_room_adds_its_echo_to_the_direct_sound(changed):
    for name, db in (("target room 0.2 s, -10 dB", -10), ("target room 0.4 s, -5 dB", -5)):
        echo = changed[name].target - noise(0)
        assert level(echo) - level(noise(0)) == pytest.approx(db, abs=1)


def test_a_dry_target_has_the_rooms_sound_of_50_ms_and_the_mixture_all_of_it():
    click = np.zeros(N, np.float32)
    click[0] = 1
    heard, target = CONDITIONS["room 0.4 s, -5 dB, dry target"](click, np.zeros(N, np.float32), RATE)
    early = round(0.05 * RATE)
    np.testing.assert_allclose(target[:early], heard[:early], atol=1e-6)
    np.testing.assert_allclose(target[early:], 0, atol=1e-6)
    np.testing.assert_allclose(heard, CONDITIONS["target room 0.4 s, -5 dB"](click, 0 * click, RATE).target, atol=1e-6)
    assert np.abs(heard[early:]).max() > 1e-3


def test_gains_that_move_are_those_of_the_sum():
    """A half at -17 dBFS, 13 dB over the compressor's threshold, and one at -32: two thirds of 13 dB are taken."""
    target, interference = noise(0), noise(1)
    soft = np.where(np.arange(N) < N // 2, 1.0, 10 ** (-15 / 20)).astype(np.float32)
    halves = [slice(4410, N // 2 - 4410), slice(N // 2 + 4410, N - 4410)]

    def distance(x: np.ndarray) -> float:
        return level(x[halves[0]]) - level(x[halves[1]])

    squeezed = CONDITIONS["compressed 3:1"](soft * target, soft * interference, RATE)
    assert distance(squeezed.mixture) == pytest.approx(15 - 13 * 2 / 3, abs=0.2)
    assert distance(squeezed.target) == pytest.approx(15 - 13 * 2 / 3, abs=0.2)
    limited = CONDITIONS["limited by 10 dB"](soft * target, soft * interference, RATE)
    peak = np.abs(soft * (target + interference)).max()
    assert np.abs(limited.mixture).max() < 0.4 * peak
    np.testing.assert_allclose(limited.target / limited.mixture, target / (target + interference), rtol=1e-3)


def test_a_gate_shuts_where_the_target_pauses():
    target = noise(0)
    target[N // 3 : 2 * N // 3] *= 10 ** (-50 / 20)
    _, gated = CONDITIONS["target gated"](target, noise(1), RATE)
    assert not gated[N // 3 + 8820 : 2 * N // 3 - 8820].any()
    np.testing.assert_array_equal(gated[: N // 3 - 8820], target[: N // 3 - 8820])


def test_hiss_has_its_level_and_is_no_target(changed):
    mixture, target = changed["hiss -50 dBFS"]
    peak_db = 20 * np.log10(np.abs(noise(0) + noise(1)).max())
    assert level(mixture - noise(0) - noise(1)) - (peak_db + 3) == pytest.approx(-50, abs=0.2)
    np.testing.assert_array_equal(target, noise(0))


@pytest.mark.parametrize("name, factor", [("target 3 % faster", 1.03), ("target 3 % slower", 1 / 1.03)])
def test_faster_is_higher(name, factor):
    tone = np.sin(2 * np.pi * 1000 * np.arange(N) / RATE).astype(np.float32)
    _, target = CONDITIONS[name](tone, noise(1), RATE)
    assert np.abs(np.fft.rfft(target[: N // 2])).argmax() == pytest.approx(1000 * factor, abs=1)


# --- the scores ------------------------------------------------------------------------------------------------------


def test_every_condition_gets_its_means_by_kind(half, tmp_path, capsys):
    """A net that halves everything: nothing is gained anywhere, the level is half of the mixture's, and that lies 3 dB
    over the target's."""
    for name, snr_db in (("a", 0.0), ("b", 0.0), ("c", None)):
        put_pair(tmp_path / "pairs", name, snr_db)
    put_list(tmp_path / "pairs", "a\tgame\t0\t", "b\tvoice\t0\t", "c\tabsent\t\t")
    args = BenchArgs((half,), str(tmp_path / "pairs"), only=("softer",), out_dir=str(tmp_path / "out"), device="cpu")
    main(args)
    found = json.loads((tmp_path / "out/conditions.json").read_text())["conditions"]["alice"]
    assert list(found) == [AS_RECORDED, "12 dB softer"]
    for row in found.values():
        expected = {"game": 0, "voice": 0, "level": -3.01, "absent": -6.02, "deleted": 0}
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=0.01)
    assert "| 12 dB softer | +0.0 | +0.0 | - | -3.0 |" in capsys.readouterr().out
    assert (tmp_path / "out/conditions.png").read_bytes().startswith(b"\x89PNG")


def test_a_speaker_who_is_gone_counts_as_deleted(half, tmp_path, monkeypatch):
    net_does(monkeypatch, lambda mixture: mixture * (0.01 if mixture.std() < 0.2 else 1))
    put_pair(tmp_path / "pairs", "a", -10.0)
    put_pair(tmp_path / "pairs", "b", 10.0)  # 0.33 in all
    put_list(tmp_path / "pairs", "a\tgame\t-10\t", "b\tgame\t10\t")
    args = BenchArgs((half,), str(tmp_path / "pairs"), only=(AS_RECORDED,), out_dir=str(tmp_path / "out"), device="cpu")
    (row,) = main(args)["conditions"]["alice"].values()
    assert row["deleted"] == 50


@pytest.mark.parametrize("changed, words", [
    ({"only": ("low-pass 99",)}, "BenchArgs.only = 'low-pass 99': in no name; there are as recorded"),
    ({"checkpoints": ()}, "BenchArgs.checkpoints = .*: name a checkpoint"),
])
def test_what_there_is_none_of_is_refused(changed, words, half, pairs):
    args = {"checkpoints": (half,), "pairs": str(pairs)} | changed
    with pytest.raises(UserError, match=words):
        main(BenchArgs(**args))


def test_pairs_of_another_rate_than_the_net_are_refused(half, tmp_path):
    for part in ("mixture", "target"):
        put(tmp_path / "slow" / part / "a.wav", noise(0, 8000), 16_000)
    with pytest.raises(UserError, match="a net of 44100 Hz, the pairs of .* have 16000 Hz"):
        main(BenchArgs((half,), str(tmp_path / "slow")))
