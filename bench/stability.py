"""Which learning rates a net bears, with and without warm-up, with and without sigma-reparam.

    python -m bench.stability --clean datasets/clean/alice --dirty datasets/dirty/other
    python -m bench.stability --clean datasets/clean/alice --dirty datasets/dirty/other --factors 1 30 --steps 50

Every run does the steps of train.py without Muon, in fp32: its AdamW, decay groups, gradient clipping at
MainArgs.clip_norm, schedule (warm-up, then a cosine down to a hundredth over `steps`) and its rule for steps without a
finite loss or gradient: they are skipped and end the run after MAX_BAD in a row. All runs of a seed start from the same
weights and hear the same items. The loss at the end is that of the last weights, not of averaged ones, on frozen held-
out mixtures.

A run diverged if it was ended so, or if its loss at the end is no better than that of silence: the estimate 0, whose
loss on the same mixtures is printed.

Prints a table; writes <results>/stability.png and all numbers to <results>/numbers.json. Every run leaves a file in
<runs> when it is done; the same command again goes on with those that are missing.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import default_collate

from augment import AugmentArgs
from dataset import MixtureArgs, MixtureDataset
from dptnet import PRESETS, DPTNet, DPTNetArgs
from extractor import UserError, report, sigma, tables
from extractor.device import keep_freed_memory
from extractor.layers import entropy_by_layer
from extractor.material import find_material
from extractor.optim import learning_rate, make_optimizers, set_learning_rate
from extractor.progress import MAX_BAD
from extractor.script import command_line
from losses import LossArgs, predictive_loss
from train import MainArgs

SAME = 0.1  # a loss that is better by no more than this is no better


@dataclass(frozen=True)
class BenchArgs:
    clean: tuple[str, ...] = ()   # folders as in MixtureArgs
    dirty: tuple[str, ...] = ()
    lr: float = 2e-3              # AdamW's
    weight_decay: float = 1e-2
    factors: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)  # of lr: the peaks
    warmups: tuple[int, ...] = (50, 0)                   # steps
    seeds: tuple[int, ...] = (0,)  # of the first weights and the items
    steps: int = 250
    batch_size: int = 4
    segment_s: float = 2.0
    every: int = 10               # steps between two looks at the attention
    n_valid: int = 24             # frozen mixtures; attention is looked at on the first four, one of each kind
    model: DPTNetArgs = PRESETS["coarse"]
    runs: str = "runs/stability"
    results: str = "results/stability"


class Run(NamedTuple):
    factor: float
    warmup: int
    sigma_reparam: bool
    seed: int

    @property
    def name(self) -> str:
        return f"lr{self.factor:g}-warmup{self.warmup}-{'sigma' if self.sigma_reparam else 'plain'}-seed{self.seed}"


def main(args: BenchArgs):
    keep_freed_memory()
    data = MixtureArgs(args.clean, args.dirty, segment_s=args.segment_s, n_valid=args.n_valid)
    material = find_material(data)
    training = MixtureDataset(material, data, args.model.sample_rate, split="train", augmented=AugmentArgs())
    held_out = MixtureDataset(material, data, args.model.sample_rate, split="valid")
    frozen = [held_out[0, i] for i in range(len(held_out))]
    settings = {
        "steps": args.steps, "batch_size": args.batch_size, "segment_s": args.segment_s, "every": args.every,
        "n_valid": args.n_valid, "lr": args.lr, "clip_norm": MainArgs.clip_norm,
        "weight_decay": args.weight_decay, "model": asdict(args.model),
        "minutes": {name: round(sum(r.seconds for r in found) / 60, 1) for name, found in material._asdict().items()},
        "silence": valid_loss(torch.zeros_like, frozen, args.batch_size),
    }
    print(f"clip_norm {MainArgs.clip_norm:g}; loss of silence {settings['silence']:+.2f}", flush=True)
    runs = [Run(*r) for r in product(args.factors, args.warmups, (False, True), args.seeds)]
    records = [done_or_do(run, args, settings, training, frozen) for run in runs]
    tables.write_json(Path(args.results) / "numbers.json", {"settings": settings, "runs": records})
    report.save(figure(records, settings), Path(args.results) / "stability.png")
    print("\n" + table(records, settings))


def done_or_do(run: Run, args: BenchArgs, settings: dict, training: MixtureDataset, frozen: list[dict]) -> dict:
    """The record of a run, from its file if there is one."""
    path = Path(args.runs) / f"{run.name}.json"
    saved = tables.read_json(path)
    if saved and saved["settings"] != json.loads(tables.to_json(settings)):
        raise UserError(f"{path}: a run with other settings; give another BenchArgs.runs, or move that folder away")
    if not saved:
        start = time.perf_counter()
        record = train(run, args, settings["silence"], training, frozen)
        tables.write_json(path, {"settings": settings, "record": record})
        print(f"{run.name}: {record['outcome']}, loss {record['valid_loss']:+.2f}, "
              f"{time.perf_counter() - start:.0f} s", flush=True)
        saved = tables.read_json(path)  # so that a run that was done and one that is done now read alike
    return saved["record"]


# ---------------------------------------------------------------------------------------------------------------------
# one run


def train(run: Run, args: BenchArgs, silence: float, training: MixtureDataset, frozen: list[dict]) -> dict:
    """Losses and gradient norms step by step, attention entropy of every layer every few steps, and the outcome."""
    as_main = MainArgs(
        model=replace(args.model, sigma_reparam=run.sigma_reparam), lr=run.factor * args.lr, warmup=run.warmup,
        muon=0.0, weight_decay=args.weight_decay, steps=args.steps, batch_size=args.batch_size, seed=run.seed,
    )
    torch.manual_seed(run.seed)
    net = DPTNet(as_main.model)
    (optimizer,) = make_optimizers(net, lr=as_main.lr, muon=as_main.muon, weight_decay=as_main.weight_decay)
    probe = default_collate(frozen[:4])["mixture"]
    losses, norms, looks, skipped, bad = [], [], [], 0, 0
    for step in range(args.steps):
        if step % args.every == 0:
            looks.append([step, *entropy_by_layer(net, probe).tolist()])
        first = step * args.batch_size
        batch = default_collate([training[run.seed, i] for i in range(first, first + args.batch_size)])
        set_learning_rate([optimizer], learning_rate(step, peak=as_main.lr, warmup=as_main.warmup, steps=as_main.steps))
        loss, _ = predictive_loss(net, batch["mixture"], batch["target"], as_main.loss)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), as_main.clip_norm)
        finite = bool(torch.isfinite(loss) & torch.isfinite(norm))
        if finite:
            optimizer.step()
            sigma.update(net)
        losses.append(loss.item())
        norms.append(norm.item())
        bad, skipped = (0, skipped) if finite else (bad + 1, skipped + 1)
        if bad >= MAX_BAD:
            break
    looks.append([len(losses), *entropy_by_layer(net, probe).tolist()])
    loss = valid_loss(net, frozen, args.batch_size)
    return run._asdict() | {
        "outcome": outcome(loss, silence, ended=bad >= MAX_BAD), "valid_loss": loss, "skipped": skipped,
        "loss": losses, "grad_norm": norms, "entropy": looks,
    }


def outcome(loss: float, silence: float, *, ended: bool) -> str:
    if ended or not math.isfinite(loss):
        return "not finite"
    return "trained" if loss < silence - SAME else "no better than silence"


@torch.no_grad()
def valid_loss(net: Callable[[Tensor], Tensor], frozen: list[dict], batch_size: int) -> float:
    """Mean over the mixtures."""
    total = 0.0
    for i in range(0, len(frozen), batch_size):
        batch = default_collate(frozen[i : i + batch_size])
        loss, _ = predictive_loss(net, batch["mixture"], batch["target"], LossArgs())
        total += loss.item() * len(batch["mixture"])
    return total / len(frozen)


# ---------------------------------------------------------------------------------------------------------------------
# the table and the figure


def table(records: list[dict], settings: dict) -> str:
    """Means over the seeds; of a run that ended early too."""
    lines = [
        "| lr | warm-up | weights | trained | loss at the end | steps clipped | skipped | entropy at the end, mean | "
        "least layer | least layer at any time |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for setting in dict.fromkeys((r["factor"], r["warmup"], r["sigma_reparam"]) for r in records):
        same = [r for r in records if (r["factor"], r["warmup"], r["sigma_reparam"]) == setting]
        factor, warmup, reparam = setting
        ends = [layers(r)[-1] for r in same]
        clipped = [np.mean(~(np.array(r["grad_norm"], float) <= MainArgs.clip_norm)) for r in same]  # NaN counts too
        cells = [
            f"{factor * settings['lr']:g}", str(warmup), "sigma-reparam" if reparam else "plain",
            f"{sum(r['outcome'] == 'trained' for r in same)} of {len(same)}",
            number(fmean(value(r["valid_loss"]) for r in same), "+.2f"),
            f"{fmean(clipped):.0%}", number(fmean(r["skipped"] for r in same), ".0f"),
            number(fmean(e.mean() for e in ends), ".3f"), number(fmean(e.min() for e in ends), ".3f"),
            number(fmean(np.nanmin(layers(r)) for r in same), ".3f"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def value(x: float | None) -> float:
    return math.nan if x is None else x  # JSON has no NaN


def number(x: float, form: str) -> str:
    return format(x, form) if math.isfinite(x) else "not finite"


def layers(record: dict) -> np.ndarray:
    """Attention entropy. -> [looks, layers]"""
    return np.array([look[1:] for look in record["entropy"]], float)


def figure(records: list[dict], settings: dict) -> Figure:
    """A column a learning rate; from above: training loss, entropy of attention as a mean over layers, and of the layer
    with the least."""
    factors = list(dict.fromkeys(r["factor"] for r in records))
    fig = Figure(figsize=(3.6 * len(factors), 8), layout="constrained")
    panels = fig.subplots(3, len(factors), sharex=True, sharey="row", squeeze=False)
    for record in records:
        column = panels[:, factors.index(record["factor"])]
        color = "#2b6cb0" if record["sigma_reparam"] else "#c2410c"
        style = {"color": color, "linestyle": "-" if record["warmup"] else "--", "linewidth": 1.2}
        name = f"{'sigma-reparam' if record['sigma_reparam'] else 'plain'}, warm-up {record['warmup']}"
        steps, smooth = smoothed(record["loss"])
        column[0].plot(steps, smooth, label=name, **style)
        if record["outcome"] == "not finite":
            column[0].plot(steps[-1:], [settings["silence"]], marker="x", markersize=9, color=color)
        at = [look[0] for look in record["entropy"]]
        column[1].plot(at, layers(record).mean(1), **style)
        column[2].plot(at, layers(record).min(1), **style)
    for axes, factor in zip(panels[0], factors, strict=True):
        axes.set_title(f"learning rate {factor * settings['lr']:g}")
        axes.axhline(settings["silence"], color="black", linewidth=0.8, linestyle=":")
        axes.set_ylim(settings["silence"] - 15, settings["silence"] + 10)
    for axes, label in zip(panels[:, 0], ("training loss, mean of 20 steps", "attention entropy, mean of layers",
                                          "attention entropy, least layer"), strict=True):
        axes.set_ylabel(label)
    for axes in panels[1:].flat:
        axes.set_ylim(-0.02, 1.02)
    for axes in panels[-1]:
        axes.set_xlabel("step")
    handles, names = panels[0, 0].get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))  # seeds share a name
    panels[0, 0].legend(unique.values(), unique.keys(), fontsize=8)
    fig.suptitle("dotted: loss of silence; cross: no finite step any more; entropy 1: all keys alike, 0: one key alone",
                 fontsize=9)
    return fig


def smoothed(losses: list[float | None], width: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Step and mean of `width` losses up to it."""
    x = np.array(losses, float)
    width = min(width, len(x))
    return np.arange(width, len(x) + 1), np.convolve(x, np.ones(width) / width, "valid")


if __name__ == "__main__":
    main(command_line(BenchArgs()))
