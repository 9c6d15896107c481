"""RWKV-7 "Goose" (x070) of Peng et al. (2025), arXiv 2503.14456, in plain PyTorch and in both directions of time.

B batch · T frames · C width · H heads · N = C/H width of a head · R frames per chunk of the scan
r receptance · w decay · k key · v value · a, b what the state forgets and where · S state, [N, N] in every head

The first half of the heads reads the frames forward, the second half backward, at the cost of one direction.
Formulas and initial values are those of BlinkDL/RWKV-LM, RWKV-v7/train_temp/src/model.py.
"""

import math
import os
from functools import cache
from inspect import signature

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from extractor import precision, require

MIN_LOG_W = -math.exp(-0.5)  # of x070: no channel forgets more than 45 % in a frame
RANKS = {"w": 16, "a": 16, "v": 8, "g": 32}  # the authors' rule is for C >= 768 and gives no less than 32


def check_heads(args, width: str):
    """Raises UserError where the field `width` cannot be split into args.n_heads, half of them for either direction."""
    dim, n = getattr(args, width), args.n_heads
    require(args, "n_heads", n >= 2 and n % 2 == 0, "give an even number of at least 2, half for each direction")
    require(args, width, dim % n == 0 and dim >= 2 * n, f"give a multiple of n_heads = {n}, at least {2 * n}")


# --- the recurrence --------------------------------------------------------------------------------------------------

def wkv7(r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, chunk_frames: int = 16) -> Tensor:
    """The recurrence of RWKV-7, computed for many chunks of frames at a time. 6 times [B, T, H, N] -> [B, T, H, N]

        S_t = S_{t-1} diag(w_t) + (S_{t-1} a_t) b_t^T + v_t k_t^T,  o_t = S_t r_t

    16 frames are the fastest on a CPU for some hundred frames and a batch, 32 for one long sequence, by 10 % there.
    Within MIN_LOG_W <= log_w <= 0 chunks of up to 128 frames are safe in fp32. In half precision on a GPU the kernel of
    fla-core does the work, where it is installed and the environment does not set PLAIN_WKV7.
    """
    if r.is_cuda and r.dtype in (torch.bfloat16, torch.float16) and not os.environ.get("PLAIN_WKV7") and fla_kernel():
        r, k, v, a, b = (x.to(r.dtype) for x in (r, k, v, a, b))
        gates = {"w": log_w.float(), "safe_gate": True, "lower_bound": MIN_LOG_W, "chunk_size": 64}
        return fla_kernel()(r=r, k=k, v=v, a=a, b=b, scale=1.0, **gates)[0]
    with precision.full(r):  # the state sums over the whole past
        return wkv7_chunked(*map(precision.at_least_fp32, (r, log_w, k, v, a, b)), chunk_frames).to(r.dtype)


def wkv7_chunked(r, log_w, k, v, a, b, chunk_frames: int) -> Tensor:
    """6 times [B, T, H, N] -> [B, T, H, N]

    In a chunk with c_t = log w_1 + .. + log w_t the transposed state, [keys, values], obeys
        u_t = S_{t-1}^T a_t,  S_t = e^{c_t} (S_0 + sum_{s<=t} e^{-c_s} (k_s v_s^T + b_s u_s^T)),
    which is linear in u: one triangular system a chunk, all of them at once. Only S_0 goes from chunk to chunk.
    """
    n_batch, n_frames = r.shape[:2]
    chunk_frames = math.ceil(n_frames / math.ceil(n_frames / chunk_frames))  # as many chunks, less padding
    rest = -n_frames % chunk_frames  # zeros behind the end: no decay, nothing written, nothing read
    padded = (F.pad(x, (0, 0, 0, 0, 0, rest)) for x in (r, log_w, k, v, a, b))
    r, log_w, k, v, a, b = (rearrange(x, "b (q r) h n -> (b h) q r n", r=chunk_frames) for x in padded)

    c = log_w.cumsum(2)
    half = c[:, :, -1:] / 2
    c = c - half  # relative to the middle of the chunk's decay: halves the range of the exponents
    grow = torch.exp(-c)
    k, b, r, a = k * grow, b * grow, r * c.exp(), a * (c - log_w).exp()

    eye = torch.eye(chunk_frames, dtype=r.dtype, device=r.device).expand(*r.shape[:2], -1, -1)
    inverse = torch.linalg.solve_triangular(-(a @ b.mT).tril(-1), eye, upper=False, unitriangular=True)
    u_0, u_state = inverse @ ((a @ k.mT).tril(-1) @ v), inverse @ a  # u = u_0 + u_state S_0
    states, u = scan(u_0, u_state, k, v, b, half.exp().mT)
    out = r @ states + (r @ k.mT).tril() @ v + (r @ b.mT).tril() @ u
    return rearrange(out, "(b h) q r n -> b (q r) h n", b=n_batch)[:, :n_frames]


def scan(u_0: Tensor, u_state: Tensor, k: Tensor, v: Tensor, b: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """From chunk to chunk, `decay` [B*H, Q, N, 1] being that of half a chunk. -> each chunk's S_0, decayed by half a
    chunk, [B*H, Q, N, N]; u [B*H, Q, R, N]"""
    to_next = decay * F.pad(decay[:, 1:], (0, 0, 0, 0, 0, 1))
    written, b = to_next * (k.mT @ v), to_next * b.mT
    state, states, u = torch.zeros_like(written[:, 0]), [], []
    # unbind, for the gradient of an index fills a tensor of all chunks with zeros, for each of them
    chunks = (x.unbind(1) for x in (u_0, u_state, written, to_next, b))
    for u_0_q, u_state_q, written_q, to_next_q, b_q in zip(*chunks, strict=True):
        states.append(state)
        u.append(torch.baddbmm(u_0_q, u_state_q, state))
        state = torch.baddbmm(torch.addcmul(written_q, to_next_q, state), b_q, u[-1])
    return torch.stack(states, dim=1), torch.stack(u, dim=1)


@cache
def fla_kernel():
    """chunk_rwkv7 of fla-core, or None; old ones know nothing of a bound on the decay."""
    try:
        from fla.ops.rwkv7 import chunk_rwkv7
    except ImportError:
        return None
    return chunk_rwkv7 if {"safe_gate", "lower_bound", "chunk_size"} <= {*signature(chunk_rwkv7).parameters} else None


# --- layers ----------------------------------------------------------------------------------------------------------

def token_shift(x: Tensor, n_backward: int) -> Tensor:
    """The frame before, in the last `n_backward` channels the frame behind; zeros beyond the ends. [B, T, C] -> same"""
    forward, backward = x.split([x.shape[-1] - n_backward, n_backward], dim=-1)
    return torch.cat([F.pad(forward, (0, 0, 1, -1)), F.pad(backward, (0, 0, -1, 1))], dim=-1)


def flip_backward(x: Tensor, n_backward: int) -> Tensor:
    """Reverses the time of the last `n_backward` heads. [B, T, H, N] -> [B, T, H, N]"""
    forward, backward = x.split([x.shape[2] - n_backward, n_backward], dim=2)
    return torch.cat([forward, backward.flip(1)], dim=2) if n_backward else x


class Spread:
    """The authors' initial values run over the channels; where there are two directions, each has the whole range."""

    def __init__(self, dim: int, n_heads: int, layer: int, n_layers: int, n_directions: int):
        n, head, self.n_directions = torch.arange(dim // n_directions), dim // n_heads, n_directions
        self.part = n / len(n)                                  # 0 to almost 1
        self.whole = n / max(len(n) - 1, 1)                     # 0 to 1
        zigzag = 2 * (n % head) / (head - 1) - 1 if head > 1 else 0 * self.part
        self.zigzag = zigzag * zigzag.abs()                     # -1 to 1 in each head
        self.depth = layer / max(n_layers - 1, 1)               # 0 to 1
        self.height = 1 - layer / n_layers                      # 1 to almost 0

    def mu(self, power: float) -> nn.Parameter:
        return nn.Parameter(self.everywhere(1 - self.part**power))

    def everywhere(self, values: Tensor) -> Tensor:
        """In every direction, to the last bit, which vectorised powers may round otherwise elsewhere."""
        return values.repeat(self.n_directions)


class Lora(nn.Module):
    """offset + f(x A) B: a vector for each frame from few weights; the offset alone at first. [B, T, C] -> [B, T, C]"""

    def __init__(self, dim: int, rank: int, offset: Tensor | None):
        super().__init__()
        self.down, self.up = nn.Parameter(torch.zeros(rank, dim)), nn.Parameter(torch.empty(dim, rank))  # [out, in]
        nn.init.orthogonal_(self.up, gain=0.1 * math.sqrt(max(rank / dim, 1)))
        self.offset = None if offset is None else nn.Parameter(offset)

    def forward(self, x: Tensor, f=None) -> Tensor:
        x = F.linear(x, self.down)
        x = F.linear(f(x) if f else x, self.up)
        return x if self.offset is None else self.offset + x


class TimeMix(nn.Module):
    """What attention is elsewhere. [B, T, C] -> [B, T, C].
    Layer 0 hands its values on; the others, which must get them, mix theirs with them."""

    def __init__(self, dim: int, n_heads: int, layer: int, n_layers: int, bidirectional: bool = True):
        super().__init__()
        assert dim % n_heads == 0 and not (bidirectional and n_heads % 2), (dim, n_heads)
        self.n_heads, self.bidirectional = n_heads, bidirectional
        at = Spread(dim, n_heads, layer, n_layers, n_directions=1 + bidirectional)
        self.mu_r, self.mu_g = at.mu(0.2 * at.height), at.mu(0.2 * at.height)
        self.mu_w, self.mu_a = at.mu(0.9 * at.height), at.mu(0.9 * at.height)
        self.mu_k, self.mu_v = at.mu(0.7 * at.height), at.mu(0.7 * at.height)
        self.w = Lora(dim, RANKS["w"], at.everywhere(-5.5 + 6 * at.whole ** (1 + at.depth**0.3) + 2.5 * at.zigzag))
        self.a = Lora(dim, RANKS["a"], at.everywhere(-0.19 + 0.3 * at.zigzag + 0.4 * (at.whole - 0.5)))
        self.v = Lora(dim, RANKS["v"], at.everywhere(0.73 - 0.4 * (at.whole - 0.5))) if layer else None
        self.g = Lora(dim, RANKS["g"], offset=None)
        self.k_k = nn.Parameter(at.everywhere(0.71 - 0.1 * (at.whole - 0.5)))
        self.k_a, self.r_k = nn.Parameter(torch.full([dim], 1.02)), nn.Parameter(torch.full([dim], -0.04))
        self.receptance, self.key, self.value, self.output = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        for linear, bound in ((self.receptance, 0.5), (self.key, 0.05), (self.value, 0.5), (self.output, 0)):
            nn.init.uniform_(linear.weight, -bound / math.sqrt(dim), bound / math.sqrt(dim))
        self.norm_weight, self.norm_bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, v_first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """-> the output and the values of layer 0, both [B, T, C]"""
        change = token_shift(x, x.shape[-1] // 2 if self.bidirectional else 0) - x
        mus = self.mu_r, self.mu_w, self.mu_k, self.mu_v, self.mu_a, self.mu_g
        x_r, x_w, x_k, x_v, x_a, x_g = (torch.addcmul(x, change, mu) for mu in mus)
        r, k, v = self.receptance(x_r), self.key(x_k), self.value(x_v)
        log_w = MIN_LOG_W * torch.sigmoid(self.w(x_w, torch.tanh))
        a = torch.sigmoid(self.a(x_a))  # how much of what the state holds at k is replaced
        g = self.g(x_g, torch.sigmoid)
        if self.v:
            v = torch.lerp(v, v_first, torch.sigmoid(self.v(x_v)).to(v))
        else:
            v_first = v
        # 1e-12 there: at frames next to silence the gradient would then be up to a million times that of all others
        kk = F.normalize(self.heads(k * self.k_k), dim=-1, eps=1e-3)
        k = k * (1 + (a - 1) * self.k_a)

        r, log_w, k, v, a = (self.heads(x) for x in (r, log_w, k, v, a))
        out = self.scan(r, log_w, k, v, -kk, kk * a)
        out = F.layer_norm(out, out.shape[-1:], eps=64e-5)  # per head
        bonus = (r * k * self.heads(self.r_k)).sum(-1, keepdim=True) * v
        out = torch.addcmul(self.norm_bias, out.flatten(2), self.norm_weight) + bonus.flatten(2)
        return self.output(out * g), v_first

    def heads(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., H, N]"""
        return x.unflatten(-1, (self.n_heads, -1))

    def scan(self, *inputs: Tensor) -> Tensor:
        """`wkv7`, the second half of the heads backward in time."""
        n_backward = self.n_heads // 2 if self.bidirectional else 0
        return flip_backward(wkv7(*(flip_backward(x, n_backward) for x in inputs)), n_backward)


class ChannelMix(nn.Module):
    """What the feed-forward layer is elsewhere. [B, T, C] -> [B, T, C]"""

    def __init__(self, dim: int, hidden: int | None = None, layer: int = 0, n_layers: int = 1,
                 bidirectional: bool = True):
        super().__init__()
        hidden, self.bidirectional = hidden or 4 * dim, bidirectional
        at = Spread(dim, 1, layer, n_layers, n_directions=1 + bidirectional)
        self.mu_k = at.mu(at.height**4)
        self.key, self.value = nn.Linear(dim, hidden, bias=False), nn.Linear(hidden, dim, bias=False)
        nn.init.uniform_(self.key.weight, -0.5 / math.sqrt(dim), 0.5 / math.sqrt(dim))
        nn.init.zeros_(self.value.weight)

    def forward(self, x: Tensor) -> Tensor:
        change = token_shift(x, x.shape[-1] // 2 if self.bidirectional else 0) - x
        return self.value(F.relu(self.key(torch.addcmul(x, change, self.mu_k))).square())


class Layer(nn.Module):
    """Time mix, then channel mix, each behind a norm and beside a residual; the identity at first. [B, T, C] -> same"""

    def __init__(self, dim: int, n_heads: int, layer: int, n_layers: int, hidden: int | None = None,
                 bidirectional: bool = True):
        super().__init__()
        self.norm_time, self.norm_channel = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.time_mix = TimeMix(dim, n_heads, layer, n_layers, bidirectional)
        self.channel_mix = ChannelMix(dim, hidden, layer, n_layers, bidirectional)

    def forward(self, x: Tensor, v_first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """-> the output and the values of layer 0, which the next layer wants, both [B, T, C]"""
        update, v_first = self.time_mix(self.norm_time(x), v_first)
        x = x + update
        return x + self.channel_mix(self.norm_channel(x)), v_first
