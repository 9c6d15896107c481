"""How weights move: an optimizer for every parameter, their learning rate over a run, their average."""

import math
from collections.abc import Collection, Sequence

import torch
from torch import nn

from extractor import UserError
from extractor.muon import Muon


def learning_rate(step: int, args) -> float:
    """Linear warm-up over the first steps, then half a cosine from the peak down to a hundredth of it.

    args: with `lr`, the peak, `warmup` and `steps`
    """
    warm = min(1.0, (step + 1) / max(1, args.warmup))
    done = min(1.0, max(0, step - args.warmup) / max(1, args.steps - args.warmup))
    return args.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def make_optimizers(net: nn.Module, args) -> list[torch.optim.Optimizer]:
    """AdamW, and for the matrices that lead from vectors to vectors Muon, which makes a step equally long in all
    directions. At the ends of a net, where some directions are signals, that costs more than a dB.

    args: with `lr`, `muon` and `weight_decay`
    """
    inner = {name: p for name, p in net.named_parameters() if not {*name.split(".")} & {*net.ends}}
    matrices = [p for p in inner.values() if p.requires_grad and p.ndim == 2] if args.muon else []
    groups = decay_groups(net, args.weight_decay, but=matrices)
    optimizers = [torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98))]
    if matrices:
        optimizers.append(Muon(matrices, lr=args.lr, weight_decay=args.weight_decay))
    for optimizer, over_lr in zip(optimizers, (1.0, args.muon), strict=False):
        for group in optimizer.param_groups:
            group["over_lr"] = over_lr
    return optimizers


def decay_groups(net: nn.Module, weight_decay: float, *, but: Sequence[nn.Parameter] = ()) -> list[dict]:
    """What is trained, but for some: norms, biases and gains do not decay."""
    others = {id(p) for p in but}
    matrices, rest = [], []
    for name, p in net.named_parameters():
        if p.requires_grad and id(p) not in others:
            (rest if p.ndim < 2 or name.endswith("bias") else matrices).append(p)  # biases of several bands have axes
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], lr: float):
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = lr * group["over_lr"]


def freeze(net: nn.Module, parts: Collection[str]):
    """Parts of the net keep their weights: modules or parameters by their dotted names, with all below them.
    Raises UserError where nothing has such a name, or nothing is left to train."""
    for part in parts:
        if not (below := parameters_in(net, [part])):
            named = ", ".join(dict.fromkeys(name.split(".")[0] for name, _ in net.named_parameters()))
            raise UserError(f"MainArgs.freeze: the net has no {part!r}; give parts of {named}")
        for name in below:
            net.get_parameter(name).requires_grad_(False)
    if not any(p.requires_grad for p in net.parameters()):
        raise UserError(f"MainArgs.freeze = {', '.join(parts)}: nothing is left to train; name less")


def parameters_in(net: nn.Module, parts: Collection[str]) -> set[str]:
    """Names of the parameters in these parts."""
    return {name for name, _ in net.named_parameters() if any(f"{name}.".startswith(f"{part}.") for part in parts)}


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, keep: float, step: int):
    """Exponential moving average of the weights; young ones forget faster, or the first weights would stay for long."""
    keep = min(keep, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - keep)
