"""What the band-split nets cost: parameters, multiply-adds a second of audio, and how much audio a CPU trains on.

    OMP_NUM_THREADS=1 python -m bench.bandsplit_cost
    OMP_NUM_THREADS=1 python -m bench.bandsplit_cost --presets tiny small --batch 1

Multiply-adds are those of matrix products, convolutions and LSTMs in items of 4 s, on which attention's share depends;
no FFT, norm, activation or (in RWKV-7) triangular system. Speed is audio over CPU time, of forward and backward passes
without the loss, the best of --passes: whatever else runs on the machine slows a process less than it slows the clock.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bandsplit import PRESETS, BandSplit, BandSplitArgs, zones
from extractor.command import command_line
from extractor.device import keep_freed_memory

SECONDS = 4  # length of an item


@dataclass(frozen=True)
class BenchArgs:
    presets: tuple[str, ...] = tuple(PRESETS)
    batch: int = 4
    passes: int = 3


class Cost(NamedTuple):
    n_parameters: int
    gmac_per_s: float


def cost(args: BandSplitArgs) -> Cost:
    """Counted on tensors without content."""
    with FakeTensorMode():
        net = BandSplit(args)
        mixture = torch.zeros(1, args.n_fft // 2 + 1, 1 + SECONDS * args.sample_rate // args.hop, dtype=torch.complex64)
        return Cost(sum(p.numel() for p in net.parameters()), macs(net.masks, net, mixture) / SECONDS / 1e9)


def macs(function, net: nn.Module, *inputs: torch.Tensor) -> int:
    """Multiply-adds of function(*inputs), which calls what is in net.

    Whether torch counts an LSTM depends on what it is made of on the device: they are taken out and put in by hand.
    """
    counter, by_hand, before = FlopCounterMode(display=False), 0, 0

    def enter(lstm: nn.LSTM, _):
        nonlocal before
        before = counter.get_total_flops()

    def leave(lstm: nn.LSTM, inputs, _):
        nonlocal by_hand
        vectors = inputs[0].numel() // lstm.input_size
        by_hand += (1 + lstm.bidirectional) * vectors * 4 * lstm.hidden_size * (lstm.input_size + lstm.hidden_size)
        by_hand -= (counter.get_total_flops() - before) // 2

    lstms = [module for module in net.modules() if isinstance(module, nn.LSTM)]
    handles = [lstm.register_forward_pre_hook(enter) for lstm in lstms]
    handles += [lstm.register_forward_hook(leave) for lstm in lstms]
    with sdpa_kernel(SDPBackend.MATH), counter:  # attention as products, which are counted on every device
        function(*inputs)
    for handle in handles:
        handle.remove()
    return counter.get_total_flops() // 2 + by_hand


def audio_s_per_cpu_s(args: BandSplitArgs, batch: int, passes: int) -> float:
    """Of training without the loss."""
    net, mixture = BandSplit(args).train(), 0.1 * torch.randn(batch, SECONDS * args.sample_rate)
    taken = []
    for _ in range(passes + 1):  # the first one warms up
        net.zero_grad()
        start = time.process_time()
        net(mixture).square().mean().backward()
        taken.append(time.process_time() - start)
    return batch * SECONDS / min(taken[1:])


def main(args: BenchArgs):
    keep_freed_memory()
    print(f"{args.batch} x {SECONDS} s, {torch.get_num_threads()} CPU threads, torch {torch.__version__}\n")
    print("| preset | mixer | window / hop | bands | blocks x width | parameters | GMAC/s | audio s per CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.presets:
        net, n_bands = PRESETS[name], sum(n for n, _ in zones(PRESETS[name]))
        n_parameters, gmac_per_s = cost(net)
        speed = audio_s_per_cpu_s(net, args.batch, args.passes)
        print(f"| `{name}` | {net.mixer} | {net.n_fft} / {net.hop} | {n_bands} | {net.n_blocks} x {net.width} "
              f"| {n_parameters:,} | {gmac_per_s:.2f} | {speed:.1f} |", flush=True)


if __name__ == "__main__":
    main(command_line(BenchArgs()))
