"""What training tells, draws and refuses."""

import re
import shutil
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import RATE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import NET, alone_in_elsewhere, scalars, tiny_run
from torch import nn

import augment
import train
from augment import AugmentArgs
from dataset import KINDS, MixtureDataset
from dptnet import DPTNet
from extractor import UserError, audio, checkpoint, curves, ddp, journal, step_cost
from extractor.step_cost import Memory, free_bytes
from train import MainArgs, main

CPU = torch.device("cpu")
RATES = "steps_per_s", "audio_s_per_s", "data_wait", "memory_gib"


@pytest.fixture
def args(recordings, tmp_path) -> MainArgs:
    return tiny_run(recordings, tmp_path)


def test_tensorboard_has_curves_and_the_sound_and_spectrogram_of_every_kind(args):
    main(replace(args, steps=21, valid_every=21))
    events = EventAccumulator(str(args.folder)).Reload()
    tags = events.Tags()
    parts = "log_mse_db", "treble_db"
    wanted = {f"train/{x}" for x in ("loss", *parts, "lr", "grad_norm", "clip", "skipped", "unread", *RATES)}
    scores = "game_si_sdri_db", "voice_si_sdri_db", "both_si_sdri_db", "absent_db"
    wanted |= {"valid/loss"} | {f"valid/{of}{x}" for of in ("", "conditions_") for x in scores}
    wanted.add("valid/minutes")
    assert set(tags["scalars"]) == wanted
    theirs = {tag: [(e.step, pytest.approx(e.value, rel=1e-6)) for e in events.Scalars(tag)] for tag in wanted}
    assert curves.read(args.folder) == theirs
    assert set(tags["audio"]) == {f"{k}/{x}" for k in KINDS for x in ("mixture", "target", "estimate")}
    assert set(tags["images"]) == {f"{k}/spectrogram" for k in KINDS}
    assert events.Audio("game/mixture")[0].sample_rate == RATE


def test_sound_is_kept_of_the_first_validation_and_of_better_ones_minutes_apart(args, monkeypatch):
    told, clock = [], SimpleNamespace(now=0.0)
    losses, minutes = iter([-5.0, -4.0, -6.0, -7.0, -8.0]), iter([0, 2, 2, 2, 2])

    def validate(*_):
        clock.now += 60 * next(minutes)
        return {"loss": next(losses)}, []

    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(train, "validate", validate)
    monkeypatch.setattr(journal.report, "add_examples", lambda writer, step, *_: told.append(step))
    main(replace(args, steps=8, valid_every=2))
    main(replace(args, steps=10, valid_every=2))  # another process begins with one
    assert told == [2, 6, 10]  # the better one of step 8 came too soon


def test_saves_are_seconds_apart_however_fast_the_steps_are(args, monkeypatch):
    clock, saved = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(train, "learning_rate", lambda *a, **k: setattr(clock, "now", clock.now + 7) or 1e-3)  # a step
    saver = train.saver
    monkeypatch.setattr(train, "saver", lambda *given: lambda name, p: saved.append((name, p.step)) or saver(*given)(
        name, p))
    main(replace(args, steps=11, valid_every=4, save_every=2, save_s=20))
    assert [step for name, step in saved if name == "last.pt"] == [4, 8, 11]


def test_minutes_go_on_where_an_earlier_run_stopped(args):
    main(args)
    before = checkpoint.load(args.folder / "last.pt")
    before["seconds"] += 3600
    checkpoint.save(args.folder / "last.pt", before)
    main(replace(args, steps=9))
    minutes = scalars(args.folder)["valid/minutes"]
    assert 0 < minutes[0] < minutes[1] < 30 and 60 < minutes[2] < 90
    assert 3600 < checkpoint.load(args.folder / "last.pt")["seconds"] < 3600 + 1800


def test_speed_is_of_training_alone_not_of_validation(args, monkeypatch):
    clock = SimpleNamespace(now=0.0)

    def takes(seconds, function):
        def slow(*args, **kwargs):
            clock.now += seconds
            return function(*args, **kwargs)
        return slow

    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(train, "learning_rate", takes(0.25, train.learning_rate))  # once a step
    monkeypatch.setattr(train, "validate", takes(100, train.validate))
    main(replace(args, steps=60, valid_every=30, save_every=15))
    assert scalars(args.folder)["train/audio_s_per_s"] == [args.batch_size * args.data.segment_s / 0.25] * 3


def test_before_the_first_step_it_says_what_it_found_and_what_it_costs(args, capsys):
    main(args)
    out = capsys.readouterr().out
    assert "clean       2 files      0.2 min  4000 Hz" in out
    assert "games       1 files      0.1 min  4000 Hz" in out
    assert "voices      1 files      0.1 min  4000 Hz" in out
    n_parameters = sum(p.numel() for p in DPTNet(NET).parameters())
    assert f"dptnet: {n_parameters:,} parameters, about 0.0 GiB for batches of 2 x 0.5 s" in out
    assert "training on cpu, step 0 to 6" in out
    assert "held out for validation: 0.0 min of 1 clean recordings, 0.0 min of 2 dirty ones\n" in out  # 1.2 s of either


@pytest.mark.parametrize(("limit", "decoded"), [(1.0, True), (0.0, False)])
def test_compressed_recordings_are_decoded_once_beside_the_runs(limit, decoded, args, capsys):
    main(replace(args, unpack_gb=limit))  # one of the four is a FLAC file
    lines = re.findall(r"1 compressed recordings lie decoded in .*unpacked, 0.0 GB; delete it at will",
                       capsys.readouterr().out)
    assert len(lines) == decoded == len(list((args.folder.parent / "unpacked").glob("src_0-*.wav")))


def test_a_recording_that_lost_its_end_is_used_up_to_there_and_named(args, tmp_path, capsys):
    whole = Path(args.data.dirty[0], "voices", "bob.wav").read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cut.wav").write_bytes(whole[: 44 + 2 * 5 * RATE + 1])  # 5 of 6 s
    main(replace(args, steps=1, data=replace(args.data, dirty=(*args.data.dirty, str(tmp_path / "other")))))
    named = [line for line in capsys.readouterr().out.splitlines() if "cut off" in line]
    assert named == [f"{tmp_path}/other/cut.wav: cut off at its end; the 5.0 s that are there are used"]


class Waves(nn.Module):
    """Two layers of eight sines, each of which keeps the mixture's size for the backward pass."""

    def __init__(self, recomputed: bool):
        super().__init__()
        self.w, self.recomputed = nn.Parameter(torch.ones(1000)), recomputed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def layer(x):
            for _ in range(8):
                x = x.sin()
            return x

        x = self.w[0] * x
        for _ in range(2):
            x = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False) if self.recomputed else layer(x)
        return x


@pytest.mark.parametrize("recomputed, least, most", [(False, 17, 20), (True, 9, 13)])
def test_the_estimated_memory_is_the_peak_of_a_step_also_of_what_is_computed_once_more(recomputed, least, most):
    def loss(net, mixture, *_):
        return net(mixture).sum(), {}

    found = step_cost.memory(Waves(recomputed), loss, (2, 50_000), CPU)
    assert found.fixed == pytest.approx(5 * 4 * 1000, rel=0.3) and least <= found.item / (4 * 50_000) <= most
    assert found.n_bytes(2) == found.fixed + 2 * found.item
    assert Memory(20, 1000).largest_batch(20 + 100 * 1000) == 79  # with a fifth to spare
    assert Memory(20, 1000).largest_batch(10) == 0


def test_the_time_of_a_step_is_that_of_warm_ones_when_the_machine_was_not_busy(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(step_cost, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def steps(*seconds):
        for s in chain(seconds, repeat(1.0)):
            clock.now += s
            yield

    assert step_cost.seconds_a_step(steps(3.0, 0.5), warm=4) == 1.0
    assert step_cost.seconds_a_step(steps(1.0, 1.0, *4 * [0.01]), warm=4) == 1.0  # prepared while all started up
    assert step_cost.seconds_a_step(steps(1.0, 1.0, *3 * [2.0]), warm=0) == 1.0  # busy at first
    assert step_cost.seconds_a_step(steps(*6 * [30.0]), warm=16) == pytest.approx(30)  # no step is done for nothing


@pytest.mark.parametrize("minutes, expected", [(1.0, 200), (1e-4, 1)])
def test_the_steps_that_fit_are_the_minutes_over_the_time_of_whole_steps(minutes, expected, args, monkeypatch, capsys):
    """A mixture takes 0.15 s, so a step of two 0.3 s; the clock stands still while the net learns."""
    clock, make = SimpleNamespace(now=0.0), MixtureDataset.__getitem__

    def slow(self, key):
        clock.now += 0.15
        return make(self, key)

    monkeypatch.setattr(MixtureDataset, "__getitem__", slow)
    monkeypatch.setattr(step_cost, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(step_cost, "SPAN_S", 0.7)
    assert train.steps_that_fit(args, minutes) == expected and capsys.readouterr().out == ""


def test_a_run_of_minutes_has_the_steps_that_fit_then_and_of_more_minutes_as_many_as_in_one_so_far(
    args, monkeypatch, capsys
):
    monkeypatch.setattr(train, "steps_that_fit", lambda args, minutes: round(2 * minutes))
    args = replace(args, minutes=2.0)
    last = train.main(args).with_name("last.pt")
    state = checkpoint.load(last)
    assert state["step"] == state["args"]["steps"] == 4
    monkeypatch.setattr(train, "steps_that_fit", None)
    finished = last.read_bytes()
    train.main(args)
    assert "has its 4 steps already; raise MainArgs.minutes to go on" in capsys.readouterr().out
    assert last.read_bytes() == finished
    checkpoint.save(last, state | {"seconds": 120.0})
    train.main(replace(args, minutes=3.0))
    assert checkpoint.load(last)["step"] == 6


def test_of_a_team_the_time_of_a_step_is_that_of_one_process_and_its_share_of_the_batch(args, monkeypatch):
    monkeypatch.setattr(train, "steps_that_fit", lambda args, minutes: 60 * minutes / args.batch_size)
    args = replace(args, minutes=1.0, batch_size=6)
    assert [train.planned_steps(args, {}, ddp.Team(0, size)) for size in (1, 2, 3)] == [10, 20, 30]


def test_a_batch_that_does_not_fit_is_refused_with_the_way_out(args, monkeypatch):
    def no_room(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(step_cost, "memory", no_room)
    words = r"2 items of 0\.5 s do not fit into the memory of cpu: give MainArgs.grad_accum_steps = 2, or a"
    with pytest.raises(UserError, match=words):
        train.main(args)


def test_a_dry_run_says_what_fits_and_trains_nothing(args, monkeypatch, capsys):
    seen = []

    def measured(net, loss, shape, device):
        seen.append(shape)
        if shape[1] > 0.9 * RATE:
            raise torch.OutOfMemoryError
        return Memory(0, 2**20)

    monkeypatch.setattr(step_cost, "memory", measured)
    monkeypatch.setattr(train, "seconds_a_step", lambda args, *_: 3.0)
    monkeypatch.setattr(step_cost, "free_bytes", lambda device: 2**30)
    main(replace(args, dry_run=True, batch_size=4, grad_accum_steps=2, steps=2400))
    head, _, *rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert head == ("| segment, s | MiB an item | largest batch in 1 GiB | s a step of 2 | audio s per s | "
                    "hours for 2,400 steps |")
    assert rows == ["| 0.25 | 1 | 819 | 3.000 | 0 | 2.0 |", "| 0.5 | 1 | 819 | 3.000 | 1 | 2.0 |",
                    "| 1 | - | below 2 | - | - | - |"]
    assert seen == [(2, RATE // 4), (2, RATE // 2), (2, RATE)] and not list(args.folder.glob("*.pt"))


def test_on_a_cpu_a_batch_that_memory_has_no_room_for_does_not_fit(monkeypatch):
    def memory(n: int) -> Memory:
        return step_cost.memory(DPTNet(NET), lambda net, mixture, *_: (net(mixture).sum(), {}), (n, 1000), CPU)

    found = memory(2)
    monkeypatch.setattr(step_cost, "free_bytes", lambda device: found.n_bytes(3) + 1)
    assert memory(3) == found
    with pytest.raises(torch.OutOfMemoryError):
        memory(4)
    monkeypatch.setattr(step_cost, "free_bytes", lambda device: 0)  # a system that does not say
    memory(4)


def test_some_memory_is_free():
    assert 2**26 < free_bytes(torch.device("cpu")) < 2**45


def test_a_checkpoint_of_another_architecture_is_refused_with_what_differs(args):
    main(args)
    with pytest.raises(UserError, match=r"last\.pt: a checkpoint of another net \(hidden = 16 there, 24 here\); give"):
        main(replace(args, model=replace(NET, hidden=24)))
    main(replace(args, model=replace(NET, checkpointing=True), steps=7))  # the cost may change


def test_a_run_of_another_speaker_is_refused(args, tmp_path):
    main(args)
    bob = shutil.copytree(args.data.clean[0], tmp_path / "clean" / "bob")
    before = (args.folder / "last.pt").read_bytes()
    with pytest.raises(UserError, match=r"last\.pt: trained on .*alice, not .*bob; .*another MainArgs.name, with --in"):
        main(replace(args, data=replace(args.data, clean=(str(bob),))))
    assert (args.folder / "last.pt").read_bytes() == before


@pytest.mark.parametrize("change", ["mixtures", "loss", "dirty"])
def test_by_another_measure_what_is_best_is_judged_anew(change, args, recordings, tmp_path, capsys):
    dirty = tmp_path / "other"
    shutil.copytree(recordings / "dirty" / "other", dirty)
    args = replace(args, data=replace(args.data, dirty=(str(dirty),)))
    main(args)
    state = checkpoint.load(args.folder / "last.pt")
    checkpoint.save(args.folder / "last.pt", state | {"best": -1000.0})
    before = (args.folder / "best.pt").read_bytes()
    if change == "dirty":
        shutil.copy(dirty / "game" / "src_0.flac", dirty / "game" / "src_1.flac")
    mixed = {"mixtures": replace(args.data, snr_db=(0.0, 1.0))}.get(change, args.data)
    loss = {"loss": replace(args.loss, treble_weight=0.5)}.get(change, args.loss)
    main(replace(args, steps=args.steps + 1, data=mixed, loss=loss))
    assert "what is best is judged anew" in capsys.readouterr().out
    assert (args.folder / "best.pt").read_bytes() != before
    assert [p.read_bytes() for p in args.folder.glob("best_until_*.pt")] == [before]
    checkpoint.save(args.folder / "last.pt", state | {"best": -1000.0})  # as if killed before last.pt was written
    main(replace(args, steps=args.steps + 1, data=mixed, loss=loss))
    assert [p.read_bytes() for p in args.folder.glob("best_until_*.pt")] == [before]


@pytest.mark.parametrize("now", ["spelt otherwise", "moved"])
def test_the_same_recordings_are_the_same_however_their_folder_is_spelt_and_where_it_is(
    now, args, recordings, tmp_path, monkeypatch, capsys
):
    here, there = tmp_path / "here", tmp_path / "there"
    for kind in ("clean", "dirty"):
        shutil.copytree(recordings / kind, here / kind)
    monkeypatch.chdir(tmp_path)
    args = replace(args, data=replace(args.data, clean=("here/clean/alice/",), dirty=("here/dirty/other",)))
    main(args)
    held, best = checkpoint.load(args.folder / "best.pt")["clips"], (args.folder / "best.pt").read_bytes()
    if now == "moved":
        here = here.rename(there)
    monkeypatch.chdir(here)
    moved = replace(args.data, clean=(f"{here}/clean/../clean/alice",), dirty=(f"{here}/dirty/other",))
    main(replace(args, data=moved))
    assert (args.folder / "best.pt").read_bytes() == best
    main(replace(args, data=moved, steps=9))
    clips = checkpoint.load(args.folder / "last.pt")["clips"]
    assert all(clips[str(here / Path(clip).relative_to(tmp_path / "here"))] == length for clip, length in held.items())
    assert "judged anew" not in capsys.readouterr().out


def test_weights_to_start_from_come_too_late_for_a_run_that_goes_on(args, capsys):
    main(args)
    best = str(args.folder / "best.pt")
    main(replace(args, steps=7, init_from=best))
    assert "goes on from its own weights, not from MainArgs.init_from" in capsys.readouterr().out
    assert checkpoint.load(args.folder / "last.pt")["args"]["init_from"] == ""  # what it did start from


def test_a_run_whose_last_checkpoint_is_gone_begins_anew_and_keeps_its_best(args, capsys):
    best = main(args)
    before, step = best.read_bytes(), checkpoint.load(best)["step"]
    for steps in (1, step):
        (args.folder / "last.pt").unlink()
        main(replace(args, steps=steps, valid_every=step))
        said = capsys.readouterr().out
        assert f"best.pt stays as best_until_{step if steps == 1 else 1}.pt; to start from its weights give" in said
        assert (args.folder / f"best_until_{step}.pt").read_bytes() == before
    (args.folder / "last.pt").unlink()
    with pytest.raises(UserError, match=rf"best_until_{step}\.pt are there, but no last\.pt to go on from: move one"):
        main(args)
    assert (args.folder / f"best_until_{step}.pt").read_bytes() == before


def test_a_run_whose_last_checkpoint_is_gone_keeps_the_steps_that_were_to_be_kept(args):
    args = replace(args, keep=2)
    main(args)
    before = {p.stem: p.read_bytes() for p in args.folder.glob("step_*.pt")}
    (args.folder / "last.pt").unlink()
    main(args)
    assert len(before) == 2
    assert {name: (args.folder / f"{name}_before.pt").read_bytes() for name in before} == before


def test_what_validation_does_not_depend_on_leaves_the_best_what_it_was(args, recordings, tmp_path, capsys):
    more = shutil.copytree(recordings / "clean" / "alice", tmp_path / "clean" / "alice")
    two = replace(args.data, clean=(*args.data.clean, str(more)))
    main(replace(args, data=two))
    shares = {"p_no_target": 0.5, "p_no_interference": 0.1, "p_two_sources": 0.2}
    other = replace(two, clean=two.clean[::-1], speed=(1.0, 1.1), **shares)
    main(replace(args, data=other, steps=7))
    assert "judged anew" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"init_from": "nobody.pt"}, "nobody.pt: there is no such checkpoint"), ({"freeze": ("tail",)}, "MainArgs.freeze"),
     ({"grad_accum_steps": 3}, "cannot be shared"),
     ({"seed": 3}, r"last\.pt: started with MainArgs\.seed = 0; give that, or another MainArgs")],
)
def test_what_needs_no_recordings_is_refused_before_they_are_looked_through(fields, message, args, monkeypatch):
    if "seed" in fields:
        main(args)
    monkeypatch.setattr(train, "find_material", None)
    with pytest.raises(UserError, match=message):
        main(replace(args, **fields))


@pytest.fixture
def drawn(monkeypatch) -> dict[str, MixtureDataset]:
    """What training and validation draw from, once there was a run."""
    found = {}

    class Noted(MixtureDataset):
        def __init__(self, *given, split, **rest):
            super().__init__(*given, split=split, **rest)
            found[split] = self

    monkeypatch.setattr(train, "MixtureDataset", Noted)
    return found


@pytest.fixture
def growing(args, recordings, tmp_path, drawn):
    """growing(name, steps, ...): trains on a clean folder that recordings may be copied to; -> the seconds for
    validation of every clip, what training and validation drew from."""
    clean = tmp_path / "clean" / "alice"
    shutil.copytree(recordings / "clean" / "alice", clean)

    def growing(name: str, steps: int, **more) -> tuple[dict[str, float], set[str], set[str]]:
        data = replace(args.data, clean=(str(clean),))
        main(replace(args, name=name, steps=steps, data=data, **more))
        known = checkpoint.load(args.folder.with_name(name) / "best.pt")["clips"]
        assert {clip: length for clip, (length, _) in known.items() if Path(clip).exists()} == {
            str(clip): audio.probe(clip).seconds for clip in audio.find(clean)}
        used = {split: {s.recording.path.name for s in drawn[split].clean[0].sources} for split in ("train", "valid")}
        return {Path(clip).name: held for clip, (_, held) in known.items()}, used["train"], used["valid"]

    return growing, clean / "set"


def test_what_was_held_out_stays_so_when_clean_recordings_come_in(growing, args, capsys):
    growing, folder = growing
    before, trained, valid = growing("alice", 3)
    assert {clip for clip, s in before.items() if s} == valid and {*before} == valid | trained
    assert growing("alice", 6)[0] == before
    assert "judged anew" not in capsys.readouterr().out and not [*args.folder.glob("best_until_*.pt")]
    best = (args.folder / "best.pt").read_bytes()
    for n in range(10, 20):  # whatever would be drawn now
        shutil.copy(folder / "src_1.wav", folder / f"src_{n}.wav")
    now, _, valid_now = growing("alice", 9)
    assert before.items() <= now.items() and {clip for clip, s in now.items() if s} == valid_now > valid
    assert "what is best is judged anew\n" in capsys.readouterr().out
    assert (args.folder / "best_until_6.pt").read_bytes() == best
    start = str(args.folder / "best.pt")
    assert growing("another", 3, init_from=start)[0] == now
    aside = folder.parent.parent / "aside"
    folder.rename(aside)
    shutil.copytree(aside, folder, ignore=shutil.ignore_patterns("src_0*"))
    growing("third", 3, init_from=start)  # while some are not there
    shutil.rmtree(folder)
    aside.rename(folder)
    assert growing("fourth", 3, init_from=str(args.folder.with_name("third") / "best.pt"))[0] == now


def test_a_damaged_checkpoint_is_refused(args):
    main(args)
    last = args.folder / "last.pt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    with pytest.raises(UserError, match=r"last\.pt: damaged"):
        main(args)


@pytest.mark.parametrize(
    "field, value",
    [("steps", 0), ("batch_size", 0), ("name", ""), ("name", "a/b"), ("name", ".."), ("name", "unpacked"), ("lr", -1),
     ("lr", float("nan")), ("clip_norm", 0), ("weight_decay", -0.1), ("workers", -1), ("warmup", -1), ("ema", 2),
     ("unpack_gb", -1), ("seed", -1), ("seed", 2**63), ("muon", -1), ("precision", "half")],
)
def test_args_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(UserError, match=f"MainArgs.{field} = {value!r}: give"):
        MainArgs(**{field: value})


def test_what_is_unlike_the_recordings_to_extract_is_said_before_training(args, tmp_path, capsys):
    rng = np.random.default_rng(0)
    sf.write(tmp_path / "flat.wav", 0.1 * rng.standard_normal(5 * RATE), RATE)
    main(replace(args, steps=1, data=replace(args.data, captures=(str(tmp_path),))))
    assert f"{tmp_path}/flat.wav: its spectrum changes by" in capsys.readouterr().out


def test_validation_under_conditions_is_the_same_whatever_training_does(args, drawn):
    main(replace(args, augment=AugmentArgs(p_band=1.0)))
    assert {split: mixtures.augment for split, mixtures in drawn.items()} == {
        "train": AugmentArgs(p_band=1.0), "valid": augment.CONDITIONS}


def test_validation_asks_for_as_little_of_a_room_as_training(args, drawn):
    main(replace(args, augment=AugmentArgs(dereverb="full")))
    assert drawn["valid"].augment == replace(augment.CONDITIONS, dereverb="full")


def test_two_processes_do_not_train_into_one_folder_but_a_dry_run_may_look(args, monkeypatch):
    monkeypatch.setattr(step_cost, "SPAN_S", 0.1)
    with alone_in_elsewhere(args.folder):
        with pytest.raises(UserError, match="another process is at work there"):
            main(args)
        main(replace(args, dry_run=True))
    assert not list(args.folder.glob("*.pt"))


def test_a_folder_where_nothing_can_be_written_is_one_sentence(args, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/alice.*cannot be written"):
        main(replace(args, runs=str(tmp_path / "file")))


def test_a_run_is_compiled_when_told(args, monkeypatch):
    layers = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: layers.append(self))
    main(replace(args, steps=1))
    assert not layers
    main(replace(args, steps=2, compile=True))
    assert len(layers) == len(DPTNet(NET).layers)


def test_a_net_without_layers_to_compile_is_told_so(args, monkeypatch):
    monkeypatch.setattr(train, "layers_of", lambda net: [])
    with pytest.raises(UserError, match="MainArgs.compile: a dptnet net has no layers for it; leave it off"):
        main(replace(args, compile=True))


def test_a_machine_that_cannot_compile_is_told_so(args, monkeypatch):
    def fail(*_, **__):
        raise torch._dynamo.exc.TorchDynamoException("InvalidCxxCompiler: No working C++ compiler found\n\nmore")

    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: setattr(self, "forward", fail))
    expected = r"MainArgs.compile: torch.compile fails here \(InvalidCxxCompiler: No .* found\); it needs a C\+\+"
    with pytest.raises(UserError, match=expected):
        main(replace(args, compile=True))
