"""Files that are whole at every moment."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from extractor import UserError


@contextmanager
def whole(path: str | Path, *, flush: bool = True) -> Iterator[Path]:
    """A path to write to, beside `path`, which it replaces when the block ends well: a kill leaves the old file or the
    new one, never half of one. `flush` to the disk first, so that this holds for a power cut too.

    Raises UserError where it cannot be written.
    """
    path = Path(path)
    aside = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        if flush:
            with open(aside, "r+b") as f:  # Windows flushes what may be written
                os.fsync(f.fileno())
        os.replace(aside, path)
    except OSError as e:
        raise UserError(f"{path}: cannot be written ({e.strerror or e}); choose another output folder") from None
    finally:
        if path.parent.is_dir():
            aside.unlink(missing_ok=True)
