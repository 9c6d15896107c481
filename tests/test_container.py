"""Films, m4a, MP3 and damaged or endless files: all that is in them, at its time, as long as it is."""

import shutil
import struct

import numpy as np
import pytest
import soundfile as sf
from encoded import encode
from recordings import save

from extractor import UserError, audio

RATE = 44100


def sweep(seconds, rate=RATE, low=200.0, high=3000.0):
    """A tone that rises, so that no two moments are alike, and that every codec keeps."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (low + (high - low) * t / t[-1] / 2) * t)).astype(np.float32)


def snr_db(estimate, reference):
    if (estimate == reference).all():
        return np.inf
    return 10 * np.log10(np.mean(reference**2) / np.mean((estimate - reference) ** 2))


def all_of(path, **chosen):
    recording = audio.probe(path, **chosen)
    return audio.read(recording, 0, recording.frames, recording.rate)


# ---------------------------------------------------------------------------------------------------------------------
# the same sample at the same place

KINDS = {
    "a.m4a": ("aac", 44100), "a.mp4": ("aac", 48000), "a.mov": ("pcm_s16le", 44100), "a.mka": ("libopus", 48000),
    "a.webm": ("libopus", 48000), "a.mp3": ("libmp3lame", 44100), "a.avi": ("libmp3lame", 48000),
    "a.wv": ("wavpack", 44100), "a.wma": ("wmav2", 44100), "a.ts": ("aac", 44100), "a.aac": ("aac", 48000),
    "a.flv": ("aac", 44100), "a.mkv": ("flac", 44100),
    "b.wav": ("FLOAT", 48000), "b.flac": ("PCM_16", 48000), "b.ogg": ("VORBIS", 48000), "b.opus": ("OPUS", 48000),
    "b.mp3": ("MPEG_LAYER_III", 48000), "c.ogg": ("VORBIS", 44100),
}
PRIMED = {"a.ts": 1024, "a.aac": 1024, "a.flv": 1024, "a.avi": 1105}  # samples before it: these do not tell of them
LOSSLESS = ("a.mov", "a.wv", "a.mkv", "b.wav", "b.flac")


def made(path, samples):
    """By ffmpeg's libraries those that are called a, by libsndfile the others."""
    codec, rate = KINDS[path.name]
    if path.stem == "a":
        return encode(path, samples, rate=rate, codec=codec)
    return save(path, samples, rate, subtype=codec, format="OGG" if path.suffix == ".opus" else None)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "a.wma"])  # of which the encoder's start is missing
def test_every_sample_is_at_its_place(name, tmp_path):
    samples = sweep(5, KINDS[name][1])
    estimate, first = all_of(made(tmp_path / name, samples)), PRIMED.get(name, 0)
    if name not in PRIMED:  # else what fills the last frame stays, too
        assert len(estimate) == len(samples)
    n = min(len(estimate) - first, len(samples)) - 4096 * (KINDS[name][0] == "aac")
    exact = snr_db(estimate[first:][:n], samples[:n])
    assert exact > 20 and exact > 3 + snr_db(estimate[first + 1 :][: n - 1], samples[: n - 1])
    assert exact > 3 + snr_db(estimate[first:][: n - 1], samples[1:][: n - 1])


@pytest.mark.parametrize("name", KINDS)
def test_a_part_is_the_same_samples_as_in_one_pass(name, tmp_path):
    rate = KINDS[name][1]
    noise = 0.1 * np.random.default_rng(1).standard_normal((20 * rate, 2)).astype(np.float32)
    samples = noise if name.startswith("b") else np.stack([sweep(20, rate), sweep(20, rate, 900, 400)], axis=1)
    recording = audio.probe(made(tmp_path / name, samples))
    whole = audio.read(recording, 0, recording.frames, rate, mono=False)
    rng = np.random.default_rng(0)
    with audio.kept_open(recording):
        late = recording.frames - np.geomspace(50, 5e4, 9, dtype=int)
        for start in [0, *rng.integers(0, recording.frames - rate, 20), *late]:
            piece = audio.read(recording, int(start), rate, rate, mono=False)
            atol = 0 if name in LOSSLESS else 1e-5
            np.testing.assert_allclose(piece[: len(whole) - start], whole[start:][:rate], rtol=0, atol=atol)
            assert not piece[len(whole) - start :].any()


def test_a_video_is_read_for_its_sound_and_is_named_where_it_has_none(tmp_path):
    path = encode(tmp_path / "a.mp4", sweep(2), rate=RATE, codec="aac", video=True)
    assert snr_db(all_of(path), sweep(2)) > 20
    silent = encode(tmp_path / "b.mp4", rate=RATE, codec="aac", video=True)
    with pytest.raises(UserError, match=r"b\.mp4: a video without sound"):
        audio.probe(silent)


@pytest.mark.parametrize("late_s", [0, 0.04, 1.5])
@pytest.mark.parametrize("name, codec", [("a.mkv", "flac"), ("a.mov", "pcm_s16le")])
def test_sound_that_starts_after_the_picture_is_whole_and_named(name, codec, late_s, tmp_path):
    samples = sweep(5)
    recording = audio.probe(encode(tmp_path / name, samples, rate=RATE, codec=codec, video=True, late_s=late_s))
    n = len(samples) - 4096
    assert snr_db(all_of(tmp_path / name)[:n], samples[:n]) > 20
    words = "its sound starts 1.50 s after its picture; what is made of it starts with the sound"
    assert [words in remark for remark in recording.remarks] == ([True] if late_s > 0.05 else [])


def test_the_audio_stream_is_chosen_where_there_are_several(tmp_path):
    signals = sweep(2), sweep(2, low=500, high=600)
    path = encode(tmp_path / "a.mkv", *signals, rate=RATE, codec="flac")
    for number, signal in enumerate(signals):
        assert snr_db(all_of(path, audio_stream=number), signal) > 60
        says = f"has 2 audio streams, of which number {number} is used; see audio_stream"
        assert audio.probe(path, number).remarks == [says]
    with pytest.raises(UserError, match=r"a\.mkv: has audio streams 0 to 1; give audio_stream one of them"):
        audio.probe(path, 2)
    one = encode(tmp_path / "b.mkv", signals[0], rate=RATE, codec="flac")
    assert audio.probe(one, 1).remarks == [] and snr_db(all_of(one, audio_stream=1), signals[0]) > 60


# ---------------------------------------------------------------------------------------------------------------------
# headers that do not tell the length, or a wrong one


@pytest.mark.parametrize("quality", [{}, {"q": "4"}], ids=["CBR", "VBR"])
def test_an_mp3_without_a_frame_count_is_read_to_its_end(quality, tmp_path):
    samples = np.concatenate([sweep(1), 0.3 * np.random.default_rng(0).standard_normal(10 * RATE).astype(np.float32)])
    path = encode(tmp_path / "a.mp3", samples, rate=RATE, codec="libmp3lame", options={"write_xing": "0"})
    recording = audio.probe(path)
    assert 0 <= recording.frames - len(samples) < 4 * 1152 and recording.remarks == []
    assert audio.read(recording, recording.frames - RATE, RATE // 2, RATE).std() > 0.2


@pytest.mark.parametrize("same_serial", [True, False])
def test_all_links_of_a_chained_ogg_file_are_read(same_serial, tmp_path):
    links = [tmp_path / f"{i}.ogg" for i in range(2)]
    sf.write(links[0], sweep(3), RATE)
    sf.write(links[1], sweep(3), RATE)  # with a serial number drawn anew
    chained = tmp_path / "a.ogg"
    chained.write_bytes(b"".join(links[0 if same_serial else i].read_bytes() for i in range(2)))
    joined = all_of(chained)
    assert 0 <= len(joined) - 6 * RATE < 2048  # what fills the last frame of a link may stay
    assert snr_db(joined[: 3 * RATE], sweep(3)) > 20 and snr_db(joined[-3 * RATE :], sweep(3)) > 20


def test_what_has_another_number_of_channels_further_on_is_left_out_and_named(tmp_path):
    first = encode(tmp_path / "1.aac", sweep(2), rate=RATE, codec="aac")
    second = encode(tmp_path / "2.aac", np.stack([sweep(3)] * 2, 1), rate=RATE, codec="aac")
    (tmp_path / "a.aac").write_bytes(first.read_bytes() + second.read_bytes())
    recording = audio.probe(tmp_path / "a.aac")
    assert recording.seconds == pytest.approx(2, abs=0.1) and recording.channels == 1
    assert recording.flaw == f"is 44100 Hz with 2 channels from {recording.seconds:.1f} s on, which is left out"
    sf.write(tmp_path / "1.ogg", sweep(2), RATE)
    sf.write(tmp_path / "2.ogg", np.stack([sweep(3)] * 2, 1), RATE)
    (tmp_path / "a.ogg").write_bytes((tmp_path / "1.ogg").read_bytes() + (tmp_path / "2.ogg").read_bytes())
    assert audio.probe(tmp_path / "a.ogg").flaw  # its decoder cannot tell of what kind the rest is


def test_a_flac_file_written_to_a_pipe_which_does_not_tell_its_length_is_read_to_its_end(tmp_path):
    path = tmp_path / "a.flac"
    sf.write(path, sweep(3), RATE, "PCM_16")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # 0 samples, says its header
    content[22:26] = bytes(4)
    path.write_bytes(content)
    recording = audio.probe(path)
    assert (recording.frames, recording.subtype) == (3 * RATE, "PCM_16")
    assert snr_db(audio.read(recording, 0, 3 * RATE, RATE), sweep(3)) > 60


def wav(path, data_bytes, told, kind=b"RIFF", channels=1, bits=16):
    """A WAV file of zeros with a last sample of one half; its header says `told` bytes."""
    width = channels * bits // 8
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, RATE, RATE * width, width, bits)
    with open(path, "wb") as f:
        f.write(kind + struct.pack("<I", (told + 36) % 2**32) + b"WAVE" + fmt + b"data" + struct.pack("<I", told))
        f.truncate(44 + data_bytes)
        f.seek(44 + data_bytes - width)
        f.write((1 << (bits - 2)).to_bytes(bits // 8, "little") * channels)
    return audio.probe(path)


OVER_4_GB = 2**32 + 10**8


@pytest.mark.parametrize(("n", "told", "channels", "bits"), [
    *((10_000, told, 1, 16) for told in (0, 0xFFFFFFFF, 0x7FFFFFDB, 0x7FFFFFFF)),
    (OVER_4_GB // 2, None, 1, 16), (OVER_4_GB // 64, None, 16, 32), (OVER_4_GB // 6, None, 2, 24),
])
def test_a_wav_file_whose_size_was_never_set_or_has_wrapped_at_4_gb_is_read_to_its_end(
    n, told, channels, bits, tmp_path
):
    size = n * channels * bits // 8
    recording = wav(tmp_path / "a.wav", size, size % 2**32 if told is None else told, channels=channels, bits=bits)
    assert (recording.frames, recording.channels, recording.remarks) == (n, channels, [])
    assert audio.read(recording, n - 2, 3, RATE).tolist() == [0, 0.5, 0]
    (tmp_path / "a.wav").unlink()


# ---------------------------------------------------------------------------------------------------------------------
# damaged files


def cut(path, share):
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.flac", "flac"), ("a.mka", "flac")])
def test_what_is_cut_off_is_used_up_to_there_and_named(name, codec, tmp_path):
    path = encode(tmp_path / name, sweep(10), rate=RATE, codec=codec)
    cut(path, 0.5)
    recording = audio.probe(path)
    assert 3 < recording.seconds < 7 and recording.flaw == "cut off at its end; its header says 10.0 s"
    found = audio.read(recording, 0, recording.frames, RATE)[: -RATE // 10]
    assert snr_db(found, sweep(10)[: len(found)]) > 20


@pytest.mark.parametrize(("name", "codec", "keeps_time"), [
    ("a.mp3", "libmp3lame", False), ("a.ogg", "libvorbis", True), ("a.m4a", "aac", True), ("a.flac", "flac", False),
])
def test_what_has_a_hole_is_used_around_it_and_named(name, codec, keeps_time, tmp_path):
    path, samples = tmp_path / name, np.stack([sweep(20)] * 2, 1)
    sf.write(path, samples, RATE) if name == "a.ogg" else encode(path, samples, rate=RATE, codec=codec)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 20] = bytes(len(content) // 20)
    path.write_bytes(content)
    if name == "a.flac":  # it may be whole but for that: only he who reads there can tell
        with pytest.raises(UserError, match=r'a\.flac: cannot be read at .*: ffmpeg -i "a\.flac" "a\.wav"'):
            all_of(path)
        return
    recording = audio.probe(path)
    with audio.kept_open(recording) as files:
        found = audio.read(recording, 0, recording.frames, RATE)
        assert bool(recording.flaw) != bool(audio.damage(recording, files))
    assert 18 < recording.seconds <= 20
    assert snr_db(found[: 8 * RATE], sweep(20)[: 8 * RATE]) > 15
    if keeps_time:  # the hole is silence
        assert recording.frames == 20 * RATE
        assert snr_db(found[13 * RATE :], sweep(20)[13 * RATE :]) > 15


@pytest.mark.parametrize(("content", "what"), [
    (b"<!DOCTYPE html><html>", "a web page"), (b"", "it is empty"), (b"404: Not Found", "it is text"),
    (b"PK\3\4" + bytes(99), "a zip archive"), (bytes(2000), "it is all zeros"),
    (b"\0\0\0\x18ftypM4A " + bytes(99), "an MP4 file without its index"),
])
@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.mkv"])
def test_of_what_is_no_sound_it_is_said_what_it_is(name, content, what, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: no sound file that can be read \({what}"):
        audio.probe(tmp_path / name)


def test_the_name_of_a_file_does_not_decide_what_it_is(tmp_path):
    path = encode(tmp_path / "a.m4a", sweep(2), rate=RATE, codec="aac")
    for name in ("b.mp3", "b.wav", "b.flac"):
        assert snr_db(all_of(shutil.copy(path, tmp_path / name)), sweep(2)) > 20


def test_a_playlist_in_disguise_opens_nothing_else(tmp_path):
    encode(tmp_path / "secret.ts", sweep(2), rate=RATE, codec="aac")
    (tmp_path / "a.mp3").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(UserError):
        audio.probe(tmp_path / "a.mp3")
