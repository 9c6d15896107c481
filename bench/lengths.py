"""Time and memory of a training step of one layer, by the number of frames: RWKV-7, attention, LSTM.

    python -m bench.lengths
    python -m bench.lengths --frames 2000 4000 --width 128

Each a whole layer of the same width, batch 1: RWKV-7 with time mix and channel mix, both directions; attention with a
feed-forward of four times the width; a bidirectional LSTM of that width per direction, back to it by a projection.
Forward and backward; the seconds are CPU time, the least of several passes. Memory: what the passes add to the peak of
a process of its own, which has run a short pass before. Attention is scaled_dot_product_attention, which keeps no
matrix of all pairs of frames: its memory grows as the others' does, its time with the square.
"""

import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dptnet import Attention
from extractor import rwkv7
from extractor.command import command_line

GIB_AT_MOST = 16  # a layer that may need more, by its last number, is left out
SECONDS_AT_MOST = 30  # behind which no further pass of a length is made
HEAD = 32  # width of a head


@dataclass(frozen=True)
class BenchArgs:
    frames: tuple[int, ...] = (2_000, 4_000, 8_000, 16_000, 32_000, 64_000)
    width: int = 64
    passes: int = 3


class AttentionLayer(nn.Module):
    """[B, L, N] -> [B, L, N]"""

    def __init__(self, dim: int):
        super().__init__()
        self.attention = Attention(dim, dim // HEAD)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(x, "b l n -> l b n")
        x = self.norm_attention(x + self.attention(x))
        return self.norm_feedforward(x + self.down(F.relu(self.up(x))))


class LSTMLayer(nn.Module):
    """[B, L, N] -> [B, L, N]"""

    def __init__(self, dim: int):
        super().__init__()
        self.lstm = nn.LSTM(dim, dim, bidirectional=True)
        self.linear, self.norm = nn.Linear(2 * dim, dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = rearrange(x, "b l n -> l b n")
        return self.norm(x + self.linear(self.lstm(x)[0]))


class RWKVLayer(rwkv7.Layer):
    """[B, L, N] -> [B, L, N]"""

    def __init__(self, dim: int):
        super().__init__(dim, dim // HEAD, layer=0, n_layers=1)
        nn.init.normal_(self.time_mix.output.weight, std=0.1)  # zero at first; as in a net that learns

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


LAYERS = {"RWKV-7": RWKVLayer, "attention": AttentionLayer, "LSTM": LSTMLayer}


def step(layer: nn.Module, n_frames: int, width: int):
    layer.zero_grad()
    layer(torch.randn(1, n_frames, width, requires_grad=True)).square().mean().backward()


def cost(name: str, n_frames: int, width: int, passes: int) -> tuple[float, float]:
    """Seconds and MiB, in a process of its own: a peak is that of all a process did before."""
    torch.manual_seed(0)
    layer = LAYERS[name](width)
    step(layer, 64, width)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    while len(seconds) < passes and sum(seconds) < SECONDS_AT_MOST:
        start = time.process_time()
        step(layer, n_frames, width)
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return min(seconds), (peak - before) / 1024  # Linux counts in KiB


def main(args: BenchArgs):
    print(f"width {args.width}, batch 1, {torch.get_num_threads()} CPU threads, torch {torch.__version__}\n")
    print("| frames | " + " | ".join(f"{name} s | MiB" for name in LAYERS) + " |")
    print("|---" * (1 + 2 * len(LAYERS)) + "|")
    last = dict.fromkeys(LAYERS, (0.0, 0.0))
    for i, n_frames in enumerate(args.frames):
        growth, cells = n_frames / args.frames[max(i - 1, 0)], []
        for name in LAYERS:
            if last[name][1] * growth > 1024 * GIB_AT_MOST:
                cells.append(f"- | more than {GIB_AT_MOST} GiB")
                continue
            with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
                last[name] = pool.submit(cost, name, n_frames, args.width, args.passes).result()
            cells.append(f"{last[name][0]:.2f} | {last[name][1]:.0f}")
        print(f"| {n_frames:,} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(command_line(BenchArgs()))
