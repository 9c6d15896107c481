"""dataset.py: what is for training, what for validation, and what is refused before training starts."""

import os
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mixing import GAME_HZ, RATE, SPLITS, VOICE_HZ, items, mixtures, noise, power_at, save, tone

from augment import AugmentArgs
from dataset import KINDS, MixtureArgs, MixtureDataset
from extractor import UserError, audio, material
from extractor.audio import Recording
from extractor.cache import Index
from extractor.material import Material, find_material, held_out, recording_of, refuse_target, speakers

# --- training and validation -----------------------------------------------------------------------------------------


def test_clips_are_told_by_the_recording_they_were_cut_from():
    """In another folder src_3 is another recording; a name that slicer.py does not give is one."""
    names = {"src_3_0.wav": "src_3", "src_3_12.flac": "src_3", "src_3.wav": "src_3", "src_31_0.wav": "src_31",
             "evening_3_0.wav": "evening_3_0"}
    for clip, name in names.items():
        assert recording_of(Path("alice/set", clip)) == (Path("alice/set"), name)


def seconds(sources) -> float:
    return sum(s.length for s in sources) / RATE


@pytest.mark.parametrize("valid_share", [0.01, 0.1, 0.5])
def test_clean_recordings_are_held_out_whole_but_for_the_end_of_one(valid_share):
    names = [f"{s}/src_{n}_{k}.wav" for s in "ab" for n in range(9) for k in range(n + 1)]
    clips = [Recording(Path(name), RATE, 1, 5000 + i) for i, name in enumerate(names)]
    total = sum(r.seconds for r in clips)
    ends = 0
    for seed in range(100):
        args = MixtureArgs(valid_share=valid_share, seed=seed)
        train, valid = (Material(clips, [], []).split(x, args, RATE)[0] for x in SPLITS)
        assert seconds(train) + seconds(valid) == pytest.approx(total)
        assert valid_share * total - 2e-3 <= seconds(valid) <= 3 * valid_share * total + 2e-3
        both = {recording_of(s.recording.path) for s in train} & {recording_of(s.recording.path) for s in valid}
        assert len(both) <= 1
        ends += len(both)
        for held in (s for s in valid if recording_of(s.recording.path) in both):
            clip = int(held.recording.path.stem.split("_")[2])
            for used in (s for s in train if recording_of(s.recording.path) in both):
                other = int(used.recording.path.stem.split("_")[2])
                assert (other, used.start + used.length) <= (clip, held.start)
    assert bool(ends) == (valid_share < 0.1)  # recordings are a ninetieth to a tenth of all


def test_of_one_clean_recording_the_last_clips_are_held_out():
    clips = [Recording(Path(f"alice/src_0_{k}.wav"), RATE, 1, 5000) for k in range(12)]  # by name 0, 1, 10, 11, 2
    for seed in range(10):
        train, valid = (
            {s.recording.path.stem: (s.start, s.length) for s in Material(clips, [], []).split(x, args, RATE)[0]}
            for args in [MixtureArgs(valid_share=0.2, seed=seed)] for x in SPLITS
        )
        assert valid == {"src_0_11": (0, 5000), "src_0_10": (0, 5000), "src_0_9": (3000, 2000)}  # 12 of 60 s
        assert train == {f"src_0_{k}": (0, 5000) for k in range(9)} | {"src_0_9": (0, 3000)}


def test_of_a_long_recording_and_a_short_one_training_keeps_the_most():
    clips = [Recording(Path(f"src_{n}.wav"), RATE, 1, 1000 * s) for n, s in enumerate((900, 100))]
    held = []
    for seed in range(20):
        args = MixtureArgs(seed=seed)
        valid = Material(clips, [], []).split("valid", args, RATE)[0]
        held.append({s.recording.path.stem: (s.start, s.length) for s in valid})
    assert {"src_0": (800_000, 100_000)} in held and {"src_1": (0, 100_000)} in held
    assert all(len(found) == 1 for found in held)


def by_recording(clips) -> set:
    return {recording_of(Path(clip)) for clip in clips}


def test_what_was_held_out_before_stays_and_what_is_missing_is_drawn_from_new_recordings_alone():
    lengths = {Path(f"set/src_{n}_{k}.wav"): 5.0 + n for n in range(16) for k in range(4)}
    old = {clip: s for clip, s in lengths.items() if int(clip.stem.split("_")[1]) < 8}
    others = 0
    for seed in range(20):
        first, args = MixtureArgs(seed=seed), MixtureArgs(seed=seed + 1)  # another seed would draw others
        held = held_out([*old], [*old.values()], first)
        before = {str(clip): (s, held.get(clip, 0.0)) for clip, s in old.items()}
        assert held_out([*old], [*old.values()], args, before) == held
        others += held != held_out([*old], [*old.values()], args)
        elsewhere = {os.path.abspath(clip): s for clip, s in before.items()}
        now = held_out([*lengths], [*lengths.values()], args, elsewhere)
        assert held.items() <= now.items() and sum(now.values()) == pytest.approx(0.1 * sum(lengths.values()), rel=2)
        assert sum(now.values()) >= 0.1 * sum(lengths.values()) - 1e-6
        assert not by_recording(now.keys() - held) & by_recording(old)
        assert by_recording(lengths) - by_recording(now) - by_recording(old)  # of the new ones some are trained on
    assert others > 10


def test_recordings_that_come_in_do_not_change_the_order_in_which_the_others_are_held_out():
    def held(names) -> set[Path]:
        clips = [Path("set", name) for name in names]
        return {*held_out(clips, [10.0] * len(clips), MixtureArgs(valid_share=0.2))}

    few, rng = [f"src_{n}.wav" for n in range(20)], np.random.default_rng(0)
    first = held(few)
    for _ in range(20):
        more = [f"new_{n}.wav" for n in rng.integers(1 << 30, size=10)]
        now = {clip for clip in held(few + more) if clip.name in few}
        assert now <= first or first <= now


def test_what_was_held_out_stays_so_where_clips_were_moved_but_not_where_they_were_cut_anew():
    clips = {Path(f"old/src_{n}_{k}.wav"): 5.0 + k for n in range(9) for k in range(9)}
    args = MixtureArgs()
    held = held_out([*clips], [*clips.values()], args)
    before = {str(clip): (s, held.get(clip, 0.0)) for clip, s in clips.items()}
    (recording,) = {recording_of(clip)[1] for clip in held}
    for seed in range(9):
        now = held_out([Path("new", clip.name) for clip in clips], [*clips.values()], replace(args, seed=seed), before)
        assert now == {Path("new", clip.name): s for clip, s in held.items()}
    longer = {k: (s + k.endswith("_8.wav"), 0.0) for k, (s, _) in before.items()}  # the last clip of each recording
    assert held_out([*clips], [*clips.values()], args, longer) == held
    longer = {k: (s + (k == f"old/{recording}_8.wav"), 0.0) for k, (s, _) in before.items()}
    now = held_out([*clips], [*clips.values()], args, longer)
    assert {recording_of(clip)[1] for clip in now} == {recording}  # of the others it is known that they were trained on


def test_a_run_that_left_nothing_to_validate_or_to_train_on_is_forgotten():
    clips, seconds = [Path(f"src_{n}.wav") for n in range(10)], [10.0] * 10
    before = {str(clip): (10.0, 0.0) for clip in clips}
    drawn = held_out(clips[:4], seconds[:4], MixtureArgs())
    assert [*drawn.values()] == [10.0]
    gone = before | {"src_7.wav": (10.0, 10.0)}
    assert held_out(clips[:4], seconds[:4], MixtureArgs(), gone) == drawn
    few = before | {"src_3.wav": (10.0, 8.0)}
    assert held_out(clips[:4], seconds[:4], MixtureArgs(), few) == {clips[3]: 8.0}
    most = before | {"src_2.wav": (10.0, 10.0), "src_3.wav": (10.0, 10.0)}
    assert held_out(clips[:4], seconds[:4], MixtureArgs(), most) == drawn  # half
    assert held_out(clips[3:4], seconds[3:4], MixtureArgs(valid_share=0.5), most) == {clips[3]: 5.0}  # all


def test_training_keeps_its_share_however_large_the_one_held_out():
    clips = [Recording(Path(f"src_{n}.wav"), RATE, 1, 5000) for n in range(3)]
    (train,) = Material(clips, [], []).split("train", MixtureArgs(valid_share=0.99), RATE)[0]
    assert (train.start, train.length) == (0, 150)  # of 15 s


@pytest.mark.parametrize("rate", [RATE, 1600])
@pytest.mark.parametrize("valid_share", [0.01, 0.1, 0.37, 0.9])
def test_no_part_of_a_dirty_recording_is_both_for_training_and_for_validation(valid_share, rate):
    lengths = 1, 100, 12345, 10**6, 10**9
    dirty = [Recording(Path(f"{n}.wav"), rate, 1, n) for n in lengths]
    clean = [Recording(Path(f"src_{n}.wav"), rate, 1, 5000) for n in range(2)]
    args = MixtureArgs(valid_share=valid_share)
    material = Material(clean, games=dirty, voices=dirty[:1])
    split = [{s.recording: s for s in material.split(x, args, RATE)[1]} for x in SPLITS]
    for recording in dirty:
        train, valid = ((s.start, s.start + s.length) if (s := of.get(recording)) else (0, 0) for of in split)
        length = recording.length(RATE)
        assert train in ((0, 0), (0, valid[0]), (0, length)) and valid[1] in (0, length)
        assert train[1] - train[0] + valid[1] - valid[0] == length
        if valid_share * recording.seconds >= args.segment_s:
            assert valid[1] - valid[0] == pytest.approx(valid_share * length, abs=1)
    for voices in (material.split(x, args, RATE)[2] for x in SPLITS):
        assert voices and voices[0].length  # the only sample is for both


def test_of_short_dirty_recordings_some_are_held_out_whole_and_of_long_ones_the_ends():
    """A tenth of 8 s would be heard five times in an item of 4 s."""
    short = [Recording(Path(f"voices/line_{n}.wav"), RATE, 1, 8000) for n in range(50)]
    long = [Recording(Path(f"voices/talk_{n}.wav"), RATE, 1, 100_000) for n in range(3)]
    for voices in (short, short + long):
        args = MixtureArgs(seed=3)
        train, valid = (Material([], [], voices).split(x, args, RATE)[2] for x in SPLITS)
        ends = [s for s in valid if s.recording in long]
        assert [(s.start, s.length) for s in ends] == [(90_000, 10_000)] * (len(voices) - 50)
        whole = {s.recording for s in valid if s.recording in short}
        assert {(s.start, s.length) for s in valid if s.recording in short} == {(0, 8000)} and len(whole) == 5
        assert {s.recording for s in train} == set(voices) - whole


def test_of_validation_mixtures_every_other_four_are_under_conditions(folders):
    args = replace(folders, n_valid=16)
    augmented = AugmentArgs(p_band=1.0, cutoff_hz=(100.0, 100.0), p_target_mic=0.0, p_source_mic=0.0, p_target_room=0.0)
    changed = MixtureDataset(find_material(args), args, RATE, split="valid", augmented=augmented)
    plain = mixtures(args, "valid")
    same = [bool(torch.equal(plain[0, i]["mixture"], changed[0, i]["mixture"])) for i in range(16)]
    assert same == 2 * (4 * [True] + 4 * [False])


def test_validation_mixtures_are_of_four_kinds_in_turn_and_the_same_in_every_run(folders):
    assert KINDS == ("game", "voice", "both", "absent")
    expected = [(True, True, False), (True, False, True), (True, True, True), (False, False, True)]
    args = replace(folders, n_valid=12, p_no_target=0, p_two_sources=0, p_no_interference=1)
    assert len(mixtures(args, "valid")) == 12
    for i, (item, again) in enumerate(zip(items(args, 12, "valid"), items(args, 12, "valid"), strict=True)):
        assert all(np.array_equal(item[name], again[name]) for name in item)
        game, voice = (bool(power_at(item["interference"], hz) > 1e-9) for hz in (GAME_HZ, VOICE_HZ))
        assert (bool(item["target"].any()), game, voice) == expected[i % 4]


# --- what is refused, in the user's words ----------------------------------------------------------------------------


def refusal(action, *args, **kwargs):
    with pytest.raises(UserError) as error:
        action(*args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize("kind", ["clean", "dirty"])
def test_a_folder_that_does_not_exist_or_has_no_recordings_is_named(folders, tmp_path, kind):
    message = refusal(find_material, replace(folders, **{kind: ("datasets/nobody",)}))
    assert message == f"datasets/nobody: there is no such folder of {kind} recordings"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    message = refusal(find_material, replace(folders, **{kind: (str(tmp_path / "empty"),)}))
    assert message == f"{tmp_path}/empty: no {kind} recordings; put .wav, .flac, .ogg, .oga files there"


CALLS = "dirty/alice/calls: a dirty folder that holds the target speaker (alice)"


@pytest.mark.parametrize("clean, dirty, refused", [
    ("clean/alice", "dirty/alice", CALLS), ("clean/alice", "dirty", CALLS),
    ("clean/alice/set_1", "dirty/alice", CALLS), ("clean/alice/set_1", "dirty", CALLS),
    ("clean", "dirty/alice", CALLS), ("clean", "dirty", CALLS),
    ("clean/alice", "clean/alice", "clean/alice/set_1: a dirty folder that holds the target speaker (clean files)"),
    ("clean/bob", "dirty/other", "dirty/other/voices/bob.wav: a dirty recording that holds the target speaker (bob)"),
    ("clean/bob", "dirty/others", None),
])
def test_recordings_with_the_target_speaker_in_them_are_no_interference(folders, tmp_path, clean, dirty, refused):
    datasets = tmp_path / "datasets"
    for name in ("clean/alice/set_1/src_8.wav", "clean/alice/set_1/src_9.wav", "dirty/alice/calls/a.wav",
                 "clean/bob/set/src_0.wav", "dirty/other/voices/bob.wav", "dirty/others/voices/bobby.wav"):
        save(datasets / name, noise(1))
    args = replace(folders, clean=(str(datasets / clean),), dirty=(str(datasets / dirty),))
    if refused is None:
        find_material(args)
    else:
        remedy = "it is for infer.py, never training noise: leave it out of MixtureArgs.dirty"
        assert refusal(find_material, args) == f"{datasets}/{refused}; {remedy}"


@pytest.mark.parametrize(
    ("clean", "dirty", "refused"),
    [("/mnt/clean/alice/a.wav", "/home/alice/games/x.wav", False),
     ("/mnt/clean/alice/a.wav", "/home/games/alice/x.wav", True),
     ("/home/alice/clean/bob/a.wav", "/home/alice/dirty/other/x.wav", False)],
)
def test_who_trains_may_have_the_speakers_name(clean, dirty, refused):
    args = MixtureArgs(clean=(os.path.dirname(clean),), dirty=("/home/games" if refused else os.path.dirname(dirty),))
    with pytest.raises(UserError, match="holds the target") if refused else nullcontext():
        refuse_target(args, [Path(clean)], [Path(dirty)])


@pytest.mark.parametrize(
    ("folder", "path", "name"),
    [("data/clean/alice", "data/clean/alice/set/a.wav", "alice"), ("data/clean", "data/clean/alice/a.wav", "alice"),
     ("data/alice/clean", "data/alice/clean/a.wav", "alice"), ("voices/alice", "voices/alice/set/a.wav", "alice")],
)
def test_the_speaker_is_told_by_the_folders(folder, path, name):
    assert speakers(MixtureArgs(clean=(folder,)), [Path(path)]) == {name}


def test_what_was_looked_at_before_it_was_stopped_is_known(folders, tmp_path, monkeypatch):
    looked = []

    def check_clean(path, audio_stream):
        if len(looked) == 1:
            raise KeyboardInterrupt
        looked.append(path)
        return audio.probe(path)

    monkeypatch.setattr(material, "check_clean", check_clean)
    with pytest.raises(KeyboardInterrupt):
        find_material(folders, index=tmp_path / "index.json")
    assert [key.split(" ", 2)[2] for key in Index(tmp_path / "index.json").known] == [str(looked[0])]


def test_clips_that_are_silent_unreadable_or_no_numbers_are_named_with_what_is_wrong(folders):
    silent, text, nan = (Path(folders.clean[0]) / f"src_{i}.wav" for i in (3, 4, 5))
    save(silent, np.full(30 * RATE, 9e-4))
    text.write_text("not a sound")
    save(nan, np.full(1000, np.nan))
    found = refusal(find_material, folders).split("; ")
    assert found[0] == f"recordings that cannot be used (3), move them away: {silent}: silent, nowhere above -60 dBFS"
    assert found[1].startswith(f"{text}: no sound file that can be read (")
    assert found[2] == f"{nan}: NaN or infinite samples near 0.0 s"


@pytest.mark.parametrize("cut_s", [0.5, 9.5])
def test_a_dirty_recording_broken_at_its_start_or_end_is_refused(folders, cut_s):
    samples = noise(10)
    samples[round(cut_s * RATE)] = np.nan
    broken = save(Path(folders.dirty[0]) / "b.wav", samples)
    message = refusal(find_material, folders)
    assert message.startswith(f"recordings that cannot be used (1), move them away: {broken}: NaN")


def test_of_many_bad_recordings_the_first_five_are_named_and_the_others_counted(folders):
    for i in range(10, 18):
        save(Path(folders.clean[0]) / f"src_{i}.wav", np.zeros(1000))
    message = refusal(find_material, folders)
    assert message.startswith("recordings that cannot be used (8), ") and message.endswith("; and 3 more")
    assert [i for i in range(10, 18) if f"src_{i}.wav" in message] == [10, 11, 12, 13, 14]


def test_mixtures_of_one_clean_recording_are_of_its_start_those_of_validation_of_its_end(folders):
    args = replace(folders, max_shift=0, segment_s=0.1, valid_share=0.1)
    (Path(args.clean[0]) / "src_1.wav").unlink()
    save(Path(args.clean[0]) / "src_0.wav", np.append(tone(9, 50), tone(1, 150)))
    for split, present, absent in (("train", 50, 150), ("valid", 150, 50)):
        targets = [item["target"] for item in items(args, 40, split) if item["target"].any()]
        assert len(targets) >= 30 and all(power_at(x, present) > 1e4 * power_at(x, absent) for x in targets)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segment_s": 1e-5}, "segment_s = 1e-05: give a length of 0.01 s or more"),
        ({"max_shift": 1}, "max_shift = 1: give a share of the segment, 0 to below 1"),
        ({"max_shift": -0.1}, "max_shift = -0.1: give a share of the segment, 0 to below 1"),
        ({"snr_db": (10, -5)}, "snr_db = (10, -5): give two numbers in order, each from -inf to inf"),
        ({"voice_db": (1, 0)}, "voice_db = (1, 0): give two numbers in order, each from -inf to inf"),
        ({"speed": (0.1, 1)}, "speed = (0.1, 1): give two numbers in order, each from 0.25 to 4"),
        ({"speed": (1, 5)}, "speed = (1, 5): give two numbers in order, each from 0.25 to 4"),
        ({"p_no_target": -0.1}, "p_no_target = -0.1: give a share, 0 to 1"),
        ({"p_voice": 1.1}, "p_voice = 1.1: give a share, 0 to 1"),
        ({"p_no_target": 0.5, "p_no_interference": 0.6},
         "p_no_target = 0.5: with p_no_interference = 0.6 give at most 1 together"),
        ({"valid_share": 0}, "valid_share = 0: give a share between 0 and 1"),
        ({"valid_share": 1}, "valid_share = 1: give a share between 0 and 1"),
    ],
)
def test_args_outside_their_range_are_refused_with_the_range(fields, message):
    assert refusal(MixtureArgs, **fields) == f"MixtureArgs.{message}"


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_dirty_recording_broken_in_its_middle_is_named_once_and_passed_over(folders, suffix):
    broken = Path(folders.dirty[0]) / f"game/b{suffix}"
    samples = noise(30)
    if suffix == ".wav":
        samples[10 * RATE : 15 * RATE] = np.nan
    save(broken, samples)
    if suffix == ".flac":
        data = bytearray(broken.read_bytes())
        data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
        broken.write_bytes(data)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = items(replace(folders, p_no_interference=0), 100)

    assert len(caught) == 1 and str(caught[0].message).startswith(f"passed over: {broken}: ")
    assert all(np.isfinite(item["mixture"]).all() and item["interference"].any() for item in made)
