"""What was found out about recordings, kept for the next time: those that are as they were are not opened again."""

import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from extractor import audio, tables
from extractor.files import whole

KEPT = [f.name for f in fields(audio.Recording) if f.name not in ("path", "unpacked", "channel")]


class Index:
    """A file of them, by path; what has another size or time of change by now is looked at anew."""

    def __init__(self, path: str | Path = ""):
        """With no path nothing is kept."""
        self.path, self.changed = Path(path) if path else None, False
        self.known = tables.read_json(self.path) if self.path else {}

    def look(self, path: Path, check: Callable[[Path], audio.Recording]) -> audio.Recording:
        """check(path), or what it came to before. It raises UserError for what cannot be used: that is not kept."""
        if not self.path:
            return check(path)
        key, now = f"{check.__name__} {os.path.abspath(path)}", stamp(path)
        known = self.known.get(key)
        if now and known and known[:2] == now and len(known) == 2 + len(KEPT):
            return audio.Recording(path, **dict(zip(KEPT, known[2:], strict=True)))
        recording = check(path)
        if now:
            self.known[key] = [*now, *(getattr(recording, name) for name in KEPT)]
            self.changed = True
        return recording

    def save(self):
        """Whole at every moment. Raises UserError where it cannot be written."""
        if self.changed:
            with whole(self.path, shared=True) as aside:
                aside.write_text(json.dumps(self.known), encoding="utf-8")  # ASCII: names may hold any bytes


def stamp(path: Path) -> list[int]:
    """Size and time of change; empty where there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
