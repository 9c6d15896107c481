"""The whole loop on a small set that it makes itself: data, training, extraction, scores. No recordings needed.

    pip install -r requirements.txt pyopenjtalk-plus espeakng-loader
    python demo.py

The target is a Japanese text-to-speech voice at 48 kHz (Mei, of pyopenjtalk-plus); the interference is other voices
(eSpeak NG, and Mei as a larger body would speak) and music and effects synthesised below. Training takes about three
minutes on any machine. Everything goes to demo/; open demo/results/index.html to look and listen.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import soxr
from tqdm import tqdm

import evaluate
import models
import train
from dataset import KINDS, MixtureArgs, at_snr, mix
from extractor import UserError, audio, tables
from extractor.device import pick_device
from extractor.script import command_line

RATE = 44100
TRAINING_VOICES = ("en+m3", "en+f2", "de+m1", "es+f4", "fr+m5")
HELD_OUT_VOICES = ("it+f3", "en-us+m7")


@dataclass(frozen=True)
class DemoArgs:
    folder: str = "demo"
    train_minutes: float = 3.0  # of training, whatever the machine; data and scores come on top
    speech_minutes: float = 6.0 # of the target, and of everything else
    n_pairs: int = 4            # held-out mixtures of each kind
    device: str = "auto"


def main(args: DemoArgs) -> dict:
    """Returns what evaluate.py returns."""
    folder = Path(args.folder)
    make_set(folder, args)

    plan = train.MainArgs(
        name="mei",
        runs=str(folder / "runs"),
        data=MixtureArgs(
            clean=(str(folder / "datasets/clean/mei"),),
            dirty=(str(folder / "datasets/dirty/other"),),
            segment_s=3.0, n_valid=16,
        ),
        model=models.PRESETS["fullband-light"],
        warmup=50, ema=0.99, device=args.device,
        workers=0 if pick_device(args.device).type == "cpu" else None,  # which are all that a GPU waits for
    )
    steps = train.steps_that_fit(plan, args.train_minutes)
    best = train.main(replace(plan, steps=steps, valid_every=steps, save_every=steps))

    report = evaluate.main(evaluate.EvalArgs(
        (str(best),), str(folder / "evaluation"), str(folder / "results"), perceptual=False, device=args.device,
    ))
    gains = [row["si_sdri"] for row in report["scores"]["mei"] if "si_sdri" in row]
    print(
        f"\nmean improvement where the target is present: {np.mean(gains):+.1f} dB SI-SDR\n"
        f"to look at and listen to: {folder}/results/index.html"
    )
    return report


# --- the set ---------------------------------------------------------------------------------------------------------


def make_set(folder: Path, args: DemoArgs):
    """datasets/ to train on and evaluation/ to score: other sentences, other music, voices never heard in training."""
    made, wanted = folder / "made.json", {"speech_minutes": args.speech_minutes, "n_pairs": args.n_pairs}
    if (folder / "evaluation/list.tsv").exists():
        if (before := tables.read_json(made)) not in ({}, wanted):
            raise UserError(f"{folder}: has a set of {before}; choose another DemoArgs.folder, or delete that one")
        return
    tables.write_json(made, wanted)
    rng, seconds = np.random.default_rng(0), 60 * args.speech_minutes
    mei, espeak = Mei(), Espeak()
    # four clean recordings, so that one can be held out for validation
    parts = [(f"clean/mei/read/src_{n}", partial(mei.say, rng), seconds / 4) for n in range(4)]
    parts += [(f"dirty/other/{scene.__name__}/src_0", partial(scene, rng), seconds / 2) for scene in (music, effects)]
    parts += [(f"dirty/other/voices/{v}", partial(espeak.say, rng, v), seconds / 6) for v in TRAINING_VOICES]
    parts += [("dirty/other/voices/deep", partial(mei.say, rng, deep=True), seconds / 6)]
    for name, make, part_s in tqdm(parts, "making the set", unit="part"):
        save(folder / f"datasets/{name}.flac", fill(make, part_s))
    make_pairs(folder / "evaluation", rng, mei, espeak, args.n_pairs)


def make_pairs(folder: Path, rng: np.random.Generator, mei: "Mei", espeak: "Espeak", n_pairs: int):
    rows = []
    for kind in KINDS:
        for i in range(n_pairs):
            snr_db = (-5, 0, 5)[i % 3]
            game = fill(lambda: np.stack([music(rng), effects(rng)]).sum(0), 6)
            voice = fill(lambda i=i: espeak.say(rng, HELD_OUT_VOICES[i % 2]), 6)
            interference = {"game": game, "voice": voice, "absent": voice}.get(kind)
            if interference is None:
                interference = game + at_snr(voice, under=game, snr_db=0)
            target = np.zeros_like(voice) if kind == "absent" else fill(lambda: mei.say(rng), 6)
            if kind != "absent":
                interference = at_snr(interference, under=target, snr_db=snr_db)
            mixture, target, _ = mix(target, interference)
            save(folder / f"mixture/{kind}_{i}.flac", mixture)
            save(folder / f"target/{kind}_{i}.flac", target)
            rows.append({"name": f"{kind}_{i}", "kind": kind, "snr_db": snr_db})
    tables.write(folder / "list.tsv", rows[0], rows)  # last: it says that the set is whole


def fill(make: Callable[[], np.ndarray], seconds: float) -> np.ndarray:
    """Pieces until `seconds` are full."""
    pieces, missing = [], round(seconds * RATE)
    while missing > 0:
        pieces.append(make()[:missing])
        missing -= len(pieces[-1])
    return np.concatenate(pieces).astype(np.float32)


def save(path: Path, x: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.sf.write(path, x, RATE, subtype="PCM_24")


# --- voices ----------------------------------------------------------------------------------------------------------

JAPANESE = (
    "私は 彼女は 友達は 先生は 小さな猫は 兄は 妹は その少年は 村の人々は 若い旅人は 隣のおばあさんは 医者は".split(),
    "今日 昨日の夜 来週の月曜日に 朝早く 夏休みに 三時半に 雨の日に 誕生日に 一人で ゆっくりと".split(),
    "駅前で 図書館で 海の近くで 古い森の中で 台所で 山の上で 学校の庭で 橋の下で 空港で 静かな部屋で".split(),
    "新しい本を 温かいお茶を 青い空の絵を 大きな魚を 珍しい花を 懐かしい歌を 古い地図を 手紙を 赤い傘を 鍵を".split(),
    "見つけました 探しています 買うつもりです 思い出しました 写真に撮りました 忘れてしまいました".split(),
)
ENGLISH = (
    ("The captain", "My neighbour", "A young girl", "Nobody here", "The old merchant", "Every soldier", "Our guide"),
    ("has lost", "is looking for", "will never forget", "was talking about", "keeps asking for", "just found"),
    ("the golden key", "a way out of the forest", "seven ships", "the price of bread", "this strange music"),
    ("before the winter.", "near the harbour.", "since yesterday.", "at the end of the bridge.", "in the dark."),
)


def sentence(parts, rng: np.random.Generator, space: str) -> str:
    return space.join(str(rng.choice(words)) for words in parts)


def paused(speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip at the level that all clips have, with a pause behind it. [T] -> [T]"""
    return np.append(loud(speech), np.zeros(int(rng.uniform(0.2, 0.7) * RATE)))


class Mei:
    """The voice that pyopenjtalk-plus brings in its wheel, 48 kHz."""

    def __init__(self):
        try:
            import pyopenjtalk
        except ImportError:
            raise UserError("the demo's target voice is not installed: pip install pyopenjtalk-plus") from None
        self.tts = pyopenjtalk.tts

    def say(self, rng: np.random.Generator, deep: bool = False) -> np.ndarray:
        """A random sentence; deep: spoken by a body a quarter larger, which is somebody else."""
        size = 1.25 if deep else 1.0
        speech, rate = self.tts(sentence(JAPANESE, rng, ""), speed=rng.uniform(0.9, 1.15) * size)
        return paused(soxr.resample(speech, rate, RATE * size), rng)


class Espeak:
    """eSpeak NG by its C interface, from the library and the voices in espeakng-loader's wheel, 22.05 kHz."""

    def __init__(self):
        try:
            import espeakng_loader
        except ImportError:
            raise UserError("the demo's other voices are not installed: pip install espeakng-loader") from None
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        synchronous = 2
        self.rate = self.library.espeak_Initialize(synchronous, 0, espeakng_loader.get_data_path().encode(), 0)
        pointers, numbers = [ctypes.c_void_p] * 2, [ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint]
        self.library.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, *numbers, *pointers]
        self.pieces: list[np.ndarray] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = callback(self.collect)  # kept: the library holds no reference
        self.library.espeak_SetSynthCallback(self.callback)

    def collect(self, samples, n: int, events) -> int:
        if samples and n > 0:
            self.pieces.append(np.ctypeslib.as_array(samples, (n,)) / 2**15)
        return 0

    def say(self, rng: np.random.Generator, voice: str) -> np.ndarray:
        if self.library.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"eSpeak NG has no voice {voice}")
        text, utf8 = sentence(ENGLISH, rng, " ").encode(), 1
        self.pieces.clear()
        self.library.espeak_Synth(text, len(text) + 1, 0, 1, 0, utf8, None, None)
        return paused(soxr.resample(np.concatenate(self.pieces), self.rate, RATE), rng)


# --- a game without speech -------------------------------------------------------------------------------------------


def music(rng: np.random.Generator) -> np.ndarray:
    """Four seconds: chords under a melody, decaying harmonics all, and a drum. -> [4 RATE]"""
    out = np.zeros(4 * RATE)
    root, scale = rng.integers(40, 56), np.array([0, 2, 3, 5, 7, 8, 10, 12, 14, 15])
    beat_s = rng.choice([0.25, 0.33, 0.5])
    for start_s in np.arange(0, 4, beat_s):
        add(out, start_s, note(root + 12 + rng.choice(scale), rng))
        for third in (0, 3, 7):
            add(out, start_s, 0.5 * note(root + third, rng))
        if rng.random() < 0.7:
            add(out, start_s, 0.5 * burst(30, rng))
    return loud(out)


def effects(rng: np.random.Generator) -> np.ndarray:
    """Four seconds: wind, explosions, shots, sweeps and beeps at random times. -> [4 RATE]"""
    t = np.arange(4 * RATE) / RATE
    out = 0.05 * smooth(rng.standard_normal(len(t)), 40) * (1 + np.sin(2 * np.pi * rng.uniform(0.1, 0.6) * t))
    for _ in range(rng.integers(3, 9)):
        explosion = smooth(burst(rng.uniform(2, 6), rng), int(rng.integers(20, 200)))
        shot = 0.3 * burst(rng.uniform(15, 60), rng)
        sound = (explosion, shot, 0.3 * sweep(rng), 0.2 * beep(rng))[rng.integers(4)]
        add(out, rng.uniform(0, 3.8), sound)
    return loud(out)


def add(out: np.ndarray, start_s: float, sound: np.ndarray):
    start = round(start_s * RATE)
    n = min(len(sound), len(out) - start)
    out[start : start + n] += sound[:n]


def loud(x: np.ndarray) -> np.ndarray:
    return 0.1 * x / np.sqrt(np.square(x).mean())


T = np.arange(int(1.5 * RATE)) / RATE  # of one sound


def note(pitch: int, rng: np.random.Generator) -> np.ndarray:
    f0_hz, decay, tilt = 440 * 2 ** ((pitch - 69) / 12), rng.uniform(2, 8), rng.uniform(0.8, 1.6)
    tone = sum(np.sin(2 * np.pi * k * f0_hz * T + rng.uniform(0, 6)) / k**tilt for k in range(1, 8))
    return tone * np.exp(-decay * T) * np.minimum(1, 200 * T)


def burst(decay: float, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(len(T)) * np.exp(-decay * T)


def sweep(rng: np.random.Generator) -> np.ndarray:
    slope = rng.uniform(-6, 6)
    return np.sin(2 * np.pi * rng.uniform(300, 4000) * np.expm1(slope * T) / slope) * np.exp(-5 * T)


def beep(rng: np.random.Generator) -> np.ndarray:
    return np.sign(np.sin(2 * np.pi * rng.uniform(400, 2500) * T)) * (rng.uniform(0.05, 0.4) > T)


def smooth(noise: np.ndarray, n: int) -> np.ndarray:
    """A moving average of n samples, level kept."""
    total = np.cumsum(np.pad(noise, (n, 0)))
    return (total[n:] - total[:-n]) / np.sqrt(n)


if __name__ == "__main__":
    main(command_line(DemoArgs()))
