"""Things to look at and listen to."""

import librosa
import matplotlib
import numpy as np
from matplotlib.figure import Figure

matplotlib.use("Agg")


def spectrogram(signals: dict[str, np.ndarray], sample_rate: int) -> Figure:
    """One panel a signal, one colour scale for all, in dB under the loudest bin."""
    n_fft = 2048
    power = {name: librosa.amplitude_to_db(np.abs(librosa.stft(np.asarray(x), n_fft=n_fft)), amin=1e-6) for name, x in signals.items()}
    top = max(p.max() for p in power.values())
    figure = Figure(figsize=(4 * len(signals), 3), layout="constrained")
    for axes, (name, p) in zip(figure.subplots(1, len(signals), sharey=True, squeeze=False)[0], power.items(), strict=True):
        librosa.display.specshow(p, sr=sample_rate, hop_length=n_fft // 4, x_axis="time", y_axis="log", ax=axes, vmin=top - 80, vmax=top)
        axes.set_title(name)
    return figure


def add_examples(writer, step: int, items: list[dict], estimates: list, names, sample_rate: int):
    """Audio and spectrograms of validation items to TensorBoard; mixture and target once, as they never change."""
    for name, item, estimate in zip(names, items, estimates, strict=True):
        signals = {"mixture": item["mixture"], "target": item["target"], "estimate": estimate}
        writer.add_figure(f"{name}/spectrogram", spectrogram({k: v.numpy() for k, v in signals.items()}, sample_rate), step)
        for kind, signal in signals.items():
            writer.add_audio(f"{name}/{kind}", signal.clamp(-1, 1), step, sample_rate)
