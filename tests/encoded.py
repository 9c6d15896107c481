"""Files in formats that people have, made by ffmpeg's libraries."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def encode(
    path: Path, *streams: np.ndarray, rate: int, codec: str, options: dict | None = None, video=False, late_s=0.0,
) -> Path:
    """Write each signal, [T] or [T, 2], as an audio stream of its own, so long after the picture. options: of the
    container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as out:
        if video:
            picture = out.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 64
        own = {"aac_pns": "0"} if codec == "aac" else {}  # else noise is drawn anew whenever it is decoded
        encoders = [
            out.add_stream(codec, rate=rate, layout="mono" if x.ndim == 1 else "stereo", options=own) for x in streams
        ]
        for encoder in encoders:
            encoder.bit_rate = 160_000
        if video:
            for _ in range(20):
                out.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
            out.mux(picture.encode())
        for encoder, x in zip(encoders, streams, strict=True):
            planes = np.ascontiguousarray(np.atleast_2d(x.T), np.float32)
            frame = av.AudioFrame.from_ndarray(planes, "fltp", "mono" if x.ndim == 1 else "stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, round(late_s * rate), Fraction(1, rate)
            out.mux(encoder.encode(frame))
            out.mux(encoder.encode())
    return path
