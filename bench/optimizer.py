"""A step of the optimizers: AdamW's part, Muon's, and what torch.optim.Muon takes for the same matrices.

    python -m bench.optimizer
    python -m bench.optimizer --presets fullband-base --device cuda

Milliseconds, medians; all three in turn. No forward or backward pass: gradients are noise.
"""

from dataclasses import dataclass

import torch

import models
import train
from bench.timing import medians
from extractor.command import command_line
from extractor.device import pick_device
from extractor.optim import make_optimizers


@dataclass(frozen=True)
class BenchArgs:
    presets: tuple[str, ...] = ("fullband-light", "fullband-base", "bandsplit-tiny", "dptnet-coarse", "rwkvnet-coarse")
    repeats: int = 5
    device: str = "auto"


def steps(preset: str, device: torch.device) -> list[torch.optim.Optimizer]:
    """Of one net: AdamW, Muon, torch's Muon."""
    args = train.MainArgs(model=models.PRESETS[preset])
    net = models.family_of(args.model).net(args.model).to(device)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    adamw, muon = make_optimizers(net, args)
    matrices = [p for group in muon.param_groups for p in group["params"]]
    return [adamw, muon, torch.optim.Muon(matrices, lr=args.lr, weight_decay=args.weight_decay)]


def main(args: BenchArgs):
    device = pick_device(args.device)
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, medians of {args.repeats}, ms\n")
    print("| preset | AdamW | Muon | torch.optim.Muon | ratio |\n|---|---|---|---|---|")
    for preset in args.presets:
        works = [optimizer.step for optimizer in steps(preset, device)]
        adamw, ours, theirs = (1000 * seconds for seconds in medians(works, args.repeats, device))
        print(f"| `{preset}` | {adamw:.1f} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.1f} |", flush=True)


if __name__ == "__main__":
    main(command_line(BenchArgs()))
