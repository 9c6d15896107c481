"""The curves that training leaves beside a checkpoint: <folder>/curves.csv, a row for each point in time."""

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from extractor import UserError, tables

NAME = "curves.csv"


class Table:
    """The file, to be added to. Of what is there, rows after `step` are taken back: that is where a run goes on."""

    def __init__(self, folder: str | Path, step: int):
        self.path = Path(folder) / NAME
        self.columns, rows = _rows(self.path)
        self.waiting: list[dict[str, float]] = []  # rows that could not be written yet
        tables.write(self.path, self.columns, (row for row in rows if int(row["step"]) <= step), delimiter=",")

    def add(self, step: int, values: Mapping[str, float]):
        """Raises UserError where it cannot be written."""
        if new := [name for name in values if name not in self.columns]:
            self.columns += new
            tables.write(self.path, self.columns, _rows(self.path)[1], delimiter=",")
        self.waiting.append({"step": step, **{name: float(value) for name, value in values.items()}})
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as f:
                csv.DictWriter(f, self.columns, lineterminator="\n").writerows(self.waiting)
            self.waiting = []
        except PermissionError:
            pass  # on Windows, while a spreadsheet has it open
        except OSError as e:
            raise UserError(f"{self.path}: cannot be written ({e.strerror or e}); make room, and run again") from None


def read(folder: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Name of the curve -> (step, value), in order. Empty where there is none."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for row in _rows(Path(folder) / NAME)[1]:
        for name, value in row.items():
            if name != "step" and value:
                found[name][int(row["step"])] = float(value)
    return {name: sorted(points.items()) for name, points in found.items()}


def _rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns, and the rows that are whole: a kill may leave half of the last one."""
    if not path.is_file():
        return ["step"], []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")  # what follows the last end of line is no row
    reader = csv.DictReader(lines)
    return list(reader.fieldnames or ["step"]), [dict(row) for row in reader]
