"""From recordings of any kind to estimates: what is heard, what is said of it, and what cannot be done.

Most tests put the identity in the net's place: what comes out is then what went in, at 44.1 kHz in mono.
"""

import json
import re
import subprocess
import sys
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
import torch
from encoded import encode
from scored import extracted, infer, net_does, put, uniform

import models
from extractor import UserError, checkpoint
from infer import InferArgs

ROOT = Path(__file__).parent.parent
IN_PIECES = {"chunk_s": 0.3, "context_s": 0.1, "fade_s": 0.05}


def tone(n: int, rate: int = 44100, seconds: float = 1) -> np.ndarray:
    """440 Hz that swells to half of full scale and dies away."""
    t = np.arange(n) / rate
    return 0.5 * np.sin(np.pi * t / seconds) ** 2 * np.sin(2 * np.pi * 440 * t)


# ---------------------------------------------------------------------------------------------------------------------
# sound


@pytest.mark.parametrize("rate, channels, subtype", [
    (8000, 1, "PCM_U8"), (22050, 1, "PCM_16"), (44100, 1, "FLOAT"), (48000, 2, "PCM_24"), (96000, 1, "FLOAT"),
    (44100, 6, "PCM_24"),
])
def test_any_recording_becomes_mono_float_at_the_rate_of_the_checkpoint_and_keeps_level_time_and_length(
    rate, channels, subtype, identity, tmp_path
):
    gains = 2 * np.arange(1, channels + 1) / (channels + 1)  # their mean is 1
    loudness = 5 if subtype == "FLOAT" else 1  # full scale is no limit there
    put(tmp_path / "in" / "a.wav", loudness * tone(rate + 1, rate)[:, None] * gains, rate, subtype)
    assert infer(tmp_path) == []
    info = sf.info(tmp_path / "out" / "a.wav")
    assert (info.samplerate, info.channels, info.format, info.subtype) == (44100, 1, "WAV", "FLOAT")
    tolerance = 2 / 128 if subtype == "PCM_U8" else 1e-4  # two steps of 8 bit
    expected = loudness * tone(ceil((rate + 1) * 44100 / rate))
    np.testing.assert_allclose(extracted(tmp_path), expected, atol=tolerance)


def test_a_net_is_told_where_in_the_recording_each_piece_starts(identity, monkeypatch, tmp_path):
    """Sample i of this recording is i / 10^5, and the net says what it makes of that from where it is told to be."""
    net, family = models.load("")

    def ramp(net, mixture, start):
        return (start + torch.arange(mixture.shape[-1]))[None] / 1e5

    monkeypatch.setattr(models, "load", lambda path: (net, family._replace(extract=ramp)))
    put(tmp_path / "in" / "a.wav", np.zeros(44100))
    infer(tmp_path, **IN_PIECES)
    np.testing.assert_allclose(extracted(tmp_path), np.arange(44100) / 1e5, atol=1e-6)


@pytest.mark.parametrize("sizes", [IN_PIECES, {"chunk_s": 0.3, "context_s": 0, "fade_s": 0}], ids=["faded", "not"])
def test_a_recording_longer_than_the_chunk_comes_out_as_if_in_one_piece(sizes, identity, tmp_path):
    stereo = uniform(100_001, 2)
    put(tmp_path / "in" / "a.wav", stereo, 48000)
    infer(tmp_path, **sizes)
    np.testing.assert_allclose(extracted(tmp_path), soxr.resample(stereo.mean(1), 48000, 44100), atol=1e-4)


@pytest.mark.parametrize("seconds", [0.5, 100])
def test_where_the_channels_would_cancel_the_loudest_alone_is_extracted(seconds, identity, tmp_path, capsys):
    left = 0.3 * tone(round(8000 * seconds), 8000, seconds)
    for name, right in (("alike", 1.1), ("one_sided", 0), ("opposite", -1.1)):
        put(tmp_path / "in" / f"{name}.wav", np.stack([left, right * left], 1), 8000)
    infer(tmp_path, page_s=0.1)
    said = capsys.readouterr().out
    assert "opposite.wav: its channels would cancel each other; channel 2 alone" in said and said.count("cancel") == 1
    for name, gain in (("alike", 1.05), ("one_sided", 0.5), ("opposite", -1.1)):
        np.testing.assert_allclose(extracted(tmp_path, name), gain * soxr.resample(left, 8000, 44100), atol=1e-4)
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())["scores"]["mixture"]  # of the page
    alike, one_sided, opposite = (row["level_in"] for row in rows)
    assert alike - one_sided == pytest.approx(20 * np.log10(2.1), abs=0.01)
    assert opposite - one_sided == pytest.approx(20 * np.log10(2.2), abs=0.01)


@pytest.mark.parametrize("ms, named", [(0, ""), (0.2, "0.2 ms"), (-12.5, "12.5 ms")])
def test_where_the_channels_are_apart_in_time_the_loudest_alone_is_extracted(ms, named, identity, tmp_path, capsys):
    """In their mean every frequency would be missing at which the delay is half a period, or one and a half."""
    noise = uniform(3 * 8000)
    both = np.stack([0.8 * noise, np.roll(noise, round(8 * ms))], 1) + 0.1 * uniform(3 * 8000, 2)[::-1]
    put(tmp_path / "in" / "a.wav", both, 8000)
    infer(tmp_path)
    said = f"a.wav: its channels are {named} apart; channel 2 alone is extracted"
    assert (said in capsys.readouterr().out) == bool(named)
    expected = both[:, 1] if named else both.mean(1)
    np.testing.assert_allclose(extracted(tmp_path), soxr.resample(expected, 8000, 44100), atol=1e-4)


def test_a_film_is_extracted_from_the_stream_that_is_asked_for(identity, tmp_path, capsys):
    streams = [np.float32(tone(3 * 44100, seconds=3) * gain) for gain in (1, 0.5)]
    encode(tmp_path / "in" / "night.mkv", *streams, rate=44100, codec="flac", video=True)
    for number, target in enumerate(streams):
        infer(tmp_path, audio_stream=number, chunk_s=0.7)
        np.testing.assert_allclose(extracted(tmp_path, "night"), target, atol=1e-4)
        assert f"night.mkv: has 2 audio streams, of which number {number} is used" in capsys.readouterr().out
        infer(tmp_path, audio_stream=number, chunk_s=0.7)
        assert "1 recordings, 1 done before" in capsys.readouterr().out


@pytest.mark.parametrize("offset", [0.3, -0.05, 0.01])
def test_a_constant_offset_that_matters_is_taken_away_and_named(offset, identity, tmp_path, capsys):
    signal = 0.3 * tone(2 * 44100, seconds=2)
    put(tmp_path / "in" / "a.wav", signal + offset)
    infer(tmp_path, chunk_s=0.5)
    matters = abs(offset) > 0.02
    assert (f"its constant offset of {offset:+.2f} of full scale is taken away" in capsys.readouterr().out) == matters
    np.testing.assert_allclose(extracted(tmp_path), signal + offset * (not matters), atol=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# what is said


def test_progress_is_told_in_seconds_of_sound_and_their_speed(identity, tmp_path, capsys):
    put(tmp_path / "in" / "a.wav", uniform(50 * 1000), 1000)
    infer(tmp_path)
    said = capsys.readouterr().err
    assert "1 of 1: a.wav:   0%" in said and re.search(r"50/50 s \[.* \d+\.\d x real time\]", said)


@pytest.mark.parametrize("trained, cutoff_hz, words", [
    ((4000, 20_000), 3000, "a.wav: its sound reaches 3.1 kHz, that in training 4.0 to 20.0 kHz; the speaker may"),
    ((8000, 8000), 20_000, "that in training 8.0 kHz; the speaker's sound above that is taken away"),
    ((4000, 20_000), 4000, ""), ((4000, 20_000), 20_000, ""), (None, 3000, ""),
])
def test_a_recording_that_reaches_higher_or_less_high_than_in_training_is_named(
    trained, cutoff_hz, words, identity, tmp_path, capsys
):
    models.load("")[0].bandwidth_hz = trained
    x = np.fft.rfft(uniform(2 * 44100))
    x[round(2 * cutoff_hz) :] = 0
    put(tmp_path / "in" / "a.wav", np.fft.irfft(x))
    assert infer(tmp_path, page_s=0) == []
    found = capsys.readouterr().out
    assert words in found and ("in training" in found) == bool(words)


@pytest.mark.parametrize("seconds, level, kept, nowhere", [
    (30, 1, lambda x: x / 100, True),            # -40 dB throughout
    (10, 1, lambda x: x / 100, False),           # too short to tell
    (30, 1, lambda x: 0 * x, True),
    (30, 0, lambda x: x, True),                  # a silent recording
    (30, 1, lambda x: torch.cat([x[:, :44100], 0 * x[:, 44100:]], 1), False),  # a second of every piece
    (30, 1, lambda x: x / 3, False),
])
def test_a_long_recording_in_which_the_speaker_is_nowhere_is_named(
    seconds, level, kept, nowhere, tmp_path, monkeypatch, capsys
):
    net_does(monkeypatch, kept)
    put(tmp_path / "in" / "a.wav", level * uniform(seconds * 44100))
    assert infer(tmp_path, page_s=0) == []
    assert ("a.wav: the net hears its speaker nowhere in it" in capsys.readouterr().out) == nowhere


# ---------------------------------------------------------------------------------------------------------------------
# what cannot be done


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ..."),
], ids=["GPU", "CPU"])
def test_a_chunk_that_does_not_fit_into_memory_is_one_sentence_of_its_recording(error, tmp_path, monkeypatch):
    def no_room(_):
        raise error

    net_does(monkeypatch, no_room)
    put(tmp_path / "in" / "a.wav", uniform(5000))
    (failure,) = infer(tmp_path, device="cpu")
    assert failure.endswith("a.wav: a chunk does not fit into the memory of cpu: give InferArgs.chunk_s less than 10")
    assert not (tmp_path / "out" / "a.wav").exists()


def test_an_estimate_that_is_not_finite_is_none(monkeypatch, tmp_path):
    net_does(monkeypatch, lambda mixture: mixture.masked_fill(mixture > 0.9, torch.nan))
    put(tmp_path / "in" / "a.wav", np.append(np.zeros(44100), np.full(100, 0.95)))
    put(tmp_path / "in" / "b.wav", uniform(500) / 10)
    (failure,) = infer(tmp_path, chunk_s=0.5, context_s=0.1)
    assert "a.wav: the estimate of 0.4 to 1.0 s is not finite (the recording's peak there is 0.95)" in failure
    assert [p.name for p in (tmp_path / "out").glob("*.wav")] == ["b.wav"]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0])
@pytest.mark.parametrize("name", ["chunk_s", "context_s", "fade_s", "page_s"])
def test_seconds_without_an_end_or_below_zero_are_refused(name, value):
    with pytest.raises(UserError, match=f"{name} = {value}"):
        InferArgs(**{name: value})


# ---------------------------------------------------------------------------------------------------------------------
# from the command line


@pytest.fixture
def run_infer(state, tmp_path):
    """Of tmp_path/in, by tmp_path/best.pt."""
    checkpoint.save(tmp_path / "best.pt", state)
    put(tmp_path / "in" / "a.wav", uniform(5000))

    def run(*words) -> subprocess.CompletedProcess:
        paths = "--checkpoint", tmp_path / "best.pt", "--inputs", tmp_path / "in", "--out-dir", tmp_path / "out"
        command = [sys.executable, "infer.py", *map(str, paths + words)]
        return subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, check=False)

    return run


def test_bad_files_are_named_and_used_as_far_as_they_go_or_passed_over_and_the_status_is_1(run_infer, tmp_path):
    put(tmp_path / "in" / "zoë 音声.wav", uniform(5000))
    (tmp_path / "in" / "text.wav").write_text("no sound, just words")
    put(tmp_path / "in" / "empty.wav", uniform(0))
    flac = put(tmp_path / "in" / "hole.flac", uniform(100_000), subtype="PCM_16")
    content = flac.read_bytes()
    flac.write_bytes(content[:100_000] + bytes(9000) + content[109_000:])
    late = uniform(50_000)
    late[-100] = np.nan
    put(tmp_path / "in" / "nan.wav", late)
    (tmp_path / "in" / "night.mp4").write_bytes(bytes(100))
    cut = put(tmp_path / "in" / "cut.wav", uniform(50_000), subtype="PCM_16")
    cut.write_bytes(cut.read_bytes()[:-40_001])  # 20000 samples and a half

    ended = run_infer("--chunk-s", 0.5, "--context-s", 0.1)  # the last two go wrong when half of them is done
    assert ended.returncode == 1
    assert f"{cut}: cut off at its end; the 0.7 s that are there are used" in ended.stdout
    assert "5 of 8 recordings failed" in ended.stderr
    for sentence in (
        "text.wav: no sound file", "empty.wav: holds no samples", "hole.flac: ", "nan.wav: NaN or inf",
        "night.mp4: no sound file that can be read (it is all zeros)",
    ):
        assert f"passed over: {tmp_path}/in/{sentence}" in ended.stderr
    assert "Traceback" not in ended.stderr
    done = {p.name: sf.info(p).frames for p in (tmp_path / "out").iterdir() if p.suffix == ".wav"}
    assert done == {"a.wav": 5000, "cut.wav": 29_999, "zoë 音声.wav": 5000}


def test_a_run_in_which_nothing_failed_has_status_0(run_infer, tmp_path):
    assert run_infer().returncode == 0
    assert len(extracted(tmp_path)) == 5000
