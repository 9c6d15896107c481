"""Recordings that were looked at before."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from mixing import make_folders, noise, save

from extractor import UserError, audio
from extractor.cache import Index
from extractor.material import find_material


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The names of files that were opened."""
    names, probe = [], audio.probe

    def noted(path, audio_stream=0):
        names.append(Path(path).name)
        return probe(path, audio_stream)

    monkeypatch.setattr(audio, "probe", noted)
    return names


def check(path: Path, audio_stream: int) -> audio.Recording:
    return audio.probe(path, audio_stream)


def test_the_second_time_nothing_is_opened_and_the_same_is_found(tmp_path, opened):
    args, index = make_folders(tmp_path), tmp_path / "runs" / "index.json"
    save(tmp_path / "datasets/dirty/pc/game/b.flac", noise(3))
    first = find_material(args, index=index)
    assert len(opened) == 5
    opened.clear()
    assert find_material(args, index=index) == first == find_material(args) and len(opened) == 5  # of the last alone
    assert not list(index.parent.glob("*.part"))


def test_a_file_that_has_changed_or_come_is_looked_at_alone(tmp_path, opened):
    args, index = make_folders(tmp_path), tmp_path / "index.json"
    find_material(args, index=index)
    changed, touched = tmp_path / "datasets/dirty/pc/game/a.wav", tmp_path / "datasets/clean/alice/src_0.wav"
    save(changed, noise(4))
    os.utime(touched, ns=(1, 1))
    save(tmp_path / "datasets/dirty/pc/voices/b.wav", noise(2))
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
    save(tmp_path / "datasets/extra/quiet.wav", 0 * noise(1))
    assert len(find_material(replace(args, dirty=(*args.dirty, extra)), index=index).games) == 2
    with pytest.raises(UserError, match=r"quiet\.wav: silent"):
        find_material(replace(args, clean=(*args.clean, extra)), index=index)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"check 0 /a": [1]}', "\x00"])
def test_an_index_that_is_damaged_is_made_anew(content, tmp_path, opened):
    sound, path = save(tmp_path / "a.wav", noise(1)), tmp_path / "index.json"
    path.write_text(content.replace("/a", str(sound)))
    index = Index(path)
    found = index.look(sound, check, 0)
    index.save()
    assert opened == ["a.wav"] and Index(path).look(sound, check, 0) == found and opened == ["a.wav"]
    assert list(json.loads(path.read_text())) == [f"check 0 {sound}"]


def test_names_may_hold_any_bytes(tmp_path):
    sound = save(tmp_path / "a.wav", noise(1)).rename(tmp_path / os.fsdecode(b"\xff.wav"))
    index = Index(tmp_path / "index.json")
    index.look(sound, lambda path, _: audio.Recording(path, 1000, 1, 1000), 0)
    index.save()
    assert Index(tmp_path / "index.json").known.keys() == index.known.keys()
