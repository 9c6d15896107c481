"""Tables for people and programs alike: tab-separated, a line of names first."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from extractor import UserError


def write(path: str | Path, columns: Iterable[str], rows: Iterable[Mapping]):
    """Aside, and renamed: at any moment there is the old table or the new one. Raises UserError where it cannot be."""
    path = Path(path)
    aside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "w", newline="", encoding="utf-8", errors="surrogateescape") as f:  # as in names of files
            writer = csv.DictWriter(f, list(columns), delimiter="\t")
            writer.writeheader()
            writer.writerows(rows)
            f.flush()
            os.fsync(f.fileno())
        os.replace(aside, path)
    except OSError as e:
        raise UserError(f"{path}: cannot be written ({e.strerror}); choose another output folder") from None
    finally:
        if path.parent.is_dir():
            aside.unlink(missing_ok=True)
