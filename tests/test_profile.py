"""extractor/profile.py: what recordings sound like, and in what two are unlike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scored import put

from dataset import MixtureArgs
from extractor import audio
from extractor.material import unlike_captures
from extractor.profile import RATE, SILENT_DB, Profile, profile, unlike

SAME = Profile(bandwidth_hz=20_000, floor_db=-40, tilt_db=-6)


def noise(seconds: float = 20, db_per_octave: float = 0.0, cutoff_hz: float = 1e9, seed: int = 0) -> np.ndarray:
    """Peak below 0.5."""
    n = round(seconds * RATE)
    hz = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 50)
    gain = 10 ** (db_per_octave * np.log2(hz / 1000) / 20) * (hz < cutoff_hz)
    x = np.fft.irfft(np.fft.rfft(np.random.default_rng(seed).standard_normal(n)) * gain, n)
    return 0.5 * x / np.abs(x).max()


def of(folder: Path, *signals: np.ndarray) -> Profile:
    return profile([audio.probe(put(folder / f"{i}.wav", x, RATE)) for i, x in enumerate(signals)])


@pytest.mark.parametrize("cutoff_hz", [3000, 8000, 16_000, 1e9])
def test_bandwidth_is_where_the_sound_ends(cutoff_hz, tmp_path):
    band = RATE / 2 / 64
    assert of(tmp_path, noise(cutoff_hz=cutoff_hz)).bandwidth_hz == pytest.approx(min(cutoff_hz, RATE / 2), abs=band)


@pytest.mark.parametrize("slope_db", [-9.0, -3.0, 0.0, 3.0])
def test_tilt_is_the_slope_of_the_spectrum(slope_db, tmp_path):
    assert of(tmp_path, noise(db_per_octave=slope_db)).tilt_db == pytest.approx(slope_db, abs=0.3)


@pytest.mark.parametrize("pause_db, expected", [(-20.0, -20.0), (-50.0, -50.0), (-200.0, SILENT_DB)])
def test_the_floor_is_that_of_the_pauses(pause_db, expected, tmp_path):
    loud = (np.arange(20 * RATE) // (4 * RATE)) % 2 == 0
    found = of(tmp_path, noise() * np.where(loud, 1.0, 10 ** (pause_db / 20)))
    assert found.floor_db == pytest.approx(expected, abs=0.5)


def test_all_recordings_count_by_their_length_and_short_ones_too(tmp_path):
    """A minute of dull sound, and a second of one with treble: 98 % of the time there is none."""
    assert of(tmp_path, noise(60, cutoff_hz=4000), noise(0.5)).bandwidth_hz < 5000
    assert of(tmp_path, noise(10, cutoff_hz=4000), noise(10)).bandwidth_hz > 20_000
    assert of(tmp_path, noise(0.01)).bandwidth_hz > 20_000


@pytest.mark.parametrize("changed, words", [
    ({}, []),
    ({"bandwidth_hz": 16_000}, ["ends at 16.0 kHz, that of the clean recordings at 20.0 kHz; AugmentArgs.p_band"]),
    ({"bandwidth_hz": 23_000}, ["what the speaker has above will be lost"]),
    ({"floor_db": -60}, ["pauses are 60 dB under its loud parts, those of the clean recordings 40 dB"]),
    ({"floor_db": -15}, []),  # it has a game in it
    ({"tilt_db": -9.5}, ["changes by -9.5 dB an octave, that of the clean recordings by -6.0 dB an octave"]),
    ({"tilt_db": -2, "bandwidth_hz": 8000}, ["ends at 8.0 kHz", "changes by -2.0"]),
])
def test_what_is_unlike_is_said_with_both_numbers(changed, words, tmp_path):
    found = unlike(SAME._replace(**changed), SAME)
    assert len(found) == len(words) and all(word in sentence for word, sentence in zip(words, found, strict=True))


@pytest.fixture
def args(tmp_path) -> MixtureArgs:
    """Clean clips with treble; of two captures one without, of a third file nothing can be read."""
    sounds = {"clean/alice/src_0.wav": noise(), "dirty/alice/pc/src_0.wav": noise(seed=1),
              "dirty/alice/phone/src_0.wav": noise(cutoff_hz=4000), "elsewhere/src_0.wav": noise(cutoff_hz=8000)}
    for path, x in sounds.items():
        put(tmp_path / path, x, RATE)
    (tmp_path / "dirty/alice/phone/broken.wav").write_bytes(b"no sound")
    return MixtureArgs((f"{tmp_path}/clean/alice",), (f"{tmp_path}/dirty/other",))


def test_captures_lie_beside_the_dirty_folders_or_elsewhere_or_nowhere_and_every_one_is_compared(args, tmp_path):
    clean = [audio.probe(tmp_path / "clean/alice/src_0.wav")]
    broken, narrow = unlike_captures(args, clean)
    assert broken.startswith(f"{tmp_path}/dirty/alice/phone/broken.wav: no sound file")
    assert narrow.startswith(f"{tmp_path}/dirty/alice/phone/src_0.wav: its sound ends at 4.1 kHz")
    (only,) = unlike_captures(replace(args, captures=(f"{tmp_path}/elsewhere",)), clean)
    assert "elsewhere/src_0.wav: its sound ends at 8." in only
    assert unlike_captures(replace(args, dirty=(f"{tmp_path}/elsewhere/other",)), clean) == []
