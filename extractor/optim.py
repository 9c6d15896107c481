"""How weights move: an optimizer for every parameter, their learning rate over a run, their average; Muon."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor, nn

from extractor import UserError, precision


def learning_rate(step: int, *, peak: float, warmup: int, steps: int) -> float:
    """Linear warm-up over the first steps, at most a fifth of all, then half a cosine from the peak to a hundredth."""
    warmup = min(warmup, steps // 5)
    warm = min(1.0, (step + 1) / max(1, warmup))
    done = min(1.0, max(0, step - warmup) / max(1, steps - warmup))
    return peak * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def make_optimizers(net: nn.Module, *, lr: float, muon: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """AdamW, and for the matrices that lead from vectors to vectors Muon, which makes a step equally long in all
    directions. At the ends of a net, where some directions are signals, that costs more than a dB.

    muon: its learning rate over lr; 0: AdamW for these matrices, too
    """
    excluded = parameters_in(net, net.muon_excluded)
    inner = [p for name, p in net.named_parameters() if name not in excluded]
    matrices = [p for p in inner if p.requires_grad and p.ndim == 2] if muon else []
    groups = [group | {"over_lr": 1.0} for group in decay_groups(net, weight_decay, but=matrices)]
    fused = next(net.parameters()).is_cuda or None  # two launches instead of 15; a CPU goes on as it always did
    optimizers = [torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=fused)]
    if matrices:
        optimizers.append(Muon([{"params": matrices, "over_lr": muon}], lr=lr, weight_decay=weight_decay))
    return optimizers


def decay_groups(net: nn.Module, weight_decay: float, *, but: Sequence[nn.Parameter] = ()) -> list[dict]:
    """What is trained, but for some: norms, biases and gains do not decay."""
    others, matrices, rest = {id(p) for p in but}, [], []
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


# --- Muon ------------------------------------------------------------------------------------------------------------

ROUNDS = 5
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of a quintic that is steepest at 0; it ends near 1, at 0.7 to 1.2


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) moves a matrix equally far in all
    directions: a step moves the image of a unit vector by lr sqrt(max(1, rows/columns)).

    torch.optim.Muon does the same, one matrix after another and always in bfloat16. On a CPU without AVX-512 it takes 8
    to 38 times as long: for the full-band nets longer than loss and gradient (docs/log.md, "A CPU without AVX-512").
    """

    def __init__(self, matrices: Iterable, *, lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            alike: dict[tuple, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape, p.dtype, p.device].append(p)
            for ((rows, columns), *_), matrices in alike.items():
                lr = group["lr"] * math.sqrt(max(1, rows / columns))
                directions = orthogonal(torch.stack([self.ahead(p, group["momentum"]) for p in matrices]))
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, directions.unbind(), alpha=-lr)

    def ahead(self, p: nn.Parameter, momentum: float) -> Tensor:
        """The mean of past gradients where this one leads it (Nesterov)."""
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p.grad)
        mean = state["momentum_buffer"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(mean, momentum)


def orthogonal(x: Tensor) -> Tensor:
    """About U V^T of X = U S V^T, by Newton and Schulz's iteration. [M, rows, columns] -> of the same shape"""
    tall = x.shape[1] > x.shape[2]
    out = x.mT if tall else x
    out = out / out.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    out = out.bfloat16() if precision.fast(x.device) else out
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = out @ out.mT
        out = torch.baddbmm(out, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), out, beta=a)
    return (out.mT if tall else out).to(x.dtype)
