"""The families side by side: the same data, seed and minutes for each, one after another.

    python -m bench.race --clean datasets/clean/alice --dirty datasets/dirty/other --minutes 60 --pairs evaluation
    python -m bench.race --clean datasets/clean/alice --dirty datasets/dirty/other --minutes 10 --names fullband

How many steps fit the minutes is measured by a short trial, mixtures and all, before the first one, so that the
learning rate ends where they end; from then on minutes are steps at that speed, whatever else the machine has to do. A
run that was stopped goes on at the same command. Every run that is done is scored on the pairs, as evaluate.py does it,
and joins those of earlier races in <results>/learning.json, with its costs (bench/families.py), what it heard and its
validation; of all of them tables are printed and the learning curves over minutes drawn, to <results>/learning.png.
"""

import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from matplotlib.figure import Figure

import evaluate
import models
import train
from bench.families import cost, extraction_speed
from dataset import MixtureArgs
from extractor import UserError, checkpoint, curves, report, tables
from extractor.scoring import MEASURES, PRESENT, Interval
from extractor.script import command_line

PRESETS = models.PRESETS
CONTESTANTS = {  # fields of MainArgs
    "fullband": {"model": PRESETS["fullband-light"]},
    "fullband_base": {"model": PRESETS["fullband-base"]},
    "bandsplit_lstm": {"model": PRESETS["bandsplit-tiny"]},
    "bandsplit_attention": {"model": PRESETS["bandsplit-tiny_attention"]},
    "bandsplit_rwkv7": {"model": PRESETS["bandsplit-tiny_rwkv7"]},
    "dptnet": {"model": PRESETS["dptnet-coarse"], "batch_size": 4},
    "dptnet_sigma": {"model": replace(PRESETS["dptnet-coarse"], sigma_reparam=True), "batch_size": 4},
    "rwkvnet": {"model": PRESETS["rwkvnet-coarse"], "batch_size": 4},
    "flow": {"model": PRESETS["flow-base"], "init_from": "fullband_base"},  # it refines the longest run of that
}
N_VALID = 12  # times
TRIAL = 60    # steps
KINDS = {"game_si_sdri_db": "game", "voice_si_sdri_db": "voice", "both_si_sdri_db": "both", "absent_db": "absent"}
QUALITY = [(kind, "si_sdri") for kind in ("game", "voice", "both")] + [("absent", "residual_level")] + [
    (PRESENT, m) for m in ("gained", "target_loss", "leakage", "high_lost", "pesq", "estoi", "dnsmos", "speaker", "wer")
]


@dataclass(frozen=True)
class RaceArgs:
    clean: tuple[str, ...] = ()   # folders as in MixtureArgs
    dirty: tuple[str, ...] = ()
    names: tuple[str, ...] = tuple(CONTESTANTS)
    minutes: float = 60.0         # for each
    workers: int = 1
    seed: int = 0
    device: str = "auto"
    pairs: str = ""               # as for evaluate.py: what finished runs are scored on
    runs: str = "runs/race"
    results: str = "results/families"

    def __post_init__(self):
        if unknown := [name for name in self.names if name not in CONTESTANTS]:
            raise UserError(f"RaceArgs.names: {unknown[0]!r}; give some of {', '.join(CONTESTANTS)}")
        if not self.minutes > 0:
            raise UserError(f"RaceArgs.minutes = {self.minutes}: give more than 0")


def main(args: RaceArgs):
    out = Path(args.results)
    for name in args.names:
        print(f"\n{name}", flush=True)
        run = planned(entry(name, CONTESTANTS[name], args), args.minutes)
        best = train.main(run)
        row = {"name": name, **result(run.folder), "scores": scores(best, args)}
        done = tables.read_json(out / "learning.json") | {run.name: row}
        order = [*CONTESTANTS, *(r["name"] for r in done.values())]  # and those that no longer run
        done = dict(sorted(done.items(), key=lambda item: (item[1]["minutes"], order.index(item[1]["name"]))))
        tables.write_json(out / "learning.json", done)
        report.save(figure(done), out / "learning.png")
        print(f"\n{costs(done)}\n\n{quality(done)}")


def entry(name: str, fields: Mapping, args: RaceArgs) -> train.MainArgs:
    """A contestant's run, its steps not yet known."""
    data = MixtureArgs(args.clean, args.dirty, seed=args.seed)
    start = str(longest(fields["init_from"], args)) if "init_from" in fields else "none"
    common = {"runs": args.runs, "workers": args.workers, "device": args.device, "seed": args.seed}
    return train.MainArgs(**{"name": run_name(name, args), "data": data, **common, **fields, "init_from": start})


def longest(name: str, args: RaceArgs) -> Path:
    """The checkpoint of a contestant's longest run; where it has none, of the one that has these minutes."""
    runs = {0.0: Path(args.runs) / run_name(name, args)}
    for folder in Path(args.runs).glob(f"{name}_*min"):
        if found := re.fullmatch(rf"{name}_([0-9.]+)min", folder.name):
            runs[float(found[1])] = folder
    return runs[max(runs)] / "best.pt"


def run_name(name: str, args: RaceArgs) -> str:
    return f"{name}_{args.minutes:g}min"


def planned(run: train.MainArgs, minutes: float) -> train.MainArgs:
    """The run with the steps that fit, as measured when it was first planned. Raises UserError where that was for other
    recordings or another seed."""
    path, wanted = run.folder / "plan.json", {"clean": run.data.clean, "dirty": run.data.dirty, "seed": run.seed}
    wanted = {key: list(value) if isinstance(value, tuple) else value for key, value in wanted.items()}  # as in json
    plan = tables.read_json(path)
    if not plan:
        steps = max(1, round(60 * minutes / seconds_a_step(run)))
        plan = {"minutes": minutes, "steps": steps, "threads": torch.get_num_threads(), **wanted}
        tables.write_json(path, plan)
    for key, value in wanted.items():
        if plan.get(key) != value:
            raise UserError(f"{path}: planned with {key} = {plan.get(key)}, not {value}; give another RaceArgs.runs")
    steps = plan["steps"]
    return replace(run, steps=steps, valid_every=max(1, -(-steps // N_VALID)))


def seconds_a_step(run: train.MainArgs) -> float:
    """By a short run of its own, thrown away: the median, so that what starts up does not count."""
    trial = replace(run, name=f"{run.name}.trial", steps=TRIAL, data=replace(run.data, n_valid=len(KINDS)))
    train.main(trial)
    speeds = [speed for _, speed in curves.read(trial.folder)["train/audio_s_per_s"]]
    shutil.rmtree(trial.folder)
    return run.batch_size * run.data.segment_s / median(speeds)


def result(folder: Path) -> dict:
    """What a run has come to: its cost, what it heard, its curves by minutes."""
    state = checkpoint.load(folder / "last.pt")
    args, found = models.saved_args(state, folder / "last.pt"), curves.read(folder)
    plan = tables.read_json(folder / "plan.json")
    minutes = plan["minutes"] / plan["steps"]  # a step
    counted = cost(args)
    return {
        "parameters": counted.n_parameters, "gmac_per_s": round(counted.gmac_per_s, 6),
        "step": state["step"], "minutes": round(minutes * state["step"], 1), "threads": plan["threads"],
        "audio_s_per_s": round(state["args"]["batch_size"] * state["args"]["data"]["segment_s"] / minutes / 60, 1),
        "times_real_time": round(extraction_speed(args)),
        "curves": {kind: [(round(minutes * step, 2), round(value, 3)) for step, value in found.get(f"valid/{tag}", ())]
                   for tag, kind in KINDS.items()},
    }


def scores(best: Path, args: RaceArgs) -> dict:
    """Kind -> measure -> mean and interval, as in evaluate.py's scores.json. Empty without pairs."""
    if not args.pairs:
        return {}
    out_dir = best.parent / "evaluation"
    wanted = evaluate.EvalArgs((str(best),), args.pairs, str(out_dir), args.clean, page=False, device=args.device)
    return evaluate.main(wanted)["summary"][best.parent.name]


def costs(done: dict[str, dict]) -> str:
    """A row for each run, as markdown."""
    head = ["run", "parameters", "GMAC/s", "x real time a core", "threads", "minutes", "steps", "s heard/s"]
    return tables.markdown(head, (
        [name, f"{r['parameters']:,}", f"{r['gmac_per_s']:.2f}", str(r["times_real_time"]), str(r["threads"]),
         f"{r['minutes']:.0f}", str(r["step"]), f"{r['audio_s_per_s']:.0f}"]
        for name, r in done.items()
    ))


def quality(done: dict[str, dict]) -> str:
    """A row for each run, as markdown; without the intervals, which learning.json has. Of a run that was not scored the
    last validation."""
    scored = {name if r["scores"] else f"{name} (validation)": r["scores"] or validated(r) for name, r in done.items()}
    columns = [(kind, m) for kind, m in QUALITY if any(m in s.get(kind, ()) for s in scored.values())]
    head = [f"{MEASURES[m].title}, {kind}" if m == "si_sdri" else MEASURES[m].title for kind, m in columns]

    def cell(found: dict, kind: str, m: str) -> str:
        mean, *_, n = found.get(kind, {}).get(m, (math.nan, 0))
        return Interval(mean, math.nan, math.nan, n).text(MEASURES[m])

    rows = ([name, *(cell(s, *column) for column in columns)] for name, s in scored.items())
    return tables.markdown(["run", *head], rows)


def validated(row: dict) -> dict:
    """As `scores`, but means and how many, without intervals."""
    return {
        kind: {"residual_level" if kind == "absent" else "si_sdri": (points[-1][1], 1)}
        for kind, points in row["curves"].items() if points
    }


def figure(done: dict[str, dict]) -> Figure:
    """A panel for each kind of mixture, a line for each run."""
    out = Figure(figsize=(14, 3.8), layout="constrained")
    for axes, kind in zip(out.subplots(1, len(KINDS)), KINDS.values(), strict=True):
        for name, r in done.items():
            axes.plot(*zip(*r["curves"][kind] or [(0, float("nan"))], strict=True), marker=".", label=name)
        axes.set(title=f"{kind}, {'level' if kind == 'absent' else 'SI-SDRi'}, dB", xlabel="minutes of training")
        axes.grid(alpha=0.3)
    out.axes[0].legend(fontsize=8)
    return out


if __name__ == "__main__":
    main(command_line(RaceArgs()))
