"""What infer.py writes besides mono estimates: what was taken away, channels, other formats, the timeline; and its net
for other programs.

Most nets here halve their mixture, so that all numbers are known beforehand.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
import torch
from scored import half, infer, net_does, put, uniform  # noqa: F401

import infer as extraction
import models
from extractor import UserError, checkpoint, voice_formats
from infer import Extractor

STEP_24 = 2.0**-23  # of 24-bit samples


def written(tmp_path: Path, name: str) -> np.ndarray:
    return sf.read(tmp_path / "out" / name)[0]


# ---------------------------------------------------------------------------------------------------------------------
# what was taken away, and how much


@pytest.mark.parametrize("fields, tolerance", [
    ({}, 1e-6), ({"keep_db": -20}, 1e-6), ({"channels": "keep"}, 1e-6), ({"format": "flac"}, STEP_24),
    ({"format": "wav24", "channels": "keep", "keep_db": -6}, STEP_24),
], ids=str)
def test_estimate_and_residual_are_together_the_recording(fields, tolerance, half, tmp_path):  # noqa: F811
    stereo = 0.5 * uniform(100_000, 2)
    put(tmp_path / "in" / "a.wav", stereo)
    assert infer(tmp_path, residual=True, chunk_s=0.5, context_s=0.1, **fields) == []
    suffix = "flac" if fields.get("format") == "flac" else "wav"
    estimate, residual = written(tmp_path, f"a.{suffix}"), written(tmp_path, f"a.residual.{suffix}")
    mixture = stereo if "channels" in fields else stereo.mean(1)
    np.testing.assert_allclose(estimate + residual, mixture, atol=tolerance)
    rest = 10 ** (fields["keep_db"] / 20) if "keep_db" in fields else 0
    np.testing.assert_allclose(estimate, (0.5 + 0.5 * rest) * mixture, atol=tolerance)


@pytest.mark.parametrize("name, subtype", [("wav24", "PCM_24"), ("flac", "PCM_24"), ("wav", "FLOAT")])
def test_what_24_bits_cannot_hold_is_clipped_and_named(name, subtype, half, tmp_path, capsys):  # noqa: F811
    samples = uniform(5000)
    samples[[10, 20, 30]] = 3, -4, 2  # half of the last is full scale
    put(tmp_path / "in" / "a.wav", samples)
    infer(tmp_path, format=name)
    path = tmp_path / "out" / ("a.flac" if name == "flac" else "a.wav")
    assert sf.info(path).subtype == subtype
    limit = 1 if subtype == "PCM_24" else np.inf
    np.testing.assert_allclose(sf.read(path)[0], np.clip(samples / 2, -limit, limit), atol=STEP_24)
    said = "a.wav: 2 samples are above full scale, by 6.0 dB at most, and are clipped; --format wav keeps them"
    assert (said.removeprefix("a.wav") in capsys.readouterr().out) == (subtype == "PCM_24")


@pytest.mark.parametrize("changed", [{"channels": "keep"}, {"keep_db": -20}, {"format": "wav24"}], ids=str)
def test_estimates_of_other_options_are_made_again_and_what_lay_beside_them_goes(changed, half, tmp_path):  # noqa: F811
    put(tmp_path / "in" / "a.wav", uniform(5000, 2))
    infer(tmp_path, residual=True, timeline=True)
    (tmp_path / "out" / "index.html").unlink()
    infer(tmp_path, page_s=0, **changed)
    assert {path.name for path in (tmp_path / "out").glob("a.*")} == {"a.wav"}
    plain = {"channels": 1, "subtype": "FLOAT"} | {"channels": {"channels": 2}, "format": {"subtype": "PCM_24"}}.get(
        next(iter(changed)), {})
    info = sf.info(tmp_path / "out" / "a.wav")
    assert {"channels": info.channels, "subtype": info.subtype} == plain
    gain = 0.55 if "keep_db" in changed else 0.5
    mixture = uniform(5000, 2) if "channels" in changed else uniform(5000, 2).mean(1)
    np.testing.assert_allclose(written(tmp_path, "a.wav"), gain * mixture, atol=1e-6)


def test_what_is_asked_for_later_is_made_of_the_estimate_that_is_there(monkeypatch, tmp_path):
    calls = []
    net_does(monkeypatch, lambda mixture: calls.append(1) or mixture / 2)
    (tmp_path / "best.pt").write_text("a net")
    put(tmp_path / "in" / "a.wav", uniform(5000))
    for fields in ({}, {"residual": True}, {"residual": True, "timeline": True}):
        infer(tmp_path, checkpoint=tmp_path / "best.pt", **fields)
    assert len(calls) == 1
    np.testing.assert_allclose(written(tmp_path, "a.residual.wav"), uniform(5000) / 2, atol=1e-6)
    assert (tmp_path / "out" / "a.srt").exists() and (tmp_path / "out" / "a.rttm").exists()


def test_a_recording_that_changes_while_it_is_read_leaves_no_estimate(monkeypatch, tmp_path):
    path = put(tmp_path / "in" / "a.wav", uniform(5000))
    put(tmp_path / "in" / "b.wav", uniform(5000))

    def grows(mixture):
        with open(path, "ab") as f:
            f.write(bytes(4000))
        return mixture

    net_does(monkeypatch, grows)
    (tmp_path / "best.pt").write_text("a net")
    (failure,) = infer(tmp_path, checkpoint=tmp_path / "best.pt")
    assert failure == f"{path}: changed while it was read; run again when it is complete"
    assert [p.name for p in (tmp_path / "out").glob("*.wav")] == ["b.wav"]


@pytest.mark.parametrize("fields, words", [
    ({"channels": "stereo"}, "channels = 'stereo': give mono or keep"),
    ({"precision": "fp8"}, "precision = 'fp8': give auto, bf16, fp32"),
    ({"format": "mp3"}, "format = 'mp3': give one of wav, wav24, flac"),
    ({"keep_db": 0}, "keep_db = 0: give less than 0 dB"),
    ({"words": "en"}, "words = 'en': texts are part of the timeline: --timeline True"),
])
def test_options_that_cannot_be_are_refused(fields, words):
    with pytest.raises(UserError, match=re.escape(words)):
        extraction.InferArgs(**fields)


def test_no_estimate_has_the_name_of_what_was_taken_away(half, tmp_path):  # noqa: F811
    for name in ("a", "a.residual"):
        put(tmp_path / "in" / f"{name}.wav", uniform(100))
    with pytest.raises(UserError, match=r"a\.residual\.wav: would be an estimate and what was taken away"):
        infer(tmp_path, residual=True)


# ---------------------------------------------------------------------------------------------------------------------
# channels


@pytest.fixture
def gain_net(state, tmp_path) -> Path:
    """A full-band net of random weights whose gains are not all alike."""
    torch.manual_seed(0)
    net = models.FAMILIES["fullband"].net(models.fullband.FullBandArgs(n_fft=512, hop=128, n_bands=20, n_layers=1))
    with torch.no_grad():
        net.mask.weight.mul_(20)
    args = {"model": vars(net.args)}
    path = tmp_path / "gain.pt"
    checkpoint.save(path, state | {"family": "fullband", "args": args, "ema": net.state_dict()})
    return path


def test_one_gain_for_all_channels_keeps_the_place_of_the_speaker(gain_net, tmp_path):
    """The mean of the channels is the mono estimate, and a signal that is 12 dB louder on the left stays so."""
    mono = uniform(60_000)
    left_and_right = mono[:, None] * np.float32([1.6, 0.4])
    put(tmp_path / "in" / "a.wav", left_and_right)
    put(tmp_path / "in" / "b.wav", uniform(60_000, 3))
    assert infer(tmp_path, checkpoint=gain_net, channels="keep", chunk_s=0.6, context_s=0.2) == []
    kept = {name: written(tmp_path, f"{name}.wav") for name in "ab"}
    assert infer(tmp_path, checkpoint=gain_net, chunk_s=0.6, context_s=0.2) == []
    for name, estimate in kept.items():
        mixed = written(tmp_path, f"{name}.wav")
        np.testing.assert_allclose(estimate.mean(1), mixed, atol=1e-5)
    np.testing.assert_allclose(kept["a"][:, 0], 4 * kept["a"][:, 1], atol=1e-5)
    assert np.corrcoef(kept["a"][:, 0], mono)[0, 1] < 0.99  # the gains are not one number


def test_where_channels_would_cancel_the_gain_is_that_of_the_loudest(gain_net, tmp_path):
    left = uniform(60_000)
    put(tmp_path / "in" / "a.wav", np.stack([left, -left], 1))
    infer(tmp_path, checkpoint=gain_net, channels="keep")
    kept = written(tmp_path, "a.wav")
    np.testing.assert_allclose(kept[:, 0], Extractor(gain_net)(left, 44100), atol=1e-5)
    np.testing.assert_allclose(kept[:, 1], -kept[:, 0], atol=1e-6)


def test_a_net_that_is_no_gain_hears_every_channel_by_itself(monkeypatch, tmp_path):
    net_does(monkeypatch, lambda channels: channels * channels.abs().amax(-1, keepdim=True))
    (tmp_path / "best.pt").write_text("a net")
    stereo = uniform(5000)[:, None] * np.float32([1, 0.5])
    put(tmp_path / "in" / "a.wav", stereo)
    infer(tmp_path, checkpoint=tmp_path / "best.pt", channels="keep")
    np.testing.assert_allclose(written(tmp_path, "a.wav"), stereo * np.abs(stereo).max(0), atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# the timeline


def words_of(path: Path) -> list[tuple[float, float, str]]:
    """Start, end and text of all cues of an SRT file, by a reader of its own."""
    clock = r"(\d\d):(\d\d):(\d\d),(\d{3})"
    found = re.findall(rf"^(\d+)\n{clock} --> {clock}\n(.*)\n$", path.read_text(), re.M)
    assert [int(number) for number, *_ in found] == list(range(1, len(found) + 1))
    seconds = lambda h, m, s, ms: 3600 * int(h) + 60 * int(m) + int(s) + int(ms) / 1000  # noqa: E731
    return [(seconds(*times[:4]), seconds(*times[4:8]), times[8]) for _, *times in found]


@pytest.mark.parametrize("keep_db", [-np.inf, -20])
def test_the_timeline_says_when_the_speaker_speaks(keep_db, monkeypatch, tmp_path):
    """Speech is what is loud here: 1.0 to 2.0 s, 2.2 to 2.5 s after a pause that is short, and 4.0 to 5.5 s."""
    net_does(monkeypatch, lambda mixture: torch.where(mixture.abs() > 0.02, mixture, mixture / 1000))
    (tmp_path / "alice").mkdir()
    (tmp_path / "alice" / "best.pt").write_text("a net")
    heard = []

    def hear(samples: np.ndarray, rate: int) -> str:
        heard.append(len(samples))
        return "hi | you"

    monkeypatch.setattr(voice_formats, "transcriber", lambda language: hear)
    samples, noise = 0.01 * np.sign(uniform(8 * 44100)), np.sign(uniform(8 * 44100)[::-1])
    for start, end in ((1, 2), (2.2, 2.5), (4, 5.5)):
        here = slice(round(start * 44100), round(end * 44100))
        samples[here] = 0.3 * noise[here]
    put(tmp_path / "in" / "my night.wav", samples)
    fields = {"timeline": True, "words": "en", "keep_db": keep_db}
    assert infer(tmp_path, checkpoint=tmp_path / "alice" / "best.pt", **fields) == []
    (start, end, text), (start_2, end_2, _) = words_of(tmp_path / "out" / "my night.srt")
    assert (start, end) == pytest.approx((0.95, 2.55), abs=0.021) and text == "hi you"
    assert (start_2, end_2) == pytest.approx((3.95, 5.55), abs=0.021)
    assert heard == pytest.approx([1.6 * 44100] * 2, abs=0.041 * 44100)
    lines = [line.split() for line in (tmp_path / "out" / "my night.rttm").read_text().splitlines()]
    named = ["SPEAKER", "my_night", "1", "<NA>", "<NA>", "alice", "<NA>", "<NA>"]
    assert [line[:3] + line[5:] for line in lines] == [named] * 2
    times = [(float(line[3]), float(line[3]) + float(line[4])) for line in lines]
    np.testing.assert_allclose(times, [(start, end), (start_2, end_2)], atol=1e-3)


def test_the_timeline_of_a_recording_without_speech_is_empty(monkeypatch, tmp_path):
    net_does(monkeypatch, lambda mixture: 0 * mixture)
    (tmp_path / "best.pt").write_text("a net")
    put(tmp_path / "in" / "a.wav", uniform(44100))
    assert infer(tmp_path, checkpoint=tmp_path / "best.pt", timeline=True) == []
    assert [(tmp_path / "out" / f"a.{suffix}").read_text() for suffix in ("srt", "rttm")] == ["", ""]


# ---------------------------------------------------------------------------------------------------------------------
# from other programs

SHORT = {"chunk_s": 0.5, "context_s": 0.2, "fade_s": 0.05}


@pytest.mark.parametrize("channels", [1, 2])
def test_in_memory_the_estimate_is_that_of_the_file(channels, gain_net, tmp_path):
    samples = uniform(70_001, channels)
    put(tmp_path / "in" / "a.wav", samples)
    infer(tmp_path, checkpoint=gain_net, channels="keep", **SHORT)
    estimate = Extractor(gain_net, **SHORT)(samples, 44100)
    assert estimate.dtype == np.float32 and estimate.shape == (70_001, channels)
    np.testing.assert_allclose(estimate, written(tmp_path, "a.wav").reshape(-1, channels), atol=1e-6)


def test_in_bf16_the_estimate_is_rounded_and_comes_out_as_float32(gain_net, tmp_path):
    samples = uniform(50_000)
    put(tmp_path / "in" / "a.wav", samples)
    exact = Extractor(gain_net)(samples, 44100)
    for precision, same in (("bf16", False), ("fp32", True)):
        infer(tmp_path, checkpoint=gain_net, precision=precision)
        error = np.std(written(tmp_path, "a.wav") - exact) / np.std(exact)
        assert error < 1e-6 if same else 1e-5 < error < 0.03


@pytest.mark.parametrize("rate", [16_000, 192_000])
@pytest.mark.parametrize("shape", [(1,), (20_001,), (20_001, 2)])
def test_at_another_rate_length_shape_and_level_are_kept(rate, shape, half):  # noqa: F811
    samples = soxr.resample(uniform(*shape), 8000, rate)[: shape[0]] if shape[0] > 1 else uniform(*shape)
    estimate = Extractor(half)(samples, rate)
    assert estimate.shape == samples.shape and estimate.dtype == np.float32
    np.testing.assert_allclose(estimate[200:-200], samples[200:-200] / 2, atol=2e-3)


def test_nothing_comes_out_of_nothing(half):  # noqa: F811
    for rate in (44100, 16_000):
        assert Extractor(half)(np.zeros((0, 2), np.float32), rate).shape == (0, 2)


@pytest.mark.parametrize("samples", [
    np.zeros(10, np.int16), np.zeros((2, 3, 4), np.float32), np.zeros((5, 0), np.float32), np.float32([0, np.nan]),
], ids=["integers", "three axes", "no channel", "NaN"])
def test_what_is_no_sound_is_refused(samples, half):  # noqa: F811
    with pytest.raises(UserError, match="samples are"):
        Extractor(half)(samples, 44100)
    with pytest.raises(UserError, match="rate = 0: give the rate of the samples"):
        Extractor(half)(np.zeros(5), 0)


@pytest.mark.parametrize("sizes", [[44_100] * 3, [1000] * 120, [70_000, 1, 50_000], [5]], ids=str)
def test_a_stream_has_the_estimate_of_the_whole_after_a_chunk_and_its_context(sizes, gain_net):
    samples = uniform(sum(sizes))
    extractor = Extractor(gain_net, **SHORT)
    given = []

    def arriving():
        for start, n in zip(np.cumsum([0, *sizes]), sizes, strict=False):
            given.append(start + n)
            yield samples[start : start + n]

    found, out = [], 0
    for block in extractor.stream(arriving()):
        latest = round(0.7 * 44100) + out + max(sizes)  # chunk and context of what comes out
        assert given[-1] <= latest
        found.append(block)
        out += len(block)
    np.testing.assert_allclose(np.concatenate(found), extractor(samples, 44100), atol=1e-6)
