"""Things to look at and listen to."""

import librosa
import matplotlib
import numpy as np
from matplotlib.figure import Figure

matplotlib.use("Agg")

N_FFT = 2048


def spectrogram(signals: dict[str, np.ndarray], sample_rate: int) -> Figure:
    """One panel a signal, [T] each, in mel bands; one colour scale for all, 80 dB under the loudest band."""
    level = {
        name: librosa.power_to_db(
            librosa.feature.melspectrogram(y=np.asarray(x), sr=sample_rate, n_fft=N_FFT), amin=1e-12, top_db=None
        )
        for name, x in signals.items()
    }
    top = max(x.max() for x in level.values())
    figure = Figure(figsize=(4 * len(signals), 3), layout="constrained")
    panels = figure.subplots(1, len(signals), sharey=True, squeeze=False)[0]
    for axes, (name, x) in zip(panels, level.items(), strict=True):
        librosa.display.specshow(
            x, sr=sample_rate, hop_length=N_FFT // 4, x_axis="time", y_axis="mel", ax=axes, cmap="magma",
            vmin=top - 80, vmax=top,
        )
        axes.set_title(name)
    return figure


def add_examples(writer, step: int, items: list[dict], estimates: list, names, sample_rate: int):
    """Audio and spectrograms of validation items to TensorBoard, under their names."""
    for name, item, estimate in zip(names, items, estimates, strict=True):
        signals = {"mixture": item["mixture"], "target": item["target"], "estimate": estimate}
        figure = spectrogram({kind: signal.numpy() for kind, signal in signals.items()}, sample_rate)
        writer.add_figure(f"{name}/spectrogram", figure, step)
        for kind, signal in signals.items():
            writer.add_audio(f"{name}/{kind}", signal.clamp(-1, 1), step, sample_rate)
