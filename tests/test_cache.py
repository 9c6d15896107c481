"""extractor/cache.py: the same samples from another file, nothing half done, and what is known not looked at again."""

import json
import os
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import soundfile as sf
from mixing import make_folders, save, tone

from extractor import UserError, audio, cache
from extractor.cache import Index
from extractor.material import find_material

RATE = 8000


def noise(seconds: float, seed: int, channels: int = 1) -> np.ndarray:
    x = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * RATE), channels))
    return x.astype(np.float32)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Compressed recordings of 130, 3 and 2 s, and one that is not."""
    for name, x in {
        "long.flac": noise(130, 0), "stereo.ogg": noise(3, 1, channels=2), "short.mp3": noise(2, 2),
        "plain.wav": noise(2, 3),
    }.items():
        (tmp_path / "in").mkdir(exist_ok=True)
        sf.write(tmp_path / "in" / name, x, RATE)
    return tmp_path


def recordings(folder: Path) -> list[audio.Recording]:
    return [audio.probe(path) for path in audio.find(folder / "in")]


def files(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in (folder / "out").glob("*")}


@pytest.mark.parametrize("rate", [RATE, 6000])
def test_an_unpacked_recording_has_the_same_samples(folder, rate):
    before = recordings(folder)
    after = cache.unpack(before, folder / "out", 1e9)
    assert [r.unpacked is not None for r in after] == [r.path.suffix != ".wav" for r in before]
    for packed, unpacked in zip(before, after, strict=True):
        n = packed.length(rate)
        for start, length in ((0, n), (n // 3, 777), (n // 2, 200)):
            expected = audio.read(packed, start, length, rate)
            np.testing.assert_allclose(audio.read(unpacked, start, length, rate), expected, atol=1e-6)
        stereo = audio.read(packed, 0, n, rate, mono=False)
        np.testing.assert_array_equal(audio.read(unpacked, 0, n, rate, mono=False), stereo)


def test_it_is_the_unpacked_file_that_is_read_as_long_as_it_is_there(folder):
    recording = next(r for r in cache.unpack(recordings(folder), folder / "out", 1e9) if r.path.suffix == ".mp3")
    expected = audio.read(recording, 0, 100, RATE)
    sf.write(recording.unpacked, np.full(recording.frames, 0.25), RATE, "FLOAT")
    assert (audio.read(recording, 0, 100, RATE) == 0.25).all()
    recording.unpacked.unlink()
    np.testing.assert_allclose(audio.read(recording, 0, 100, RATE), expected, atol=1e-6)


def test_what_was_unpacked_is_not_again_unless_its_recording_changed(folder):
    cache.unpack(recordings(folder), folder / "out", 1e9)
    first = files(folder)
    assert len(first) == 3
    cache.unpack(recordings(folder), folder / "out", 1e9)
    assert files(folder) == first
    sf.write(folder / "in/long.flac", noise(130, 9), RATE)
    os.utime(folder / "in/long.flac", (time.time() + 5,) * 2)
    changed = next(r for r in cache.unpack(recordings(folder), folder / "out", 1e9) if r.path.stem == "long")
    assert len(files(folder)) == 4 and files(folder).items() > first.items()
    np.testing.assert_allclose(audio.read(changed, 0, 50, RATE), noise(130, 9)[:50, 0], atol=1e-4)


def test_no_more_is_unpacked_than_asked_for_nor_half_of_what_is_free(folder, monkeypatch):
    before = recordings(folder)  # long, 130 s, plain, short and stereo, of 2 and 3 s
    sizes = {r.path.stem: 4 * r.frames for r in before}
    limit = sizes["short"] + sizes["stereo"]
    named = {r.path.stem for r in cache.unpack(before, folder / "out", limit) if r.unpacked}
    assert named == {"short", "stereo"}
    assert not [r for r in cache.unpack(before, folder / "out", 0) if r.unpacked]
    free = namedtuple("Usage", "free")(2 * sizes["long"] - 2)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: free)
    assert [r.path.stem for r in cache.unpack(before, folder / "other", 1e9) if r.unpacked] == ["short", "stereo"]


def test_what_cannot_be_decoded_or_written_stays_as_it_is_and_leaves_nothing(folder):
    whole = (folder / "in/long.flac").read_bytes()
    before = recordings(folder)
    (folder / "in/long.flac").write_bytes(whole[: len(whole) // 2])
    after = cache.unpack(before, folder / "out", 1e9)
    assert [r.path.stem for r in after if r.unpacked] == ["short", "stereo"] and len(files(folder)) == 2
    (folder / "a file").touch()
    assert cache.unpack(before, folder / "a file/out", 1e9) == before


def test_a_process_stopped_while_it_unpacks_leaves_nothing(folder):
    with patch.object(os, "replace", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        cache.unpack(recordings(folder), folder / "out", 1e9)
    assert not files(folder)
    unpacked = [r for r in cache.unpack(recordings(folder), folder / "out", 1e9) if r.unpacked]
    assert [sf.info(r.unpacked).frames for r in unpacked] == [r.frames for r in unpacked]


# --- what is known of recordings -------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The names of files that were opened."""
    names, probe = [], audio.probe
    monkeypatch.setattr(audio, "probe", lambda path, *stream: names.append(Path(path).name) or probe(path, *stream))
    return names


def check(path: Path, audio_stream: int) -> audio.Recording:
    return audio.probe(path, audio_stream)


def test_the_second_time_nothing_is_opened_and_the_same_is_found(tmp_path, opened):
    args, index = make_folders(tmp_path), tmp_path / "runs" / "index.json"
    save(tmp_path / "datasets/dirty/pc/game/b.flac", tone(3, 50))
    first = find_material(args, index=index)
    assert len(opened) == 5
    opened.clear()
    assert find_material(args, index=index) == first == find_material(args) and len(opened) == 5  # of the last alone
    assert not list(index.parent.glob("*.part"))


def test_a_file_that_has_changed_or_come_is_looked_at_alone(tmp_path, opened):
    args, index = make_folders(tmp_path), tmp_path / "index.json"
    find_material(args, index=index)
    changed, touched = tmp_path / "datasets/dirty/pc/game/a.wav", tmp_path / "datasets/clean/alice/src_0.wav"
    save(changed, tone(4, 50))
    os.utime(touched, ns=(1, 1))
    save(tmp_path / "datasets/dirty/pc/voices/b.wav", tone(2, 50))
    opened.clear()
    material = find_material(args, index=index)
    assert sorted(opened) == ["a.wav", "b.wav", "src_0.wav"]
    assert {r.path.name: r.seconds for r in material.games} == {"a.wav": 4.0}


def test_what_cannot_be_used_is_said_every_time(tmp_path):
    args, index = make_folders(tmp_path), tmp_path / "index.json"
    bad = tmp_path / "datasets/dirty/pc/game/bad.wav"
    bad.write_bytes(b"no sound")
    for _ in range(2):
        with pytest.raises(UserError, match=r"bad\.wav: no sound file"):
            find_material(args, index=index)
    bad.unlink()
    assert len(find_material(args, index=index).games) == 1


def test_clean_recordings_are_looked_at_more_closely_than_dirty_ones(tmp_path):
    """A silent file is fine as interference, and is so known; as a clean one it is not."""
    args, index, extra = make_folders(tmp_path), tmp_path / "index.json", str(tmp_path / "datasets/extra")
    save(tmp_path / "datasets/extra/quiet.wav", 0 * tone(1, 50))
    assert len(find_material(replace(args, dirty=(*args.dirty, extra)), index=index).games) == 2
    with pytest.raises(UserError, match=r"quiet\.wav: silent"):
        find_material(replace(args, clean=(*args.clean, extra)), index=index)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"check 0 /a": [1]}', "\x00"])
def test_an_index_that_is_damaged_is_made_anew(content, tmp_path, opened):
    sound, path = save(tmp_path / "a.wav", tone(1, 50)), tmp_path / "index.json"
    path.write_text(content.replace("/a", str(sound)))
    index = Index(path)
    found = index.look(sound, check, 0)
    index.save()
    assert opened == ["a.wav"] and Index(path).look(sound, check, 0) == found and opened == ["a.wav"]
    assert list(json.loads(path.read_text())) == [f"check 0 {sound}"]


def test_names_may_hold_any_bytes(tmp_path):
    sound = save(tmp_path / "a.wav", tone(1, 50)).rename(tmp_path / os.fsdecode(b"\xff.wav"))
    index = Index(tmp_path / "index.json")
    index.look(sound, lambda path, _: audio.Recording(path, 1000, 1, 1000), 0)
    index.save()
    assert Index(tmp_path / "index.json").known.keys() == index.known.keys()
