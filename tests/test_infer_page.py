"""The page that infer.py writes: what is on it, from when, and what is looked at again."""

import json
from pathlib import Path

import numpy as np
import pytest
import soxr
from browser import read_sound
from scored import infer, net_does, put, uniform


def report(tmp_path: Path) -> tuple[dict, dict]:
    """Name -> item, and name -> what was measured of the recording and of the estimate"""
    found = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    names = [item["name"] for item in found["items"]]
    rows = zip(*found["scores"].values(), strict=True)
    measured = {name: a | b for name, (a, b) in zip(names, rows, strict=True)}
    return dict(zip(names, found["items"], strict=True)), measured


def sounds(tmp_path: Path, item: dict) -> dict[str, np.ndarray]:
    """What the page plays."""
    scale, signals = read_sound(tmp_path / "out" / item["sound"])
    return {name: x / scale for name, (x, _) in signals.items()}


def looked_at(tmp_path: Path) -> dict[str, int]:
    """When each output was looked at for the page: its sound was written then."""
    return {name: (tmp_path / "out" / item["sound"]).stat().st_mtime_ns for name, item in report(tmp_path)[0].items()}


@pytest.fixture
def a_and_b(identity, tmp_path):
    """in/a.wav and in/b.wav are extracted already, by the identity."""
    for name in "ab":
        put(tmp_path / "in" / f"{name}.wav", uniform(500))
    infer(tmp_path)


def test_the_page_and_its_sounds_lie_beside_the_outputs_whose_tree_is_kept(identity, tmp_path):
    put(tmp_path / "in" / "a.wav", uniform(500))
    put(tmp_path / "in" / "b" / "音 c.flac", uniform(500), subtype="PCM_16")
    infer(tmp_path, checkpoint="runs/alice/best.pt")
    items, _ = report(tmp_path)
    assert list(items) == ["a.wav", "b/音 c.wav"]
    assert {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()} == {
        ".lock", "a.wav", "b/音 c.wav", "checkpoint.json", "index.html", "scores.json",
        *(item["sound"] for item in items.values()),
    }
    assert list(sounds(tmp_path, items["a.wav"])) == ["mixture", "alice"]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<title>out</title>" in page and '"b/音 c.wav"' in page


def test_without_seconds_for_it_there_is_no_page(identity, tmp_path):
    put(tmp_path / "in" / "a.wav", uniform(500))
    infer(tmp_path, page_s=0)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {".lock", "a.wav", "checkpoint.json"}


def test_of_a_long_recording_the_page_has_what_was_loudest_in_the_estimate_and_nothing_else(monkeypatch, tmp_path):
    """The net takes away what is above 0.3: the loudest of the recording, in its last second."""
    net_does(monkeypatch, lambda mixture: mixture * (mixture.abs() < 0.3))
    x = 0.01 * uniform(12 * 44100)
    x[round(4.2 * 44100) : round(7.2 * 44100)] *= 20
    x[-44100:] = 0.5 * np.sign(x[-44100:])
    put(tmp_path / "in" / "a.wav", x)
    infer(tmp_path, page_s=3)
    item = report(tmp_path)[0]["a.wav"]
    assert (item["start_s"], item["end_s"], item["seconds"]) == pytest.approx((4.2, 7.2, 12), abs=0.01)
    start, end = (round(item[key] * 44100) for key in ("start_s", "end_s"))
    for name, sound in sounds(tmp_path, item).items():
        np.testing.assert_allclose(sound, x[start:end], atol=1e-4, err_msg=name)


def test_of_a_recording_shorter_than_page_s_all_of_it_is_on_the_page(monkeypatch, tmp_path):
    net_does(monkeypatch, lambda mixture: mixture / 2)
    stereo = uniform(20_001, 2)
    put(tmp_path / "in" / "a.wav", stereo, 48000)
    infer(tmp_path, page_s=5)
    item = report(tmp_path)[0]["a.wav"]
    assert "start_s" not in item and "end_s" not in item
    mixture = soxr.resample(stereo.mean(1), 48000, 44100)
    found = sounds(tmp_path, item)
    np.testing.assert_allclose(found["mixture"], mixture, atol=1e-3)
    np.testing.assert_allclose(found["alice"], mixture / 2, atol=1e-3)


def test_the_page_tells_levels_and_seconds_of_speech(monkeypatch, tmp_path):
    """1 kHz at 0.2 of full scale from 1 s to 2 s, at 0.0002 before and after; the net halves it."""
    net_does(monkeypatch, lambda mixture: mixture / 2)
    gain = np.repeat([0.0002, 0.2, 0.0002], 44100)
    put(tmp_path / "in" / "a.wav", gain * np.sin(2 * np.pi * 1000 * np.arange(3 * 44100) / 44100))
    put(tmp_path / "in" / "b.wav", np.zeros(44100))
    infer(tmp_path)
    _, rows = report(tmp_path)
    assert rows["a.wav"] == pytest.approx({
        "level_in": 10 * np.log10(0.2**2 / 2 / 3),  # a third of the time
        "level_change": 20 * np.log10(0.5),
        "speech_s": 1.02,                           # levels are means of three hops of 10 ms
    }, abs=0.01)
    assert rows["b.wav"] == pytest.approx({"level_in": -140, "level_change": 0, "speech_s": 0})


# ---------------------------------------------------------------------------------------------------------------------
# what was on it before


def test_what_was_done_before_stays_on_the_page_and_only_what_changed_is_looked_at(a_and_b, tmp_path):
    first = looked_at(tmp_path)
    put(tmp_path / "in" / "c.wav", uniform(600))
    infer(tmp_path)
    second, before = looked_at(tmp_path), report(tmp_path)[1]["b.wav"]["level_change"]
    assert second == first | {"c.wav": second["c.wav"]}
    put(tmp_path / "out" / "b.wav", 0.5 * uniform(500))
    infer(tmp_path)
    third = looked_at(tmp_path)
    assert third == second | {"b.wav": third["b.wav"]} and third["b.wav"] > second["b.wav"]
    assert report(tmp_path)[1]["b.wav"]["level_change"] == pytest.approx(before - 6.02, abs=0.01)
    infer(tmp_path, page_s=30)
    assert all(at > third[name] for name, at in looked_at(tmp_path).items())


def test_a_recording_that_cannot_be_read_or_no_longer_is_named_and_the_page_has_the_others(a_and_b, tmp_path, capsys):
    (tmp_path / "in" / "a.wav").write_text("no sound any more")
    (tmp_path / "in" / "c.wav").write_text("nor ever")
    put(tmp_path / "out" / "a.wav", uniform(500))
    assert {failure.split(": ")[0] for failure in infer(tmp_path)} == {f"{tmp_path}/in/{name}.wav" for name in "ac"}
    assert f"not on the page: {tmp_path}/in/a.wav: no sound file" in capsys.readouterr().err
    assert list(report(tmp_path)[0]) == ["b.wav"]


@pytest.mark.parametrize("damage", [
    lambda text: text[:-100], lambda text: "[]", lambda text: "null", lambda text: '{"items": 3}',
    lambda text: '{"items": [{}], "scores": {"mixture": [{}]}}', lambda text: text,
], ids=["cut off", "a list", "null", "no items", "empty rows", "without its sound"])
def test_what_the_page_knew_is_made_anew_where_it_is_no_report_or_its_sound_is_gone(damage, a_and_b, tmp_path):
    before, first, scores = report(tmp_path), looked_at(tmp_path), tmp_path / "out" / "scores.json"
    scores.write_text(damage(text := scores.read_text("utf-8")), "utf-8")
    if scores.read_text("utf-8") == text:
        (tmp_path / "out" / before[0]["a.wav"]["sound"]).unlink()
    infer(tmp_path)
    assert looked_at(tmp_path)["a.wav"] > first["a.wav"] and report(tmp_path) == before


def test_the_page_of_another_net_plays_what_it_names(identity, tmp_path):
    put(tmp_path / "in" / "a.wav", uniform(500))
    for run in ("alice", "bob", "mixture"):  # the last would take the name of a signal
        infer(tmp_path, checkpoint=f"runs/{run}/best.pt")
        found = json.loads((tmp_path / "out" / "scores.json").read_text())
        assert [system["name"] for system in found["systems"]] == list(sounds(tmp_path, found["items"][0]))
    assert list(found["scores"]) == ["mixture", "estimate"]


def test_recordings_of_another_glob_stay_on_the_page_while_their_outputs_are_there(a_and_b, tmp_path):
    put(tmp_path / "more" / "c.wav", uniform(500))
    infer(tmp_path, "more")
    assert list(report(tmp_path)[0]) == ["a.wav", "b.wav", "c.wav"]
    (tmp_path / "out" / "a.wav").unlink()
    infer(tmp_path, "in/*b.wav")
    items, _ = report(tmp_path)
    assert list(items) == ["b.wav", "c.wav"] and len(sounds(tmp_path, items["c.wav"])) == 2


def test_what_another_net_of_the_same_name_extracted_is_not_on_the_page(identity, tmp_path):
    for name, net in (("a", "best"), ("b", "last")):
        put(tmp_path / "in" / f"{name}.wav", uniform(500))
        (tmp_path / f"{net}.pt").write_text(net)
        infer(tmp_path, f"in/{name}.wav", tmp_path / f"{net}.pt")
    assert list(report(tmp_path)[0]) == ["b.wav"]
