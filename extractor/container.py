"""Sound in what ffmpeg's libraries read and libsndfile does not, by PyAV: films, m4a, wma, MP3, chained Ogg.

The header of such a file often tells no length, or a wrong one, and a time in it may be off by a millisecond. So
`contents` finds out how many samples there are, and how time stamps count them: from the packets, where their stamps
are exact or rise in even steps, else by decoding all of them once. `Decoder` finds its way by that, so that any part is
the same samples as in one pass.
"""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from extractor import UserError

BLOCK_S = 0.25     # decoded at a time
KEPT_S = 30.0      # decoded and kept, so that to go back a little costs nothing
AHEAD_S = 1.0      # what lies no further ahead is reached by decoding, not by seeking
BEFORE_S = 0.5     # decoded before what is sought: a decoder needs some packets until it is right again
GAP_S = 0.1, 600.0 # time stamps that jump by so much leave silence, so that the rest stays at its time
MISSING_S = 0.5    # less than the header promises by this: cut off
FEW = 100          # packets that are all decoded at once
COUNTED = ("mp4", "matroska", "flac", "asf", "tta", "wv", "ape", "caf", "aiff")  # headers that tell the length
LOSSLESS = ("flac", "alac", "wavpack", "tta", "ape", "shorten", "pcm_s16le", "pcm_s16be")

# --- what there is ---------------------------------------------------------------------------------------------------

class Steps(NamedTuple):
    """Stamps that count samples: exactly (step = 1), or in even steps of a frame each. A missing frame is silence."""

    stamp: int          # of a frame
    before: int         # samples before that frame
    a_tick: Fraction    # samples in one unit of the stamps
    step: int           # samples

    def place(self, stamp: int) -> int:
        """Samples before the frame of this stamp."""
        a_step = self.a_tick.denominator * self.step  # whole numbers: this is asked of every frame
        steps = (2 * (stamp - self.stamp) * self.a_tick.numerator + a_step) // (2 * a_step)
        return max(0, self.before + steps * self.step)

    def stamp_at(self, position: int) -> int:
        return self.stamp + int((position - self.before) / self.a_tick)


class Marks(NamedTuple):
    """Some time stamps, rising, and the samples before each of their frames."""

    stamps: np.ndarray
    before: np.ndarray

    def place(self, stamp: int) -> int | None:
        """Samples before the frame of this stamp, if it is one of them."""
        at = int(np.searchsorted(self.stamps, stamp))
        return int(self.before[at]) if at < len(self.stamps) and self.stamps[at] == stamp else None

    def stamp_at(self, position: int) -> int:
        """The last of the stamps up to there."""
        return int(self.stamps[max(0, int(np.searchsorted(self.before, position, side="right")) - 1)])


class Contents(NamedTuple):
    """What there is of an audio stream."""

    rate: int           # Hz
    channels: int
    frames: int         # samples per channel
    subtype: str        # PCM_16 where the samples are 16-bit integers, else FLOAT: libsndfile's names
    flaw: str           # what is missing, as the end of a sentence; empty where nothing is known to be
    n_streams: int      # audio streams in the file
    clock: Steps | Marks | None  # None: the stamps do not rise
    late_s: float = 0.0          # after the picture; below 0: before it


def contents(path: Path, stream: int = 0) -> Contents:
    """Look through an audio stream, once for every state of the file. stream: its number where there are several, from
    0. Raises UserError where there is no sound or no such stream."""
    try:
        found = path.stat()
    except OSError as e:
        raise UserError(f"no sound file that can be read ({e.strerror})", path) from None
    return _contents(path, stream, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _contents(path: Path, stream: int, *_state: int) -> Contents:
    with _opened(path) as file:
        decoded = Frames(file, _chosen(file, stream, path))
        first = [(frame.pts, n, frame.samples) for n, frame in islice(decoded, 3)]
    with _opened(path) as file:  # anew: in some formats a decoder that has been in use gives other samples at the start
        clock = _steps(file, _chosen(file, stream, path), first, decoded)
    with _opened(path) as file:
        audio = _chosen(file, stream, path)
        if clock is None:
            decoded = Frames(file, audio)
            clock = _marks(decoded)
        if not decoded.n:
            raise UserError("holds no samples", path)
        # behind the end that an MP4 tells is what filled the encoder's last frame
        told = "mp4" in file.format.name and audio.duration and round(audio.duration * audio.time_base * decoded.rate)
        frames = told if told and decoded.n - 4096 < told < decoded.n else decoded.n
        subtype = "PCM_16" if audio.codec_context.name in LOSSLESS and decoded.bytes == 2 else "FLOAT"
        flaw, n_streams = _flaw(path, file, audio, decoded), len(file.streams.audio)
        late = min((_start(audio) - _start(picture) for picture in file.streams.video), key=abs, default=0)
        return Contents(decoded.rate, decoded.channels, frames, subtype, flaw, n_streams, clock, float(late))


def _start(stream) -> Fraction | int:
    """When a stream starts, in s."""
    return (stream.start_time or 0) * (stream.time_base or 0)


def _steps(file, audio: av.AudioStream, first: list[tuple[int, int, int]], decoded: "Frames") -> Steps | None:
    """How the stamps count samples, without decoding all of them; None where they do not. Sets what `decoded` would
    have found: the samples up to the end and what is missing.

    first: stamp, samples before and samples of the first frames.
    """
    if len(first) < 3 or None in (stamp for stamp, *_ in first):
        return None
    (second, before, step), a_tick = first[1], audio.time_base * decoded.rate
    try:
        packets = [(packet.pts, packet.duration or 0) for packet in file.demux(audio) if packet.size]
    except av.error.FFmpegError:
        return None
    if len(packets) < FEW or None in (stamp for stamp, _ in packets):
        return None
    stamps, lengths = np.array(packets, np.int64).T
    steps = (stamps - second) * float(a_tick) / step    # a packet is a frame
    even = np.abs(steps - np.round(steps)).max() * step <= 1.5 * a_tick and (np.diff(np.round(steps)) >= 1).all()
    exact = a_tick.numerator == 1 and lengths.all() and (np.diff(stamps) >= lengths[:-1]).all()
    if "asf" in file.format.name or not (even or exact):
        return None
    clock, last = Steps(second, before, a_tick, step if even else 1), int(stamps[-1])
    try:
        file.seek(last - int(BEFORE_S / audio.time_base), stream=audio)
        tail = Frames(file, audio, clock)
        ends = [n + frame.samples for n, frame in tail]
    except av.error.FFmpegError:
        return None
    if (tail.rate, tail.channels) != (decoded.rate, decoded.channels) or ends[-1] < clock.place(last) - step:
        return None
    decoded.n = ends[-1]
    missing = (np.diff(np.round(steps)) - 1) * step if even else (np.diff(stamps) - lengths[:-1]) * float(a_tick)
    decoded.silent_s = float(missing.sum()) / decoded.rate
    return clock


def _marks(decoded: "Frames") -> Marks | None:
    """Decode all frames. Where their stamps rise, about one a second is a mark."""
    stamps, before, last = [], [], None
    rising = True
    for n, frame in decoded:
        if frame.pts is None:
            continue
        rising, last = rising and (last is None or frame.pts > last), frame.pts
        if not before or n >= before[-1] + decoded.rate:
            stamps.append(frame.pts)
            before.append(n)
    return Marks(np.array(stamps), np.array(before)) if rising and stamps else None


def _opened(path: Path) -> av.container.InputContainer:
    options = {"protocol_whitelist": "file"}  # a playlist in disguise opens nothing elsewhere
    try:
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except UnicodeEncodeError:
        raise UserError("its name is not valid UTF-8; rename the file", path) from None
    except (av.error.FFmpegError, ValueError) as e:
        reason = getattr(e, "strerror", None) or str(e)
        raise UserError(f"no sound file that can be read ({what_it_is(path) or reason})", path) from None


def _chosen(container: av.container.InputContainer, stream: int, path: Path) -> av.AudioStream:
    """The audio stream of that number, or the only one. The demuxer passes over all others."""
    streams = container.streams.audio
    if not streams:
        raise UserError("a video without sound" if container.streams.video else "holds no sound", path)
    if stream >= len(streams) > 1:
        raise UserError(f"has audio streams 0 to {len(streams) - 1}; give audio_stream one of them", path)
    audio = streams[min(stream, len(streams) - 1)]
    if audio.codec_context is None:
        raise UserError("its sound is of a kind that cannot be decoded here", path)
    for other in container.streams:
        if other is not audio:
            other.discard = av.stream.Discard.all
    return audio


def told_seconds(path: Path) -> float:
    """What the header says, or may be guessed from it; 0 where nothing can."""
    try:
        with _opened(path) as container:
            return (container.duration or 0) / av.time_base
    except (UserError, OSError):  # who reads it will say why
        return 0.0


def _flaw(path: Path, file, audio: av.AudioStream, decoded: "Frames") -> str:
    seconds = decoded.n / decoded.rate
    if decoded.rest:
        return f"is {decoded.rest} from {seconds:.1f} s on, which is left out"
    told = audio.duration and float(audio.duration * audio.time_base)
    if not told and not file.streams.video:
        told = file.duration and file.duration / av.time_base
    kinds = file.format.name.split(",")
    if told and told - seconds > MISSING_S and (any(k in COUNTED for k in kinds) or "mp3" in kinds and counted(path)):
        return f"cut off at its end; its header says {told:.1f} s"
    if decoded.silent_s > GAP_S[0] / 2:
        return f"lacks {decoded.silent_s:.1f} s inside, which are silence here"
    return "damaged: what cannot be decoded is left out" if decoded.damaged else ""


def counted(path: Path) -> bool:
    """Whether an MP3 file tells how many frames it has."""
    with open(path, "rb") as f:
        head = f.read(10)
        tag = 10 + sum(byte << 7 * i for i, byte in enumerate(head[:5:-1])) if head.startswith(b"ID3") else 0
        f.seek(tag)
        first = f.read(4096)
    return any(name in first for name in (b"Xing", b"Info", b"VBRI"))


def what_it_is(path: Path) -> str:
    """What a file is that holds no sound, by its first bytes; empty where that is unknown."""
    with open(path, "rb") as f:
        head = f.read(512)
    if not head:
        return "it is empty"
    if head[4:8] in (b"ftyp", b"moov", b"mdat"):
        return "an MP4 file without its index: it was cut off, or its recording was never finished"
    for start, kind in KINDS.items():
        if head.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(start):
            return kind
    return "it is all zeros" if not any(head) else "it is text" if all(9 <= b < 127 for b in head) else ""


KINDS = {
    b"<!doctype html": "a web page", b"<html": "a web page", b"<?xml": "an XML file", b"{": "a JSON file",
    b"pk\3\4": "a zip archive", b"rar!": "a rar archive", b"7z\xbc\xaf": "a 7z archive", b"\x1f\x8b": "a gzip archive",
    b"%pdf": "a PDF document", b"\x89png": "a picture", b"\xff\xd8\xff": "a picture", b"gif8": "a picture",
}


# --- decoding --------------------------------------------------------------------------------------------------------

class Frames:
    """The decoded frames of a stream from here on: (samples before it, frame). Where time stamps jump, samples are
    counted for the silence between.

    Damaged packets are left out. The frames end where the rate or the number of channels changes.
    """

    def __init__(
        self, file: av.container.InputContainer, audio: av.AudioStream, clock: Steps | Marks | None = None,
        rate: int = 0, channels: int = 0,
    ):
        self.n = 0                  # samples so far
        self.rate, self.channels, self.bytes = rate, channels, 0
        self.damaged = 0            # packets that could not be decoded
        self.silent_s = 0.0         # counted where time stamps jump
        self.rest = ""              # of what kind the rest is that is left out
        self.tick_s, self.clock = float(audio.time_base), clock
        self.packets = file.demux(audio)

    def __iter__(self) -> Iterator[tuple[int, av.AudioFrame]]:
        due = None  # seconds
        for frame in self._decoded():
            now = frame.sample_rate, frame.layout.nb_channels
            if not self.rate:
                (self.rate, self.channels), self.bytes = now, frame.format.bytes
            if now != (self.rate, self.channels):
                self.rest = f"{now[0]} Hz with {now[1]} channels"
                return
            samples = frame.samples
            if frame.pts is not None:
                at = frame.pts * self.tick_s
                if isinstance(self.clock, Steps):
                    silent = self.clock.place(frame.pts) - self.n
                else:
                    silent = round((at - due) * self.rate) if due is not None and GAP_S[0] < at - due < GAP_S[1] else 0
                self.silent_s += silent / self.rate if due is not None else 0.0
                self.n += silent
                due = at + samples / self.rate
            yield self.n, frame
            self.n += samples

    def _decoded(self) -> Iterator[av.AudioFrame]:
        while True:
            packet = None
            try:
                packet = next(self.packets)
                decoded = packet.decode()
            except StopIteration:
                return
            except av.error.FFmpegError:
                self.damaged += 1
                if packet is None:  # the file cannot be read on
                    return
            else:
                yield from decoded


class Decoder:
    """Reads any part of an audio stream, as soundfile.SoundFile does: `seek`, `read`, `close`."""

    def __init__(self, path: Path, stream: int = 0):
        self.path, self.stream, self.contents = path, stream, contents(path, stream)
        self.position = 0
        self.lost_s = 0.0   # seconds that turned out to be missing where it read
        self._start()

    def seek(self, position: int):
        self.position = position

    def read(self, n: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """The next n samples, fewer at the end. -> [n, channels]"""
        n = max(0, min(n, self.contents.frames - self.position))
        self._go(self.position)
        while self.end < self.position + n and (block := next(self.blocks, None)):
            self.kept.append(block)
            while self.end - self.kept[0][0] > n + KEPT_S * self.contents.rate:
                self.kept.popleft()
        out = np.zeros((n, self.contents.channels), dtype)  # silence where time stamps jump
        for begin, samples in self.kept:
            first, last = max(begin, self.position), min(begin + len(samples), self.position + n)
            if first < last:
                out[first - self.position : last - self.position] = samples[first - begin : last - begin]
        self.position += n
        return out

    def close(self):
        self.file.close()

    @property
    def end(self) -> int:
        """Samples up to which all is decoded."""
        return self.kept[-1][0] + len(self.kept[-1][1]) if self.kept else self.begin

    def _go(self, position: int):
        """See to it that `position` is kept, or lies ahead."""
        first = self.kept[0][0] if self.kept else self.begin
        if first <= position <= self.end + AHEAD_S * self.contents.rate:
            return
        found = self.contents.clock and position > BEFORE_S * self.contents.rate and self._seek(position)
        if not found and position < first:
            self.file.close()
            self._start()

    def _start(self):
        self.file = _opened(self.path)
        self.audio = _chosen(self.file, self.stream, self.path)
        self._decode(0, self._frames())

    def _seek(self, position: int) -> bool:
        """Decode from `position` on. Returns False where it is not found."""
        clock, found = self.contents.clock, False
        try:
            self.file.seek(clock.stamp_at(position - round(BEFORE_S * self.contents.rate)), stream=self.audio)
        except av.error.FFmpegError:
            return False
        frames = self._frames()
        for n, frame in frames:
            placed = clock.place(frame.pts) if frame.pts is not None else None
            if placed is not None:
                if not found and placed > position:
                    break
                self.decoded.n, found, n = placed, True, placed
            if found and n + frame.samples > position:
                self._decode(n, chain([(n, frame)], frames))
                return True
        self.file.close()
        self._start()
        return True

    def _frames(self) -> Iterator[tuple[int, av.AudioFrame]]:
        told = self.contents
        self.decoded = Frames(self.file, self.audio, told.clock, told.rate, told.channels)
        for n, frame in self.decoded:
            yield n, frame
            self.lost_s, self.decoded.silent_s = self.lost_s + self.decoded.silent_s, 0.0

    def _decode(self, begin: int, frames: Iterator[tuple[int, av.AudioFrame]]):
        self.begin, self.kept, self.blocks = begin, deque(), _blocks(frames, round(BLOCK_S * self.contents.rate))


def _blocks(frames: Iterator[tuple[int, av.AudioFrame]], size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Frames one behind the other in blocks of about `size` samples. -> (samples before it, [T, channels])"""
    fifo, begin = av.AudioFifo(), 0
    for n, frame in frames:
        if fifo.samples and (n != begin + fifo.samples or fifo.samples >= size):
            yield begin, _samples(fifo.read())
        if not fifo.samples:
            begin = n
        frame.pts = None  # the fifo would count it
        fifo.write(frame)
    if fifo.samples:
        yield begin, _samples(fifo.read())


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """-> [T, channels], float"""
    x = frame.to_ndarray()
    x = x.T if frame.format.is_planar else x.reshape(-1, frame.layout.nb_channels)
    if x.dtype == np.uint8:
        return (x.astype(np.float32) - 128) / 128
    return x / np.float64(-np.iinfo(x.dtype).min) if x.dtype.kind == "i" else x
