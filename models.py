"""The table of model families, and nets built from it. A new family is one root file and one row here."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

import bandsplit
import dptnet
import flow
import fullband
import losses
import multispeaker
import rwkvnet
from extractor import UserError, checkpoint, sigma

Args = fullband.FullBandArgs | bandsplit.BandSplitArgs | dptnet.DPTNetArgs | rwkvnet.RWKVNetArgs | flow.FlowArgs


def predicted(net: nn.Module, mixture: Tensor, start: int = 0) -> Tensor:
    """Returns the estimate of a net that need not know its place in the recording. [B, T] -> [B, T]"""
    return net(mixture)


class Family(NamedTuple):
    """All that a family is. A net must have `args`, which it was built from; `muon_excluded`, names of its parts that
    lead from or to signals, whose matrices AdamW trains instead of Muon; and where torch.compile is to find its layers,
    they lie in an nn.ModuleList of the net itself. T samples come out for T that go in, for any T >= 1; zeros for
    zeros; f(a x) = a f(x) for a > 0; an item of a batch never depends on another. Layers draw nothing at random."""

    args: type         # what the user puts in MainArgs.model: its class picks the family
    net: type          # net(args)
    presets: dict      # args by name
    # loss(net, mixture [B, T], target [B, T], LossArgs, seeds [B] or None) -> scalar, {name: value}
    loss: Callable = losses.predictive_loss
    extract: Callable = predicted  # extract(net, mixture [B, T], start = 0, its place in the recording) -> [B, T]
    free: tuple[str, ...] = ("checkpointing",)  # fields of args that may differ between a checkpoint and the run
    refines: tuple[type, ...] = ()  # args of nets that it refines: one is frozen as net.predictor, its args.predictor
    by_speaker: bool = False  # net(mixture, speakers [B]): each folder of MixtureArgs.clean is a speaker
    # where the net is a gain: one for all channels, extract_channels(net, channels [C, T], mixture [T]) -> [C, T]
    extract_channels: Callable | None = None


FAMILIES = {
    "fullband": Family(
        fullband.FullBandArgs, fullband.FullBand, fullband.PRESETS,
        extract_channels=fullband.FullBand.extract_channels,
    ),
    "bandsplit": Family(bandsplit.BandSplitArgs, bandsplit.BandSplit, bandsplit.PRESETS),
    "dptnet": Family(dptnet.DPTNetArgs, dptnet.DPTNet, dptnet.PRESETS),
    "rwkvnet": Family(rwkvnet.RWKVNetArgs, rwkvnet.RWKVNet, rwkvnet.PRESETS),
    "multispeaker": Family(
        multispeaker.MultiSpeakerArgs, multispeaker.MultiSpeaker, multispeaker.PRESETS, by_speaker=True,
    ),
    "flow": Family(
        flow.FlowArgs, flow.Flow, flow.PRESETS, flow.loss, flow.extract, ("checkpointing", "steps"), (*flow.PREDICTORS,)
    ),
}

PRESETS = {f"{name}-{preset}": args for name, family in FAMILIES.items() for preset, args in family.presets.items()}

BASES = {"fullband-light": Path(__file__).parent / "pretrained/fullband-light.pt"}  # nets to start from, by preset


def family_name(args) -> str:
    """Returns the name of the family of a net's args. Raises UserError where they are of none."""
    for name, family in FAMILIES.items():
        if type(args) is family.args:
            return name
    known = ", ".join(family.args.__name__ for family in FAMILIES.values())
    raise UserError(f"MainArgs.model is a {type(args).__name__}: give one of {known}")


def family_of(args) -> Family:
    """Returns the family of a net's args. Raises UserError where they are of none."""
    return FAMILIES[family_name(args)]


def saved_args(state: dict, path: str | Path):
    """Returns the args of the net in a checkpoint. Raises UserError where this version has no such net."""
    if state["family"] not in FAMILIES:
        raise UserError(f"holds a {state['family']!r} net; this version knows {', '.join(FAMILIES)}", path)
    try:
        return FAMILIES[state["family"]].args(**state["args"]["model"])
    except (TypeError, UserError) as e:
        raise UserError(f"written by another version ({state.get('versions')}): {e}", path) from None


def load(path: str | Path) -> tuple[nn.Module, Family]:
    """Returns a checkpoint's net with its averaged weights, as plain ones, on the CPU, ready to extract; its family.
    net.bandwidth_hz says how high the sound reached that it was trained on, at least and at most; None: unknown.
    Raises UserError where it is for many speakers."""
    state = checkpoint.load(path)
    family, net = averaged(state, path)
    if family.by_speaker:
        remedy = f"train one for yours: python train.py --init-from {path}"
        raise UserError(f"holds a net for {net.args.n_speakers} speakers, none of them yours; {remedy}", path)
    sigma.refresh(net)
    sigma.fold(net)
    net.bandwidth_hz = state.get("bandwidth_hz")
    return net.eval().requires_grad_(False), family


def averaged(state: dict, path: str | Path) -> tuple[Family, nn.Module]:
    """Returns the family and the net of a checkpoint's content, with its averaged weights."""
    args = saved_args(state, path)
    family = family_of(args)
    net = family.net(args)
    checkpoint.load_weights(state["ema"], net, path)
    return family, net


def for_many(state: dict, path: str | Path) -> bool:
    """Says whether a checkpoint's content is a net for many speakers."""
    return family_of(saved_args(state, path)).by_speaker


def for_one(state: dict, path: str | Path) -> dict:
    """Returns a checkpoint's content; of a net for many speakers that of a net for one, who is their mean."""
    if not for_many(state, path):
        return state
    _, many = averaged(state, path)
    net = many.for_one(many.vectors.detach().mean(0))
    args = {**state["args"], "model": asdict(net.args)}
    return {**state, "family": family_name(net.args), "args": args, "ema": net.state_dict()}


def start_of(args, named: str) -> str:
    """Returns the path of the checkpoint that a new net of these args starts from; "" for random weights.

    named: that path; "auto" for the base of these args, random weights where they have none; "none" or "" for random
    weights. Raises UserError where the base is missing, damaged or of another net.
    """
    if named != "auto":
        return "" if named == "none" else named
    for preset, path in BASES.items():
        if type(args) is type(PRESETS[preset]) and not unlike(PRESETS[preset], args):
            try:
                start_from(family_of(args).net(args), path)
            except UserError as e:
                raise UserError(f"{e}; or start from random weights: MainArgs.init_from = 'none'") from None
            return str(path)
    return ""


def adapted(args, path: str | Path):
    """Completes a net's args from the checkpoint that training starts from: a net that refines another gets the args of
    that one, which the checkpoint holds or refines."""
    saved = saved_args(checkpoint.load(path), path)
    refined = getattr(saved, "predictor", saved)
    try:
        return replace(args, predictor=refined) if type(refined) in family_of(args).refines else args
    except UserError as e:
        raise UserError(f"cannot initialise this net from it: {e}", path) from None


def start_from(net: nn.Module, path: str | Path):
    """Puts a checkpoint's averaged weights into a net, or into the net that it refines. With no path the net keeps its
    first weights. Raises UserError where it needs another net to refine, or where the checkpoint's net is another."""
    refines = family_of(net.args).refines
    names = " or ".join(name for name, family in FAMILIES.items() if family.args in refines)
    wanted = f"a trained {names} net, or another {family_name(net.args)}" if refines else ""
    if not path:
        if refines:
            raise UserError(f"MainArgs.init_from = '': this net starts from {wanted}; give its checkpoint")
        return
    state = checkpoint.load(path)
    if not family_of(net.args).by_speaker:
        state = for_one(state, path)
    part = net.predictor if type(saved_args(state, path)) in refines else net
    if different := "; ".join(differences(path, state, part.args)):
        remedy = f"; give {wanted}" if wanted else ""
        raise UserError(f"cannot initialise this net from it ({different}); make these equal{remedy}", path)
    checkpoint.load_weights(state["ema"], part, path)


def exported(path: str | Path, *, half: bool = False) -> dict:
    """Returns what extraction needs of a checkpoint, as a checkpoint: args, and the averaged weights as plain ones.
    half: in half precision; nets that are made of it compute in single precision again"""
    state = checkpoint.load(path)
    _, net = averaged(state, path)
    sigma.refresh(net)
    sigma.fold(net)
    args = asdict(net.args)
    for nested in (args, args.get("predictor", {})):  # the weights are plain by now
        if "sigma_reparam" in nested:
            nested["sigma_reparam"] = False
    kept = {key: state[key] for key in ("family", "step", "best", "bandwidth_hz", "versions") if key in state}
    return kept | {"args": {"model": args}, "ema": (net.half() if half else net).state_dict()}


def same_net(path: str | Path, args) -> dict:
    """Returns the content of a run's checkpoint. Raises UserError where it is of another net than these args'."""
    state = checkpoint.load(path)
    if different := differences(path, state, args):
        remedy = "give this run another MainArgs.name, or move that folder away"
        raise UserError(f"a checkpoint of another net ({'; '.join(different)}); {remedy}", path)
    return state


def differences(path: str | Path, state: dict, args) -> list[str]:
    """Says how the weights' shape or meaning differs between a checkpoint and `args`, a line for each field."""
    saved = saved_args(state, path)
    if type(saved) is not type(args):
        return [f"family {state['family']} there, {family_name(args)} here"]
    return unlike(saved, args)


def unlike(there, here) -> list[str]:
    """Says how the weights' shape or meaning differs between args of one family, a line for each field."""
    free = family_of(here).free
    there, here = fixed(asdict(there), free), fixed(asdict(here), free)
    return [f"{key} = {there[key]} there, {here[key]} here" for key in here if there[key] != here[key]]


def fixed(args: dict, free: tuple[str, ...]) -> dict:
    """Returns the args of a net, and of the net in it, without those that may differ."""
    kept = {key: value for key, value in args.items() if key not in free}
    return {key: fixed(value, free) if isinstance(value, dict) else value for key, value in kept.items()}
