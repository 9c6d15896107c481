"""What a base is worth: the scores of new speakers' nets after some steps from it, and after as many from scratch.

    python -m bench.base --speakers clean/alice clean/bob --dirty datasets/dirty/other --pairs pairs --steps 0 60 180

Every folder of `speakers` is one person, who is not in the base; pairs/<name of that folder> has test pairs as for
evaluate.py. Zero steps: the mean of the nearest speakers of the base, no weight changed. Prints a
table and writes <out_dir>/base.json. A call that was stopped goes on if it is given again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import evaluate
import train
from dataset import MixtureArgs
from extractor import UserError, checkpoint, script, tables
from extractor.material import find_material
from extractor.script import command_line

KINDS = {"game": "si_sdri", "voice": "si_sdri", "both": "si_sdri", "absent": "residual_level"}
STARTS = {"base": "auto", "scratch": "none"}


@dataclass(frozen=True)
class BenchArgs:
    speakers: tuple[str, ...] = ()        # folders of clean recordings, one for each
    dirty: tuple[str, ...] = ()           # as in MixtureArgs
    pairs: str = "pairs"
    steps: tuple[int, ...] = (0, 60, 180, 720)  # from the base
    scratch_steps: tuple[int, ...] = (720,)     # from random weights
    base: str = "auto"                    # as MainArgs.init_from
    runs: str = "runs/base"
    out_dir: str = "results/base"
    device: str = "auto"

    def __post_init__(self):
        if not all(steps >= 0 for steps in self.steps) or not all(steps > 0 for steps in self.scratch_steps):
            raise UserError("BenchArgs.steps, BenchArgs.scratch_steps: give 0 or more from the base, else 1 or more")


def main(args: BenchArgs) -> dict:
    """Returns the content of base.json."""
    if not args.speakers:
        raise UserError("BenchArgs.speakers = (): name a folder of clean recordings")
    path, rows = Path(args.out_dir) / "base.json", []
    planned = [("base", n) for n in args.steps] + [("scratch", n) for n in args.scratch_steps]
    for start, steps in planned:
        for folder in args.speakers:
            rows.append(row(args, folder, start, steps))
            tables.write_json(path, script.run_info(args, Path(args.out_dir)) | {"rows": rows})
    print(f"\n{table(rows)}")
    return tables.read_json(path)


def row(args: BenchArgs, folder: str, start: str, steps: int) -> dict:
    """One speaker's net, trained and scored."""
    speaker, data = Path(folder).name, MixtureArgs((folder,), args.dirty)
    minutes = sum(r.seconds for r in find_material(data).clean) / 60
    run = train.MainArgs(
        name=f"{speaker}_{minutes:.1f}min_{start}_{steps}", runs=args.runs, data=data, steps=max(1, steps),
        init_from=args.base if start == "base" else "none", device=args.device,
        **({} if steps else {"lr": 1e-12, "warmup": 0}),  # a step that changes nothing
    )
    best = train.main(run)
    out_dir = run.folder / "evaluation"
    scored = evaluate.EvalArgs(
        (str(best),), f"{args.pairs}/{speaker}", str(out_dir), perceptual=False, page=False, device=args.device
    )
    summary = evaluate.main(scored)["summary"][checkpoint.name_of(best)]
    scores = {kind: summary[kind][measure][0] for kind, measure in KINDS.items() if kind in summary}
    return {"speaker": speaker, "minutes": round(minutes, 1), "start": start, "steps": steps, **scores}


def table(rows: Iterable[dict]) -> str:
    """A row for each net, speaker by speaker."""
    head = ["speaker", "clean minutes", "start", "steps", *KINDS]
    ordered = sorted(rows, key=lambda r: r["speaker"])
    cells = [
        [r["speaker"], f"{r['minutes']:.1f}", r["start"], str(r["steps"])]
        + [f"{r[kind]:+.1f}" if kind in r else "" for kind in KINDS]
        for r in ordered
    ]
    return tables.markdown(head, cells)


if __name__ == "__main__":
    main(command_line(BenchArgs()))
