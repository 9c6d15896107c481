"""extractor/audio.py: what is read is what lies in the file, resampled, at the right time; what is written is whole."""

import os

import numpy as np
import pytest
import soundfile as sf
import soxr

from extractor import UserError, audio

SR = 44100


def noise(n, seed=0):
    return (0.2 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def sine(n, rate, hz=997.0):
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(n) / rate)


def save(path, samples, rate=SR, subtype="FLOAT"):
    sf.write(path, samples, rate, subtype)
    return audio.probe(path)


def refusal(action, *args):
    with pytest.raises(UserError) as error:
        action(*args)
    return str(error.value)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def inputs(pattern, out_dir, mark="made.json"):
    return audio.inputs(str(pattern), out_dir, mark)[1]


# ---------------------------------------------------------------------------------------------------------------------
# resampling, piece by piece


@pytest.mark.parametrize("mono", [True, False])
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000, 44101])
def test_read_gives_a_part_of_the_resampled_file_its_channels_where_asked_for_and_zeros_beyond_its_ends(
    tmp_path, rate, mono
):
    rng = np.random.default_rng(rate)
    samples = noise(2 * rate) if mono else np.stack([noise(2 * rate, seed) for seed in range(3)], axis=1)
    recording = save(tmp_path / "noise.wav", samples, rate)
    whole = samples if rate == SR else soxr.resample(samples, rate, SR)
    padded = np.concatenate([0 * whole, whole, 0 * whole])  # from -2 s to 4 s

    for start in [-2 * SR, -1, 0, 1, len(whole) - 1, len(whole), 3 * SR, *rng.integers(-SR, 3 * SR, 20)]:
        n = int(rng.integers(1, SR))
        piece = audio.read(recording, int(start), n, SR, mono=mono)
        expected = padded[len(whole) + start :][:n]
        assert piece.dtype == np.float32 and piece.shape == expected.shape
        np.testing.assert_allclose(piece, expected, rtol=0, atol=0 if rate == SR else 1e-5)


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


def test_a_recording_that_is_kept_open_also_by_two_is_not_opened_anew_for_each_read(tmp_path):
    recording = save(tmp_path / "a.flac", noise(1000), subtype="PCM_16")
    expected = audio.read(recording, 0, 1000, SR)
    with audio.kept_open(recording):
        audio.read(recording, 0, 100, SR)
        recording.path.unlink()  # who has it open reads it still
        for start in (900, 0, 333):
            np.testing.assert_array_equal(audio.read(recording, start, 100, SR), expected[start:][:100])
        with audio.kept_open(recording):
            pass
    assert "a.flac" in refusal(audio.read, recording, 0, 100, SR)


# ---------------------------------------------------------------------------------------------------------------------
# names; that channels are averaged stands in test_infer.py, formats in test_container.py


def test_find_lists_sound_files_to_any_depth_sorted_and_leaves_out_hidden_ones(tmp_path):
    sounds = ["a.FLAC", "b.wav", "naïve 🎧 (1).wav", "sub/deep/c.mp3", "z.opus", "声.ogg"]
    others = ["notes.txt", ".hidden.wav", "._a.wav", ".cache/d.wav", "sub/.trash/e.wav", "wav"]
    touch(tmp_path, *reversed(sounds + others))
    (tmp_path / "folder.wav").mkdir()
    assert audio.find(tmp_path) == [tmp_path / name for name in sounds]


def test_links_to_folders_are_followed_once_and_not_round_in_circles(tmp_path):
    touch(tmp_path, "elsewhere/a.wav", "dirty/game/b.wav")
    (tmp_path / "dirty/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "dirty/game/up").symlink_to(tmp_path / "dirty")
    found = [tmp_path / "dirty/game/b.wav", tmp_path / "dirty/link/a.wav"]
    assert audio.find(tmp_path / "dirty") == inputs(f"{tmp_path}/dirty/**/*", tmp_path / "out") == found


def test_a_film_is_found_until_sound_has_been_made_of_it(tmp_path):
    names = "a.mp4", "b.flac", "c.m4a", "d.mts", "e.vob", "f.ogv", "g.mp2", "h.wv", "sub/c.flac"
    touch(tmp_path, "b.MKV", *names)
    found = [tmp_path / name for name in names]
    assert audio.find(tmp_path) == inputs(f"{tmp_path}/**/*", tmp_path / "out") == found
    assert inputs(f"{tmp_path}/**/*.MKV", tmp_path / "out") == [tmp_path / "b.MKV"]


@pytest.mark.parametrize(("pattern", "expected"), [
    ("**/*", ["a.wav", "s/b.wav", "s/t/c.flac"]), ("**", ["a.wav", "s/b.wav", "s/t/c.flac"]), ("*", ["a.wav"]),
    ("*/*", ["s/b.wav"]), ("*/*/*", ["s/t/c.flac"]), ("**/*.flac", ["s/t/c.flac"]), ("**/t/*", ["s/t/c.flac"]),
    ("s/**/c.*", ["s/t/c.flac"]), ("[a-s]/?.wav", ["s/b.wav"]), ("s", ["s/b.wav", "s/t/c.flac"]),
])
def test_a_glob_finds_what_it_says(pattern, expected, tmp_path):
    touch(tmp_path, "a.wav", "s/b.wav", "s/t/c.flac", "s/t/.d.wav", "s/notes.txt")
    assert inputs(tmp_path / pattern, tmp_path / "out") == [tmp_path / name for name in expected]


def test_what_an_earlier_run_made_elsewhere_below_the_inputs_is_left_out(tmp_path, capsys):
    touch(tmp_path, "a.wav", "first/a.wav", "first/sub/b.wav", "second/a.wav", "first/made.json")
    assert inputs(tmp_path, tmp_path / "second") == [tmp_path / "a.wav"]
    assert "first: left out, since made.json says that it holds outputs" in capsys.readouterr().out
    assert inputs(tmp_path / "first", tmp_path / "second") == [tmp_path / "first/a.wav", tmp_path / "first/sub/b.wav"]


def test_no_inputs_are_not_those_of_the_current_folder(tmp_path):
    assert refusal(audio.inputs, "", tmp_path, "made.json") == "inputs is empty: give a file, a folder or a glob"


def test_a_folder_that_cannot_be_listed_is_named_and_the_others_are_searched(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.wav", "b/1.wav")
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


def test_a_missing_file_and_one_without_samples_are_refused(tmp_path):
    sf.write(tmp_path / "a.wav", np.zeros(0), SR)
    assert refusal(audio.probe, tmp_path / "a.wav") == f"{tmp_path}/a.wav: holds no samples"
    assert refusal(audio.probe, tmp_path / "b.wav").startswith(f"{tmp_path}/b.wav: no sound file that can be read (")


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


@pytest.mark.parametrize("extra", [b"", b"LIST" + (4).to_bytes(4, "little") + b"INFO", b"junk after the end"])
def test_a_file_with_something_behind_its_samples_is_not_cut_off(tmp_path, extra):
    for name, subtype in (("a.wav", "PCM_24"), ("a.flac", "PCM_16"), ("a.aiff", "PCM_16"), ("a.w64", "PCM_16")):
        save(tmp_path / name, noise(1001), subtype=subtype)
        with open(tmp_path / name, "ab") as f:
            f.write(extra)
        recording = audio.probe(tmp_path / name)
        assert recording.flaw == "" and (recording.frames == 1001 or name == "a.w64")  # of which it becomes a part


# ---------------------------------------------------------------------------------------------------------------------
# writing


def test_write_makes_a_mono_float_file_with_every_sample_as_it_was_even_above_full_scale(tmp_path):
    path, blocks = tmp_path / "new" / "folder" / "a.wav", [np.float32([0.1, -2.5]), np.float32([1.7]), np.float32([])]
    audio.write(path, blocks, sum(map(len, blocks)), 22050)

    samples, rate = sf.read(path, dtype="float32")
    assert rate == 22050 and sf.info(path).subtype == "FLOAT"
    np.testing.assert_array_equal(samples, np.float32([0.1, -2.5, 1.7]))
    assert audio.find(tmp_path) == [path]  # nothing else is left


@pytest.mark.parametrize("suffix, subtype, unit, dtype", [
    ("wav", "PCM_16", 2**15, "float32"), ("wav", "PCM_24", 2**23, "float32"), ("wav", "PCM_32", 2**31, "float64"),
    ("flac", "PCM_16", 2**15, "float32"), ("flac", "PCM_24", 2**23, "float32"), ("wav", "DOUBLE", 3e9, "float64"),
])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_write_keeps_every_bit_and_read_finds_them(tmp_path, suffix, subtype, unit, dtype, channels):
    path, limit = tmp_path / f"a.{suffix}", int(unit)
    samples = (np.random.default_rng(0).integers(-limit, limit, (1000, channels)) / unit).astype(dtype)
    samples[:2] = [[-1], [1 - 1 / unit]]
    blocks = np.split(samples[:, 0] if channels == 1 else samples, [300, 301])
    audio.write(path, blocks, 1000, SR, channels=channels, subtype=subtype)
    info = sf.info(path)
    assert (info.format, info.subtype, info.channels, info.frames) == (suffix.upper(), subtype, channels, 1000)
    np.testing.assert_array_equal(sf.read(path, dtype="float64", always_2d=True)[0], samples)
    found = audio.read(audio.probe(path), 0, 1000, SR, mono=False)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize("old", [[], [noise(100)]], ids=["no file", "the old file whole"])
def test_until_its_last_block_write_leaves_what_was_there_also_where_it_breaks_off(old, tmp_path):
    if old:
        audio.write(tmp_path / "a.wav", old, 100, SR)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def breaks_off():
        yield noise(50)
        assert audio.find(tmp_path) == [*before] and all(path.read_bytes() == x for path, x in before.items())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        audio.write(tmp_path / "a.wav", breaks_off(), 100, SR)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_write_takes_a_larger_container_where_wav_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "WAV_BYTES", 200)
    for n, container in ((49, "WAV"), (50, "RF64")):
        audio.write(tmp_path / "a.wav", [noise(n)], n, SR)
        assert sf.info(tmp_path / "a.wav").format == container
        assert len(sf.read(tmp_path / "a.wav")[0]) == n
