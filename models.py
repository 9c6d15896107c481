"""The table of model families, and nets built from it. A new family is one root file and one row here."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from torch import nn

import dptnet
from extractor import UserError, checkpoint, losses


class Family(NamedTuple):
    args: type         # what the user puts in MainArgs.model: its class picks the family
    net: type          # net(args)
    loss_args: type    # what MainArgs.loss must be
    loss: Callable     # loss(net, mixture [B, T], target [B, T], loss_args) -> scalar, {name: value}
    extract: Callable  # extract(net, mixture [B, T]) -> estimate [B, T]


FAMILIES = {
    "dptnet": Family(dptnet.DPTNetArgs, dptnet.DPTNet, losses.LossArgs, losses.predictive_loss, dptnet.extract),
}


def family_name(args) -> str:
    """Of a net's args."""
    return next(name for name, family in FAMILIES.items() if type(args) is family.args)


def saved_args(state: dict, path: str | Path):
    """The args of the net in a checkpoint."""
    if state["family"] not in FAMILIES:
        raise UserError(f"{path}: holds a {state['family']!r} net; this version knows {', '.join(FAMILIES)}")
    try:
        return FAMILIES[state["family"]].args(**state["args"]["model"])
    except TypeError as e:
        raise UserError(f"{path}: written by another version ({state.get('versions')}): {e}") from None


def load(path: str | Path) -> tuple[nn.Module, Family]:
    """The net of a checkpoint with its averaged weights, on the CPU, ready to extract."""
    state = checkpoint.load(path)
    args = saved_args(state, path)
    family = FAMILIES[state["family"]]
    net = family.net(args)
    net.load_state_dict(state["ema"])
    return net.eval().requires_grad_(False), family


def differences(path: str | Path, state: dict, args) -> list[str]:
    """What of the weights' shape or meaning differs between a checkpoint and `args`, a line each."""
    saved = saved_args(state, path)
    if type(saved) is not type(args):
        return [f"family {state['family']} there, {family_name(args)} here"]
    there, here = asdict(saved), asdict(args)
    fixed = here.keys() - {"checkpointing"}  # which changes the cost of a step, not the net
    return [f"{key} = {there[key]} there, {here[key]} here" for key in here if key in fixed and there[key] != here[key]]
