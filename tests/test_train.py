"""The training loop: that it learns, stops and goes on."""

import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import ROOT, assert_equal, scalars, tiny_command, tiny_run, weights
from torch import nn

import models
import train
from augment import AugmentArgs
from dataset import KINDS
from extractor import UserError, audio, checkpoint, ddp, step_cost
from extractor.optim import learning_rate
from extractor.parallel import Backward
from extractor.profile import profile
from extractor.step_cost import Memory
from losses import predictive_loss
from train import MainArgs, main


@pytest.fixture
def args(recordings, tmp_path) -> MainArgs:
    return tiny_run(recordings, tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# the loop


@pytest.mark.slow(15)
def test_training_takes_a_hum_out_of_noise(args):
    main(replace(args, steps=100, valid_every=100, batch_size=2, lr=3e-3, warmup=10, ema=0.9))

    curves = scalars(args.folder)
    assert curves["valid/game_si_sdri_db"][-1] > 3
    assert curves["valid/voice_si_sdri_db"][-1] > 3
    assert curves["valid/absent_db"][-1] < -3


@pytest.mark.slow(15)
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
        patch.setattr(step_cost, "memory", lambda *_: Memory(0, 0))  # whose steps do not count
        patch.setattr(Backward, "__call__", stop_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            main(args)
    assert checkpoint.load(args.folder / "last.pt")["step"] == 3
    main(args)

    assert_equal(weights(args.folder / "last.pt"), weights(straight.folder / "last.pt"))
    assert_equal(weights(args.folder / "best.pt"), weights(straight.folder / "best.pt"))


@pytest.mark.slow(45)
def test_a_killed_process_goes_on_to_the_same_weights(args, recordings, tmp_path):
    straight = replace(args, name="straight", steps=30, valid_every=10, workers=1, precision="fp32")
    main(straight)

    run = {"steps": 30, "valid_every": 10, "workers": 1}
    command = [sys.executable, *tiny_command(recordings, tmp_path, "alice", **run)]
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

    def nan_at_first(net, mixture, target, loss_args, seeds=None):
        value, parts = predictive_loss(net, mixture, target, loss_args)
        if net.training:
            seen.append({name: p.detach().clone() for name, p in net.named_parameters()})
            if len(seen) <= 2:
                value = value * math.nan
        return value, parts

    monkeypatch.setattr(step_cost, "memory", lambda *_: Memory(0, 0))  # whose steps do not count
    monkeypatch.setitem(models.FAMILIES, "dptnet", models.FAMILIES["dptnet"]._replace(loss=nan_at_first))
    main(args)

    assert all(torch.equal(seen[0][name], seen[2][name]) for name in seen[0])
    assert not all(torch.equal(seen[2][name], seen[3][name]) for name in seen[0])
    assert "2 steps were skipped" in capsys.readouterr().out


def test_ten_steps_in_a_row_without_a_finite_gradient_stop_the_run(args, monkeypatch):
    def infinite_gradient(net, mixture, target, loss_args, seeds=None):
        value, parts = predictive_loss(net, mixture, target, loss_args)
        return value + (next(net.parameters()).sum() * 0).sqrt(), parts  # d sqrt(0) = inf

    monkeypatch.setitem(models.FAMILIES, "dptnet", models.FAMILIES["dptnet"]._replace(loss=infinite_gradient))
    expected = r"10 steps in a row had no finite loss or gradient .* at step 10; they left no trace: lower MainArgs.lr"
    with pytest.raises(UserError, match=expected):
        main(replace(args, steps=20, valid_every=50))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_training_on_cuda_ends_near_training_on_the_cpu(args):
    args = replace(args, precision="fp32", muon=0.0)  # which makes much of what is next to nothing
    main(args)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        main(replace(args, name="cuda", device="cuda"))
    cpu, cuda = (weights(Path(args.runs) / name / "last.pt") for name in ("alice", "cuda"))
    for name in cpu:
        if name.startswith(".ema"):
            assert (cuda[name] - cpu[name]).norm() < 1e-2 * cpu[name].norm() + 1e-2


# ---------------------------------------------------------------------------------------------------------------------
# its parts


def test_products_in_training_are_of_the_precision_asked_for_all_else_is_full(args, monkeypatch, capsys):
    dtypes = []
    monkeypatch.setattr("extractor.precision.fast", lambda device: False)
    monkeypatch.setattr(step_cost, "memory", lambda *_: Memory(0, 0))  # whose products do not count
    monkeypatch.setattr(torch.nn.Linear, "forward", noting(dtypes, torch.nn.Linear.forward))
    for precision, expected in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        dtypes.clear()
        main(replace(args, name=precision, steps=1, valid_every=10**6, precision=precision))
        training, validation = dtypes[: len(dtypes) // 2], dtypes[-10:]
        assert expected in training and set(validation) == {torch.float32}
        saved = weights(args.folder.parent / precision / "last.pt")
        assert {x.dtype for name, x in saved.items() if "rng" not in name} == {torch.float32}
        assert ("multiplies bf16 no faster than fp32" in capsys.readouterr().out) == (precision == "bf16")


def noting(dtypes, forward):
    def noted(*args):
        out = forward(*args)
        dtypes.append(out.dtype)
        return out
    return noted


def test_both_optimizers_follow_the_schedule(args, monkeypatch):
    seen = []
    make = train.make_optimizers
    monkeypatch.setattr(train, "make_optimizers", lambda *net, **rates: seen.append(make(*net, **rates)) or seen[0])
    main(replace(args, steps=4, lr=1e-3, muon=3.0))
    adamw, muon = seen[0]
    assert adamw.param_groups[1]["lr"] == pytest.approx(learning_rate(3, peak=1e-3, warmup=args.warmup, steps=4))
    assert muon.param_groups[0]["lr"] == pytest.approx(3 * adamw.param_groups[1]["lr"])


def test_what_a_run_is_told_on_going_on_counts(args, monkeypatch):
    main(replace(args, steps=2))
    seen = []
    make = train.make_optimizers
    monkeypatch.setattr(train, "make_optimizers", lambda *net, **rates: seen.append(make(*net, **rates)) or seen[0])
    main(replace(args, steps=4, weight_decay=0.3, muon=2.0))
    groups = [group for optimizer in seen[0] for group in optimizer.param_groups]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0, 0.3]
    assert groups[2]["lr"] == pytest.approx(2 * groups[0]["lr"])
    assert all(seen[0][0].state[p]["step"] == 4 for p in groups[0]["params"])  # and what was learned is there


def test_a_run_with_muon_does_not_go_on_without(args):
    main(args)
    with pytest.raises(UserError, match=r"last\.pt: trained with or without Muon, unlike MainArgs.muon; change that"):
        main(replace(args, muon=0.0, steps=7))


def test_frozen_parts_keep_the_weights_that_the_net_starts_from(args):
    first = main(args)
    again = replace(args, name="again", init_from=str(first), freeze=("encoder", "layers.0"))
    main(again)
    before, after = checkpoint.load(first)["ema"], checkpoint.load(again.folder / "last.pt")["net"]
    for name, weight in after.items():
        assert torch.equal(weight, before[name]) == name.startswith(("encoder.", "layers.0.")), name
    for other in ((), ("encoder",), ("encoder", "layers.1")):  # the last of as many parameters
        with pytest.raises(UserError, match=r"other parts held; give MainArgs.freeze = encoder layers.0 again, or an"):
            main(replace(again, freeze=other, steps=7))
    main(replace(again, freeze=("layers.0", "encoder"), steps=7))


def test_all_that_a_step_changes_is_aligned(args):
    net, average = (models.FAMILIES["dptnet"].net(replace(args.model, sigma_reparam=True)) for _ in range(2))
    optimizers = train.make_optimizers(net, lr=args.lr, muon=args.muon, weight_decay=args.weight_decay)
    net(torch.randn(1, 500)).square().sum().backward()
    before = [x.clone() for x in train.changed_by_steps(net, average, optimizers, torch.device("cpu"))]
    for optimizer in optimizers:
        optimizer.step()
    after = train.changed_by_steps(net, average, optimizers, torch.device("cpu"))
    assert len(before) == sum(len([*n.parameters(), *n.buffers()]) for n in (net, average)) and [*net.buffers()]
    n_adamw, n_muon = (sum(len(group["params"]) for group in o.param_groups) for o in optimizers)
    assert len(after) == len(before) + 3 * n_adamw + n_muon  # two moments and the step, one mean of gradients


def test_validation_of_the_identity_finds_no_improvement_and_nothing_removed(args):
    family = models.FAMILIES["dptnet"]._replace(extract=lambda net, mixture: mixture)
    rng = np.random.default_rng(0)
    frozen = []
    for kind in KINDS * 2:
        target, interference = (torch.from_numpy(rng.normal(size=1000).astype(np.float32)) for _ in range(2))
        target = target * (kind != "absent")
        frozen.append({"mixture": target + interference, "target": target, "speaker": torch.tensor(0)})

    scores, estimates = train.validate(family, nn.Identity(), dict(enumerate(frozen)), args, "cpu", ddp.Team())

    loss = scores.pop("loss")
    names = "game_si_sdri_db", "voice_si_sdri_db", "both_si_sdri_db", "absent_db"
    assert scores == pytest.approx({prefix + name: 0 for name in names for prefix in ("", "conditions_")})
    expected = [predictive_loss(nn.Identity(), x["mixture"][None], x["target"][None], args.loss)[0] for x in frozen]
    assert loss == pytest.approx(float(np.mean(expected)), rel=1e-5)
    assert len(estimates) == len(KINDS)


def test_half_of_the_validation_mixtures_are_under_conditions_by_themselves(args):
    """The second four of them are no better: -6 dB of everything, and nothing is gained."""
    half = models.FAMILIES["dptnet"]._replace(extract=lambda net, mixture: mixture * (1 if mixture.max() < 10 else 0.5))
    target = torch.from_numpy(np.random.default_rng(0).normal(size=1000).astype(np.float32))
    nothing = {"target": 0 * target, "speaker": torch.tensor(0)}
    frozen = [{"mixture": gain * target} | nothing for gain in 4 * [1] + 4 * [100]]
    scores, _ = train.validate(half, nn.Identity(), dict(enumerate(frozen)), args, "cpu", ddp.Team())
    assert scores["absent_db"] == pytest.approx(0, abs=1e-4)
    assert scores["conditions_absent_db"] == pytest.approx(-6.02, abs=0.01)


def test_a_checkpoint_says_how_high_the_sound_reached_that_it_was_trained_on(args):
    reach = profile([audio.probe(p) for p in audio.find(args.data.clean[0])]).bandwidth_hz
    for share, least in ((0.5, 200.0), (0.0, reach)):
        run = replace(args, name=f"band_{share}", augment=AugmentArgs(p_band=share, cutoff_hz=(200.0, 20_000.0)))
        assert checkpoint.load(main(run))["bandwidth_hz"] == (pytest.approx(least), reach)
        assert models.load(run.folder / "best.pt")[0].bandwidth_hz == (pytest.approx(least), reach)
        assert models.exported(run.folder / "best.pt")["bandwidth_hz"] == (pytest.approx(least), reach)


def test_best_holds_the_averaged_weights_that_scored_best(args):
    best = main(replace(args, steps=9))
    state = checkpoint.load(best)
    losses = scalars(args.folder)["valid/loss"]
    assert state["step"] == args.valid_every * (1 + np.argmin(losses))
    assert state["best"] == pytest.approx(min(losses), rel=1e-6)
    net, family = models.load(best)
    assert all(torch.equal(p, state["ema"][name]) for name, p in net.state_dict().items())
    assert not all(torch.equal(state["net"][name], state["ema"][name]) for name in state["net"])


def test_the_averaged_weights_are_validated_all_processes_alike(args, monkeypatch):
    validate, done = train.validate, []

    def noted(family, net, *rest):
        done.append(("validated", {name: p.clone() for name, p in net.state_dict().items()}))
        return validate(family, net, *rest)

    monkeypatch.setattr(train, "validate", noted)
    monkeypatch.setattr(ddp.Team, "align", lambda self, tensors: done.append(("aligned", len(tensors))))
    main(replace(args, steps=3, model=replace(args.model, sigma_reparam=True)))
    assert [name for name, _ in done] == ["aligned", "validated"]
    net, state = done[1][1], checkpoint.load(args.folder / "best.pt")
    assert all(torch.equal(p, state["ema"][name]) for name, p in net.items())  # u and v too, which sigma.refresh makes
    assert not all(torch.equal(p, state["net"][name]) for name, p in net.items())
