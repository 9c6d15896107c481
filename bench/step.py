"""Where the time of a training step goes: in the net by kind of operation, and beside it.

    python -m bench.step
    python -m bench.step --presets dptnet-coarse --batch 4 --device cuda

Loss and gradient as train.py computes them, on one thread of a CPU or on a GPU, by torch's profiler: the time of
operations themselves, without those that they call. Then the optimizers and the average of the weights, and, if
recordings are given (--clean, --dirty), as many mixtures from them as they are: train.py decodes them beforehand.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import models
import train
from augment import AugmentArgs
from bench.timing import medians
from dataset import MixtureArgs, MixtureDataset
from extractor.device import pick_device
from extractor.material import find_material
from extractor.optim import make_optimizers, update_average
from extractor.parallel import Backward
from extractor.script import command_line

KINDS = {  # by what the names of operations contain; the first that fits
    "LSTM": ("rnn", "lstm"),
    "attention": ("scaled_dot_product", "flash", "softmax"),
    "FFT": ("fft",),
    "products": ("mm", "bmm", "linear", "conv", "gemm", "triangular", "cutlass"),
    "norms": ("norm",),
    "copies": ("copy", "cat", "fill", "zero", "clone", "memcpy", "memset"),
}
REST = "single elements and the rest"


@dataclass(frozen=True)
class BenchArgs:
    presets: tuple[str, ...] = ("fullband-light", "fullband-base", "bandsplit-tiny", "dptnet-coarse", "rwkvnet-coarse")
    batch: int = 16
    repeats: int = 3
    device: str = "auto"
    clean: tuple[str, ...] = ()   # folders as in MixtureArgs
    dirty: tuple[str, ...] = ()


def kind_of(operation: str) -> str:
    name = operation.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), REST)


def by_kind(work: Callable[[], object], device: torch.device, repeats: int) -> dict[str, float]:
    """Seconds of an average call."""
    work()  # the first one warms up
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiled:
        for _ in range(repeats):
            work()
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    seconds = dict.fromkeys([*KINDS, REST], 0.0)
    for event in profiled.key_averages():
        if event.device_type == wanted:
            taken = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            seconds[kind_of(event.key)] += taken / repeats / 1e6
    return seconds


def row(preset: str, args: BenchArgs, device: torch.device, beside_s: float) -> dict[str, float]:
    """What a step consists of -> seconds."""
    main_args = train.MainArgs(model=models.PRESETS[preset], batch_size=args.batch)
    family = models.family_of(main_args.model)
    net, average = (family.net(main_args.model).to(device) for _ in range(2))
    mixture = 0.1 * torch.randn(args.batch, round(main_args.data.segment_s * main_args.model.sample_rate))
    batch = {"mixture": mixture, "target": 0.5 * mixture, "seed": torch.arange(args.batch)}
    loss, backward = train.loss_function(main_args, family, device), Backward(net, device, 1)
    spent = by_kind(lambda: backward(loss, [batch], args.batch), device, args.repeats)
    optimizers = make_optimizers(net, lr=main_args.lr, muon=main_args.muon, weight_decay=main_args.weight_decay)
    works = (lambda: [o.step() for o in optimizers]), (lambda: update_average(average, net, 0.9, 1))
    spent["optimizers"], spent["average"] = medians(works, args.repeats, device)
    return spent | ({"mixtures": beside_s} if beside_s else {})


def mixtures_s(args: BenchArgs) -> float:
    """Seconds that a batch of them takes; 0 without recordings."""
    if not args.clean:
        return 0.0
    data = MixtureArgs(args.clean, args.dirty)
    training = MixtureDataset(find_material(data), data, 44100, split="train", augmented=AugmentArgs())
    keys = iter(range(1 << 30))
    (seconds,) = medians([lambda: [training[0, next(keys)] for _ in range(args.batch)]], args.repeats)
    return seconds


def main(args: BenchArgs):
    device = pick_device(args.device)
    torch.set_num_threads(1)
    beside_s = mixtures_s(args)
    rows = {preset: row(preset, args, device, beside_s) for preset in args.presets}
    parts = list(dict.fromkeys(part for spent in rows.values() for part in spent))
    print(f"{args.batch} x 4 s, {device}, one thread, torch {torch.__version__}; seconds, and shares of them\n")
    print("| preset | s a step | " + " | ".join(parts) + " |\n|---|---|" + "---|" * len(parts))
    for preset, spent in rows.items():
        total = sum(spent.values())
        shares = " | ".join(f"{spent[part] / total:.1%}" for part in parts)
        print(f"| `{preset}` | {total:.3f} | {shares} |")


if __name__ == "__main__":
    main(command_line(BenchArgs()))
