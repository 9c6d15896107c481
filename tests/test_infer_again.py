"""Where estimates go, and what is there already: nothing is written over, nothing is done twice or left as it was."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from scored import extracted, infer, net_does, put, uniform
from tiny import ROOT, alone_in_elsewhere, held_elsewhere

from extractor import UserError, checkpoint
from infer import InferArgs, plan

# ---------------------------------------------------------------------------------------------------------------------
# names


def planned(inputs: str, folder: Path, *names: str) -> dict[str, str]:
    """Input -> output, for a folder that holds files of these names; both relative."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    outputs = plan(InferArgs(inputs=f"{folder}/{inputs}", out_dir=str(folder / "out")))
    return {str(source.relative_to(folder)): str(out.relative_to(folder / "out")) for source, out in outputs.items()}


ALL = {"in/a.wav": "a.wav", "in/b/c.OGG": "b/c.wav", "in/b/d/e.wav": "b/d/e.wav", "in/my [mix]/f.wav": "my [mix]/f.wav"}


@pytest.mark.parametrize("inputs, outputs", [
    ("in", ALL),
    ("in/**/*", ALL),
    ("in/*/*.OGG", {"in/b/c.OGG": "b/c.wav"}),
    ("in/b/d/*", {"in/b/d/e.wav": "e.wav"}),
    ("in/[b]/d/e.wav", {"in/b/d/e.wav": "b/d/e.wav"}),
    ("in/my [mix]/*", {"in/my [mix]/f.wav": "f.wav"}),
    ("in/my [mix]/f.wav", {"in/my [mix]/f.wav": "f.wav"}),
])
def test_of_a_folder_or_glob_the_tree_below_its_first_star_is_kept_and_what_is_hidden_or_no_sound_left_out(
    inputs, outputs, tmp_path
):
    assert planned(inputs, tmp_path, *ALL, "in/b/notes.txt", "in/.g.wav") == outputs


@pytest.mark.parametrize("name", ["e.wav", "two words.wav", "запись 音声.wav", "take [1].wav"])
def test_a_single_file_goes_right_into_the_output_folder(name, tmp_path):
    assert list(planned(f"in/b/{name}", tmp_path, f"in/b/{name}").values()) == [name]


def test_inputs_that_differ_in_their_suffix_alone_keep_it_and_no_two_share_an_output(tmp_path):
    assert planned("in", tmp_path, "in/a.wav", "in/a.mp3", "in/a.mp3.wav", "in/b.mp3", "in/c/a.wav") == {
        "in/a.wav": "a.wav.wav", "in/a.mp3": "a.mp3.wav", "in/a.mp3.wav": "a.mp3.wav.wav", "in/b.mp3": "b.wav",
        "in/c/a.wav": "c/a.wav",
    }


@pytest.mark.parametrize("inputs", ["in/*.wav", "in", "in/a.wav", "nowhere/**/*"])
def test_inputs_that_match_nothing_are_an_error(inputs, tmp_path):
    with pytest.raises(UserError, match="no recordings match; put the glob in quotes, or name a folder"):
        planned(inputs, tmp_path, "in/notes.txt")


# ---------------------------------------------------------------------------------------------------------------------
# what is done already


def test_a_second_run_leaves_finished_estimates_alone_and_does_the_others(identity, tmp_path):
    for name in "abc":
        put(tmp_path / "in" / f"{name}.wav", uniform(100))
    finished = put(tmp_path / "out" / "a.wav", np.zeros(100)).read_bytes()
    put(tmp_path / "out" / "b.wav", np.zeros(99))
    infer(tmp_path)
    assert (tmp_path / "out" / "a.wav").read_bytes() == finished
    assert [len(extracted(tmp_path, name)) for name in "bc"] == [100, 100]
    infer(tmp_path, overwrite=True)
    assert (tmp_path / "out" / "a.wav").read_bytes() != finished


def test_a_recording_that_was_replaced_is_known_by_its_content_not_by_its_length_or_time(identity, tmp_path, capsys):
    """Something that keeps the time may have copied it, or have been at it still."""
    put(tmp_path / "in" / "b.wav", uniform(500))
    x = uniform(600)
    for samples, n_done in ((x[:500], 0), (-x[:500], 1), (-x[:500], 2), (-x, 1)):
        os.utime(put(tmp_path / "in" / "a.wav", samples), ns=(10**9, 10**9))
        infer(tmp_path)
        assert f"2 recordings, {n_done} done before" in capsys.readouterr().out
        np.testing.assert_array_equal(extracted(tmp_path), samples)


def test_what_was_extracted_below_the_inputs_is_no_input_of_the_next_run_there_or_elsewhere(identity, tmp_path):
    put(tmp_path / "x.wav", uniform(100))
    for out in ("first", "first", "second"):
        infer(tmp_path, "", out=out)
    found = [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*.wav"))]
    assert found == ["first/x.wav", "second/x.wav", "x.wav"]


def another_net(gain: float, monkeypatch, tmp_path: Path) -> Path:
    """Under the same name, as if trained further."""
    net_does(monkeypatch, lambda mixture: gain * mixture)
    (tmp_path / "best.pt").write_text(str(gain))
    return tmp_path / "best.pt"


def test_estimates_of_one_net_are_not_taken_for_those_of_another(monkeypatch, tmp_path):
    x = uniform(500)
    put(tmp_path / "in" / "a.wav", x)
    infer(tmp_path, checkpoint=another_net(1, monkeypatch, tmp_path))
    net = another_net(2, monkeypatch, tmp_path)
    with pytest.raises(UserError, match=rf"out: has estimates of another net .{net}.*--overwrite True"):
        infer(tmp_path, checkpoint=net)
    np.testing.assert_array_equal(extracted(tmp_path), x)
    put(tmp_path / "in" / "a.wav", x[:0])  # as if killed: nothing is extracted
    infer(tmp_path, checkpoint=net, overwrite=True)
    assert not (tmp_path / "out" / "a.wav").exists()
    put(tmp_path / "in" / "a.wav", x)
    infer(tmp_path, checkpoint=net)
    np.testing.assert_array_equal(extracted(tmp_path), 2 * x)


def test_nor_are_they_after_another_net_has_extracted_other_recordings(monkeypatch, tmp_path):
    for name in "ab":
        put(tmp_path / "in" / f"{name}.wav", uniform(500))
    infer(tmp_path, "in/*a.wav", another_net(1, monkeypatch, tmp_path))
    for gain, name in ((2, "b"), (1, "a")):  # in the end the estimate of b is another net's
        net = another_net(gain, monkeypatch, tmp_path)
        infer(tmp_path, f"in/*{name}.wav", net)
        with pytest.raises(UserError, match="out: has estimates of another net"):
            infer(tmp_path, checkpoint=net)


# ---------------------------------------------------------------------------------------------------------------------
# several runs at once


def test_what_another_run_is_at_is_left_to_it_and_taken_over_when_it_is_killed(identity, tmp_path):
    for name in "abc":
        put(tmp_path / "in" / f"{name}.wav", uniform(100))
    with ThreadPoolExecutor() as pool, held_elsewhere(tmp_path / "out" / "a.wav", "taken") as other:
        run = pool.submit(infer, tmp_path)
        until = time.monotonic() + 60
        while not (tmp_path / "out" / "c.wav").exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2)
        assert not (tmp_path / "out" / "a.wav").exists() and not run.done()
        other.kill()
        assert run.result(60) == []
    assert [len(extracted(tmp_path, name)) for name in "abc"] == [100] * 3
    assert not [*(tmp_path / "out").glob(".*.wav.lock")]


def test_what_another_run_did_meanwhile_is_not_done_again(monkeypatch, tmp_path):
    """It extracts b while this one is at a."""
    seen = []

    def other_is_faster(mixture):
        seen.append(mixture.shape[-1])
        put(tmp_path / "out" / "b.wav", uniform(200))
        return mixture

    net_does(monkeypatch, other_is_faster)
    (tmp_path / "best.pt").write_text("a net")
    put(tmp_path / "in" / "a.wav", uniform(100))
    put(tmp_path / "in" / "b.wav", uniform(200))
    assert infer(tmp_path, checkpoint=tmp_path / "best.pt") == []
    assert seen == [100]


def test_a_run_of_another_net_or_of_other_options_waits_for_those_at_work(identity, monkeypatch, tmp_path):
    put(tmp_path / "in" / "a.wav", uniform(100))
    infer(tmp_path, "in/a.wav")
    put(tmp_path / "in" / "b.wav", uniform(200))
    with held_elsewhere(tmp_path / "out", "shared_folder"):
        assert infer(tmp_path) == [] and len(extracted(tmp_path, "b")) == 200
        with pytest.raises(UserError, match="another process is at work there; wait for it with another net or other"):
            infer(tmp_path, channels="keep")
        with pytest.raises(UserError, match="at work there; wait for it to overwrite, or choose another out_dir"):
            infer(tmp_path, overwrite=True)
        with pytest.raises(UserError, match="at work there; wait for it with another net"):
            infer(tmp_path, checkpoint=another_net(2, monkeypatch, tmp_path))


@pytest.mark.slow(20)
def test_two_runs_at_once_extract_every_recording_and_note_all(state, tmp_path):
    checkpoint.save(tmp_path / "best.pt", state)
    for i in range(12):
        put(tmp_path / "in" / f"{i}.wav", uniform(60_000))
    words = ("--checkpoint", "best.pt", "--inputs", "in", "--out-dir", "out", "--page-s", "0")
    runs = [
        subprocess.Popen([sys.executable, ROOT / "infer.py", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    noted = json.loads((tmp_path / "out" / "checkpoint.json").read_text())["sources"]
    assert noted.keys() == {f"{i}.wav" for i in range(12)}
    assert {path.name for path in (tmp_path / "out").glob("*.wav")} == noted.keys()


# ---------------------------------------------------------------------------------------------------------------------
# what may not be written over


def test_an_estimate_never_overwrites_a_recording_its_own_or_another(identity, tmp_path):
    recording = put(tmp_path / "in" / "x.wav", uniform(50))
    for inputs in ("in", "in/x.wav", "in/*"):
        with pytest.raises(UserError, match=r"is where the inputs lie; choose another out_dir"):
            infer(tmp_path, inputs, out="in", overwrite=True)
    put(tmp_path / "in" / "in" / "x.wav", uniform(100))
    with pytest.raises(UserError, match=r"in/x\.wav: would be written over by an estimate"):
        infer(tmp_path, out="", overwrite=True)
    assert sf.info(recording).frames == 50


def test_two_processes_do_not_extract_into_one_folder(identity, tmp_path):
    put(tmp_path / "in" / "a.wav", uniform(100))
    with alone_in_elsewhere(tmp_path / "out"), pytest.raises(UserError, match="out: another process is at work"):
        infer(tmp_path)
    assert not list((tmp_path / "out").glob("[!.]*"))


def test_what_evaluate_found_is_not_written_over(identity, tmp_path):
    put(tmp_path / "in" / "a.wav", uniform(500))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores.json").write_text('{"summary": {"mixture": {}}}')
    with pytest.raises(UserError, match="out: holds what evaluate.py found"):
        infer(tmp_path)
    assert "summary" in (tmp_path / "out" / "scores.json").read_text()
