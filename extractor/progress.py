"""How far a run has come, and what it leaves: last.pt to go on from, best.pt, and the best few, step_<n>.pt.

args: train.py's MainArgs
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from extractor import UserError, audio, checkpoint, files, sigma
from extractor.optim import parameters_in

Optimizers = Sequence[torch.optim.Optimizer]
MAX_BAD = 10  # steps in a row without a finite loss and gradient before the run stops


@dataclass
class Progress:
    """How far a run has come: steps, time, and the best validation so far."""

    step: int = 0
    best: float = math.inf   # validation loss
    best_step: int = 0
    kept: list[tuple[float, int]] = field(default_factory=list)  # loss and step of every step_<n>.pt, the best first
    seconds: float = 0.0

    def ended(self, args) -> str:
        """Says why there is nothing more to do; "" where there is."""
        if self.step >= args.steps:
            more = "minutes" if args.minutes else "steps"  # of which `steps` is what fits
            return f"{args.folder} has its {self.step} steps already; raise MainArgs.{more} to go on"
        if args.patience and self.step - self.best_step >= args.patience * args.valid_every:
            since = f"nothing better since step {self.best_step}"
            return f"{args.folder} ended early at step {self.step}, {since}; raise MainArgs.patience to go on"
        return ""


@dataclass
class Faults:
    """What goes wrong in steps."""

    bad: int = 0      # steps in a row without a finite loss and gradient
    skipped: int = 0  # such steps in all
    unread: int = 0   # draws from recordings that could not be read

    def add(self, result, step: int, lr: float):
        """result: train.py's StepResult. Raises UserError after MAX_BAD bad steps in a row."""
        self.unread += result.unread
        self.bad, self.skipped = (0, self.skipped) if result.finite else (self.bad + 1, self.skipped + 1)
        if self.bad >= MAX_BAD:
            last = f"(last: loss {result.losses['loss']:.3g}, gradient norm {result.grad_norm:.3g}) at step {step}"
            remedy = f"they left no trace: lower MainArgs.lr = {lr} and run again"
            raise UserError(f"{self.bad} steps in a row had no finite loss or gradient {last}; {remedy}")

    def counts(self) -> dict[str, int]:
        return {"skipped": self.skipped, "unread": self.unread}

    def say(self):
        if self.unread:
            print(f"{self.unread} draws from recordings failed and were made anew; the recordings are named above")
        if self.skipped:
            print(f"{self.skipped} steps were skipped: no finite loss or gradient")


def saver(args, run_metadata: dict, net: nn.Module, average: nn.Module, optimizers: Optimizers):
    """Returns save(name, progress), which writes a checkpoint with `run_metadata` and all that changes."""
    def save(name: str, progress: Progress):
        sigma.refresh(average)
        checkpoint.save(args.folder / name, {
            **run_metadata,
            "args": asdict(args),
            "net": net.state_dict(),
            "ema": average.state_dict(),
            "optimizer": [optimizer.state_dict() for optimizer in optimizers],
            "schedule": {"steps": args.steps, "warmup": args.warmup, "lr": args.lr},
            **asdict(progress),
            "epoch": progress.step // args.valid_every,
            "rng": torch.get_rng_state(),
            "versions": {"torch": str(torch.__version__), "numpy": np.__version__},
        })
    return save


def keep_best(args, progress: Progress, loss: float, save: Callable, first: bool):
    """Saves best.pt where a validation loss is the best so far, and step_<n>.pt of the best few. What was best by
    another measure stays, as best_until_<step>.pt, and so do those that an earlier run was told to keep, as
    step_<n>_before.pt where this one comes to the same step."""
    if loss < progress.best:
        best, until = args.folder / "best.pt", args.folder / f"best_until_{progress.best_step}.pt"
        if first and progress.best == math.inf and progress.best_step and best.exists() and not until.exists():
            files.replace(best, until)  # there already: a kill came before last.pt
        progress.best, progress.best_step = loss, progress.step
        save("best.pt", progress)
    before = {step for _, step in progress.kept}
    progress.kept = sorted([*progress.kept, (loss, progress.step)])[: args.keep if args.keep > 1 else 0]
    steps = {step for _, step in progress.kept}
    if progress.step in steps:
        now, old = (args.folder / f"step_{progress.step}{end}.pt" for end in ("", "_before"))
        if first and now.exists() and not old.exists():  # of a run whose last.pt is gone
            files.replace(now, old)
        save(now.name, progress)
    for step in before - steps if first and args.keep > 1 else ():
        with suppress(OSError):  # held open, on Windows: it stays
            (args.folder / f"step_{step}.pt").unlink()


def check_resumable(path: Path, state: dict, args, net: nn.Module) -> str:
    """Returns what the run of a last.pt, whose content is `state`, started from. Raises UserError where it was trained
    on other recordings, or in another way than args say."""
    if "net" not in state:
        raise UserError("exported for extraction, training cannot go on from it; move it away", path)
    before = state["args"]
    if not all(known_folder(name, before["data"]["clean"], state.get("clips", {})) for name in args.data.clean):
        folders = f"{', '.join(before['data']['clean'])}, not {', '.join(args.data.clean)}"
        remedy = f"give this run another MainArgs.name, with --init-from {path} to start from these weights"
        raise UserError(f"trained on {folders}; {remedy}", path)
    if before["seed"] != args.seed:
        raise UserError(f"started with MainArgs.seed = {before['seed']}; give that, or another MainArgs.name", path)
    freeze = before.get("freeze", ())
    if parameters_in(net, freeze) != parameters_in(net, args.freeze):
        held = f"MainArgs.freeze = {' '.join(freeze) or 'nothing'}"
        raise UserError(f"trained with other parts held; give {held} again, or another MainArgs.name", path)
    if args.init_from not in ("auto", before["init_from"] or "none"):
        print(f"{path}: goes on from its own weights, not from MainArgs.init_from; another MainArgs.name starts there")
    return before["init_from"]


def known_folder(name: str, before: Sequence[str], clips: Mapping[str, tuple[float, float]]) -> bool:
    """Whether a folder of clean recordings is one of those before, however it is spelt, or has any of the clips that
    were known, be it that they were moved: of the same name and length, with nothing at the old place now."""
    if os.path.realpath(name) in map(os.path.realpath, before):
        return True
    there = {os.path.realpath(path) for path in clips}
    moved = {(Path(path).name, seconds) for path, (seconds, _) in clips.items() if not os.path.exists(path)}
    names = {clip for clip, _ in moved}
    return any(
        os.path.realpath(path) in there or path.name in names and (path.name, audio.probe(path).seconds) in moved
        for path in audio.find(name)
    )


def begin(args) -> Progress:
    """Nothing done yet. A best.pt whose last.pt is gone stays, see `keep_best`; raises UserError where it cannot."""
    best = args.folder / "best.pt"
    if not best.exists():
        return Progress()
    step = checkpoint.load(best).get("step", 0)
    if (until := args.folder / f"best_until_{step}.pt").exists():
        raise UserError(f"{best} and {until} are there, but no last.pt to go on from: move one of them away")
    anew = f"training begins anew, and best.pt stays as {until.name}"
    other = f"to start from its weights give another MainArgs.name and --init-from {best}"
    print(f"{args.folder} has no last.pt to go on from: {anew}; {other}")
    return Progress(best_step=step)


def resume(
    path: Path, state: dict, args, net: nn.Module, average: nn.Module, optimizers: Optimizers,
    validation_fingerprint: str,
) -> Progress:
    """Puts a last.pt, whose content is `state`, into net, average and optimizers. Returns how far the run has come.
    Raises UserError where it had other optimizers."""
    anew = state.get("validation_fingerprint") != validation_fingerprint
    if anew:
        print(f"{path}: validation is of other mixtures or by another loss than before; what is best is judged anew")
    if (planned := state["schedule"]["steps"]) != args.steps:
        now = f"step {state['step']} of {args.steps}"
        print(f"{path}: planned for {planned} steps before; the learning rate goes on as at {now}")
    checkpoint.load_weights(state["net"], net, path)
    checkpoint.load_weights(state["ema"], average, path)
    if not isinstance(state["optimizer"], list) or len(state["optimizer"]) != len(optimizers):
        raise UserError("trained with or without Muon, unlike MainArgs.muon; change that, or MainArgs.name", path)
    for optimizer, saved in zip(optimizers, state["optimizer"], strict=True):
        try:
            groups = [  # how to go on is said by args, and by this device, not by what was said before
                {**before, **now, "params": before["params"]}
                for before, now in zip(saved["param_groups"], optimizer.param_groups, strict=True)
            ]
            optimizer.load_state_dict({**saved, "param_groups": groups})
        except ValueError:
            raise UserError("trained by another version; give this run another MainArgs.name", path) from None
    torch.set_rng_state(state["rng"])
    found = Progress(**{f.name: state[f.name] for f in fields(Progress) if f.name in state})
    found.kept = [tuple(x) for x in found.kept]
    return replace(found, best=math.inf, best_step=found.step, kept=[]) if anew else found
