"""extractor/audio.py: what is read is what lies in the file, resampled, at the right time; what is written is whole."""

import os
from itertools import chain

import numpy as np
import pytest
import soundfile as sf
import soxr

from extractor import UserError, audio

SR = 44100
LOSSLESS = {".wav": "FLOAT", ".flac": "PCM_16"}
LOSSY = {".ogg": "VORBIS", ".opus": "OPUS", ".mp3": "MPEG_LAYER_III"}


def noise(n, seed=0):
    return (0.2 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def sine(n, rate, hz=997.0):
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(n) / rate)


def save(path, samples, rate=SR, subtype="FLOAT"):
    sf.write(path, samples, rate, subtype, format="OGG" if path.suffix == ".opus" else None)
    return audio.probe(path)


def refusal(action, *args):
    with pytest.raises(UserError) as error:
        action(*args)
    return str(error.value)


# ---------------------------------------------------------------------------------------------------------------------
# resampling, piece by piece


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000, 44101])
def test_read_gives_a_part_of_the_resampled_file_and_zeros_beyond_its_ends(tmp_path, rate):
    samples, rng = noise(2 * rate), np.random.default_rng(rate)
    recording = save(tmp_path / "noise.wav", samples, rate)
    whole = samples if rate == SR else soxr.resample(samples, rate, SR)
    padded = np.pad(whole, 2 * SR)  # from -2 s to 4 s

    for start in [-2 * SR, -1, 0, 1, len(whole) - 1, len(whole), 3 * SR, *rng.integers(-SR, 3 * SR, 20)]:
        n = int(rng.integers(1, SR))
        piece = audio.read(recording, int(start), n, SR)
        assert piece.dtype == np.float32 and piece.shape == (n,)
        np.testing.assert_allclose(piece, padded[2 * SR + start :][:n], rtol=0, atol=1e-5)


def test_read_takes_samples_at_the_rate_of_the_file_as_they_are(tmp_path):
    samples = noise(1000)
    np.testing.assert_array_equal(audio.read(save(tmp_path / "a.wav", samples), 300, 500, SR), samples[300:800])


@pytest.mark.parametrize("rate", [8000, 48000, 44101])
def test_length_is_rounded_up(tmp_path, rate):
    for frames in (1, 2, 1000, rate, rate + 1):
        expected = next(n for n in range(10 * frames + SR) if n * rate >= frames * SR)
        assert save(tmp_path / "a.wav", noise(frames), rate).length(SR) == expected


@pytest.mark.parametrize("rate", [8000, 48000, 44101])
def test_a_resampled_tone_is_the_same_tone_at_the_same_time_a_minute_later(tmp_path, rate):
    recording = save(tmp_path / "tone.wav", sine(60 * rate, rate), rate)
    expected = sine(60 * SR, SR)
    for start in (SR, 59 * SR - 777):
        np.testing.assert_allclose(audio.read(recording, start, 777, SR), expected[start:][:777], rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_only_the_needed_segment_is_read_from_a_long_file(tmp_path, suffix, monkeypatch):
    rate, asked, real = 8000, [], sf.SoundFile.read
    recording = save(tmp_path / f"long{suffix}", np.zeros(600 * rate), rate, "PCM_16")
    monkeypatch.setattr(sf.SoundFile, "read", lambda f, n, **kw: asked.append(n) or real(f, n, **kw))

    audio.read(recording, 300 * SR, 4 * SR, SR)

    assert len(asked) == 1 and 4 * rate <= asked[0] <= 5.2 * rate  # 4 s, and context for the resampler


def test_a_recording_that_is_kept_open_is_opened_once_for_all_reads_and_closed_in_the_end(tmp_path, monkeypatch):
    samples, opened, real = noise(1000), [], sf.SoundFile
    recording = save(tmp_path / "a.flac", samples, subtype="PCM_16")
    expected = audio.read(recording, 0, 1000, SR)
    monkeypatch.setattr(sf, "SoundFile", lambda *args: opened.append(real(*args)) or opened[-1])
    with audio.kept_open(recording):
        for start in (900, 0, 333):
            np.testing.assert_array_equal(audio.read(recording, start, 100, SR), expected[start:][:100])
    assert len(opened) == 1 and opened[0].closed
    audio.read(recording, 0, 100, SR)
    assert len(opened) == 2 and opened[1].closed


def test_two_may_keep_the_same_recording_open(tmp_path):
    recording = save(tmp_path / "a.wav", noise(1000))
    with audio.kept_open(recording):
        with audio.kept_open(recording):
            audio.read(recording, 0, 100, SR)
        assert audio.read(recording, 0, 100, SR).any()


# ---------------------------------------------------------------------------------------------------------------------
# channels, formats, names


@pytest.mark.parametrize(("frame", "mean"), [([0.5], 0.5), ([0.5, -0.25], 0.125), ([0.6, 0, 0, 0.3, 0, -0.3], 0.1)])
def test_channels_are_averaged(tmp_path, frame, mean):
    recording = save(tmp_path / "a.wav", np.tile(frame, (100, 1)))
    assert recording.channels == len(frame) and recording.frames == 100
    np.testing.assert_allclose(audio.read(recording, 0, 100, SR), mean, atol=1e-7)


@pytest.mark.parametrize("rate", [SR, 22050])
def test_channels_are_kept_where_mono_is_not_asked_for(tmp_path, rate):
    samples = np.stack([noise(rate, seed) for seed in range(3)], axis=1)
    piece = audio.read(save(tmp_path / "a.wav", samples, rate), -100, SR, SR, mono=False)
    assert piece.dtype == np.float32 and piece.shape == (SR, 3)
    whole = samples if rate == SR else soxr.resample(samples, rate, SR)
    np.testing.assert_allclose(piece, np.pad(whole, ((100, 0), (0, 0)))[:SR], rtol=0, atol=0 if rate == SR else 1e-5)


def test_32_bit_integers_and_doubles_are_read_and_written_to_the_last_bit(tmp_path):
    integers = np.int32([[-(2**31), 2**31 - 1], [2**31 - 2, 1], [-1, 123456789]])
    doubles = integers / 3e9 + 1e-17
    for subtype, samples, value in (("PCM_32", integers, integers / 2**31), ("DOUBLE", doubles, doubles)):
        piece = audio.read(save(tmp_path / "a.wav", samples, subtype=subtype), 0, 3, SR, mono=False)
        assert piece.dtype == np.float64
        np.testing.assert_array_equal(piece, value)
        audio.write(tmp_path / "b.wav", [piece], 3, SR, channels=2, subtype=subtype)
        np.testing.assert_array_equal(sf.read(tmp_path / "b.wav", dtype=samples.dtype.name)[0], samples)


@pytest.mark.parametrize(
    ("suffix", "subtype", "bits"),
    [
        (".wav", "PCM_U8", 8),
        (".wav", "PCM_16", 16),
        (".wav", "PCM_24", 24),
        (".wav", "FLOAT", 24),
        (".flac", "PCM_16", 16),
        (".flac", "PCM_24", 24),
    ],
)
def test_a_lossless_format_is_off_by_one_step_at_most(tmp_path, suffix, subtype, bits):
    recording = save(tmp_path / f"a{suffix}", sine(SR, SR), SR, subtype)
    np.testing.assert_allclose(audio.read(recording, 0, SR, SR), sine(SR, SR), rtol=0, atol=2.0 ** (1 - bits))


@pytest.mark.parametrize("suffix", LOSSY)
def test_a_lossy_format_is_neither_late_nor_early(tmp_path, suffix):
    samples = sine(96000, 48000)
    recording = save(tmp_path / f"a{suffix}", samples, 48000, LOSSY[suffix])
    estimate = audio.read(recording, 0, 96000, 48000)
    snr_db = 10 * np.log10(np.mean(samples**2) / np.mean((estimate - samples) ** 2))
    assert recording.frames == 96000
    assert snr_db > 20  # a single sample of delay leaves 17.7 dB


@pytest.mark.parametrize("suffix", [*LOSSLESS, *LOSSY])
def test_a_segment_read_by_seeking_is_that_part_of_the_whole_file(tmp_path, suffix):
    recording = save(tmp_path / f"a{suffix}", noise(5 * 48000), 48000, (LOSSLESS | LOSSY)[suffix])
    whole = audio.read(recording, 0, 5 * 48000, 48000)
    for start in np.random.default_rng(0).integers(0, 4 * 48000, 20):
        piece = audio.read(recording, int(start), 48000, 48000)
        np.testing.assert_allclose(piece, whole[start:][:48000], rtol=0, atol=0 if suffix in LOSSLESS else 1e-5)


@pytest.mark.parametrize("name", ["two words (1).wav", "голос Алисы.flac", "声.ogg", "naïve 🎧.wav"])
def test_names_may_have_spaces_and_letters_of_any_script(tmp_path, name):
    recording = save(tmp_path / name, noise(1000), subtype=None)
    assert audio.find(tmp_path) == [recording.path]
    assert audio.read(recording, 0, 1000, SR).any()


def test_find_lists_sound_files_to_any_depth_sorted_and_leaves_out_hidden_ones(tmp_path):
    sounds = ["a.FLAC", "b.wav", "sub/deep/c.mp3", "z.opus"]
    others = ["notes.txt", ".hidden.wav", "._a.wav", ".cache/d.wav", "sub/.trash/e.wav", "wav"]
    for name in reversed(sounds + others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    assert audio.find(tmp_path) == [tmp_path / name for name in sounds]


def test_find_follows_links_to_folders_once_and_not_round_in_circles(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.wav").touch()
    dirty = tmp_path / "dirty"
    dirty.mkdir()
    (dirty / "game").symlink_to(tmp_path / "elsewhere")
    (dirty / "again").symlink_to(dirty)
    assert audio.find(dirty) == [dirty / "game" / "a.wav"]


def test_a_film_is_found_until_sound_has_been_made_of_it(tmp_path):
    for name in ("a.mp4", "b.MKV", "b.flac", "c.m4a", "sub/c.flac", "d.mts", "e.vob", "f.ogv", "g.mp2", "h.wv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = "a.mp4", "b.flac", "c.m4a", "d.mts", "e.vob", "f.ogv", "g.mp2", "h.wv", "sub/c.flac"
    found = [tmp_path / name for name in names]
    assert audio.find(tmp_path) == inputs(f"{tmp_path}/**/*", tmp_path / "out") == found
    assert inputs(f"{tmp_path}/**/*.MKV", tmp_path / "out") == [tmp_path / "b.MKV"]


def inputs(pattern, out_dir, mark="made.json"):
    return audio.inputs(str(pattern), out_dir, mark)[1]


@pytest.mark.parametrize(("pattern", "expected"), [
    ("**/*", ["a.wav", "s/b.wav", "s/t/c.flac"]), ("**", ["a.wav", "s/b.wav", "s/t/c.flac"]), ("*", ["a.wav"]),
    ("*/*", ["s/b.wav"]), ("*/*/*", ["s/t/c.flac"]), ("**/*.flac", ["s/t/c.flac"]), ("**/t/*", ["s/t/c.flac"]),
    ("s/**/c.*", ["s/t/c.flac"]), ("[a-s]/?.wav", ["s/b.wav"]), ("s", ["s/b.wav", "s/t/c.flac"]),
])
def test_a_glob_finds_what_it_says(pattern, expected, tmp_path):
    for name in ("a.wav", "s/b.wav", "s/t/c.flac", "s/t/.d.wav", "s/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert inputs(tmp_path / pattern, tmp_path / "out") == [tmp_path / name for name in expected]


def test_a_link_to_a_folder_above_adds_nothing_to_a_glob(tmp_path):
    (tmp_path / "game").mkdir()
    (tmp_path / "game/a.wav").touch()
    for name in ("up", "again"):
        (tmp_path / "game" / name).symlink_to(tmp_path)
    assert inputs(f"{tmp_path}/**/*", tmp_path / "out") == [tmp_path / "game/a.wav"]


def test_what_an_earlier_run_made_elsewhere_below_the_inputs_is_left_out(tmp_path, capsys):
    for name in ("a.wav", "first/a.wav", "first/sub/b.wav", "second/a.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "first/made.json").touch()
    assert inputs(tmp_path, tmp_path / "second") == [tmp_path / "a.wav"]
    assert "first: left out, since made.json says that it holds outputs" in capsys.readouterr().out
    assert inputs(tmp_path / "first", tmp_path / "second") == [tmp_path / "first/a.wav", tmp_path / "first/sub/b.wav"]


def test_no_inputs_are_not_those_of_the_current_folder(tmp_path):
    assert refusal(audio.inputs, "", tmp_path, "made.json") == "inputs is empty: give a file, a folder or a glob"


def test_a_folder_that_cannot_be_listed_is_named_and_the_others_are_searched(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.wav").touch()
    scandir = os.scandir

    def forbidden(path):
        if str(path) == str(tmp_path / "a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.warns(UserWarning, match="passed over: .*/a cannot be listed .Permission denied."):
        assert audio.find(tmp_path) == [tmp_path / "b" / "1.wav"]
    assert audio.find(tmp_path / "nowhere") == []


# ---------------------------------------------------------------------------------------------------------------------
# what cannot be read


def test_a_text_file_named_wav_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    path.write_text("not a sound")
    assert refusal(audio.probe, path).startswith(f"{path}: no sound file that can be read (")


def test_a_missing_file_is_refused(tmp_path):
    assert refusal(audio.probe, tmp_path / "a.wav").startswith(f"{tmp_path}/a.wav: no sound file that can be read (")


def test_a_file_without_samples_is_refused(tmp_path):
    sf.write(tmp_path / "a.wav", np.zeros(0), SR)
    assert refusal(audio.probe, tmp_path / "a.wav") == f"{tmp_path}/a.wav: holds no samples"


def test_a_file_shorter_than_it_was_when_probed_is_refused(tmp_path):
    recording = save(tmp_path / "a.wav", noise(10 * 8000), 8000)
    save(tmp_path / "a.wav", noise(4 * 8000), 8000)
    expected = f"{tmp_path}/a.wav: ends at 4.0 s, its header says 10.0 s; it is cut off"
    assert refusal(audio.read, recording, 3 * 8000, 2 * 8000, 8000) == expected


@pytest.mark.parametrize(("bad", "what"), [
    (np.nan, "NaN or infinite samples"), (-np.inf, "NaN or infinite samples"),
    (-1e29, "a sample of 1e+29 times full scale"),
])
def test_samples_that_are_no_numbers_are_refused_where_they_are_and_only_there(tmp_path, bad, what):
    samples = noise(10 * 8000)
    samples[5 * 8000 + 100] = bad
    recording = save(tmp_path / "a.wav", samples, 8000)

    np.testing.assert_array_equal(audio.read(recording, 0, 8000, 8000), samples[:8000])
    expected = f"{tmp_path}/a.wav: {what} near 5.0 s"
    assert refusal(audio.read, recording, 5 * 8000, 8000, 8000) == expected


# ---------------------------------------------------------------------------------------------------------------------
# what breaks off and can be read


@pytest.fixture(params=["WAV PCM_16", "WAV PCM_24", "WAV FLOAT", "WAVEX PCM_24", "OGG VORBIS", "OGG OPUS"])
def whole(request, tmp_path):
    container, subtype = request.param.split()
    path, samples = tmp_path / "a.sound", noise(5 * 48000)
    with sf.SoundFile(path, "w", 48000, 1, subtype, format=container) as f:
        for start in range(0, len(samples), 1 << 16):  # libsndfile crashes on more Vorbis at once
            f.write(samples[start : start + (1 << 16)])
    return path


def test_a_file_that_breaks_off_says_so_and_is_read_up_to_there(whole):
    entire = audio.probe(whole)
    before = audio.read(entire, 0, 48000, 48000)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 5 - 1])
    recording = audio.probe(whole)
    assert (entire.flaw, recording.flaw) == ("", "cut off at its end")
    assert 1.5 * 48000 < recording.frames < 4 * 48000  # a page of Opus may be more than a second
    np.testing.assert_array_equal(audio.read(recording, 0, 48000, 48000), before)
    assert len(audio.read(recording, 0, recording.frames, 48000)) == recording.frames


@pytest.mark.parametrize("unknown", [b"\xff\xff\xff\xff", b"\xdb\xff\xff\x7f"], ids=["ffmpeg", "sox"])
def test_a_wav_file_written_to_a_pipe_is_not_cut_off(unknown, tmp_path):
    save(tmp_path / "a.wav", noise(1000), subtype="PCM_16")
    content = (tmp_path / "a.wav").read_bytes()
    assert content[36:44] == b"data" + (2000).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content[:4] + unknown + content[8:40] + unknown + content[44:])
    recording = audio.probe(tmp_path / "a.wav")
    assert recording.frames == 1000 and recording.flaw == ""


@pytest.mark.parametrize("extra", [b"", b"LIST" + (4).to_bytes(4, "little") + b"INFO", b"junk after the end"])
def test_a_file_with_something_behind_its_samples_is_not_cut_off(tmp_path, extra):
    for name, subtype in (("a.wav", "PCM_24"), ("a.flac", "PCM_16"), ("a.aiff", "PCM_16"), ("a.w64", "PCM_16")):
        save(tmp_path / name, noise(1001), subtype=subtype)
        with open(tmp_path / name, "ab") as f:
            f.write(extra)
        assert audio.probe(tmp_path / name).flaw == ""


# ---------------------------------------------------------------------------------------------------------------------
# writing


def test_write_makes_a_mono_float_file_with_every_sample_as_it_was_even_above_full_scale(tmp_path):
    path, blocks = tmp_path / "new" / "folder" / "a.wav", [np.float32([0.1, -2.5]), np.float32([1.7]), np.float32([])]
    audio.write(path, blocks, sum(map(len, blocks)), 22050)

    samples, rate = sf.read(path, dtype="float32")
    assert rate == 22050 and sf.info(path).subtype == "FLOAT"
    np.testing.assert_array_equal(samples, np.float32([0.1, -2.5, 1.7]))
    assert audio.find(tmp_path) == [path]  # nothing else is left


@pytest.mark.parametrize("suffix, container", [("wav", "WAV"), ("flac", "FLAC")])
@pytest.mark.parametrize("subtype, bits", [("PCM_16", 16), ("PCM_24", 24)])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_write_keeps_every_bit_of_16_and_24(tmp_path, suffix, container, subtype, bits, channels):
    integers = np.random.default_rng(0).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (1000, channels))
    integers[:2] = [[-(2 ** (bits - 1))], [2 ** (bits - 1) - 1]]
    samples = (integers / 2 ** (bits - 1)).astype(np.float32)
    blocks = np.split(samples[:, 0] if channels == 1 else samples, [300, 301])
    audio.write(tmp_path / f"a.{suffix}", blocks, 1000, SR, channels=channels, subtype=subtype)
    info = sf.info(tmp_path / f"a.{suffix}")
    assert (info.format, info.subtype, info.channels, info.frames) == (container, subtype, channels, 1000)
    written = sf.read(tmp_path / f"a.{suffix}", dtype="int32", always_2d=True)[0]
    np.testing.assert_array_equal(written >> (32 - bits), integers)


def test_write_that_breaks_off_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "a.wav"
    audio.write(path, [noise(100)], 100, SR)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        audio.write(path, chain([noise(50)], (1 / 0 for _ in "x")), 100, SR)
    assert path.read_bytes() == before


def test_write_that_breaks_off_leaves_no_file_where_none_was(tmp_path):
    with pytest.raises(ZeroDivisionError):
        audio.write(tmp_path / "a.wav", chain([noise(50)], (1 / 0 for _ in "x")), 100, SR)
    assert list(tmp_path.iterdir()) == []


def test_write_takes_a_larger_container_where_wav_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "WAV_BYTES", 200)
    for n, container in ((49, "WAV"), (50, "RF64")):
        audio.write(tmp_path / "a.wav", [noise(n)], n, SR)
        assert sf.info(tmp_path / "a.wav").format == container
        assert len(sf.read(tmp_path / "a.wav")[0]) == n


def test_write_shows_nothing_under_the_final_name_before_the_last_block(tmp_path):
    seen = []
    audio.write(tmp_path / "a.wav", (seen.append(audio.find(tmp_path)) or noise(50) for _ in range(3)), 150, SR)
    assert seen == [[], [], []] and audio.find(tmp_path) == [tmp_path / "a.wav"]


def test_write_names_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "out").write_text("a file where a folder should be")
    message = refusal(audio.write, tmp_path / "out" / "a.wav", [noise(50)], 50, SR)
    assert message.startswith(f"{tmp_path}/out/a.wav: cannot be written (")
    assert message.endswith("); choose another output folder")
