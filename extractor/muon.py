"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): a matrix moves equally far in all directions.

torch.optim.Muon does the same, one matrix after another and always in bfloat16. On a CPU without AVX-512 it takes 8 to
38 times as long (bench/optimizer.py): for the full-band nets longer than loss and gradient.
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from extractor import precision

ROUNDS = 5
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of a quintic that is steepest at 0; it ends near 1, at 0.7 to 1.2


class Muon(torch.optim.Optimizer):
    """Of matrices. What a unit vector becomes changes by lr sqrt(max(1, rows/columns)) a step, in nets of any width."""

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, weight_decay: float, momentum: float = 0.95):
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
