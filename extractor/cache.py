"""What is known of recordings, and compressed recordings decoded, kept for the next time."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

from tqdm import tqdm

from extractor import UserError, audio, tables
from extractor.files import atomic_write, shortened

# --- what was found out: recordings that are as they were are not opened again ---------------------------------------

KEPT = [f.name for f in fields(audio.Recording) if f.name not in ("path", "unpacked", "channel", "offset")]


class Index:
    """A file of them, by path; what has another size or time of change by now is looked at anew."""

    def __init__(self, path: str | Path = ""):
        """path: the file of the index; without one nothing is kept."""
        self.path, self.changed = Path(path) if path else None, False
        self.known = tables.read_json(self.path) if self.path else {}

    def look(self, path: Path, check: Callable[[Path, int], audio.Recording], audio_stream: int) -> audio.Recording:
        """check(path, audio_stream), or what it came to before. UserError, for what cannot be used, is not kept."""
        if not self.path:
            return check(path, audio_stream)
        key, now = f"{check.__name__} {audio_stream} {os.path.abspath(path)}", stamp(path)
        known = self.known.get(key)
        if now and known and known[:2] == now and len(known) == 2 + len(KEPT):
            return audio.Recording(path, **dict(zip(KEPT, known[2:], strict=True)))
        recording = check(path, audio_stream)
        if now:
            self.known[key] = [*now, *(getattr(recording, name) for name in KEPT)]
            self.changed = True
        return recording

    def save(self):
        """Whole at every moment. Raises UserError where it cannot be written."""
        if self.changed:
            with atomic_write(self.path, shared=True) as aside:
                aside.write_text(json.dumps(self.known), encoding="utf-8")  # ASCII: names may hold any bytes


def stamp(path: Path) -> list[int]:
    """Size and time of change; empty where there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


# ---------------------------------------------------------------------------------------------------------------------
# decoded recordings. To find and decode seconds in a FLAC or Ogg file takes twice as long as all the rest of making a
# mixture, and half as long as a light net needs to learn from it

AS_THEY_ARE = (".wav", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64")
BLOCK_S = 60


def unpack(
    recordings: Sequence[audio.Recording], folder: str | Path, max_bytes: float, *, progress: bool = False
) -> list[audio.Recording]:
    """The recordings, the compressed ones with a mono WAV file in `folder` that `audio.read` takes instead: the same
    samples. In turn, as long as all these files have at most `max_bytes` and new ones half of the free disk; what was
    decoded before is there still, unless the recording has changed since. What cannot be decoded stays as it is."""
    out, spent = [], 0
    for recording in tqdm(recordings, "unpacking", unit=" files", leave=False, disable=not progress):
        path, size = Path(folder) / name_of(recording), 4 * recording.frames
        packed = recording.stream is not None or recording.path.suffix.lower() not in AS_THEY_ARE
        if packed and spent + size <= max_bytes and (path.exists() or make(path, recording)):
            spent += size
            recording = replace(recording, unpacked=path)
        out.append(recording)
    return out


def name_of(recording: audio.Recording) -> str:
    """The name of the decoded copy. It changes with the size and the time of the recording."""
    file = recording.path.stat()
    key = f"{recording.path.resolve()}|{file.st_size}|{file.st_mtime_ns}|{recording.stream}"
    return f"{shortened(recording.path.stem, 200)}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.wav"


def make(path: Path, recording: audio.Recording) -> bool:
    """Decode a recording to `path`. Returns False where it cannot be read or there is too little room."""
    n, rate = recording.frames, recording.rate
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if 4 * n > shutil.disk_usage(path.parent).free / 2:
            return False
        blocks = (audio.read(recording, at, min(BLOCK_S * rate, n - at), rate) for at in range(0, n, BLOCK_S * rate))
        audio.write(path, blocks, n, rate, shared=True)  # another run may be at the same recording
    except (UserError, OSError):
        return False
    return True
