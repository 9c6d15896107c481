"""slices.tsv: what was cut from which recording, so that nothing is cut twice and nothing is lost.

Clips are written to a staging folder; then the table that names them replaces the old one; then they are moved beside
it. A run that is killed before the middle step has done nothing; what was killed behind it, the next run finishes.
"""

import csv
import hashlib
import os
import re
import shutil
from pathlib import Path

from extractor import UserError, tables

TABLE = "slices.tsv"
STAGING = ".slicing"

COLUMNS = (
    "clip",             # empty: what no clip has
    "source",           # the recording
    "start_s",          # in the recording
    "end_s",
    "seconds",          # of the clip, or of what was left out; together the whole recording
    "peak_db",          # dBFS
    "rms_db",
    "noise_floor_db",   # exceeded 90 % of the time
    "speech_share",
    "forced",           # start, end, both: cut inside speech, for want of a pause
    "reason",           # why it was left out
    "fingerprint",      # of the recording's file
    "settings",         # a digest of the SlicerArgs
)


def read_table(out_dir: Path) -> list[dict]:
    path = out_dir / TABLE
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as f:
            reader = csv.DictReader(f, delimiter="\t")
            rows, columns = list(reader), reader.fieldnames
    except (OSError, ValueError, csv.Error):
        rows, columns = [], None
    if columns != list(COLUMNS) or any(None in row or None in row.values() for row in rows):
        raise UserError(f"{path}: is not the slicer's table (columns {', '.join(COLUMNS)}); choose another out_dir")
    return rows


def save(out_dir: Path, rows: list[dict]):
    """The table, then the clips that it names."""
    if rows:
        tables.write(out_dir / TABLE, COLUMNS, rows)
    publish(out_dir, rows)


def publish(out_dir: Path, rows: list[dict]):
    """Move what waits in the staging folder beside the table that names it. What no table names is a killed run's."""
    named = {row["clip"] for row in rows}
    for path in (out_dir / STAGING).glob("*"):
        if path.name in named:
            os.replace(path, out_dir / path.name)
    shutil.rmtree(out_dir / STAGING, ignore_errors=True)


def fingerprint(path: Path) -> str:
    """Of a file's size and 64 pieces of 16 KiB, spread over all of it: the same file under any name, in any folder.

    Raises UserError where it cannot be read.
    """
    pieces, piece = 64, 1 << 14
    try:
        size = path.stat().st_size
        digest = hashlib.blake2b(str(size).encode(), digest_size=8)
        with open(path, "rb") as f:
            for i in range(pieces):
                f.seek(max(0, size - piece) * i // (pieces - 1))
                digest.update(f.read(piece))
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from None
    return digest.hexdigest()


def number(sources: list[Path], rows: list[dict], out_dir: Path) -> list[int]:
    """n of src_<n>_<k> for every source: that of its own name where it is free, else the next that is."""
    names = [path.name for path in out_dir.glob("src_*")] + [row["clip"] for row in rows]
    taken = {int(found[1]) for name in names if (found := re.match(r"src_(\d+)", name))}
    numbers: dict[Path, int] = {}
    for path in sources:
        found = re.fullmatch(r"src_(\d+)", path.stem)
        if found and int(found[1]) not in taken:
            numbers[path] = int(found[1])
            taken.add(numbers[path])
    free = 0
    for path in sources:
        if path not in numbers:
            while free in taken:
                free += 1
            numbers[path] = free
            taken.add(free)
    return [numbers[path] for path in sources]
