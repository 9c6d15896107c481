"""Sound files: any format libsndfile reads, any rate, any channel count, at the rate asked for, mono if asked.

Only the part that is asked for is read, so that a recording may be hours long.
"""

import glob
import os
import re
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil, gcd
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from extractor import UserError
from extractor.files import atomic_write
from extractor.levels import channel_of

SUFFIXES = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64",
)
FOREIGN = (  # to be converted
    ".m4a", ".m4b", ".mka", ".aac", ".wma", ".ac3", ".amr", ".ape", ".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi",
    ".flv", ".ts", ".wmv", ".mpg", ".mpeg", ".3gp",
)
WAV_BYTES = 2**32 - 2**16  # of samples in a WAV file
LOOKS = 30      # seconds of a recording that tell whether its channels would cancel
CONTEXT = 4096  # samples read beyond either end before resampling; soxr's longest filter is shorter


@dataclass(frozen=True)
class Recording:
    path: Path
    rate: int      # Hz, of the file
    channels: int
    frames: int    # samples per channel at that rate
    subtype: str = "PCM_16"    # libsndfile's name of the sample format
    cut_off: bool = False      # its own header says that something is missing at the end
    unpacked: Path | None = None  # a WAV file with the mean of its channels, which is faster to read (cache.py)
    channel: int | None = None    # the only one that is read as mono, instead of their mean

    @property
    def seconds(self) -> float:
        return self.frames / self.rate

    def length(self, sample_rate: int) -> int:
        """Samples after resampling to `sample_rate`."""
        return ceil(self.frames * sample_rate / self.rate)


def sounds(paths: Iterable[Path]) -> list[Path]:
    """The files whose names end like sound, sorted; also those that nobody here reads, so that it is said of them, but
    not where one of the same name has been made of them."""
    found = [p for p in paths if p.suffix.lower() in SUFFIXES + FOREIGN and p.is_file()]
    read = {p.with_suffix("") for p in found if p.suffix.lower() in SUFFIXES}
    return sorted(p for p in found if p.suffix.lower() in SUFFIXES or p.with_suffix("") not in read)


def find(folder: str | Path) -> list[Path]:
    """All `sounds` below a folder, also where links lead, once; hidden ones are left out. What cannot be listed is
    named."""
    def unlisted(error: OSError):
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            warnings.warn(f"passed over: {error.filename} cannot be listed ({error.strerror})", stacklevel=4)

    found, seen = [], set()
    for here, folders, names in os.walk(folder, onerror=unlisted, followlinks=True):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(here, name) for name in names if not name.startswith(".")]
    return sounds(found)


def inputs(pattern: str, out_dir: str | Path) -> tuple[Path, list[Path]]:
    """A folder, a file or a glob -> the last folder before the glob's first star, and the sound files that match.

    What lies in `out_dir` is left out: outputs of an earlier run are no inputs. Raises UserError where nothing matches,
    or where the inputs themselves lie there.
    """
    root, out_dir = Path(pattern), Path(out_dir)
    if root.is_dir():
        found = find(root)
    else:
        while root.name and not root.is_dir():  # a folder may have brackets in its name
            root = root.parent
        wanted = str(Path(glob.escape(str(root)), Path(pattern).relative_to(root)))
        found = sounds([Path(pattern)] if Path(pattern).is_file() else map(Path, glob.glob(wanted, recursive=True)))
    if out_dir.resolve() == root.resolve():
        raise UserError(f"{out_dir}: is where the inputs lie; choose another out_dir")
    if root.resolve() in out_dir.resolve().parents:
        found = [p for p in found if out_dir.resolve() not in p.resolve().parents]
    if not found:
        raise UserError(f"{pattern}: no recordings match; put the glob in quotes, or name a folder")
    return root, found


def probe(path: str | Path) -> Recording:
    """The header of a file. Raises UserError where there is no sound in it."""
    path = Path(path)
    if path.suffix.lower() in FOREIGN:
        convert = f'ffmpeg -i "{path.name}" -vn "{path.stem}.flac"'
        raise UserError(f"{path.suffix} is not read here; convert it: {convert}", path)
    try:
        info = sf.info(str(path), verbose=True)
    except (sf.LibsndfileError, OSError) as e:
        raise UserError(f"no sound file that can be read ({_reason(e)})", path) from None
    except UnicodeEncodeError:
        raise UserError("its name is not valid UTF-8; rename the file", path) from None
    if info.frames < 1 or info.samplerate < 1:
        raise UserError("holds no samples", path)
    return Recording(
        path, info.samplerate, info.channels, info.frames, info.subtype, _cut_off(info.extra_info)
    )


def _cut_off(log: str) -> bool:
    """What libsndfile notes while it opens WAV and Ogg files of which a part is missing. It reads on without a word."""
    sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", log, re.M)
    if sizes and int(sizes[1]) > int(sizes[2]):
        return -int(sizes[1]) % 2**31 > 2**16  # else as large as can be: written to a pipe, the size unknown
    return "Last page lacks an end-of-stream bit" in log or "Junk after the last page" in log


def read(recording: Recording, start: int, n: int, sample_rate: int, *, mono: bool = True) -> np.ndarray:
    """Samples start ... start + n of the recording at `sample_rate`, zeros beyond its ends. -> [n] float32

    Unless `mono`, which is the mean of the channels or the recording's only one: [n, channels], float64 where the file
    is finer than float32. Piece by piece it is the same signal as all at once. Raises UserError where the file does not
    hold what its header promises, or holds NaN or infinite samples.
    """
    common = gcd(recording.rate, sample_rate)
    step_in, step_out = recording.rate // common, sample_rate // common  # both grids meet every `step` samples
    margin = 0 if step_in == step_out else ceil(CONTEXT / min(step_in, step_out))
    first = min(recording.frames, max(0, start // step_out - margin) * step_in)
    last = min(recording.frames, (ceil((start + n) / step_out) + margin) * step_in)
    there = mono and recording.unpacked and recording.unpacked.exists()
    samples = _read(recording, recording.unpacked if there else recording.path, first, max(0, last - first))
    if mono:
        channels = samples.shape[1]
        samples = samples.astype(np.float32, copy=False)
        one = 0 if channels == 1 else recording.channel
        samples = samples @ np.full(channels, 1 / channels, np.float32) if one is None else samples[:, one]
    if step_in != step_out:
        samples = soxr.resample(samples, recording.rate, sample_rate) if len(samples) else samples
    out = np.zeros((n, *samples.shape[1:]), samples.dtype)
    skip = start - first // step_in * step_out
    wanted = samples[max(0, skip) : max(0, skip + n)]
    wanted = wanted[: max(0, recording.length(sample_rate) - max(0, start))]
    out[max(0, -skip) :][: len(wanted)] = wanted
    return out


def _read(recording: Recording, path: Path, first: int, n: int) -> np.ndarray:
    """[n, channels] at the recording's own rate."""
    dtype = "float64" if recording.subtype in ("PCM_32", "DOUBLE") else "float32"
    try:
        with _opened(path) as f:
            f.seek(first)
            samples = f.read(n, dtype=dtype, always_2d=True)
    except (sf.LibsndfileError, OSError) as e:
        at = first / recording.rate
        raise UserError(f"cannot be read at {at:.1f} s ({_reason(e)}); is it cut off?", recording.path) from None
    if len(samples) < n:
        ends, promised = (first + len(samples)) / recording.rate, recording.seconds
        raise UserError(f"ends at {ends:.1f} s, its header says {promised:.1f} s; it is cut off", recording.path)
    if not np.isfinite(samples).all():
        raise UserError(f"NaN or infinite samples near {first / recording.rate:.1f} s", recording.path)
    return samples


_open_files: dict[Path, deque[sf.SoundFile]] = {}


@contextmanager
def kept_open(recording: Recording) -> Iterator[None]:
    """Inside it, the recording's file stays open from one read to the next, in any number of threads: to open a long
    mp3 and find the way to its end takes a tenth of a second every time.
    """
    files = _open_files[recording.path] = deque()
    try:
        yield
    finally:
        _open_files.pop(recording.path, None)  # gone, where two keep the same file open
        for f in files:
            f.close()


@contextmanager
def _opened(path: Path) -> Iterator[sf.SoundFile]:
    """A file to itself for one read."""
    kept = _open_files.get(path)
    try:
        f = kept.pop()
    except (AttributeError, IndexError):
        f = sf.SoundFile(str(path))
    try:
        yield f
    except BaseException:
        kept = None
        raise
    finally:
        f.close() if kept is None else kept.append(f)


def write(
    path: str | Path, blocks: Iterable[np.ndarray], n_samples: int, sample_rate: int,
    *, channels: int = 1, subtype: str = "FLOAT", shared: bool = False,
):
    """A .wav file (RF64 where n_samples are too many for it) or a .flac file, written aside and renamed.

    At any moment there is the old file, the new one, or none. Blocks are [T] or [T, channels]. By
    default float, since an estimate may pass full scale where its mixture touched it, and clipping is for the user to
    decide. shared: as in files.atomic_write. Raises UserError where it cannot be written.
    """
    path = Path(path)
    width = 8 if subtype == "DOUBLE" else 4
    too_long = path.suffix == ".wav" and width * n_samples * channels >= WAV_BYTES
    container = "RF64" if too_long else path.suffix[1:].upper()
    with atomic_write(path, flush=False, shared=shared) as aside:
        try:
            with sf.SoundFile(str(aside), "w", sample_rate, channels, subtype, format=container) as f:
                for block in blocks:
                    f.write(block)
        except sf.LibsndfileError as e:
            raise OSError(_reason(e)) from None


def _reason(error: Exception) -> str:
    return (getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)).rstrip(".")


def probe_mixture(path: str | Path) -> Recording:
    """The recording as it is extracted: the mean of its channels, or the loudest one where they would cancel each other
    in the mean, by up to LOOKS seconds spread over all of it. Raises UserError where it cannot be read."""
    recording = probe(path)
    if recording.channels == 1:
        return recording
    products, second = 0.0, min(recording.rate, recording.frames)
    with kept_open(recording):
        for start in np.linspace(0, recording.frames - second, min(LOOKS, 1 + int(recording.seconds)), dtype=int):
            x = read(recording, int(start), second, recording.rate, mono=False).astype(np.float64)
            products += x.T @ x
    return replace(recording, channel=channel_of(products))
