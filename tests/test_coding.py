"""extractor/coding.py: what a recording was coded with, and how another signal sounds when it is coded like that."""

import av
import numpy as np
import pytest
import soundfile as sf
import torch
from encoded import encode

from extractor.coding import ENCODERS, LEAST_KBIT_S, MOST_KBIT_S, Coding, coded, coding_of
from extractor.metrics import si_sdr

RATE = 44100
T = np.arange(2 * RATE) / RATE
CHIRP = (0.3 * np.sin(2 * np.pi * (200 * T + 900 * T**2)) * (1 + np.sin(20 * T)) / 2).astype(np.float32)


def likeness(x: np.ndarray) -> float:
    return si_sdr(estimate=torch.from_numpy(x), reference=torch.from_numpy(CHIRP)).item()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_coded_signal_is_as_long_in_time_and_the_worse_the_fewer_bits_it_has(encoder, rate):
    much, little = (coded(CHIRP, rate, Coding(encoder, kbit_s)) for kbit_s in (MOST_KBIT_S, LEAST_KBIT_S))
    assert len(much) == len(little) == len(CHIRP) and much.dtype == np.float32
    assert likeness(much) > 20 and likeness(much) > likeness(little) + 3
    assert 20 * np.log10(np.abs(much).max() / np.abs(CHIRP).max()) == pytest.approx(0, abs=1)


@pytest.mark.parametrize("n", [1, 500, 5000])
def test_short_signals_and_silence_keep_their_length(n):
    for encoder in ENCODERS:
        assert len(coded(CHIRP[:n], RATE, Coding(encoder, 64))) == n
        assert not coded(0 * CHIRP[:n], RATE, Coding(encoder, 64)).any()


@pytest.mark.parametrize(("name", "encoder", "wanted"), [
    ("a.m4a", "aac", "aac"), ("a.mp3", "libmp3lame", "libmp3lame"), ("a.opus", "libopus", "libopus"),
    ("a.wma", "wmav2", "aac"),
])
def test_a_recording_s_codec_and_bits_a_channel_are_found(name, encoder, wanted, tmp_path):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (10 * 48000, 2))
    encode(tmp_path / name, noise, rate=48000, codec=encoder)
    found = coding_of(tmp_path / name)
    with av.open(str(tmp_path / name)) as file:
        n_channels = file.streams.audio[0].codec_context.channels
    size = (tmp_path / name).stat().st_size
    assert found.encoder == wanted and found.kbit_s == pytest.approx(8e-3 * size / 10 / n_channels, rel=0.25)


def test_vorbis_counts_as_aac(tmp_path):
    sf.write(tmp_path / "a.ogg", CHIRP[: RATE // 2], RATE)
    assert coding_of(tmp_path / "a.ogg").encoder == "aac"


def test_of_what_loses_nothing_or_is_no_sound_there_is_none(tmp_path):
    for name in ("a.wav", "a.flac"):
        sf.write(tmp_path / name, CHIRP, RATE)
    (tmp_path / "text.mp3").write_text("no sound")
    for name in ("a.wav", "a.flac", "text.mp3", "missing.m4a"):
        assert coding_of(tmp_path / name) is None
