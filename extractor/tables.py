"""Tables for people and programs alike, a line of names first; and JSON."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from extractor import UserError
from extractor.files import atomic_write


def write(path: str | Path, columns: Iterable[str], rows: Iterable[Mapping], *, delimiter: str = "\t"):
    """Writes a table aside and renames it: a kill leaves the old or the new one. Raises UserError where it cannot."""
    # surrogates: names of files may hold any bytes
    with atomic_write(path) as aside, open(aside, "w", newline="", encoding="utf-8", errors="surrogateescape") as f:
        writer = csv.DictWriter(f, list(columns), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path: str | Path, columns: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Returns the rows of a table by column; [] where there is no file. Raises UserError where it cannot be read, where
    a row is longer or shorter than the line of names, or where these are not `columns`."""
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as f:
            reader = csv.DictReader(f, delimiter="\t")
            rows, found = list(reader), reader.fieldnames
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error):
        rows, found = [], None
    if found is None or columns and list(columns) != found or any(None in row or None in row.values() for row in rows):
        wanted = f" with the columns {', '.join(columns)}" if columns else ""
        raise UserError(f"is no table{wanted}; move it away", path)
    return rows


def to_json(x) -> str:
    """Returns strict JSON: NaN and infinity become null, bytes of file names that are no UTF-8 question marks."""
    return json.dumps(_plain(x), ensure_ascii=False, indent=1).encode("utf-8", "replace").decode("utf-8")


def _plain(x):
    if isinstance(x, dict):
        return {str(key): _plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def read_json(path: str | Path) -> dict:
    """Returns the object in a JSON file; {} where there is none that can be read."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: str | Path, x):
    with atomic_write(path) as aside:
        aside.write_text(to_json(x), encoding="utf-8")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
