"""Rounds of bootstrapping among the clean recordings: put there whole, and taken away whole."""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from extractor import UserError, audio, tables
from extractor.material import ROUND_TABLE

COVERED = 0.1  # of a clip's length: so much of it may be in an earlier round


def promoted(clean: Path) -> dict[int, list[dict]]:
    """Returns the rows of every round among the clean recordings, by its number."""
    found = {int(m[1]): path for path in clean.glob("round_*") if (m := re.fullmatch(r"round_(\d+)", path.name))}
    return {number: tables.read(path / ROUND_TABLE) for number, path in sorted(found.items())}


def round_of(row: dict, rounds: dict[int, list[dict]]) -> int | None:
    """Returns the number of the round that has this stretch of this recording already; None if none has."""
    for number, others in rounds.items():
        same = (pieces_of(other) for other in others if other["content"] == row["content"])
        if sum(overlap(pieces_of(row), pieces) for pieces in same) > COVERED * sum(b - a for a, b in pieces_of(row)):
            return number
    return None


def overlap(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> int:
    """Returns how many samples two lists of pieces of one recording share."""
    return sum(max(0, min(b, d) - max(a, c)) for a, b in one for c, d in other)


def pieces_of(row: dict) -> list[tuple[int, int]]:
    """Returns the pieces of a clip, in samples of the estimate: `100-200 350-400`."""
    return [tuple(map(int, piece.split("-"))) for piece in row["pieces"].split()]


def promote(clean: Path, number: int, clips: Iterable[tuple[dict, np.ndarray]], sample_rate: int) -> Path:
    """Writes clips, rows and samples, into clean/round_<number>, with the table of the rows; all of it or nothing.
    Clips of the n-th recording are src_<n>_<k>.wav. Raises UserError where it cannot be written."""
    folder, aside = clean / f"round_{number}", clean / f".round_{number}"
    shutil.rmtree(aside, ignore_errors=True)  # a killed run's
    numbers: dict[str, int] = {}
    counts: dict[str, int] = {}
    rows = []
    try:
        for row, samples in clips:
            n, k = numbers.setdefault(row["content"], len(numbers)), counts.get(row["content"], 0)
            counts[row["content"]] = k + 1
            rows.append({"file": f"src_{n}_{k}.wav"} | row)
            audio.write(aside / rows[-1]["file"], [samples], len(samples), sample_rate)
        tables.write(aside / ROUND_TABLE, rows[0], rows)
        os.rename(aside, folder)
    except OSError as e:
        raise UserError(f"cannot be written ({e.strerror or e}); choose another BootstrapArgs.clean", folder) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def undo(clean: Path, name: str, keep_in: Path) -> Path:
    """Moves a round from the clean recordings into another folder. Returns where it lies then. The next call finishes
    what a killed one began. Raises UserError where there is no such round, or where a later one rests on it."""
    folder, aside, kept = clean / name, clean / f".undone_{name}", keep_in / name
    begun = aside.exists()
    if not re.fullmatch(r"round_\d+", name) or not (begun or (folder / ROUND_TABLE).exists()):
        known = ", ".join(f"round_{number}" for number in promoted(clean)) or "none"
        raise UserError(f"no such round ({known} there)", folder)
    if later := [number for number in promoted(clean) if number > int(name[6:])]:
        raise UserError(f"round_{max(later)} was made with its help; undo that first", folder)
    try:
        if not begun:
            os.rename(folder, aside)  # at once, wherever the other folder lies
        shutil.rmtree(kept, ignore_errors=True)
        keep_in.mkdir(parents=True, exist_ok=True)
        shutil.move(aside, kept)
    except OSError as e:
        raise UserError(f"cannot be moved to {kept} ({e.strerror or e})", folder) from None
    return kept
