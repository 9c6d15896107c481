"""Tables for people and programs alike: tab-separated, a line of names first."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from extractor.files import whole


def write(path: str | Path, columns: Iterable[str], rows: Iterable[Mapping]):
    """Aside, and renamed: at any moment there is the old table or the new one. Raises UserError where it cannot be."""
    with whole(path) as aside, open(aside, "w", newline="", encoding="utf-8", errors="surrogateescape") as f:
        writer = csv.DictWriter(f, list(columns), delimiter="\t")  # surrogates: names of files may hold any bytes
        writer.writeheader()
        writer.writerows(rows)
