"""Things to look at and listen to."""

from collections.abc import Mapping
from pathlib import Path

import librosa
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from extractor.files import atomic_write

matplotlib.use("Agg")

N_FFT = 2048


def spectrogram(signals: dict[str, np.ndarray], sample_rate: int) -> Figure:
    """Draws a panel for each signal, [T], in mel bands; all have one colour scale, 80 dB under the loudest band."""
    mel = librosa.feature.melspectrogram
    powers = (mel(y=np.asarray(x), sr=sample_rate, n_fft=N_FFT) for x in signals.values())
    levels = [librosa.power_to_db(power, amin=1e-12, top_db=None) for power in powers]
    top = max(level.max() for level in levels)
    scales = {"x_axis": "time", "y_axis": "mel", "cmap": "magma", "vmin": top - 80, "vmax": top}
    figure = Figure(figsize=(4 * len(signals), 3), layout="constrained")
    panels = figure.subplots(1, len(signals), sharey=True, squeeze=False)[0]
    for axes, name, level in zip(panels, signals, levels, strict=True):
        librosa.display.specshow(level, sr=sample_rate, hop_length=N_FFT // 4, ax=axes, **scales)
        axes.set_title(name)
    return figure


def cuts(levels: np.ndarray, hop_s: float, spans: list[tuple], lines: dict[str, float]) -> Figure:
    """Draws the level curve of a recording, row by row, over its clips and what was left out. [L] dBFS

    spans: (start_s, end_s, name of the clip or "", which end is cut inside speech); lines: levels to draw, dBFS.
    """
    duration_s = len(levels) * hop_s
    row_s = max(60.0, duration_s / 60)
    n_rows = max(1, round(np.ceil(duration_s / row_s)))
    figure = Figure(figsize=(14, 0.9 * n_rows + 0.6), layout="constrained")
    low, high = max(-100.0, np.percentile(levels, 1) - 5), levels.max() + 5
    names = [name for _, _, name, _ in spans if name]
    for row, axes in enumerate(figure.subplots(n_rows, 1, squeeze=False)[:, 0]):
        first, last = row * row_s, (row + 1) * row_s
        axes.set(xlim=(first, last), ylim=(low, high))
        for start, end, name, forced in spans:
            if end < first or start > last:
                continue
            color = ("#8fbfe0", "#b5d99c")[names.index(name) % 2] if name else "#e8e8e8"
            axes.axvspan(start, end, color=color, zorder=1 if name else 2, linewidth=0)
            for cut in {"start": [start], "end": [end], "both": [start, end]}.get(forced, []):
                axes.axvline(cut, color="red", zorder=4)
        part = slice(int(first / hop_s), int(last / hop_s) + 1)
        axes.plot(np.arange(len(levels))[part] * hop_s, levels[part], color="black", linewidth=0.6, zorder=3)
        for style, level in zip((":", "-.", "--"), lines.values(), strict=False):
            axes.axhline(level, color="black", linewidth=0.6, linestyle=style, zorder=3)
    named = ", ".join(f"{name} {level:.0f}" for name, level in lines.items())
    figure.suptitle(f"dBFS over seconds; colours: clips, grey: left out, red: cut inside speech; {named}", fontsize=9)
    return figure


def save(figure: Figure, path: str | Path):
    with atomic_write(path, flush=False) as aside:
        figure.savefig(aside, dpi=80, format="png")


def add_examples(writer, step: int, items: Mapping[str, dict], estimates: list, sample_rate: int):
    """Writes sound and spectrograms of validation items to TensorBoard, under their names."""
    for (name, item), estimate in zip(items.items(), estimates, strict=True):
        signals = {"mixture": item["mixture"], "target": item["target"], "estimate": estimate}
        figure = spectrogram({kind: signal.numpy() for kind, signal in signals.items()}, sample_rate)
        writer.add_figure(f"{name}/spectrogram", figure, step)
        for kind, signal in signals.items():
            writer.add_audio(f"{name}/{kind}", signal.clamp(-1, 1), step, sample_rate)
