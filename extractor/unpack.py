"""Compressed recordings, decoded once and for all.

A mixture needs a few seconds from anywhere. To find and decode them in a FLAC or Ogg file takes twice as long as all
the rest of making it, and half as long as a light net needs to learn from it.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from extractor import UserError, audio
from extractor.files import shortened

AS_THEY_ARE = (".wav", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64")
BLOCK_S = 60


def unpack(
    recordings: Sequence[audio.Recording], folder: str | Path, max_bytes: float, *, progress: bool = False
) -> list[audio.Recording]:
    """The recordings, the compressed ones with a mono WAV file in `folder` that `audio.read` takes instead: the same
    samples. In turn, as long as all these files have at most `max_bytes` and new ones half of the free disk; what was
    decoded before is there still, unless the recording has changed since. What cannot be decoded stays as it is.
    """
    out, spent = [], 0
    for recording in tqdm(recordings, "unpacking", unit=" files", leave=False, disable=not progress):
        path, size = Path(folder) / name_of(recording), 4 * recording.frames
        packed = recording.path.suffix.lower() not in AS_THEY_ARE
        if packed and spent + size <= max_bytes and (path.exists() or make(path, recording)):
            spent += size
            recording = replace(recording, unpacked=path)
        out.append(recording)
    return out


def name_of(recording: audio.Recording) -> str:
    """Another one when the file has changed."""
    file = recording.path.stat()
    key = f"{recording.path.resolve()}|{file.st_size}|{file.st_mtime_ns}"
    return f"{shortened(recording.path.stem, 200)}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.wav"


def make(path: Path, recording: audio.Recording) -> bool:
    """Whether it worked."""
    n, rate = recording.frames, recording.rate
    starts = range(0, n, BLOCK_S * rate)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if 4 * n > shutil.disk_usage(path.parent).free / 2:
            return False
        blocks = (audio.read(recording, at, min(BLOCK_S * rate, n - at), rate) for at in starts)
        audio.write(path, blocks, n, rate, shared=True)  # another run may be at the same recording
    except (UserError, OSError):
        return False
    return True
