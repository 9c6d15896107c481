"""Sound files: any format libsndfile reads, any rate, any channel count, at the rate asked for, mono if asked.

Only the part that is asked for is read, so that a recording may be hours long.
"""

import io
import mmap
import os
import re
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from math import ceil, gcd
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from extractor import UserError, container
from extractor.files import atomic_write
from extractor.levels import OFFSET, channel_of, delay_of

SNDFILE = (".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64")
CONTAINERS = (
    ".m4a", ".m4b", ".m4r", ".mka", ".aac", ".wma", ".ac3", ".eac3", ".dts", ".amr", ".ape", ".mp2", ".mpa",
    ".wv", ".tta", ".tak", ".mpc", ".weba", ".spx", ".ra", ".mp4", ".m4v", ".mkv", ".webm", ".mov", ".qt", ".avi",
    ".flv", ".f4v", ".ts", ".mts", ".m2ts", ".vob", ".ogv", ".ogm", ".asf", ".wmv", ".mpg", ".mpeg", ".3gp", ".3g2",
    ".rm", ".rmvb", ".mxf",
)
SUFFIXES = (*SNDFILE, ".mp3", *CONTAINERS)
BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}  # a sample
WAV_BYTES = 2**32 - 2**16  # of samples in a WAV file
LOOKS = 30      # seconds of a recording that tell whether its channels would cancel
BEFORE = 1 << 14      # samples that are read before the first one of Ogg, where it is not the next
LAST_PAGE = 1 << 18   # samples, the most that a page of Ogg holds: 255 packets of 1024
MOST_DELAY_S = 0.1  # between two channels; the same sound later is an echo
LATE_S = 0.05   # between sound and picture: less is not seen
LARGEST = 1e10  # of a sample, over full scale; sound scaled like 32-bit integers reaches 2e9
CONTEXT = 4096  # samples read beyond either end before resampling; soxr's longest filter is shorter


@dataclass(frozen=True)
class Recording:
    path: Path
    rate: int      # Hz, of the file
    channels: int
    frames: int    # samples per channel at that rate
    subtype: str = "PCM_16"    # libsndfile's name of the sample format
    flaw: str = ""             # what of it is missing, as the end of a sentence
    stream: int | None = None  # number of the audio stream, where container.py reads it; None: libsndfile
    n_streams: int = 1         # audio streams in the file
    late_s: float = 0.0        # how long after the picture of a film its sound starts
    samples_at: int = 0        # the byte where the samples of a WAV file begin whose header does not tell their number
    unpacked: Path | None = None  # a WAV file with the mean of its channels, which is faster to read (cache.py)
    channel: int | None = None    # the only one that is read as mono, instead of their mean
    why: str = ""                 # that is so: what its channels do, as the middle of a sentence
    offset: float = 0.0           # taken away from every sample that is read as mono

    @property
    def seconds(self) -> float:
        return self.frames / self.rate

    @property
    def remarks(self) -> list[str]:
        """What one should know before it is used, as the ends of sentences."""
        found = [f"{self.flaw}; the {self.seconds:.1f} s that are there are used"] if self.flaw else []
        if self.n_streams > 1:
            found.append(f"has {self.n_streams} audio streams, of which number {self.stream} is used; see audio_stream")
        if abs(self.late_s) > LATE_S:
            side = "after" if self.late_s > 0 else "before"
            starts = f"its sound starts {abs(self.late_s):.2f} s {side} its picture"
            found.append(f"{starts}; what is made of it starts with the sound")
        return found

    def length(self, sample_rate: int) -> int:
        """Samples after resampling to `sample_rate`."""
        return ceil(self.frames * sample_rate / self.rate)


def sounds(paths: Iterable[Path]) -> list[Path]:
    """The files whose names end like sound, sorted, but no film of which sound of the same name has been made."""
    found = [p for p in paths if p.suffix.lower() in SUFFIXES and p.is_file()]
    made = {p.with_suffix("") for p in found if p.suffix.lower() not in CONTAINERS}
    return sorted(p for p in found if p.suffix.lower() not in CONTAINERS or p.with_suffix("") not in made)


def find(folder: str | Path) -> list[Path]:
    """All `sounds` below a folder, also where links lead, once, none hidden. What cannot be listed is named."""
    return sounds(_files(folder))


def _files(folder: str | Path, depth: int | None = None) -> list[Path]:
    """See `find`. depth: of folders to look into; 0 is this one alone."""
    def unlisted(error: OSError):
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            warnings.warn(f"passed over: {error.filename} cannot be listed ({error.strerror})", stacklevel=4)

    top, found, seen = len(Path(folder).parts), [], set()
    for here, folders, names in os.walk(folder, onerror=unlisted, followlinks=True):
        if (real := os.path.realpath(here)) in seen:
            folders.clear()
            continue
        seen.add(real)
        deeper = depth is None or len(Path(here).parts) - top < depth
        folders[:] = sorted(name for name in folders if deeper and not name.startswith("."))
        found += [Path(here, name) for name in names if not name.startswith(".")]
    return found


def inputs(pattern: str, out_dir: str | Path, mark: str) -> tuple[Path, list[Path]]:
    """A folder, a file or a glob -> the last folder before the glob's first star, and the sound files that match.

    What lies in `out_dir`, or in another folder below the first that has a file `mark` as outputs have, is left out:
    outputs of an earlier run are no inputs. Raises UserError where nothing matches, or where the inputs themselves lie
    there.
    """
    if not pattern:
        raise UserError("inputs is empty: give a file, a folder or a glob")
    root, out_dir = Path(pattern), Path(out_dir)
    if root.is_dir():
        found = find(root)
    else:
        while root.name and not root.is_dir():  # a folder may have brackets in its name
            root = root.parent
        wanted = Path(pattern).relative_to(root).parts
        depth = None if "**" in wanted else len(wanted) - 1
        found = sounds([Path(pattern)] if Path(pattern).is_file() else [
            path for path in _files(root, depth) if _matches(path.relative_to(root).parts, wanted)
        ])
    if out_dir.resolve() == root.resolve():
        raise UserError(f"{out_dir}: is where the inputs lie; choose another out_dir")
    below = {root / folder for path in found for folder in path.relative_to(root).parents if folder.name}
    marked = {folder for folder in below if (folder / mark).exists()}
    for folder in sorted(marked - {out_dir}):
        print(f"{folder}: left out, since {mark} says that it holds outputs of an earlier run")
    outputs = {folder.resolve() for folder in marked}
    if root.resolve() in out_dir.resolve().parents:
        outputs.add(out_dir.resolve())
    found = [p for p in found if outputs.isdisjoint(p.resolve().parents)]
    if not found:
        raise UserError(f"{pattern}: no recordings match; put the glob in quotes, or name a folder")
    return root, found


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path fits a glob, part by part; ** is any number of folders."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def probe(path: str | Path, audio_stream: int = 0) -> Recording:
    """What there is of sound in a file: its rate, channels and exact length. audio_stream: the number, from 0, of the
    one to read where there are several. Raises UserError where there is no sound that can be read."""
    path = Path(path)
    if recording := _probe_sndfile(path):
        return recording
    rate, channels, frames, subtype, flaw, n_streams, _, late_s = container.contents(path, audio_stream)
    streams = {"stream": audio_stream, "n_streams": n_streams, "late_s": late_s}
    return Recording(path, rate, channels, frames, subtype, flaw, **streams)


def _probe_sndfile(path: Path) -> Recording | None:
    """None where libsndfile cannot read it, or would not read all of it."""
    try:
        if path.suffix.lower() in CONTAINERS or not _one_whole_stream(path):
            return None
        info = sf.info(str(path), verbose=True)
        recording = Recording(path, info.samplerate, info.channels, info.frames, info.subtype)
        if info.format in ("WAV", "WAVEX", "RF64") and (repaired := _of_unknown_length(recording, info)):
            return repaired
        if info.format in ("MP3", "MPEG") or info.format == "FLAC" and not _ends_as_told(recording):
            return None
    except (sf.LibsndfileError, OSError, UnicodeEncodeError):
        return None
    if info.frames < 1 or info.samplerate < 1:
        return None
    return replace(recording, flaw="cut off at its end" if _cut_off(info.extra_info) else "")


def _of_unknown_length(recording: Recording, info) -> Recording | None:
    """A WAV file whose header does not tell how many samples there are: it has wrapped at 4 GB, it was written to a
    pipe, or the program that wrote it did not come to its end."""
    size = recording.path.stat().st_size
    with open(recording.path, "rb") as f:
        kind, told = f.read(12)[:4], None
        while len(head := f.read(8)) == 8:
            name, told = head[:4], int.from_bytes(head[4:], "little")
            if name == b"data":
                break
            f.seek(told + told % 2, os.SEEK_CUR)
        else:
            return None
        samples_at = f.tell()
    wrapped = size >= 2**32 and kind == b"RIFF"
    frame_bytes = recording.channels * BYTES.get(recording.subtype, 0)
    if not frame_bytes or not (wrapped or not info.frames or told % 2**31 > 2**31 - 2**16):
        return None
    frames = (size - samples_at) // frame_bytes
    return replace(recording, frames=frames, samples_at=samples_at) if frames else None


def _one_whole_stream(path: Path) -> bool:
    """False for an Ogg file that is a chain of several, or lacks pages inside."""
    with open(path, "rb") as f:
        if f.read(4) != b"OggS":
            return True
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
            pages = [m.groups() for m in re.finditer(rb"OggS\0(.).{8}(....)(....)", content, re.S)]
    begins = sum(flags[0] & 2 > 0 for flags, *_ in pages)
    numbers = np.array([int.from_bytes(number, "little") for *_, number in pages])
    return begins == 1 and bool((np.diff(numbers) == 1).all())


def _ends_as_told(recording: Recording) -> bool:
    """Whether the last sample that a header promises is there."""
    if recording.frames > 2**48:  # it promises nothing
        return False
    with sf.SoundFile(str(recording.path)) as f:
        f.seek(recording.frames - 1)
        return len(f.read(1)) == 1


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
        samples = samples - np.float32(recording.offset) if recording.offset else samples
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
        with _opened(recording, path) as f:
            skip = _seek(f, first, recording)
            samples = f.read(skip + n, dtype=dtype, always_2d=True)[skip:]
    except (sf.LibsndfileError, OSError) as e:
        at = first / recording.rate
        rewrite = f'ffmpeg -i "{recording.path.name}" "{recording.path.stem}.wav"'
        what = f"cannot be read at {at:.1f} s ({_reason(e)}); rewrite what is whole of it: {rewrite}"
        raise UserError(what, recording.path) from None
    if len(samples) < n:
        ends, promised = (first + len(samples)) / recording.rate, recording.seconds
        raise UserError(f"ends at {ends:.1f} s, its header says {promised:.1f} s; it is cut off", recording.path)
    if n and not (peak := np.abs(samples).max()) < LARGEST:  # nor where it is NaN
        what = f"a sample of {peak:.1g} times full scale" if np.isfinite(peak) else "NaN or infinite samples"
        raise UserError(f"{what} near {first / recording.rate:.1f} s", recording.path)
    return samples


def _seek(f: sf.SoundFile | container.Decoder, first: int, recording: Recording) -> int:
    """Goes to a sample, or to an earlier one. Returns how many samples to drop.

    Where libsndfile 1.2 has sought in Ogg, the samples that follow are wrong for a while, and those of the last page
    are shifted; a read that begins shortly before the end of Opus is wrong, too.
    """
    ogg = isinstance(f, sf.SoundFile) and recording.subtype in ("VORBIS", "OPUS")
    last = recording.frames - LAST_PAGE
    if ogg and f.tell() == first < last:
        return 0
    start = max(0, min(first - BEFORE, last)) if ogg else first
    f.seek(start)
    return first - start


_open_files: dict[Path, deque[sf.SoundFile | container.Decoder]] = {}


class _Behind(io.FileIO):
    """A file from a byte on."""

    def __init__(self, path: Path, start: int):
        super().__init__(path)
        self.start = start
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return super().seek(offset + self.start * (whence == os.SEEK_SET), whence) - self.start

    def tell(self) -> int:
        return super().tell() - self.start


def _open(recording: Recording, path: Path) -> sf.SoundFile | container.Decoder:
    if path != recording.path:
        return sf.SoundFile(str(path))
    if recording.stream is not None:
        return container.Decoder(path, recording.stream)
    if recording.samples_at:
        form = {"format": "RAW", "subtype": recording.subtype, "endian": "LITTLE"}
        return sf.SoundFile(_Behind(path, recording.samples_at), "r", recording.rate, recording.channels, **form)
    return sf.SoundFile(str(path))


@contextmanager
def kept_open(recording: Recording) -> Iterator[deque[sf.SoundFile | container.Decoder]]:
    """Inside it, the recording's file stays open from one read to the next, in any number of threads: to open a long
    mp3 and find the way to its end takes a tenth of a second every time."""
    files = _open_files[recording.path] = deque()
    try:
        yield files
    finally:
        _open_files.pop(recording.path, None)  # gone, where two keep the same file open
        for f in files:
            f.close()


def damage(recording: Recording, files: Iterable[sf.SoundFile | container.Decoder]) -> str:
    """What reading found to be missing inside a recording, by the files that were kept open, as a sentence's end."""
    lost_s = sum(getattr(f, "lost_s", 0.0) for f in files)
    return f"damaged: {lost_s:.1f} s cannot be decoded and are silence" if lost_s > 0.02 and not recording.flaw else ""


@contextmanager
def _opened(recording: Recording, path: Path) -> Iterator[sf.SoundFile | container.Decoder]:
    """A file to itself for one read."""
    kept = _open_files.get(path)
    try:
        f = kept.pop()
    except (AttributeError, IndexError):
        f = _open(recording, path)
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
    n_bytes = (8 if subtype == "DOUBLE" else 4) * n_samples * channels
    container = "RF64" if path.suffix == ".wav" and n_bytes >= WAV_BYTES else path.suffix[1:].upper()
    with atomic_write(path, flush=False, shared=shared) as aside:
        try:
            with sf.SoundFile(str(aside), "w", sample_rate, channels, subtype, format=container) as f:
                for block in blocks:
                    f.write(block)
        except sf.LibsndfileError as e:
            with open(aside, "ab") as f:  # it says "System error" of a full disk: Python says what it was
                f.write(bytes(1 << 16))
                f.flush()
                os.fsync(f.fileno())
            raise OSError(_reason(e)) from None


def _reason(error: Exception) -> str:
    return (getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)).rstrip(".")


def probe_mixture(path: str | Path, audio_stream: int = 0) -> Recording:
    """The recording as it is extracted: the mean of its channels, or the loudest one where they would cancel each other
    in the mean, or where the same sound is in two at different times; without a constant offset. All is found by up to
    LOOKS seconds spread over all of it. Raises UserError where it cannot be read."""
    recording = probe(path, audio_stream)
    second = min(recording.rate, recording.frames)
    starts = np.linspace(0, recording.frames - second, min(LOOKS, 1 + int(recording.seconds)))
    looks, products, total = [], 0.0, 0.0
    with kept_open(recording):
        for start in starts.astype(int):
            x = read(recording, int(start), second, recording.rate, mono=False).astype(np.float64)
            products, total = products + x.T @ x, total + x.mean(axis=0) / len(starts)
            if recording.channels == 2:
                looks.append(x.astype(np.float32))
    channel, why = channel_of(products) if recording.channels > 1 else None, ""
    if channel is not None:
        why = "would cancel each other"
    elif recording.channels == 2 and (lag := delay_of(looks)) is not None and abs(lag) < MOST_DELAY_S * recording.rate:
        channel, why = int(np.diag(products).argmax()), f"are {1000 * abs(lag) / recording.rate:.1f} ms apart"
    offset = float(total.mean() if channel is None else total[channel])
    constant = abs(offset) > OFFSET and recording.seconds >= 1  # the mean of less may be a deep sound's
    return replace(recording, channel=channel, why=why, offset=offset if constant else 0.0)


def told_seconds(path: Path) -> float:
    """How long a recording is by its header, at once, for a progress bar; 0 where that is unknown."""
    recording = _probe_sndfile(path)
    return recording.seconds if recording else container.told_seconds(path)
