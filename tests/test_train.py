"""The training loop: that it learns, stops and goes on."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import assert_equal, scalars, tiny_run, weights
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


@pytest.fixture
def changed_loss(monkeypatch):
    """changed_loss(change): in training the loss is what `change` makes of it, given the net."""
    def changed_loss(change):
        def loss(net, mixture, target, loss_args, seeds=None):
            value, parts = predictive_loss(net, mixture, target, loss_args)
            return change(value, net) if net.training else value, parts

        monkeypatch.setattr(step_cost, "memory", lambda *_: Memory(0, 0))  # whose steps do not count
        monkeypatch.setitem(models.FAMILIES, "dptnet", models.FAMILIES["dptnet"]._replace(loss=loss))

    return changed_loss


def test_steps_without_a_finite_loss_are_skipped_counted_and_leave_no_trace(args, changed_loss, capsys, threads):
    threads(1)  # a call is a step
    seen = []

    def nan_at_first(value, net):
        seen.append({name: p.detach().clone() for name, p in net.named_parameters()})
        return value * (math.nan if len(seen) <= 2 else 1)

    changed_loss(nan_at_first)
    main(args)
    assert all(torch.equal(seen[0][name], seen[2][name]) for name in seen[0])
    assert not all(torch.equal(seen[2][name], seen[3][name]) for name in seen[0])
    assert "2 steps were skipped" in capsys.readouterr().out


def test_ten_steps_in_a_row_without_a_finite_gradient_stop_the_run(args, changed_loss):
    changed_loss(lambda value, net: value + (next(net.parameters()).sum() * 0).sqrt())  # d sqrt(0) = inf
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
        if name.startswith("['ema']"):
            assert (cuda[name] - cpu[name]).norm() < 1e-2 * cpu[name].norm() + 1e-2


def test_products_in_training_are_of_the_precision_asked_for_all_else_is_full(args, monkeypatch, capsys):
    dtypes, forward = [], nn.Linear.forward

    def noted(*given):
        dtypes.append((out := forward(*given)).dtype)
        return out

    monkeypatch.setattr("extractor.precision.fast", lambda device: False)
    monkeypatch.setattr(step_cost, "memory", lambda *_: Memory(0, 0))  # whose products do not count
    monkeypatch.setattr(nn.Linear, "forward", noted)
    for precision, expected in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        dtypes.clear()
        main(replace(args, name=precision, steps=1, valid_every=10**6, precision=precision))
        training, validation = dtypes[: len(dtypes) // 2], dtypes[-10:]
        assert expected in training and set(validation) == {torch.float32}
        saved = weights(args.folder.parent / precision / "last.pt")
        assert {x.dtype for name, x in saved.items() if "rng" not in name} == {torch.float32}
        assert ("multiplies bf16 no faster than fp32" in capsys.readouterr().out) == (precision == "bf16")


def groups_of(path: Path) -> list[dict]:
    """The groups of parameters of AdamW, those with decay and those without, and Muon's, as a checkpoint has them."""
    return [group for optimizer in checkpoint.load(path)["optimizer"] for group in optimizer["param_groups"]]


def test_both_optimizers_follow_the_schedule_and_what_a_run_is_told_on_going_on_counts(args):
    last = args.folder / "last.pt"
    for steps, lr, muon, decay in ((2, 5e-4, 14.0, 0.1), (4, 1e-3, 3.0, 0.3)):
        main(replace(args, steps=steps, lr=lr, muon=muon, weight_decay=decay))
        rate = learning_rate(steps - 1, peak=lr, warmup=args.warmup, steps=steps)
        assert [group["lr"] for group in groups_of(last)] == pytest.approx([rate, rate, muon * rate])
        assert [group["weight_decay"] for group in groups_of(last)] == [decay, 0.0, decay]
    adamw, _ = checkpoint.load(last)["optimizer"]
    assert all(state["step"] == 4 for state in adamw["state"].values())  # and what was learned is there


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


def test_all_that_steps_change_is_aligned_once_before_it_is_validated_and_saved(args, monkeypatch):
    aligned = []
    monkeypatch.setattr(ddp.Team, "align", lambda self, tensors: aligned.extend(tensors))
    main(replace(args, steps=3, model=replace(args.model, sigma_reparam=True)))
    saved = [x for name, x in weights(args.folder / "last.pt").items() if "rng" not in name]
    assert len(aligned) == len(saved) and all(any(torch.equal(x, y) for y in aligned) for x in saved)


def test_validation_of_the_identity_finds_nothing_removed_and_of_the_half_6_db_of_what_is_under_conditions(args):
    """The second of two mixtures of each kind, which are louder here, are those under conditions."""
    def extract(net, mixture):
        return mixture * (0.5 if mixture.abs().max() > 10 else 1)

    rng, frozen = np.random.default_rng(0), []
    for gain in (1, 100):
        for kind in KINDS:
            x, y = (gain * torch.from_numpy(rng.normal(size=1000).astype(np.float32)) for _ in range(2))
            x = x * (kind != "absent")
            frozen.append({"mixture": x + y, "target": x, "speaker": torch.tensor(0)})
    family = models.FAMILIES["dptnet"]._replace(extract=extract)
    scores, estimates = train.validate(family, nn.Identity(), dict(enumerate(frozen)), args, "cpu", ddp.Team())

    loss = scores.pop("loss")
    names = "game_si_sdri_db", "voice_si_sdri_db", "both_si_sdri_db", "absent_db"
    expected = {prefix + name: 0 for name in names for prefix in ("", "conditions_")}
    assert scores == pytest.approx(expected | {"conditions_absent_db": -6.02}, abs=0.01)
    expected = [predictive_loss(nn.Identity(), x["mixture"][None], x["target"][None], args.loss)[0] for x in frozen]
    assert loss == pytest.approx(float(np.mean(expected)), rel=1e-5)
    assert len(estimates) == len(KINDS)


def test_a_checkpoint_says_how_high_the_sound_reached_that_it_was_trained_on(args):
    reach = profile([audio.probe(p) for p in audio.find(args.data.clean[0])]).bandwidth_hz
    for share, least in ((0.5, 200.0), (0.0, reach)):
        run = replace(args, name=f"band_{share}", augment=AugmentArgs(p_band=share, cutoff_hz=(200.0, 20_000.0)))
        assert checkpoint.load(main(run))["bandwidth_hz"] == (pytest.approx(least), reach)
        assert models.load(run.folder / "best.pt")[0].bandwidth_hz == (pytest.approx(least), reach)
        assert models.exported(run.folder / "best.pt")["bandwidth_hz"] == (pytest.approx(least), reach)


def test_best_holds_the_averaged_weights_that_scored_best_as_they_were_validated(args):
    args = replace(args, steps=9, model=replace(args.model, sigma_reparam=True))
    best = main(args)
    state = checkpoint.load(best)
    losses = scalars(args.folder)["valid/loss"]
    assert state["step"] == args.valid_every * (1 + np.argmin(losses))
    assert state["best"] == pytest.approx(min(losses), rel=1e-6)
    assert not all(torch.equal(state["net"][name], state["ema"][name]) for name in state["net"])
    net, family = models.load(best)
    _, _, held_out, _ = train.make_data(args, {}, ddp.Team())
    scores, _ = train.validate(family, net, {i: held_out[0, i] for i in range(len(held_out))}, args, "cpu", ddp.Team())
    assert scores["loss"] == pytest.approx(state["best"], rel=1e-5)
