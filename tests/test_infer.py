"""From recordings of any kind to estimates: what is written, what is left alone, what is reported.

Most tests put the identity in the net's place: what comes out is then what went in, at 44.1 kHz in mono.
"""

import json
import os
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
from scored import net_does, put, uniform
from tiny import alone_in_elsewhere

import models
from extractor import UserError, checkpoint
from infer import InferArgs, main, plan

ROOT = Path(__file__).parent.parent
FORMATS = [(8000, 1, "PCM_U8"), (22050, 1, "PCM_16"), (44100, 1, "FLOAT"), (48000, 2, "PCM_24"), (96000, 1, "FLOAT"),
           (44100, 6, "PCM_24")]


@pytest.fixture
def tiny(state, tmp_path) -> str:
    """The path of a checkpoint."""
    checkpoint.save(tmp_path / "best.pt", state)
    return str(tmp_path / "best.pt")


def tone(t: np.ndarray, seconds: float) -> np.ndarray:
    """440 Hz that swells to half of full scale and dies away, at the times t."""
    return 0.5 * np.sin(np.pi * t / seconds) ** 2 * np.sin(2 * np.pi * 440 * t)


# ---------------------------------------------------------------------------------------------------------------------
# sound


@pytest.mark.parametrize("rate, channels, subtype", FORMATS)
def test_any_recording_becomes_mono_float_at_the_rate_of_the_checkpoint_and_as_long(
    rate, channels, subtype, tiny, tmp_path
):
    frames = rate // 5 + 1
    put(tmp_path / "in" / "a.wav", uniform(frames, channels), rate, subtype)
    assert main(InferArgs(tiny, str(tmp_path / "in"), str(tmp_path / "out"))) == []
    info = sf.info(tmp_path / "out" / "a.wav")
    assert (info.samplerate, info.channels, info.format, info.subtype) == (44100, 1, "WAV", "FLOAT")
    assert info.frames == ceil(frames * 44100 / rate)


@pytest.mark.parametrize("rate, channels, subtype", FORMATS)
def test_level_and_time_are_kept_and_channels_are_averaged(rate, channels, subtype, identity, tmp_path):
    gains = 2 * np.arange(1, channels + 1) / (channels + 1)  # their mean is 1
    put(tmp_path / "a.wav", tone(np.arange(rate) / rate, 1.0)[:, None] * gains, rate, subtype)
    main(InferArgs(inputs=str(tmp_path / "a.wav"), out_dir=str(tmp_path / "out")))
    estimate, _ = sf.read(tmp_path / "out" / "a.wav")
    tolerance = 2 / 128 if subtype == "PCM_U8" else 1e-4  # two steps of 8 bit
    np.testing.assert_allclose(estimate, tone(np.arange(44100) / 44100, 1.0), atol=tolerance)


def test_a_net_is_told_where_in_the_recording_each_piece_starts(identity, monkeypatch, tmp_path):
    """Sample i of this recording is i / 10^5, and the net says what it makes of that from where it is told to be."""
    net, family = models.load("")

    def ramp(net, mixture, start):
        return (start + torch.arange(mixture.shape[-1]))[None] / 1e5

    monkeypatch.setattr(models, "load", lambda path: (net, family._replace(extract=ramp)))
    put(tmp_path / "a.wav", np.zeros(44100))
    sizes = {"chunk_s": 0.3, "context_s": 0.1, "fade_s": 0.05}
    main(InferArgs(inputs=str(tmp_path / "a.wav"), out_dir=str(tmp_path / "out"), **sizes))
    estimate, _ = sf.read(tmp_path / "out" / "a.wav")
    np.testing.assert_allclose(estimate, np.arange(44100) / 1e5, atol=1e-6)


@pytest.mark.parametrize(
    "sizes",
    [{"chunk_s": 0.3, "context_s": 0.1, "fade_s": 0.05}, {"chunk_s": 0.3, "context_s": 0, "fade_s": 0}],
    ids=["faded", "side by side"],
)
def test_a_recording_longer_than_the_chunk_comes_out_as_if_in_one_piece(sizes, identity, tmp_path):
    stereo = uniform(100_001, 2)
    put(tmp_path / "a.wav", stereo, 48000)
    main(InferArgs(inputs=str(tmp_path / "a.wav"), out_dir=str(tmp_path / "out"), **sizes))
    estimate, _ = sf.read(tmp_path / "out" / "a.wav")
    np.testing.assert_allclose(estimate, soxr.resample(stereo.mean(1), 48000, 44100), atol=1e-4)


@pytest.mark.parametrize("seconds", [0.5, 100])
def test_where_the_channels_would_cancel_the_loudest_alone_is_extracted(seconds, identity, tmp_path, capsys):
    left = 0.3 * tone(np.arange(round(8000 * seconds)) / 8000, seconds)
    put(tmp_path / "in" / "opposite.wav", np.stack([left, -1.1 * left], 1), 8000)
    put(tmp_path / "in" / "alike.wav", np.stack([left, 1.1 * left], 1), 8000)
    put(tmp_path / "in" / "one_sided.wav", np.stack([left, 0 * left], 1), 8000)
    main(InferArgs(inputs=str(tmp_path / "in"), out_dir=str(tmp_path / "out"), page_s=0.1))
    said = capsys.readouterr().out
    assert "opposite.wav: its channels would cancel each other; channel 2 alone" in said and said.count("cancel") == 1
    expected = {"opposite": -1.1, "alike": 1.05, "one_sided": 0.5}
    for name, gain in expected.items():
        estimate, _ = sf.read(tmp_path / "out" / f"{name}.wav")
        np.testing.assert_allclose(estimate, gain * soxr.resample(left, 8000, 44100), atol=1e-4)
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())["scores"]["mixture"]  # of the page
    alike, one_sided, opposite = (row["level_in"] for row in rows)
    assert alike - one_sided == pytest.approx(20 * np.log10(2.1), abs=0.01)
    assert opposite - one_sided == pytest.approx(20 * np.log10(2.2), abs=0.01)


def test_samples_above_full_scale_are_not_clipped(identity, tmp_path):
    loud = 5 * uniform(5000)
    put(tmp_path / "a.wav", loud)
    main(InferArgs(inputs=str(tmp_path / "a.wav"), out_dir=str(tmp_path / "out")))
    estimate, _ = sf.read(tmp_path / "out" / "a.wav")
    assert np.abs(loud).max() > 2
    np.testing.assert_array_equal(estimate, loud)


def test_a_film_is_extracted_from_the_stream_that_is_asked_for(identity, tmp_path, capsys):
    seconds = np.arange(3 * 44100) / 44100
    streams = [np.float32(tone(seconds, 3) * gain) for gain in (1, 0.5)]
    film = encode(tmp_path / "night.mkv", *streams, rate=44100, codec="flac", video=True)
    for number, target in enumerate(streams):
        args = InferArgs(inputs=str(film), out_dir=str(tmp_path / "out"), audio_stream=number, chunk_s=0.7)
        main(args)
        estimate, _ = sf.read(tmp_path / "out" / "night.wav")
        np.testing.assert_allclose(estimate, target, atol=1e-4)
        assert f"night.mkv: has 2 audio streams, of which number {number} is used" in capsys.readouterr().out
        main(args)
        assert "1 recordings, 1 done before" in capsys.readouterr().out


@pytest.mark.parametrize("offset", [0.3, -0.05, 0.01])
def test_a_constant_offset_that_matters_is_taken_away_and_named(offset, identity, tmp_path, capsys):
    signal = 0.3 * tone(np.arange(2 * 44100) / 44100, 2)
    put(tmp_path / "a.wav", signal + offset)
    main(InferArgs(inputs=str(tmp_path / "a.wav"), out_dir=str(tmp_path / "out"), chunk_s=0.5))
    estimate, _ = sf.read(tmp_path / "out" / "a.wav")
    matters = abs(offset) > 0.02
    assert (f"its constant offset of {offset:+.2f} of full scale is taken away" in capsys.readouterr().out) == matters
    np.testing.assert_allclose(estimate, signal + offset * (not matters), atol=1e-3)


def test_progress_is_told_in_seconds_of_sound_and_their_speed(identity, tmp_path, capsys):
    put(tmp_path / "a.wav", uniform(50 * 1000), 1000)
    main(InferArgs(inputs=str(tmp_path / "a.wav"), out_dir=str(tmp_path / "out")))
    said = capsys.readouterr().err
    assert "1 of 1: a.wav:   0%" in said and re.search(r"50/50 s \[.* \d+\.\d x real time\]", said)


# ---------------------------------------------------------------------------------------------------------------------
# names


def planned(inputs: str, folder: Path, *names: str) -> dict[str, str]:
    """Input -> output, for a folder that holds files of these names; both relative."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    outputs = plan(InferArgs(inputs=f"{folder}/{inputs}", out_dir=str(folder / "out")))
    return {str(source.relative_to(folder)): str(out.relative_to(folder / "out")) for source, out in outputs.items()}


def test_the_tree_of_a_folder_is_kept_and_what_is_hidden_or_no_sound_is_left_out(tmp_path):
    assert planned("in", tmp_path, "in/a.wav", "in/b/c/d.FLAC", "in/notes.txt", "in/.e.wav") == {
        "in/a.wav": "a.wav",
        "in/b/c/d.FLAC": "b/c/d.wav",
    }


@pytest.mark.parametrize(
    "inputs, outputs",
    [
        ("in/**/*", {"in/a.wav": "a.wav", "in/b/c.ogg": "b/c.wav", "in/b/d/e.wav": "b/d/e.wav",
                     "in/my [mix]/f.wav": "my [mix]/f.wav"}),
        ("in/*/*.ogg", {"in/b/c.ogg": "b/c.wav"}),
        ("in/b/d/*", {"in/b/d/e.wav": "e.wav"}),
        ("in/[b]/d/e.wav", {"in/b/d/e.wav": "b/d/e.wav"}),
        ("in/my [mix]/*", {"in/my [mix]/f.wav": "f.wav"}),
        ("in/my [mix]/f.wav", {"in/my [mix]/f.wav": "f.wav"}),
    ],
)
def test_of_a_glob_the_tree_below_its_first_star_is_kept(inputs, outputs, tmp_path):
    names = "in/a.wav", "in/b/c.ogg", "in/b/d/e.wav", "in/b/notes.txt", "in/my [mix]/f.wav"
    assert planned(inputs, tmp_path, *names) == outputs


@pytest.mark.parametrize("name", ["e.wav", "two words.wav", "запись 音声.wav", "take [1].wav"])
def test_a_single_file_goes_right_into_the_output_folder(name, tmp_path):
    outputs = planned(f"in/b/{name}", tmp_path, f"in/b/{name}")
    assert list(outputs.values()) == [name]


def test_inputs_that_differ_in_their_suffix_alone_keep_it_in_the_output(tmp_path):
    assert planned("in", tmp_path, "in/a.wav", "in/a.mp3", "in/b.mp3", "in/c/a.wav") == {
        "in/a.wav": "a.wav.wav",
        "in/a.mp3": "a.mp3.wav",
        "in/b.mp3": "b.wav",
        "in/c/a.wav": "c/a.wav",
    }


def test_no_two_inputs_share_an_output(tmp_path):
    assert planned("in", tmp_path, "in/a.wav", "in/a.mp3", "in/a.mp3.wav") == {
        "in/a.wav": "a.wav.wav",
        "in/a.mp3": "a.mp3.wav",
        "in/a.mp3.wav": "a.mp3.wav.wav",
    }


@pytest.mark.parametrize("inputs", ["in/*.wav", "in", "in/a.wav", "nowhere/**/*"])
def test_inputs_that_match_nothing_are_an_error(inputs, tmp_path):
    with pytest.raises(UserError, match="no recordings match; put the glob in quotes, or name a folder"):
        planned(inputs, tmp_path, "in/notes.txt")


# ---------------------------------------------------------------------------------------------------------------------
# what is there already


def test_a_second_run_leaves_finished_estimates_alone_and_does_the_others(identity, tmp_path):
    put(tmp_path / "in" / "a.wav", uniform(100))
    put(tmp_path / "in" / "b.wav", uniform(100))
    finished = put(tmp_path / "out" / "a.wav", np.zeros(100)).read_bytes()
    args = {"inputs": str(tmp_path / "in"), "out_dir": str(tmp_path / "out")}
    main(InferArgs(**args))
    assert (tmp_path / "out" / "a.wav").read_bytes() == finished
    assert sf.info(tmp_path / "out" / "b.wav").frames == 100
    main(InferArgs(**args, overwrite=True))
    assert (tmp_path / "out" / "a.wav").read_bytes() != finished


def test_an_estimate_of_what_was_there_of_a_recording_is_made_anew_when_there_is_more(identity, tmp_path):
    """As when it was still being copied, by something that keeps its time."""
    args = InferArgs(inputs=str(tmp_path / "in"), out_dir=str(tmp_path / "out"))
    for n in (300, 500):
        os.utime(put(tmp_path / "in" / "a.wav", uniform(n)), ns=(10**9, 10**9))
        main(args)
        assert sf.info(tmp_path / "out" / "a.wav").frames == n


def test_a_recording_that_was_replaced_by_one_as_long_and_older_is_known_by_its_content(identity, tmp_path, capsys):
    args = InferArgs(inputs=str(tmp_path / "in"), out_dir=str(tmp_path / "out"))
    for seed, told in ((0, "0 done before"), (1, "0 done before"), (1, "1 done before")):
        samples = uniform(500) * (-1) ** seed
        os.utime(put(tmp_path / "in" / "a.wav", samples), ns=(10**9, 10**9))
        main(args)
        assert f"1 recordings, {told}" in capsys.readouterr().out
        np.testing.assert_array_equal(sf.read(tmp_path / "out" / "a.wav")[0], samples)


def test_what_one_run_extracted_below_the_inputs_is_no_input_of_another(identity, tmp_path):
    put(tmp_path / "x.wav", uniform(100))
    for name in ("first", "second"):
        main(InferArgs(inputs=str(tmp_path), out_dir=str(tmp_path / name)))
    found = [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*.wav"))]
    assert found == ["first/x.wav", "second/x.wav", "x.wav"]


def test_two_processes_do_not_extract_into_one_folder(identity, tmp_path):
    put(tmp_path / "a.wav", uniform(100))
    with alone_in_elsewhere(tmp_path / "out"), pytest.raises(UserError, match="out: another process is at work"):
        main(InferArgs(inputs=str(tmp_path / "a.wav"), out_dir=str(tmp_path / "out")))
    assert not list((tmp_path / "out").glob("[!.]*"))


def test_a_recording_that_was_made_anew_is_extracted_anew(identity, tmp_path, capsys):
    for name in "ab":
        put(tmp_path / "in" / f"{name}.wav", uniform(500))
    args = InferArgs(inputs=str(tmp_path / "in"), out_dir=str(tmp_path / "out"))
    main(args)
    put(tmp_path / "in" / "a.wav", uniform(600))
    later = (tmp_path / "out" / "a.wav").stat().st_mtime_ns + 10**9
    os.utime(tmp_path / "in" / "a.wav", ns=(later, later))
    capsys.readouterr()
    main(args)
    assert "2 recordings, 1 done before" in capsys.readouterr().out
    assert [sf.info(tmp_path / "out" / f"{name}.wav").frames for name in "ab"] == [600, 500]


def test_an_estimate_never_overwrites_its_own_recording(identity, tmp_path):
    recording = put(tmp_path / "a.wav", uniform(100))
    before = recording.read_bytes()
    for inputs in (tmp_path, recording, tmp_path / "*"):
        with pytest.raises(UserError, match=r"is where the inputs lie; choose another out_dir"):
            main(InferArgs(inputs=str(inputs), out_dir=str(tmp_path), overwrite=True))
    assert recording.read_bytes() == before


def test_an_estimate_never_overwrites_another_recording(identity, tmp_path):
    put(tmp_path / "a" / "a" / "x.wav", uniform(100))
    recording = put(tmp_path / "a" / "x.wav", uniform(50))
    with pytest.raises(UserError, match=r"a/x\.wav: would be written over by an estimate"):
        main(InferArgs(inputs=str(tmp_path / "a"), out_dir=str(tmp_path), overwrite=True))
    assert sf.info(recording).frames == 50


def test_estimates_below_the_inputs_are_no_inputs_of_the_next_run(identity, tmp_path):
    put(tmp_path / "x.wav", uniform(100))
    for _ in range(2):
        main(InferArgs(inputs=str(tmp_path), out_dir=str(tmp_path / "out")))
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*.wav"))] == ["out/x.wav", "x.wav"]


def test_an_output_folder_that_cannot_be_made_is_one_sentence(identity, tmp_path):
    put(tmp_path / "a.wav", uniform(100))
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"out: cannot be written .* choose another folder"):
        main(InferArgs(inputs=str(tmp_path / "a.wav"), out_dir=str(tmp_path / "out")))


def test_estimates_of_one_net_are_not_taken_for_those_of_another(tiny, state, tmp_path):
    put(tmp_path / "a.wav", uniform(5000))
    args = {"checkpoint": tiny, "inputs": str(tmp_path / "a.wav"), "out_dir": str(tmp_path / "out"), "device": "cpu"}
    main(InferArgs(**args))
    first = (tmp_path / "out" / "a.wav").read_bytes()
    state["ema"] = {name: 1.5 * weight for name, weight in state["ema"].items()}  # trained further, under the same name
    checkpoint.save(tiny, state)
    with pytest.raises(UserError, match=rf"out: has estimates of another net .{tiny}.*--overwrite True"):
        main(InferArgs(**args))
    assert (tmp_path / "out" / "a.wav").read_bytes() == first
    put(tmp_path / "a.wav", np.zeros(0))  # as if killed: nothing is extracted
    main(InferArgs(**args, overwrite=True))
    assert not (tmp_path / "out" / "a.wav").exists()
    put(tmp_path / "a.wav", uniform(5000))
    main(InferArgs(**args))
    assert (tmp_path / "out" / "a.wav").read_bytes() != first


def test_nor_are_they_after_another_net_has_extracted_other_recordings(tiny, state, tmp_path):
    put(tmp_path / "in" / "a.wav", uniform(5000))
    put(tmp_path / "in" / "b.wav", -uniform(5000))
    args = {"checkpoint": tiny, "out_dir": str(tmp_path / "out"), "device": "cpu"}
    main(InferArgs(**args, inputs=f"{tmp_path}/in/*a.wav"))
    before = checkpoint.load(tiny)
    checkpoint.save(tiny, state | {"ema": {name: 1.5 * weight for name, weight in state["ema"].items()}})
    main(InferArgs(**args, inputs=f"{tmp_path}/in/*b.wav"))
    with pytest.raises(UserError, match="out: has estimates of another net"):
        main(InferArgs(**args, inputs=f"{tmp_path}/in/*"))
    checkpoint.save(tiny, before)  # the net of the first is asked for once more: now the second is another one's
    main(InferArgs(**args, inputs=f"{tmp_path}/in/*a.wav"))
    with pytest.raises(UserError, match="out: has estimates of another net"):
        main(InferArgs(**args, inputs=f"{tmp_path}/in/*"))


def test_a_chunk_that_does_not_fit_into_memory_is_one_sentence_of_its_recording(tmp_path, monkeypatch):
    def no_room(_):
        raise torch.OutOfMemoryError

    net_does(monkeypatch, no_room)
    put(tmp_path / "a.wav", uniform(5000))
    failures = main(InferArgs(inputs=str(tmp_path / "a.wav"), out_dir=str(tmp_path / "out"), device="cpu"))
    less = "a.wav: a chunk does not fit into the memory of cpu: give InferArgs.chunk_s less than"
    assert len(failures) == 1 and less in failures[0]
    assert not (tmp_path / "out" / "a.wav").exists()


# ---------------------------------------------------------------------------------------------------------------------
# from the command line


def test_memory_that_a_cpu_does_not_have_is_the_same_sentence(monkeypatch, tmp_path):
    def full(mixture):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ...")

    net_does(monkeypatch, full)
    put(tmp_path / "a.wav", uniform(500))
    (failure,) = main(InferArgs(inputs=str(tmp_path / "a.wav"), out_dir=str(tmp_path / "out")))
    assert failure.endswith("a chunk does not fit into the memory of cpu: give InferArgs.chunk_s less than 10")


def test_an_estimate_that_is_not_finite_is_none(monkeypatch, tmp_path):
    net_does(monkeypatch, lambda mixture: mixture.masked_fill(mixture > 0.9, torch.nan))
    put(tmp_path / "a.wav", np.append(np.zeros(44100), np.full(100, 0.95)))
    put(tmp_path / "b.wav", uniform(500) / 10)
    sizes = {"chunk_s": 0.5, "context_s": 0.1}
    (failure,) = main(InferArgs(inputs=str(tmp_path / "*.wav"), out_dir=str(tmp_path / "out"), **sizes))
    assert "a.wav: the estimate of 0.4 to 1.0 s is not finite (the recording's peak there is 0.95)" in failure
    assert [p.name for p in (tmp_path / "out").glob("*.wav")] == ["b.wav"]


def test_what_evaluate_found_is_not_written_over(identity, tmp_path):
    put(tmp_path / "in" / "a.wav", uniform(500))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scores.json").write_text('{"summary": {"mixture": {}}}')
    with pytest.raises(UserError, match="out: holds what evaluate.py found"):
        main(InferArgs(inputs=str(tmp_path / "in"), out_dir=str(tmp_path / "out")))
    assert "summary" in (tmp_path / "out" / "scores.json").read_text()


@pytest.mark.parametrize("length", [float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["chunk_s", "context_s", "fade_s"])
def test_lengths_without_an_end_are_refused(name, length):
    with pytest.raises(UserError, match=f"{name} = {length}"):
        InferArgs(**{name: length})


def run_infer(*words) -> subprocess.CompletedProcess:
    command = [sys.executable, "infer.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT, check=False)


def test_bad_files_are_named_and_passed_over_and_the_status_is_1(tiny, tmp_path):
    put(tmp_path / "in" / "a.wav", uniform(5000))
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

    sizes = ("--chunk-s", 0.5, "--context-s", 0.1)  # the last two go wrong when half of them is done
    ended = run_infer("--checkpoint", tiny, "--inputs", tmp_path / "in", "--out-dir", tmp_path / "out", *sizes)
    assert ended.returncode == 1
    assert "5 of 7 recordings failed" in ended.stderr
    for sentence in (
        "text.wav: no sound file", "empty.wav: holds no samples", "hole.flac: ", "nan.wav: NaN or inf",
        "night.mp4: no sound file that can be read (it is all zeros)",
    ):
        assert f"passed over: {tmp_path}/in/{sentence}" in ended.stderr
    assert "Traceback" not in ended.stderr
    done = {p.name: sf.info(p).frames for p in (tmp_path / "out").iterdir() if p.suffix == ".wav"}
    assert done == {"a.wav": 5000, "zoë 音声.wav": 5000}


def test_a_wav_file_that_lost_its_end_is_extracted_up_to_there_and_named(identity, tmp_path, capsys):
    wav = put(tmp_path / "in" / "a.wav", uniform(50_000), subtype="PCM_16")
    wav.write_bytes(wav.read_bytes()[:-40_001])  # 20000 samples and a half
    assert main(InferArgs("checkpoint", str(tmp_path / "in"), str(tmp_path / "out"))) == []
    assert sf.info(tmp_path / "out" / "a.wav").frames == 29_999
    assert f"{wav}: cut off at its end; the 0.7 s that are there are used" in capsys.readouterr().out


def test_a_run_in_which_nothing_failed_has_status_0(tiny, tmp_path):
    put(tmp_path / "in" / "a.wav", uniform(5000))
    ended = run_infer("--checkpoint", tiny, "--inputs", tmp_path / "in" / "*", "--out-dir", tmp_path / "out")
    assert ended.returncode == 0
    assert sf.info(tmp_path / "out" / "a.wav").frames == 5000


@pytest.mark.parametrize("damage, sentence", [("missing", "there is no such checkpoint"), ("cut in half", "damaged")])
def test_without_a_checkpoint_there_is_one_sentence_and_a_status(damage, sentence, tiny, tmp_path):
    whole = Path(tiny).read_bytes()
    Path(tiny).unlink()
    if damage == "cut in half":
        Path(tiny).write_bytes(whole[: len(whole) // 2])
    put(tmp_path / "in" / "a.wav", uniform(100))
    ended = run_infer("--checkpoint", tiny, "--inputs", tmp_path / "in", "--out-dir", tmp_path / "out")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {tiny}: {sentence}")
    assert ended.stderr.count("\n") == 1


def test_a_field_that_infer_does_not_have_is_refused_by_name():
    ended = run_infer("--out-folder", "extracted")
    assert ended.returncode != 0
    assert "--out-folder" in ended.stderr


# ---------------------------------------------------------------------------------------------------------------------
# what is said of a recording that may not be what the net is for


def said(net_bandwidth_hz, cutoff_hz: float, tmp_path, monkeypatch, capsys) -> str:
    """Of 2 s of noise up to a cutoff, by a net that was trained on sound from here to there."""
    net_does(monkeypatch, lambda mixture: mixture)
    models.load("")[0].bandwidth_hz = net_bandwidth_hz
    x = np.fft.rfft(uniform(2 * 44100))
    x[round(2 * cutoff_hz) :] = 0
    put(tmp_path / "in" / "a.wav", np.fft.irfft(x))
    assert main(InferArgs(inputs=str(tmp_path / "in"), out_dir=str(tmp_path / "out"), page_s=0)) == []
    return capsys.readouterr().out


@pytest.mark.parametrize("trained, cutoff_hz, words", [
    ((4000, 20_000), 3000, "a.wav: its sound reaches 3.1 kHz, that in training 4.0 to 20.0 kHz; the speaker may"),
    ((8000, 8000), 20_000, "that in training 8.0 kHz; the speaker's sound above that is taken away"),
    ((4000, 20_000), 4000, ""), ((4000, 20_000), 20_000, ""), (None, 3000, ""),
])
def test_a_recording_that_reaches_higher_or_less_high_than_in_training_is_named(
    trained, cutoff_hz, words, tmp_path, monkeypatch, capsys
):
    found = said(trained, cutoff_hz, tmp_path, monkeypatch, capsys)
    assert words in found and ("in training" in found) == bool(words)


@pytest.mark.parametrize("seconds, kept, nowhere", [
    (30, lambda x: x / 100, True),            # -40 dB throughout
    (10, lambda x: x / 100, False),           # too short to tell
    (30, lambda x: 0 * x, True),
    (30, lambda x: torch.cat([x[:, :44100], 0 * x[:, 44100:]], 1), False),  # a second of every piece
    (30, lambda x: x / 3, False),
])
def test_a_long_recording_in_which_the_speaker_is_nowhere_is_named(
    seconds, kept, nowhere, tmp_path, monkeypatch, capsys
):
    net_does(monkeypatch, kept)
    put(tmp_path / "in" / "a.wav", uniform(seconds * 44100))
    assert main(InferArgs(inputs=str(tmp_path / "in"), out_dir=str(tmp_path / "out"), page_s=0)) == []
    assert ("a.wav: the net hears its speaker nowhere in it" in capsys.readouterr().out) == nowhere


def test_of_a_silent_recording_it_is_said_too(tmp_path, identity, capsys):
    put(tmp_path / "in" / "a.wav", np.zeros(30 * 44100))
    main(InferArgs(inputs=str(tmp_path / "in"), out_dir=str(tmp_path / "out"), page_s=0))
    assert "nowhere in it" in capsys.readouterr().out
