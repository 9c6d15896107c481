"""Time and memory of a training step and of a forward pass, ours against asteroid's DPTNet, at equal configuration.

    python -m bench.dptnet_step
    python -m bench.dptnet_step --presets tiny --seconds 1 --pairs 5

asteroid has no bottleneck, so its filterbank is as wide as our dual path; all else is the same. A ratio is asteroid's
number over ours, so above 1 is in our favour; our checkpointed step stands beside asteroid's plain one.
Times: the nets take turns in one process; the table has medians. Memory: what one pass adds to the peak of a process of
its own, which has run a short pass before, so that neither libraries nor weights count. Both once with the C library as
it is and once with `keep_freed_memory`, which holds for a whole process and so for both nets.
"""

import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context

import torch
from asteroid.models import DPTNet as AsteroidDPTNet
from torch import nn

from bench.timing import medians
from dptnet import PRESETS, DPTNet
from extractor.device import keep_freed_memory
from extractor.script import command_line


@dataclass(frozen=True)
class BenchArgs:
    presets: tuple[str, ...] = ("tiny", "small", "base")
    seconds: float = 4.0
    pairs: int = 5          # of passes that a median is taken over


def make(which: str, preset: str) -> nn.Module:
    """`which`: ours, ours checkpointed or asteroid"""
    args = PRESETS[preset]
    if which == "asteroid":
        return AsteroidDPTNet(1, n_heads=args.n_heads, ff_hid=args.hidden, chunk_size=args.chunk_frames,
                              n_repeats=args.n_blocks, kernel_size=args.kernel, n_filters=args.bottleneck,
                              stride=args.stride, sample_rate=args.sample_rate)
    return DPTNet(replace(args, checkpointing=which == "ours checkpointed"))


def noise(preset: str, seconds: float) -> torch.Tensor:
    return 0.1 * torch.randn(1, round(seconds * PRESETS[preset].sample_rate))


def run(kind: str, net: nn.Module, mixture: torch.Tensor):
    """`kind`: step is forward and backward, forward is without gradients"""
    net.zero_grad()
    with torch.set_grad_enabled(kind == "step"):
        loss = net(mixture).square().mean()
    if kind == "step":
        loss.backward()


# ---------------------------------------------------------------------------------------------------------------------
# each of these runs in a fresh process; a child inherits its parent's peak, so the parent builds no net

PASSES = [
    ("step", "ours"),
    ("step", "ours checkpointed"),
    ("step", "asteroid"),
    ("forward", "ours"),
    ("forward", "asteroid"),
]


def n_parameters(which: str, preset: str) -> int:
    return sum(parameter.numel() for parameter in make(which, preset).parameters())


def times(preset: str, seconds: float, pairs: int, keep: bool) -> dict[tuple[str, str], float]:
    """Median seconds of each of PASSES."""
    if keep:
        keep_freed_memory()
    nets = {which: make(which, preset) for _, which in PASSES}
    mixture = noise(preset, seconds)
    works = [partial(run, kind, nets[which], mixture) for kind, which in PASSES]
    return dict(zip(PASSES, medians(works, pairs), strict=True))


def peak_mib(preset: str, seconds: float, kind: str, which: str, keep: bool) -> float:
    if keep:
        keep_freed_memory()
    net, mixture = make(which, preset), noise(preset, seconds)
    run(kind, net, mixture[:, :4096])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(kind, net, mixture)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024  # Linux counts in KiB


def in_a_fresh_process(function, *args):
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


# ---------------------------------------------------------------------------------------------------------------------


def main(args: BenchArgs):
    print(f"{args.seconds} s, batch 1, {torch.get_num_threads()} CPU threads, torch {torch.__version__}, "
          f"medians of {args.pairs}")
    for preset in args.presets:
        ours, asteroid = (in_a_fresh_process(n_parameters, which, preset) for which in ("ours", "asteroid"))
        print(f"\n{preset}: {ours:,} parameters, asteroid {asteroid:,}\n")
        print("| freed memory | pass | ours s | asteroid s | ratio | ours MiB | asteroid MiB | ratio |")
        print("|---|---|---|---|---|---|---|---|")
        for memory, keep in (("given back", False), ("kept", True)):
            seconds = in_a_fresh_process(times, preset, args.seconds, args.pairs, keep)
            mib = {key: in_a_fresh_process(peak_mib, preset, args.seconds, *key, keep) for key in PASSES}
            for kind, which in PASSES:
                if which != "asteroid":
                    name = kind + which.removeprefix("ours")
                    time_cells = cells(seconds[kind, which], seconds[kind, "asteroid"], digits=3)
                    memory_cells = cells(mib[kind, which], mib[kind, "asteroid"], digits=0)
                    print(f"| {memory} | {name} | {time_cells} | {memory_cells} |", flush=True)


def cells(ours: float, asteroid: float, digits: int) -> str:
    return f"{ours:.{digits}f} | {asteroid:.{digits}f} | {asteroid / ours:.2f}"


if __name__ == "__main__":
    main(command_line(BenchArgs()))
