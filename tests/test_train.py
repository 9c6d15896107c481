"""The training loop: that it learns, stops, goes on and says what a user needs to know."""

import math
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import RATE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import models
import train
from dataset import KINDS, MixtureArgs
from dptnet import DPTNet, DPTNetArgs
from extractor import UserError, checkpoint
from extractor.losses import LossArgs, predictive_loss
from extractor.parallel import Backward
from train import MainArgs, learning_rate, main, update_average

ROOT = Path(__file__).parent.parent
NET = DPTNetArgs(RATE, kernel=32, n_filters=64, bottleneck=16, hidden=16, n_blocks=1, n_heads=2, chunk_frames=16,
                 fourier=True)


@pytest.fixture
def args(recordings, tmp_path) -> MainArgs:
    return MainArgs(
        name="alice", runs=str(tmp_path),
        data=MixtureArgs((f"{recordings}/clean/alice",), (f"{recordings}/dirty/other",), segment_s=0.5, n_valid=8),
        model=NET, steps=6, batch_size=2, warmup=2, valid_every=3, save_every=1, workers=0, device="cpu",
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, by name."""
    found = {}

    def walk(name, value):
        if isinstance(value, dict):
            for k, v in value.items():
                walk(f"{name}.{k}", v)
        elif isinstance(value, torch.Tensor):
            found[name] = value

    walk("", checkpoint.load(path))
    return found


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]):
    assert a.keys() == b.keys() and len(a) > 50
    assert not [name for name in a if not torch.equal(a[name], b[name])]


# ---------------------------------------------------------------------------------------------------------------------
# the loop


@pytest.mark.slow
def test_training_takes_a_hum_out_of_noise(args):
    main(replace(args, steps=100, valid_every=100, batch_size=2, lr=3e-3, warmup=10, ema=0.9))

    curves = scalars(args.folder)
    assert curves["valid/game_si_sdri_db"][-1] > 3
    assert curves["valid/voice_si_sdri_db"][-1] > 3
    assert curves["valid/absent_db"][-1] < -3


@pytest.mark.slow
def test_stopped_and_resumed_is_the_same_as_never_stopped(args, monkeypatch, threads):
    threads(2)  # a batch in two parts
    straight = replace(args, name="straight")
    main(straight)

    backward, calls = Backward.__call__, []

    def stop_at_the_fourth(*batch):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return backward(*batch)

    with monkeypatch.context() as patch:
        patch.setattr(train, "measure_step", lambda *_: (0, 1.0))  # whose steps do not count
        patch.setattr(Backward, "__call__", stop_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            main(args)
    assert checkpoint.load(args.folder / "last.pt")["step"] == 3
    main(args)

    assert_equal(weights(args.folder / "last.pt"), weights(straight.folder / "last.pt"))
    assert_equal(weights(args.folder / "best.pt"), weights(straight.folder / "best.pt"))


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_weights(args, recordings, tmp_path):
    straight = replace(args, name="straight", steps=30, valid_every=10, workers=1)
    main(straight)

    command = [
        sys.executable, "train.py", "--name", "alice", "--runs", str(tmp_path), "--device", "cpu", "--workers", "1",
        "--data.clean", f"{recordings}/clean/alice", "--data.dirty", f"{recordings}/dirty/other",
        "--data.segment-s", "0.5", "--data.n-valid", "8", "--steps", "30", "--batch-size", "2", "--warmup", "2",
        "--valid-every", "10", "--save-every", "1", "--model", "dptnet-coarse", "--model.sample-rate", str(RATE),
        "--model.kernel", "32", "--model.n-filters", "64", "--model.bottleneck", "16", "--model.hidden", "16",
        "--model.n-blocks", "1", "--model.n-heads", "2", "--model.chunk-frames", "16", "--model.fourier", "True",
    ]
    last = args.folder / "last.pt"
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (last.exists() and checkpoint.load(last)["step"] >= 5):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 5 <= checkpoint.load(last)["step"] < 30
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    assert_equal(weights(last), weights(straight.folder / "last.pt"))


def test_a_finished_run_is_left_alone(args, capsys):
    main(args)
    before = (args.folder / "last.pt").read_bytes()
    main(args)
    assert (args.folder / "last.pt").read_bytes() == before
    assert "has its 6 steps already; raise MainArgs.steps" in capsys.readouterr().out


def test_steps_without_a_finite_loss_are_skipped_counted_and_leave_no_trace(args, monkeypatch, capsys, threads):
    threads(1)  # a call is a step
    seen = []

    def nan_at_first(net, mixture, target, loss_args, generator=None):
        value, parts = predictive_loss(net, mixture, target, loss_args)
        if net.training:
            seen.append({name: p.detach().clone() for name, p in net.named_parameters()})
            if len(seen) <= 2:
                value = value * math.nan
        return value, parts

    monkeypatch.setattr(train, "measure_step", lambda *_: (0, 1.0))  # whose steps do not count
    monkeypatch.setitem(models.FAMILIES, "dptnet", models.FAMILIES["dptnet"]._replace(loss=nan_at_first))
    main(args)

    assert all(torch.equal(seen[0][name], seen[2][name]) for name in seen[0])
    assert not all(torch.equal(seen[2][name], seen[3][name]) for name in seen[0])
    assert "2 steps were skipped" in capsys.readouterr().out


def test_ten_steps_in_a_row_without_a_finite_gradient_stop_the_run(args, monkeypatch):
    def infinite_gradient(net, mixture, target, loss_args, generator=None):
        value, parts = predictive_loss(net, mixture, target, loss_args)
        return value + (next(net.parameters()).sum() * 0).sqrt(), parts  # d sqrt(0) = inf

    monkeypatch.setitem(models.FAMILIES, "dptnet", models.FAMILIES["dptnet"]._replace(loss=infinite_gradient))
    expected = r"10 steps in a row had no finite loss or gradient .* at step 10; they left no trace: lower MainArgs.lr"
    with pytest.raises(UserError, match=expected):
        main(replace(args, steps=20, valid_every=50))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_training_on_cuda_ends_near_training_on_the_cpu(args):
    main(args)
    main(replace(args, name="cuda", device="cuda"))
    cpu, cuda = (weights(Path(args.runs) / name / "last.pt") for name in ("alice", "cuda"))
    for name in cpu:
        if name.startswith(".ema"):
            torch.testing.assert_close(cuda[name], cpu[name], rtol=1e-2, atol=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# its parts


def test_the_learning_rate_rises_in_a_line_and_falls_in_half_a_cosine():
    args = MainArgs(lr=1.0, warmup=10, steps=110)
    assert [learning_rate(step, args) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert learning_rate(60, args) == pytest.approx(0.01 + 0.99 / 2)  # half way down
    assert learning_rate(110, args) == pytest.approx(0.01)


def test_the_average_keeps_a_tenth_of_the_first_weights_and_later_what_it_is_told():
    net, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(1.0)
    average.weight.data.fill_(0.0)
    update_average(average, net, 0.75, step=0)
    assert average.weight.item() == pytest.approx(0.9)
    update_average(average, net, 0.75, step=10**6)
    assert average.weight.item() == pytest.approx(0.75 * 0.9 + 0.25)


def test_products_in_training_are_of_the_precision_asked_for_all_else_is_full(args, monkeypatch):
    dtypes = []
    monkeypatch.setattr(train, "measure_step", lambda *_: (0, 1.0))  # whose products do not count
    monkeypatch.setattr(torch.nn.Linear, "forward", noting(dtypes, torch.nn.Linear.forward))
    for precision, expected in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        dtypes.clear()
        main(replace(args, name=precision, steps=1, valid_every=10**6, precision=precision))
        training, validation = dtypes[: len(dtypes) // 2], dtypes[-10:]
        assert expected in training and set(validation) == {torch.float32}
        saved = weights(args.folder.parent / precision / "last.pt")
        assert {x.dtype for name, x in saved.items() if "rng" not in name} == {torch.float32}


def noting(dtypes, forward):
    def noted(*args):
        out = forward(*args)
        dtypes.append(out.dtype)
        return out
    return noted


def test_norms_and_biases_do_not_decay():
    decayed, free = train.decay_groups(DPTNet(NET), 0.5)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2} and {p.ndim for p in free["params"]} == {1}


class Mixed(nn.Module):
    """A parameter of each kind: matrices at an end and inside, a kernel, a bias, one that is not trained."""

    ends = ("enter",)

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(2, 3, bias=False)
        self.matrix, self.kernel = nn.Linear(3, 2, bias=False), nn.Conv1d(2, 2, 3)
        self.frozen = nn.Linear(2, 2, bias=False).requires_grad_(False)


def test_every_trained_parameter_has_one_optimizer_and_inner_matrices_have_muon():
    net = Mixed()
    adamw, muon = train.make_optimizers(net, MainArgs(weight_decay=0.5))
    groups = [(g["weight_decay"], [id(p) for p in g["params"]]) for o in (adamw, muon) for g in o.param_groups]
    end, inside, kernel, bias = map(id, (net.enter.weight, net.matrix.weight, net.kernel.weight, net.kernel.bias))
    assert groups == [(0.5, [end, kernel]), (0.0, [bias]), (0.5, [inside])]
    (adamw,) = train.make_optimizers(net, MainArgs(muon=0))
    assert [[id(p) for p in g["params"]] for g in adamw.param_groups] == [[end, inside, kernel], [bias]]


@pytest.mark.parametrize("rows, columns, stretch", [(30, 40, 1.0), (80, 20, 2.0)])
def test_a_step_by_muon_turns_the_gradient_into_equal_singular_values(args, rows, columns, stretch):
    """At a momentum of 0 a step is u v^T times lr and sqrt(max(1, rows/columns)); Newton-Schulz gives 0.7 to 1.2."""
    net = nn.Linear(columns, rows, bias=False)
    net.ends = ()
    _, muon = train.make_optimizers(net, replace(args, lr=0.1, muon=5.0, weight_decay=0.0))
    for group in muon.param_groups:
        group["lr"], group["momentum"] = 0.1 * group["over_lr"], 0.0
    before = net.weight.detach().clone()
    net.weight.grad = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    muon.step()
    u, _, vh = torch.linalg.svd(net.weight.grad, full_matrices=False)
    turned = u.T @ (before - net.weight.detach()) @ vh.T / (0.5 * stretch)
    assert ((turned.diagonal() > 0.6) & (turned.diagonal() < 1.3)).all()
    assert (turned - turned.diagonal().diag()).abs().max() < 0.05


def test_both_optimizers_follow_the_schedule(args, monkeypatch):
    seen = []
    make = train.make_optimizers
    monkeypatch.setattr(train, "make_optimizers", lambda *given: seen.append(make(*given)) or seen[0])
    main(replace(args, steps=4, lr=1e-3, muon=3.0))
    adamw, muon = seen[0]
    assert adamw.param_groups[1]["lr"] == pytest.approx(learning_rate(3, replace(args, steps=4, lr=1e-3)))
    assert muon.param_groups[0]["lr"] == pytest.approx(3 * adamw.param_groups[1]["lr"])


def test_what_a_run_is_told_on_going_on_counts(args, monkeypatch):
    main(replace(args, steps=2))
    seen = []
    make = train.make_optimizers
    monkeypatch.setattr(train, "make_optimizers", lambda *given: seen.append(make(*given)) or seen[0])
    main(replace(args, steps=4, weight_decay=0.3, muon=2.0))
    groups = [group for optimizer in seen[0] for group in optimizer.param_groups]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0, 0.3]
    assert groups[2]["lr"] == pytest.approx(2 * groups[0]["lr"])
    assert all(seen[0][0].state[p]["step"] == 4 for p in groups[0]["params"])  # and what was learned is there


def test_a_run_with_muon_does_not_go_on_without(args):
    main(args)
    with pytest.raises(UserError, match=r"last\.pt: trained with or without Muon, unlike MainArgs.muon; change that"):
        main(replace(args, muon=0.0, steps=7))


def test_validation_of_the_identity_finds_no_improvement_and_nothing_removed(args):
    family = models.FAMILIES["dptnet"]._replace(extract=lambda net, mixture: mixture)
    rng = np.random.default_rng(0)
    frozen = []
    for kind in KINDS * 2:
        target, interference = (torch.from_numpy(rng.normal(size=1000).astype(np.float32)) for _ in range(2))
        target = target * (kind != "absent")
        frozen.append({"mixture": target + interference, "target": target})

    scores, estimates = train.validate(family, nn.Identity(), frozen, args, "cpu")

    loss = scores.pop("loss")
    assert scores == pytest.approx({"game_si_sdri_db": 0, "voice_si_sdri_db": 0, "both_si_sdri_db": 0, "absent_db": 0})
    expected = [predictive_loss(nn.Identity(), x["mixture"][None], x["target"][None], args.loss)[0] for x in frozen]
    assert loss == pytest.approx(float(np.mean(expected)), rel=1e-5)
    assert len(estimates) == len(KINDS)


def test_best_holds_the_averaged_weights_that_scored_best(args):
    best = main(replace(args, steps=9))
    state = checkpoint.load(best)
    losses = scalars(args.folder)["valid/loss"]
    assert state["step"] == args.valid_every * (1 + np.argmin(losses))
    assert state["best"] == pytest.approx(min(losses), rel=1e-6)
    net, family = models.load(best)
    assert all(torch.equal(p, state["ema"][name]) for name, p in net.state_dict().items())
    assert not all(torch.equal(state["net"][name], state["ema"][name]) for name in state["net"])


# ---------------------------------------------------------------------------------------------------------------------
# what the user sees


def scalars(folder: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_has_curves_and_the_sound_and_spectrogram_of_every_kind(args):
    main(replace(args, steps=21, valid_every=21, loss=LossArgs(stft_weight=1.0)))
    events = EventAccumulator(str(args.folder)).Reload()
    tags = events.Tags()
    parts = "log_mse_db", "treble_db", "stft"
    wanted = {f"train/{x}" for x in ("loss", *parts, "lr", "grad_norm", "skipped", "audio_s_per_s")}
    wanted |= {f"valid/{x}" for x in ("loss", "game_si_sdri_db", "voice_si_sdri_db", "both_si_sdri_db", "absent_db")}
    wanted.add("valid/minutes")
    assert set(tags["scalars"]) == wanted
    assert set(tags["audio"]) == {f"{k}/{x}" for k in KINDS for x in ("mixture", "target", "estimate")}
    assert set(tags["images"]) == {f"{k}/spectrogram" for k in KINDS}
    assert events.Audio("game/mixture")[0].sample_rate == RATE


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

    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: clock.now, perf_counter=time.perf_counter))
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
    assert "steps per hour on cpu" in out and "training on cpu, step 0 to 6" in out


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


def test_the_estimated_memory_is_that_of_what_a_step_keeps(args):
    """A net that keeps one tensor of the mixture's size: y = w x needs x for the gradient of w."""
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.w * x

    family = models.FAMILIES["dptnet"]._replace(loss=lambda net, mixture, target, *_: (net(mixture).sum(), {}))
    size, seconds = train.measure_step(args, family, Scale(), torch.device("cpu"))
    n_samples = 0.5 * RATE
    assert size == pytest.approx(20 + args.batch_size * 4 * n_samples, abs=64) and seconds > 0


def test_the_time_of_a_step_is_that_of_a_moment_when_the_machine_was_not_busy(args, threads):
    threads(1)  # a call is a step
    delays = [0, 0.3, 0.3, 0, *9 * [0.3]]  # on an item, on batches

    def loss(net, mixture, target, *_):
        time.sleep(delays.pop(0))
        return net(mixture).sum(), {}

    family = models.FAMILIES["dptnet"]._replace(loss=loss)
    _, seconds = train.measure_step(args, family, nn.Linear(round(0.5 * RATE), 1), torch.device("cpu"))
    assert seconds < 0.2


@pytest.mark.parametrize("minutes, steps", [(1.0, 30), (0.25, 8), (0.001, 1)])
def test_the_steps_that_fit_are_the_minutes_over_the_time_of_one(minutes, steps, args, monkeypatch):
    monkeypatch.setattr(train, "measure_step", lambda *_: (0, 2.0))
    assert train.steps_that_fit(args, minutes) == steps


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


def test_with_other_mixtures_what_is_best_is_judged_anew(args, capsys):
    main(args)
    state = checkpoint.load(args.folder / "last.pt")
    checkpoint.save(args.folder / "last.pt", state | {"best": -1000.0})
    before = (args.folder / "best.pt").read_bytes()
    main(replace(args, steps=args.steps + 1, data=replace(args.data, snr_db=(0.0, 1.0))))
    assert "what is best is judged anew" in capsys.readouterr().out
    assert (args.folder / "best.pt").read_bytes() != before


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
     ("unpack_gb", -1), ("seed", -1), ("seed", 2**63), ("muon", -1)],
)
def test_args_out_of_range_are_refused_by_name(field, value):
    with pytest.raises(UserError, match=f"MainArgs.{field} = {value!r}: give"):
        MainArgs(**{field: value})


def test_a_folder_where_nothing_can_be_written_is_one_sentence(args, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/alice.*cannot be written"):
        main(replace(args, runs=str(tmp_path / "file")))
