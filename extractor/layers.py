"""What layers of several families share: attention, how its weights spread, and memory for time."""

import math
from collections.abc import Callable
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from extractor.precision import at_least_fp32, full

_found: ContextVar[list[Tensor] | None] = ContextVar("found", default=None)


class Attention(nn.Module):
    """Multi-head self-attention along the first axis, with rotary positions or none. [L, B, D] -> [L, B, D]"""

    def __init__(self, dim: int, n_heads: int, *, bias: bool = True, rotary: bool = False):
        super().__init__()
        self.n_heads, self.rotary = n_heads, rotary
        self.in_proj, self.out_proj = nn.Linear(dim, 3 * dim, bias=bias), nn.Linear(dim, dim, bias=bias)
        if bias:  # first values as those of nn.MultiheadAttention
            nn.init.xavier_uniform_(self.in_proj.weight)
            nn.init.zeros_(self.in_proj.bias)
            nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        qkv = rearrange(self.in_proj(x), "l b (three h d) -> three b h l d", three=3, h=self.n_heads)
        q, k, v = qkv.contiguous()  # strided rows miss the CPU's caches: up to 1.8 times as slow
        if self.rotary:
            q, k = rotate(q), rotate(k)
        return self.out_proj(rearrange(attend(q, k, v), "b h l d -> l b (h d)"))


def rotate(x: Tensor) -> Tensor:
    """RoPE (Su et al. 2021, arXiv 2104.09864): component i and i + d/2 of position l turn by l 10000^(-2i/d), so that
    a product of two tells how far apart they are. [..., L, d] -> [..., L, d]"""
    length, dim = x.shape[-2:]
    frequencies = 10000 ** (-torch.arange(0, dim, 2, device=x.device) / dim)
    angles = torch.arange(length, device=x.device)[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v. 3 times [..., L, D] -> [..., L, D].
    In full precision on a CPU: torch's kernel there takes five times as long backward in bf16."""
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
