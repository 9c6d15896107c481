"""What more steps of a flow give and what they cost, beside the net that it refines: all that evaluate.py measures.

    python -m bench.flow_steps --checkpoint runs/alice_flow/best.pt --pairs evaluation --clean datasets/clean/alice

SI-SDR falls with the steps, as it must: one of the things that may have been is twice as far from what was as their
mean. Whether it sounds better, the other measures tell.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import evaluate
import models
from bench.families import extraction_speed
from extractor import UserError, checkpoint
from extractor.script import command_line
from extractor.tables import markdown
from flow import FlowArgs


@dataclass(frozen=True)
class BenchArgs:
    checkpoint: str = "runs/speaker/best.pt"
    steps: tuple[int, ...] = (1, 2, 4, 8)
    pairs: str = "evaluation"    # these as for evaluate.py
    clean: tuple[str, ...] = ()
    out_dir: str = "results/flow_steps"
    perceptual: bool = True
    device: str = "auto"


def main(args: BenchArgs) -> dict:
    """Returns the content of scores.json."""
    speeds = []
    with TemporaryDirectory() as folder:
        for name, state in variants(args):
            (Path(folder) / name).mkdir()
            checkpoint.save(Path(folder) / name / "best.pt", state)
            speeds.append((name, extraction_speed(models.saved_args(state, name))))
        report = evaluate.main(evaluate.EvalArgs(
            tuple(f"{folder}/{name}/best.pt" for name, _ in speeds), args.pairs, args.out_dir, args.clean,
            args.perceptual, page=False, device=args.device,
        ))
    print("\nseconds of audio per CPU second:\n")
    print(markdown(["system", "x real time a core"], ([name, f"{speed:.0f}"] for name, speed in speeds)))
    return report


def variants(args: BenchArgs) -> Iterator[tuple[str, dict]]:
    """By name, checkpoints: of the net that the flow refines, and of the flow for each number of steps."""
    state = checkpoint.load(args.checkpoint)
    flow = models.saved_args(state, args.checkpoint)
    if type(flow) is not FlowArgs:
        raise UserError(f"{args.checkpoint}: holds no flow; give the checkpoint of one")
    prefix = "predictor."
    held = {key.removeprefix(prefix): value for key, value in state["ema"].items() if key.startswith(prefix)}
    yield "refined", checkpoint_of(flow.predictor, held)
    for n in args.steps:
        yield f"steps_{n}", checkpoint_of(replace(flow, steps=n), state["ema"])


def checkpoint_of(args: models.Args, weights: dict) -> dict:
    return {"family": models.family_name(args), "args": {"model": asdict(args)}, "ema": weights}


if __name__ == "__main__":
    main(command_line(BenchArgs()))
