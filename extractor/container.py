"""Sound in what ffmpeg's libraries read and libsndfile does not, by PyAV: films, m4a, wma, MP3, chained Ogg.

The header of such a file often tells no length, or a wrong one, and a time in it may be off by a millisecond. So `scan`
decodes the stream once from end to end. It counts the samples, and notes about once a second at which time stamp how
many samples lie before. `Decoder` finds its way by these marks, so that any part is the same samples as in one pass.
"""

import math
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from extractor import UserError

MARK_S = 1.0       # a mark every so often
KEPT_S = 30.0      # decoded seconds kept, so that to go back a little costs nothing
AHEAD_S = 4.0      # what lies no further ahead is reached by decoding, not by seeking
GAP_S = 0.1, 600.0 # time stamps that jump by so much leave silence, so that the rest stays at its time
MISSING_S = 0.5    # less than the header promises by this: cut off
COUNTED = ("mp4", "matroska", "flac", "asf", "tta", "wv", "ape", "caf", "aiff")  # headers that tell the length
LOSSLESS = ("flac", "alac", "wavpack", "tta", "ape", "shorten", "pcm_s16le", "pcm_s16be")


class Contents(NamedTuple):
    """What one pass over an audio stream finds."""

    rate: int           # Hz
    channels: int
    frames: int         # samples per channel
    subtype: str        # PCM_16 where the samples are 16-bit integers, else FLOAT: libsndfile's names
    flaw: str           # what is missing, as the end of a sentence; empty where nothing is
    n_streams: int      # audio streams in the file
    stamps: np.ndarray  # rising time stamps, about one a second; none where those of the file do not rise
    before: np.ndarray  # samples before each


def contents(path: Path, stream: int = 0) -> Contents:
    """Decode an audio stream from end to end, once for every state of the file.

    stream: its number where there are several, from 0. Raises UserError where there is no sound or no such stream.
    """
    try:
        found = path.stat()
    except OSError as e:
        raise UserError(f"no sound file that can be read ({e.strerror})", path) from None
    return _scan(path, stream, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _scan(path: Path, stream: int, *_state: int) -> Contents:
    with _opened(path) as container:
        audio = _chosen(container, stream, path)
        decoded, stamps, before, rising, last = Frames(container, audio), [], [], True, -math.inf
        for n, frame in decoded:
            if frame.pts is None:
                continue
            rising, last = rising and frame.pts > last, frame.pts
            if not before or n >= before[-1] + MARK_S * decoded.rate:
                stamps.append(frame.pts)
                before.append(n)
        if not decoded.n:
            raise UserError("holds no samples", path)
        marks = (stamps, before) if rising else ([], [])
        return Contents(
            decoded.rate, decoded.channels, _without_padding(container, audio, decoded),
            "PCM_16" if audio.codec_context.name in LOSSLESS and decoded.bytes == 2 else "FLOAT",
            _flaw(path, container, audio, decoded), len(container.streams.audio),
            *(np.array(x, np.int64) for x in marks),
        )


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


class Frames:
    """The decoded frames of a stream from here on: (samples before it, frame), also silence where time stamps jump.

    Damaged packets are left out. The frames end where the rate or the number of channels changes.
    """

    def __init__(self, container: av.container.InputContainer, audio: av.AudioStream, n: int = 0):
        self.n = n                  # samples so far
        self.rate = self.channels = self.bytes = 0
        self.damaged = 0            # packets that could not be decoded
        self.silent_s = 0.0         # put where time stamps jump
        self.rest = ""              # of what kind the rest is that is left out
        self.audio, self.packets = audio, container.demux(audio)
        self.due = None             # the next frame's time in seconds

    def __iter__(self) -> Iterator[tuple[int, av.AudioFrame]]:
        for frame in self._decoded():
            now = frame.sample_rate, frame.layout.nb_channels
            if not self.rate:
                (self.rate, self.channels), self.bytes = now, frame.format.bytes
            if now != (self.rate, self.channels):
                self.rest = f"{now[0]} Hz with {now[1]} channels"
                return
            if frame.pts is not None:
                at = float(frame.pts * self.audio.time_base)
                if self.due is not None and GAP_S[0] < at - self.due < GAP_S[1]:
                    self.silent_s += at - self.due
                    self.n += round((at - self.due) * self.rate)
                self.due = at + frame.samples / self.rate
            yield self.n, frame
            self.n += frame.samples

    def _decoded(self) -> Iterator[av.AudioFrame]:
        while True:
            packet = None
            try:
                packet = next(self.packets, None)
                decoded = packet.decode() if packet is not None else None
            except av.error.FFmpegError:
                self.damaged += 1
                if packet is None:  # the file cannot be read on
                    return
                continue
            if decoded is None:
                return
            yield from decoded


def _without_padding(container, audio: av.AudioStream, decoded: Frames) -> int:
    """Samples up to where an MP4 says that the sound ends: behind it is what filled the encoder's last frame."""
    told = audio.duration if "mp4" in container.format.name and audio.time_base.denominator == decoded.rate else None
    return told if told and decoded.n - 4096 < told < decoded.n else decoded.n


def _flaw(path: Path, container, audio: av.AudioStream, decoded: Frames) -> str:
    seconds = decoded.n / decoded.rate
    if decoded.rest:
        return f"is {decoded.rest} from {seconds:.1f} s on, which is left out"
    told = audio.duration and float(audio.duration * audio.time_base)
    if not told and not container.streams.video:
        told = container.duration and container.duration / av.time_base
    kinds = container.format.name.split(",")
    if told and told - seconds > MISSING_S and (any(k in COUNTED for k in kinds) or "mp3" in kinds and counted(path)):
        return f"cut off at its end; its header says {told:.1f} s"
    if decoded.silent_s:
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


class Decoder:
    """Reads any part of an audio stream, as soundfile.SoundFile does: `seek`, `read`, `close`."""

    def __init__(self, path: Path, stream: int = 0):
        self.path, self.stream, self.contents = path, stream, contents(path, stream)
        self.position = 0
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
        self.container.close()

    @property
    def end(self) -> int:
        """Samples up to which all is decoded."""
        return self.kept[-1][0] + len(self.kept[-1][1]) if self.kept else self.begin

    def _go(self, position: int):
        """See to it that `position` is kept, or lies ahead."""
        first = self.kept[0][0] if self.kept else self.begin
        if first <= position <= self.end + AHEAD_S * self.contents.rate:
            return
        mark = int(np.searchsorted(self.contents.before, position, side="right")) - 1
        found = mark > 0 and self._go_on_from(mark)
        if not found and position < first:
            self.container.close()
            self._start()

    def _start(self):
        self.container = _opened(self.path)
        self.audio = _chosen(self.container, self.stream, self.path)
        self._decode(0, iter(Frames(self.container, self.audio)))

    def _go_on_from(self, mark: int) -> bool:
        """Decode from a mark on, if it is found. Decoding starts a mark before it: a decoder needs some packets until
        it is right again."""
        stamp, before = int(self.contents.stamps[mark]), int(self.contents.before[mark])
        try:
            self.container.seek(int(self.contents.stamps[mark - 1]), stream=self.audio)
        except av.error.FFmpegError:
            return False
        frames = Frames(self.container, self.audio)
        decoded = iter(frames)
        for _, frame in decoded:
            if frame.pts == stamp:
                frames.n = before
                self._decode(before, chain([(before, frame)], decoded))
                return True
            if frame.pts is not None and frame.pts > stamp:
                break
        self.container.close()
        self._start()
        return True

    def _decode(self, begin: int, frames: Iterator[tuple[int, av.AudioFrame]]):
        self.begin, self.kept = begin, deque()
        self.blocks = ((n, _samples(frame)) for n, frame in frames)


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """-> [T, channels], float"""
    x = frame.to_ndarray()
    x = x.T if frame.format.is_planar else x.reshape(-1, frame.layout.nb_channels)
    if x.dtype == np.uint8:
        return (x.astype(np.float32) - 128) / 128
    return x / np.float64(-np.iinfo(x.dtype).min) if x.dtype.kind == "i" else x
