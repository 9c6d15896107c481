"""The families side by side: the same data, seed and minutes for each, one after another.

    python -m bench.race --clean datasets/clean/alice --dirty datasets/dirty/other --minutes 60
    python evaluate.py --systems runs/race/fullband/best.pt runs/race/dptnet/best.pt --pairs evaluation

How many steps fit the minutes is measured by a short trial, mixtures and all, before the first one, so that the
learning rate ends where they end; from then on minutes are steps at that speed, whatever else the machine has to do. A
run that was stopped goes on at the same command. Prints a table with costs (bench/families.py), what was heard and the
last validation; writes the learning curves over minutes of all runs that are done to <results>/learning.png and all
numbers to <results>/learning.json.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

import models
import train
from bench.families import cost, extraction_speed
from dataset import MixtureArgs
from extractor import UserError, checkpoint, curves, report, tables
from extractor.command import command_line

PRESETS = models.PRESETS
CONTESTANTS = {  # fields of MainArgs
    "fullband": {"model": PRESETS["fullband-light"]},
    "bandsplit_lstm": {"model": PRESETS["bandsplit-tiny"]},
    "bandsplit_attention": {"model": PRESETS["bandsplit-tiny_attention"]},
    "bandsplit_rwkv7": {"model": PRESETS["bandsplit-tiny_rwkv7"]},
    "dptnet": {"model": PRESETS["dptnet-coarse"], "batch_size": 4},
    "dptnet_sigma": {"model": replace(PRESETS["dptnet-coarse"], sigma_reparam=True), "batch_size": 4},
    "rwkvnet": {"model": PRESETS["rwkvnet-coarse"], "batch_size": 4},
    "flow": {"model": PRESETS["flow-light"], "init_from": "fullband"},  # the run that it refines
}
N_VALID = 12  # times
TRIAL = 60    # steps
KINDS = {"game_si_sdri_db": "game", "voice_si_sdri_db": "voice", "both_si_sdri_db": "both", "absent_db": "absent"}


@dataclass(frozen=True)
class RaceArgs:
    clean: tuple[str, ...] = ()   # folders as in MixtureArgs
    dirty: tuple[str, ...] = ()
    names: tuple[str, ...] = tuple(CONTESTANTS)
    minutes: float = 60.0         # for each
    workers: int = 1
    seed: int = 0
    device: str = "auto"
    runs: str = "runs/race"
    results: str = "results/families"

    def __post_init__(self):
        if unknown := [name for name in self.names if name not in CONTESTANTS]:
            raise UserError(f"RaceArgs.names: {unknown[0]!r}; give some of {', '.join(CONTESTANTS)}")
        if not self.minutes > 0:
            raise UserError(f"RaceArgs.minutes = {self.minutes}: give more than 0")


def main(args: RaceArgs):
    for name in args.names:
        print(f"\n{name}", flush=True)
        train.main(planned(entry(name, CONTESTANTS[name], args), args.minutes))
    folders = {name: Path(args.runs) / name for name in CONTESTANTS}
    done = {name: result(folder) for name, folder in folders.items() if (folder / "last.pt").exists()}
    tables.write_json(Path(args.results) / "learning.json", done)
    report.save(figure(done), Path(args.results) / "learning.png")
    print("\n" + table(done))


def entry(name: str, fields: Mapping, args: RaceArgs) -> train.MainArgs:
    """A contestant's run, its steps not yet known."""
    data = MixtureArgs(args.clean, args.dirty, seed=args.seed)
    start = {"init_from": f"{args.runs}/{fields['init_from']}/best.pt"} if "init_from" in fields else {}
    shared = {"runs": args.runs, "data": data, "workers": args.workers, "device": args.device, "seed": args.seed}
    return train.MainArgs(name=name, **shared, **{**fields, **start})


def planned(run: train.MainArgs, minutes: float) -> train.MainArgs:
    """The run with the steps that fit, as measured when it was first planned."""
    path = run.folder / "plan.json"
    plan = tables.read_json(path)
    if not plan:
        plan = {"minutes": minutes, "steps": max(1, round(60 * minutes / seconds_a_step(run)))}
        tables.write_json(path, plan)
    if plan["minutes"] != minutes:
        raise UserError(f"{path}: planned for {plan['minutes']} minutes, not {minutes}; give another RaceArgs.runs")
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
        "parameters": counted.n_parameters, "gmac_per_s": round(counted.gmac_per_s, 3),
        "step": state["step"], "minutes": round(minutes * state["step"], 1),
        "audio_s_per_s": round(state["args"]["batch_size"] * state["args"]["data"]["segment_s"] / minutes / 60, 1),
        "times_real_time": round(extraction_speed(args)),
        "curves": {kind: [(round(minutes * step, 2), round(value, 3)) for step, value in found.get(f"valid/{tag}", ())]
                   for tag, kind in KINDS.items()},
    }


def table(done: dict[str, dict]) -> str:
    lines = ["| run | parameters | GMAC/s | x real time | minutes | steps | s heard/s | game | voice | both | absent |",
             "|---|---|---|---|---|---|---|---|---|---|---|"]
    for name, r in done.items():
        scores = " | ".join(f"{points[-1][1]:+.1f}" if points else "-" for points in r["curves"].values())
        lines.append(f"| {name} | {r['parameters']:,} | {r['gmac_per_s']:.2f} | {r['times_real_time']} "
                     f"| {r['minutes']:.0f} | {r['step']} | {r['audio_s_per_s']:.1f} | {scores} |")
    return "\n".join(lines)


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
