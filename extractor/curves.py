"""The curves that training leaves beside a checkpoint: <folder>/curves.csv, a row for each point in time."""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from extractor import UserError, tables

NAME = "curves.csv"


class Table:
    """The file that a run adds to. Rows after `step`, where the run goes on, are removed first."""

    def __init__(self, folder: str | Path, step: int):
        self.path = Path(folder) / NAME
        self.columns, rows = _rows(self.path)
        self.waiting: list[dict[str, float]] = []  # rows that could not be written yet
        tables.write(self.path, self.columns, (row for row in rows if int(row["step"]) <= step), delimiter=",")

    def add(self, step: int, values: Mapping[str, float]):
        """Adds a row, and columns for new names. Raises UserError where the file cannot be written."""
        if new := [name for name in values if name not in self.columns]:
            self.columns += new
            tables.write(self.path, self.columns, _rows(self.path)[1], delimiter=",")
        self.waiting.append({"step": step, **{name: float(value) for name, value in values.items()}})
        with writing(self.path), suppress(PermissionError):  # on Windows, while a spreadsheet has it open
            with open(self.path, "a", newline="", encoding="utf-8") as f:
                csv.DictWriter(f, self.columns, lineterminator="\n").writerows(self.waiting)
            self.waiting = []


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError in the block into a UserError about the path."""
    try:
        yield
    except OSError as e:
        raise UserError(f"cannot be written ({e.strerror or e}); make room, and run again", path) from None


def read(folder: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Returns name of the curve -> (step, value), in order; {} where there is no table."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for row in _rows(Path(folder) / NAME)[1]:
        for name, value in row.items():
            if name != "step" and value:
                found[name][int(row["step"])] = float(value)
    return {name: sorted(points.items()) for name, points in found.items()}


def _rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Returns the columns and the rows that are whole: a kill may leave half of the last one."""
    if not path.is_file():
        return ["step"], []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")  # what follows the last end of line is no row
    reader = csv.DictReader(lines)
    return list(reader.fieldnames or ["step"]), [dict(row) for row in reader]
