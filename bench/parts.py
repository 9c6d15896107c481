"""A training step on several cores of a CPU: every operation split over them against the batch split over them.

    python -m bench.parts
    python -m bench.parts --presets dptnet-coarse --batch 4

Loss and gradient, as train.py computes them; both kinds of step in turn, medians. The batch that is split is computed
by extractor/parallel.py; what it takes with one core tells what is to be had.
"""

from dataclasses import dataclass
from functools import partial

import torch

import models
import train
from bench.timing import medians
from extractor.device import keep_freed_memory
from extractor.parallel import Backward
from extractor.script import command_line


@dataclass(frozen=True)
class BenchArgs:
    presets: tuple[str, ...] = ("fullband-light", "bandsplit-tiny", "bandsplit-tiny_attention", "dptnet-coarse")
    batch: int = 16
    repeats: int = 7
    threads: int = torch.get_num_threads()


def steps(preset: str, args: BenchArgs) -> list[float]:
    """Seconds of a step on one thread, with operations split, with the batch split."""
    main_args = train.MainArgs(model=models.PRESETS[preset], batch_size=args.batch)
    family, device = models.family_of(main_args.model), torch.device("cpu")
    net, loss = family.net(main_args.model), train.loss_function(main_args, family, device)
    mixture = 0.1 * torch.randn(args.batch, round(main_args.data.segment_s * main_args.model.sample_rate))
    batch = {"mixture": mixture, "target": 0.5 * mixture, "seed": torch.arange(args.batch)}
    whole, parts = (Backward(net, device, n) for n in (1, args.batch))

    def step(threads: int, backward: Backward):
        torch.set_num_threads(threads)
        backward(loss, [batch], args.batch)

    ways = (1, whole), (args.threads, whole), (args.threads, parts)
    return medians([partial(step, *way) for way in ways], args.repeats)


def main(args: BenchArgs):
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    print(f"{args.batch} x 4 s, {args.threads} threads, torch {torch.__version__}, medians of {args.repeats}, s\n")
    print("| preset | one thread | operations split | batch split | ratio of the last two |")
    print("|---|---|---|---|---|")
    for preset in args.presets:
        one, operations, batch = steps(preset, args)
        print(f"| `{preset}` | {one:.3f} | {operations:.3f} | {batch:.3f} | {operations / batch:.2f} |", flush=True)


if __name__ == "__main__":
    main(command_line(BenchArgs()))
