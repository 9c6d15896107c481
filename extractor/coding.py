"""Lossy codecs: what a recording was coded with, and how another signal sounds when it is coded like that."""

import io
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soxr
from scipy.signal import correlate

from extractor.container import LOSSLESS


class Coding(NamedTuple):
    encoder: str    # FFmpeg's name
    kbit_s: float   # a channel


class Encoder(NamedTuple):
    container: str
    rate: int | None  # Hz, the only one that it takes; None: any usual one


ENCODERS = {  # those that PyAV has
    "libmp3lame": Encoder("mp3", None), "aac": Encoder("mp4", None), "libopus": Encoder("ogg", 48000),
}
OF_DECODER = {"mp3": "libmp3lame", "mp3float": "libmp3lame", "opus": "libopus", "libopus": "libopus"}
LEAST_KBIT_S, MOST_KBIT_S = 16.0, 160.0  # a channel: what all of these encoders can do


def coding_of(path: str | Path, stream: int = 0) -> Coding | None:
    """Returns how a recording is coded; None where nothing is lost, or nothing is known. What has none of the
    ENCODERS, such as Vorbis, counts as AAC of the same rate."""
    try:
        with av.open(str(path)) as file:
            audio = file.streams.audio[stream]
            name, n_channels = audio.codec_context.name, max(1, audio.codec_context.channels)
            bits_s = audio.bit_rate or file.bit_rate or 0
    except (av.error.FFmpegError, IndexError, OSError, AttributeError):
        return None
    if name.startswith("pcm_") or name in LOSSLESS or not bits_s:
        return None
    kbit_s = min(max(bits_s / 1000 / n_channels, LEAST_KBIT_S), MOST_KBIT_S)
    return Coding(OF_DECODER.get(name, "aac"), round(kbit_s))


def coded(x: np.ndarray, sample_rate: int, coding: Coding) -> np.ndarray:
    """Returns a signal encoded and decoded again, moved back by the codec's delay. [T] -> [T]"""
    container, own_rate = ENCODERS[coding.encoder]
    rate, memory = own_rate or sample_rate, io.BytesIO()
    with av.open(memory, "w", format=container) as out:
        own = {"aac_pns": "0"} if coding.encoder == "aac" else {}  # else noise is drawn anew whenever it is decoded
        stream = out.add_stream(coding.encoder, rate=rate, layout="mono", options=own)
        stream.bit_rate = round(1000 * coding.kbit_s)
        samples = np.ascontiguousarray(soxr.resample(x.astype(np.float32, copy=False), sample_rate, rate))
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        pieces = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size)
        for piece in [*pieces.resample(frame), *pieces.resample(None), None]:
            for packet in stream.encode(piece):
                out.mux(packet)
    memory.seek(0)
    with av.open(memory) as file:
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    return aligned(soxr.resample(decoded.astype(np.float32), rate, sample_rate), x)


def aligned(x: np.ndarray, original: np.ndarray) -> np.ndarray:
    """Moves a signal to where it correlates most with what it was made of, and gives it that length. [N], [T] -> [T]"""
    lag = int(np.argmax(correlate(x, original, method="fft"))) - (len(original) - 1)
    moved = x[lag:] if lag >= 0 else np.pad(x, (-lag, 0))
    return np.pad(moved[: len(original)], (0, max(0, len(original) - len(moved))))
