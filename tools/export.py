"""A checkpoint to keep or to give away: the averaged weights alone, as plain ones, a third of best.pt.

    python -m tools.export --checkpoint runs/alice/best.pt --out alice.pt
    python -m tools.export --checkpoint runs/alice/best.pt --out alice.pt --half True
    python infer.py --checkpoint alice.pt --inputs "datasets/dirty/alice/**/*"

infer.py and evaluate.py take it as they take best.pt. Training cannot go on from it.
"""

from dataclasses import dataclass
from pathlib import Path

import models
from extractor import UserError, checkpoint
from extractor.script import command_line


@dataclass(frozen=True)
class ExportArgs:
    checkpoint: str = "runs/speaker/best.pt"
    out: str = "speaker.pt"
    half: bool = False  # weights of 16 bits instead of 32: half the size


def main(args: ExportArgs) -> Path:
    """Returns where the exported checkpoint is."""
    out = Path(args.out)
    if out.exists() and "net" in checkpoint.load(out):
        raise UserError("a checkpoint that training can go on from; choose another ExportArgs.out", out)
    checkpoint.save(out, models.exported(args.checkpoint, half=args.half))
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB of {Path(args.checkpoint).stat().st_size / 2**20:.1f}")
    return out


if __name__ == "__main__":
    main(command_line(ExportArgs()))
