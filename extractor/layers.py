"""What layers of several families share: attention, how its weights spread, and memory for time."""

import math
from collections.abc import Callable
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from extractor.precision import at_least_fp32, full

_found: ContextVar[list[Tensor] | None] = ContextVar("found", default=None)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v. 3 times [..., L, D] -> [..., L, D]

    In full precision on a CPU: torch's kernel there takes five times as long backward in bf16.
    """
    if (found := _found.get()) is not None:
        found.append(relative_entropy(q, k))
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v)
    with full(q):
        return F.scaled_dot_product_attention(*map(at_least_fp32, (q, k, v)))


@torch.no_grad()
def relative_entropy(q: Tensor, k: Tensor) -> Tensor:
    """Entropy of a query's weights over the L keys, over log L: 1 where all keys weigh alike, 0 where one has all the
    weight. Mean over queries, heads and items. 2 times [..., L, D] -> scalar"""
    with full(q):
        weights = (at_least_fp32(q) @ at_least_fp32(k).mT / math.sqrt(q.shape[-1])).softmax(-1)
        return torch.special.entr(weights).sum(-1).mean() / math.log(max(2, k.shape[-2]))


@torch.no_grad()
def entropy_by_layer(net: Callable[[Tensor], Tensor], mixture: Tensor) -> Tensor:
    """`relative_entropy` of every attention in the net, in the order of its forward pass. [B, T] -> [layers]"""
    token = _found.set([])
    try:
        net(mixture)
        return torch.stack(_found.get() or [torch.zeros(0)]).flatten()
    finally:
        _found.reset(token)


def checkpointed(layer: nn.Module, *inputs, enabled: bool):
    """layer(*inputs). If `enabled`, training does not keep the activations inside the layer; the backward pass computes
    them again. Nets draw nothing at random, so there is no random state to restore."""
    if enabled and layer.training:
        return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
    return layer(*inputs)
