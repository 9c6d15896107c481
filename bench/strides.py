"""Seconds of audio that a training step of DPTNet takes in per second, by encoder stride, and what the loss costs.

    python -m bench.strides
"""

from dataclasses import dataclass

import torch

from bench.timing import medians
from dptnet import PRESETS, DPTNet, DPTNetArgs
from extractor.command import command_line
from extractor.device import keep_freed_memory
from extractor.losses import stft_distance

NETS = {
    "small": PRESETS["small"],
    "tiny": PRESETS["tiny"],
    "N 64, H 64, D 3": DPTNetArgs(kernel=128, chunk_frames=74),
    "coarse": PRESETS["coarse"],
    "N 128, H 128, D 2": DPTNetArgs(44100, 512, 1024, bottleneck=128, hidden=128, n_blocks=2, chunk_frames=38),
    "N 128, H 128, D 3": DPTNetArgs(44100, 1024, 2048, bottleneck=128, hidden=128, n_blocks=3, chunk_frames=26),
}


@dataclass(frozen=True)
class BenchArgs:
    items: int = 4
    seconds: float = 4.0
    repeats: int = 3


def main(args: BenchArgs):
    keep_freed_memory()
    shape = args.items, round(args.seconds * 44100)
    x, e = torch.randn(shape), torch.randn(shape, requires_grad=True)
    print("| net | stride | parameters | s of audio per s |\n|---|---|---|---|")
    for name, net_args in NETS.items():
        net = DPTNet(net_args)
        (taken,) = medians([lambda net=net: net(x).square().mean().backward()], args.repeats)
        count = sum(p.numel() for p in net.parameters())
        print(f"| {name} | {net_args.stride} | {count:,} | {args.items * args.seconds / taken:.1f} |", flush=True)
    for sizes in ((512, 2048), (512, 1024, 2048, 4096)):
        (taken,) = medians(
            [lambda s=sizes: stft_distance(estimate=e, target=x, mixture=x, sizes=s).mean().backward()], args.repeats
        )
        print(f"\nSTFT term of the loss, windows {sizes}: {taken:.2f} s a step")


if __name__ == "__main__":
    main(command_line(BenchArgs()))
