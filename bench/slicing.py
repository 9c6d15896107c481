"""How well, and how fast, recordings are cut: slicer.py beside openvpi's audio-slicer.

    python -m bench.slicing --recordings datasets/raw/alice

Utterances are taken from the recordings (librosa.effects.split, 40 dB under the peak, gaps below 0.4 s closed), scaled
to -20 dBFS, and laid out with silences of our making, so that it is known where speech begins and ends: read (0.3-0.6
s), fast (0.15-0.3 s), sparse (1-10 s). What of an utterance is in no clip is speech lost. A cut more than 20 ms inside
an utterance, at a sound less than 30 dB under the speech before noise was added, is a cut inside speech.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import soundfile as sf
from numpy.lib.stride_tricks import sliding_window_view

import slicer
from extractor import audio, slicing
from extractor.script import command_line

RATE = 44100
STYLES = {"read": (0.3, 0.6), "fast": (0.15, 0.3), "sparse": (1.0, 10.0)}  # s of silence, uniform
CONDITIONS = [(0, None), (-12, None), (-24, None), (0, -60), (-12, -60), (-24, -60), (0, -48), (0, -36)]  # dB, dBFS
NEAR = RATE // 50


@dataclass(frozen=True)
class BenchArgs:
    recordings: str = "datasets/raw/speaker"
    speed_s: float = 3600.0
    seed: int = 0


def main(args: BenchArgs):
    sounds = [sf.read(path, dtype="float32")[0] for path in audio.find(args.recordings)]
    whole = np.concatenate(sounds)
    whole *= 10 ** ((-20 - speech_db(whole)) / 20)
    utterances = [whole[a:b] for a, b in utterances_of(whole)]
    with tempfile.TemporaryDirectory() as folder:
        speed(whole, args.speed_s, Path(folder))
        memory(whole, 3 * args.speed_s, Path(folder))
    print(f"\n{len(utterances)} utterances, {sum(map(len, utterances)) / RATE / 60:.1f} min\n")
    head = ("material", "level", "floor", "slicer", "clips", "shortest s", "longest s", "in 5-15 s", "time in 5-15 s",
            "speech lost", "cuts inside speech", "silence s/clip")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    with tempfile.TemporaryDirectory() as folder:
        compare("as recorded", 0, None, whole, utterances_of(whole), Path(folder), args.seed)
        for style, silence_s in STYLES.items():
            x, borders = lay_out(utterances, silence_s, np.random.default_rng(args.seed))
            for level, floor in CONDITIONS:
                compare(style, level, floor, x, borders, Path(folder), args.seed)


def speech_db(x: np.ndarray) -> float:
    """The level that a quarter of the sounding hops of 10 ms exceed."""
    level = 10 * np.log10(np.square(x[: len(x) // 441 * 441].reshape(-1, 441)).mean(axis=1) + 1e-12)
    return float(np.percentile(level[level > level.max() - 40], 75))


def utterances_of(x: np.ndarray) -> list[tuple[int, int]]:
    found = librosa.effects.split(x, top_db=40, frame_length=1024, hop_length=256)
    gaps = np.flatnonzero(found[1:, 0] - found[:-1, 1] >= 0.4 * RATE)
    starts, ends = found[np.append(0, gaps + 1), 0], found[np.append(gaps, len(found) - 1), 1]
    return [(int(a), int(b)) for a, b in zip(starts, ends, strict=True) if b - a > 0.3 * RATE]


def lay_out(utterances: list, silence_s: tuple, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """In random order, faded over 5 ms at their ends, silences around them."""
    pieces, borders, at = [], [], 0
    fade = np.minimum(1, np.arange(1, 10**7) / (0.005 * RATE)).astype(np.float32)
    for i in rng.permutation(len(utterances)):
        silence = np.zeros(round(rng.uniform(*silence_s) * RATE), np.float32)
        sound = utterances[i] * fade[: len(utterances[i])] * fade[: len(utterances[i])][::-1]
        borders.append((at + len(silence), at + len(silence) + len(sound)))
        pieces += [silence, sound]
        at = borders[-1][1]
    return np.concatenate(pieces), borders


# ---------------------------------------------------------------------------------------------------------------------


def compare(material: str, level: int, floor: int | None, x: np.ndarray, borders: list, folder: Path, seed: int):
    noise = 0 if floor is None else np.random.default_rng(seed).standard_normal(len(x), np.float32) * 10 ** (floor / 20)
    sf.write(folder / "src_0.wav", x * 10 ** (level / 20) + noise, RATE, "PCM_24")
    for name, cut in (("ours", ours), ("openvpi", openvpi)):
        clips = cut(folder / "src_0.wav")
        cells = [material, f"{level} dB", "-" if floor is None else f"{floor} dBFS", name, *judge(clips, x, borders)]
        print(f"| {' | '.join(cells)} |", flush=True)


def ours(path: Path) -> list[list[tuple[int, int]]]:
    """-> for every clip the pieces of the recording in it"""
    with tempfile.TemporaryDirectory() as out_dir:
        quietly(slicer.main, slicer.SlicerArgs(str(path), out_dir))
        rows = slicing.read_table(Path(out_dir))
        for row in rows:
            if row["clip"]:
                assert abs(sf.info(Path(out_dir) / row["clip"]).duration - float(row["seconds"])) < 1e-5
    clips = []
    for row in rows:
        start, end = (round(float(row[key]) * RATE) for key in ("start_s", "end_s"))
        if row["clip"]:
            clips.append([(start, end)])
        elif row["reason"] == "pause shortened":
            clips[-1][-1:] = [(clips[-1][-1][0], start), (end, clips[-1][-1][1])]
    return clips


def judge(clips: list[list[tuple[int, int]]], x: np.ndarray, borders: list[tuple[int, int]]) -> list[str]:
    if not clips:
        return ["0", "-", "-", "-", "0%", "100.0%", "-", "-"]
    lengths = np.array([sum(b - a for a, b in clip) for clip in clips]) / RATE
    is_speech, kept = np.zeros(len(x), bool), np.zeros(len(x), bool)
    for a, b in borders:
        is_speech[a:b] = True
    for a, b in (piece for clip in clips for piece in clip):
        kept[a:b] = True
    inside = 0
    starts, ends = np.array(borders).T
    for cut in {clip[0][0] for clip in clips} | {clip[-1][1] for clip in clips}:
        i = np.searchsorted(starts, cut) - 1
        around = x[max(0, cut - RATE // 100) : cut + RATE // 100]
        if i >= 0 and starts[i] + NEAR < cut < ends[i] - NEAR:
            inside += 10 * np.log10(np.square(around).mean() + 1e-12) > -20 - 30
    good = (lengths >= 5) & (lengths <= 15)
    silence = (lengths.sum() - (is_speech & kept).sum() / RATE) / len(clips)
    lost = (is_speech & ~kept).sum() / is_speech.sum()
    return [
        str(len(clips)), f"{lengths.min():.1f}", f"{lengths.max():.1f}", f"{good.mean():.0%}",
        f"{lengths[good].sum() / lengths.sum():.0%}", f"{lost:.1%}", str(inside), f"{silence:.1f}",
    ]


def openvpi(path: Path) -> list[list[tuple[int, int]]]:
    x, _ = sf.read(path, dtype="float32")
    return [[piece] for piece in openvpi_slices(x)]


def openvpi_slices(
    x: np.ndarray, *, threshold_db=-40, min_length=500, min_interval=30, max_kept=50, hop=441
) -> list[tuple[int, int]]:
    """Its algorithm with the defaults of its command line, from the description of it; lengths in hops of 10 ms."""
    window = min(min_interval, 4) * hop
    padded = np.pad(x, window // 2)
    level = np.sqrt(np.square(sliding_window_view(padded, window)[::hop]).mean(axis=1))
    quiet = level < 10 ** (threshold_db / 20)
    total, silence, clip, cuts = len(level), None, 0, []

    def deepest(a: int, b: int) -> int:
        return a + int(level[a : b + 1].argmin())

    for i in range(total):
        if quiet[i]:
            silence = i if silence is None else silence
            continue
        if silence is None:
            continue
        leading = silence == 0 and i > max_kept
        if leading or (i - silence >= min_interval and i - clip >= min_length):
            left, right = deepest(silence, min(i, silence + max_kept)), deepest(max(silence, i - max_kept), i)
            if i - silence <= max_kept:
                left = right = deepest(silence, i)
            elif i - silence <= 2 * max_kept:
                middle = deepest(i - max_kept, silence + max_kept)
                left, right = min(left, middle), max(right, middle)
            cuts.append((0 if silence == 0 else left, right))
            clip = right
        silence = None
    if silence is not None and total - silence >= min_interval:
        cuts.append((deepest(silence, min(total - 1, silence + max_kept)), total))
    edges = [0, *(edge for cut in cuts for edge in cut), total]
    return [(a * hop, min(len(x), b * hop)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


# ---------------------------------------------------------------------------------------------------------------------


def speed(x: np.ndarray, seconds: float, folder: Path):
    """Reading, cutting and writing, alternately, medians of three."""
    x = np.resize(x, round(seconds * RATE))
    print(f"\n| {seconds / 60:.0f} min of 16-bit | ours s | openvpi's s | ratio |\n|---|---|---|---|")
    for suffix in ("wav", "flac"):
        path = folder / f"src_0.{suffix}"
        sf.write(path, x, RATE, "PCM_16")
        took = {ours_timed: [], openvpi_timed: []}
        for _ in range(3):
            for cut, seconds_taken in took.items():
                with tempfile.TemporaryDirectory() as out_dir:
                    start = time.perf_counter()
                    cut(path, Path(out_dir))
                    seconds_taken.append(time.perf_counter() - start)
        a, b = (np.median(values) for values in took.values())
        print(f"| {suffix} | {a:.1f} | {b:.1f} | {b / a:.2f} |", flush=True)
        path.unlink()


def memory(x: np.ndarray, seconds: float, folder: Path):
    path = folder / "src_0.flac"
    with sf.SoundFile(path, "w", RATE, 1, "PCM_16") as f:
        for _ in range(round(seconds * RATE / len(x))):
            f.write(x)
    command = [sys.executable, "slicer.py", "--inputs", str(path), "--out-dir", str(folder / "clips")]
    start = time.perf_counter()
    process, peak = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), 0
    while process.poll() is None:  # the peak that the system keeps of a child begins with that of its parent
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = max(peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
        time.sleep(0.05)
    print(f"\n{sf.info(path).duration / 3600:.2f} h of flac in one file: {peak / 1024:.0f} MiB, "
          f"{time.perf_counter() - start:.1f} s with the start of Python, exit status {process.returncode}")


def ours_timed(path: Path, out_dir: Path):
    quietly(slicer.main, slicer.SlicerArgs(str(path), str(out_dir)))


def openvpi_timed(path: Path, out_dir: Path):
    x, rate = sf.read(path, dtype="float32")
    for i, (a, b) in enumerate(openvpi_slices(x)):
        sf.write(out_dir / f"{i}.wav", x[a:b], rate)


def quietly(do, *args):
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return do(*args)


if __name__ == "__main__":
    main(command_line(BenchArgs()))
