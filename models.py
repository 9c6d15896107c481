"""The table of model families, and nets built from it. A new family is one root file and one row here."""

from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

import bandsplit
import dptnet
import flow
import fullband
import rwkvnet
from extractor import UserError, checkpoint, losses, sigma

Args = fullband.FullBandArgs | bandsplit.BandSplitArgs | dptnet.DPTNetArgs | rwkvnet.RWKVNetArgs | flow.FlowArgs


class Family(NamedTuple):
    args: type         # what the user puts in MainArgs.model: its class picks the family
    net: type          # net(args)
    presets: dict      # args by name
    loss: Callable     # loss(net, mixture [B, T], target [B, T], LossArgs, seeds [B] or None) -> scalar, {name: value}
    extract: Callable  # extract(net, mixture [B, T], start = 0, its place in the recording) -> [B, T]


def predicted(net: nn.Module, mixture: Tensor, start: int = 0) -> Tensor:
    """The estimate of a net that need not know where in the recording it is. [B, T] -> [B, T]"""
    return net(mixture)


PREDICTIVE = {"loss": losses.predictive_loss, "extract": predicted}
FAMILIES = {
    "fullband": Family(fullband.FullBandArgs, fullband.FullBand, fullband.PRESETS, **PREDICTIVE),
    "bandsplit": Family(bandsplit.BandSplitArgs, bandsplit.BandSplit, bandsplit.PRESETS, **PREDICTIVE),
    "dptnet": Family(dptnet.DPTNetArgs, dptnet.DPTNet, dptnet.PRESETS, **PREDICTIVE),
    "rwkvnet": Family(rwkvnet.RWKVNetArgs, rwkvnet.RWKVNet, rwkvnet.PRESETS, **PREDICTIVE),
    "flow": Family(flow.FlowArgs, flow.Flow, flow.PRESETS, flow.loss, flow.extract),
}

REFINED = [name for name, family in FAMILIES.items() if family.args in flow.PREDICTORS]  # by flows
PRESETS = {f"{name}-{preset}": args for name, family in FAMILIES.items() for preset, args in family.presets.items()}


def family_name(args) -> str:
    """Of a net's args, whose class it follows from."""
    for name, family in FAMILIES.items():
        if type(args) is family.args:
            return name
    known = ", ".join(family.args.__name__ for family in FAMILIES.values())
    raise UserError(f"MainArgs.model is a {type(args).__name__}: give one of {known}")


def family_of(args) -> Family:
    """Of a net's args."""
    return FAMILIES[family_name(args)]


def saved_args(state: dict, path: str | Path):
    """The args of the net in a checkpoint."""
    if state["family"] not in FAMILIES:
        raise UserError(f"{path}: holds a {state['family']!r} net; this version knows {', '.join(FAMILIES)}")
    try:
        return FAMILIES[state["family"]].args(**state["args"]["model"])
    except (TypeError, UserError) as e:
        raise UserError(f"{path}: written by another version ({state.get('versions')}): {e}") from None


def load(path: str | Path) -> tuple[nn.Module, Family]:
    """The net of a checkpoint with its averaged weights, as plain ones, on the CPU, ready to extract. Its attribute
    `bandwidth_hz` says how high the sound reached that it was trained on, at least and at most; None: unknown."""
    state = checkpoint.load(path)
    args = saved_args(state, path)
    family = FAMILIES[state["family"]]
    net = family.net(args)
    checkpoint.put(state["ema"], net, path)
    sigma.refresh(net)
    sigma.fold(net)
    net.bandwidth_hz = state.get("bandwidth_hz")
    return net.eval().requires_grad_(False), family


def refining(args, path: str | Path):
    """A flow's args with the net that it refines from a checkpoint, of that net or of a flow; any other args, and where
    the checkpoint holds neither, as they are."""
    if type(args) is not flow.FlowArgs:
        return args
    saved = saved_args(checkpoint.load(path), path)
    predictor = saved.predictor if type(saved) is flow.FlowArgs else saved
    if type(predictor) not in flow.PREDICTORS:
        return args
    try:
        return replace(args, predictor=predictor)
    except UserError as e:
        raise UserError(f"{path}: no net for this flow to refine: {e}") from None


def start_from(net: nn.Module, path: str | Path):
    """Put a checkpoint's averaged weights into a net of the same args; into a flow, those of the net it refines. With
    no path a net keeps its first weights, which a flow cannot: it refines a trained one."""
    is_flow = type(net.args) is flow.FlowArgs
    if not path:
        if is_flow:
            raise UserError("MainArgs.init_from = '': a flow refines a trained net; give the checkpoint of that one")
        return
    state = checkpoint.load(path)
    if is_flow and state["family"] in REFINED:
        net = net.predictor
    if different := differences(path, state, net.args):
        remedy = f"; a flow starts from a {' or '.join(REFINED)} net, or another flow" if is_flow else ""
        raise UserError(f"{path}: no start for this net ({'; '.join(different)}); make these equal{remedy}")
    checkpoint.put(state["ema"], net, path)


def exported(path: str | Path) -> dict:
    """What extraction needs of a checkpoint, as a checkpoint: args, and the averaged weights as plain ones."""
    state = checkpoint.load(path)
    net, _ = load(path)
    args = {"model": asdict(without_sigma_reparam(saved_args(state, path)))}
    kept = {key: state[key] for key in ("family", "step", "best", "bandwidth_hz", "versions") if key in state}
    return kept | {"args": args, "ema": net.state_dict()}


def without_sigma_reparam(args):
    """Args of the net that has the folded weights; nested ones too."""
    nested = {f.name: getattr(args, f.name) for f in fields(args)}
    changed = {name: without_sigma_reparam(value) for name, value in nested.items() if is_dataclass(value)}
    return replace(args, **changed, **({"sigma_reparam": False} if "sigma_reparam" in nested else {}))


def same_net(path: str | Path, args) -> dict:
    """The content of a run's checkpoint. Raises UserError where it is of another net than these args'."""
    state = checkpoint.load(path)
    if different := differences(path, state, args):
        raise UserError(
            f"{path}: a checkpoint of another net ({'; '.join(different)}); "
            "give this run another MainArgs.name, or move that folder away"
        )
    return state


def differences(path: str | Path, state: dict, args) -> list[str]:
    """What of the weights' shape or meaning differs between a checkpoint and `args`, a line each."""
    saved = saved_args(state, path)
    if type(saved) is not type(args):
        return [f"family {state['family']} there, {family_name(args)} here"]
    there, here = fixed(asdict(saved)), fixed(asdict(args))
    return [f"{key} = {there[key]} there, {here[key]} here" for key in here if there[key] != here[key]]


def fixed(args: dict) -> dict:
    """Args of a net and of the net in it, but for those that change what a step costs, or how many a flow takes."""
    kept = {key: value for key, value in args.items() if key not in ("checkpointing", "steps")}
    return {key: fixed(value) if isinstance(value, dict) else value for key, value in kept.items()}
