"""How good is a clip whose target nobody knows? Learnt on remixes, mixtures of the same kind whose target is known.

A remix is a held-out clean clip under what was heard in one of the speaker's own recordings while the speaker was
silent, coded as that recording is; one of OTHER_SCENES lies under other scenes. Most of them have another bandwidth,
microphone, room or hiss. The net extracts it, its estimate gets the scores of extractor/nonintrusive.py, and a forest
learns from these what the target tells.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from augment import AugmentArgs
from dataset import KINDS, MixtureArgs, MixtureDataset, Pool
from extractor import audio, nonintrusive, promise, slicing
from extractor.coding import Coding, coded
from extractor.levels import hop_of, hop_powers, smooth_levels, to_db
from extractor.material import Material, Source, find_material, is_extracted
from extractor.metrics import si_sdr

REMIX_S = 7.0            # length of a remix
OTHER_SCENES = 3         # one of so many remixes lies under other scenes than the captures'
OTHER = "other scenes"   # what these are called in the table
AS_RECORDED = 5          # one of so many remixes has none of these CONDITIONS
CONDITIONS = AugmentArgs(
    p_band=0.4, p_target_band=0.2, p_source_band=0.2, cutoff_hz=(4000.0, 18000.0), p_target_mic=0.5, p_source_mic=0.3,
    p_target_room=0.5, p_hiss=0.25,
)
SNR_DB = -5.0, 10.0      # of remixes where too few clips tell
SILENT_DB = -15          # estimate over capture, where the speaker is silent
SILENT_S, SIDE_S = 2.0, 0.5  # no shorter silence is used, and what is so near to speech is left out
WINDOW_S = 0.5           # in which somebody else may be heard
ABSENT_DB = -40          # under the speech the target is silent
WORST_DB, BEST_DB = -20.0, 30.0      # between which SI-SDR is predicted
ENROLMENT_S = 60         # of clean speech that stand for the voice
CLEAN_CLIPS, CLEAN_CLIP_S = 20, 10  # how many clean clips are compared with extracted ones, and how long they are
PREDICTED = "si_sdr_db", "other_db"  # see `truths`


# --- remixes ---------------------------------------------------------------------------------------------------------

def silences(capture: audio.Recording, estimate: audio.Recording) -> list[Source]:
    """Returns the parts of a recording where the speaker is silent: next to nothing was extracted of them."""
    rate, n_samples = estimate.rate, estimate.frames
    size, side = round(WINDOW_S * rate), round(SIDE_S / WINDOW_S)

    def is_silent(start: int) -> bool:
        mixture, kept = (audio.read(recording, start, size, rate) for recording in (capture, estimate))
        return nonintrusive.ratio(kept, mixture) < SILENT_DB

    with audio.kept_open(capture), audio.kept_open(estimate):
        silent = np.array([is_silent(start) for start in range(0, n_samples, size)])
    runs = ((start + side, end - side) for start, end in slicing.runs(silent))
    return [Source(capture, a * size, (b - a) * size) for a, b in runs if (b - a) * WINDOW_S >= SILENT_S]


def recordings_of(state: dict, **fields) -> tuple[MixtureArgs, Material, dict[Path, float]]:
    """Returns of a checkpoint's content the args of its mixtures, with other fields, the recordings, and the seconds of
    clean clips that were held out."""
    data = replace(MixtureArgs(**state["args"]["data"]), **fields)
    material = find_material(data)
    return data, material, material.held_out(data, state["clips"])


def remix_sets(
    state: dict, sample_rate: int, quiet: dict[str, list[Source]], removed_db: Sequence[float]
) -> dict[str, MixtureDataset]:
    """Returns frozen mixtures by what lies over the clean clips: a recording's silences, or OTHER scenes.

    state: content of the checkpoint, which says what was held out; quiet: silences, by the recording's name;
    removed_db: how far the clips of these recordings lie over what was taken away; remixes are as noisy
    """
    snr_db = tuple(np.percentile(removed_db, [5, 95]).round(1).tolist()) if len(removed_db) >= 10 else SNR_DB
    data, material, held = recordings_of(state, segment_s=REMIX_S, snr_db=snr_db)
    conditions = replace(CONDITIONS, dereverb=state["args"]["augment"].get("dereverb", "off"))  # what the net is for
    other = MixtureDataset(material, data, sample_rate, split="valid", held=held, augmented=conditions)
    sets = {OTHER: other}
    for name, sources in quiet.items():
        if sources:
            sets[name] = copy.copy(other)
            sets[name].games = Pool(sources)
    return sets


def clean_speech(state: dict, sample_rate: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns a minute of the human-made clips that training had, and some clips that it held out, or their first
    CLEAN_CLIP_S. state: content of the checkpoint. -> [T], [T] each"""
    data, material, held = recordings_of(state)
    had, others = (material.split(split, data, sample_rate, held)[0] for split in ("train", "valid"))
    had = [source for source in had if not is_extracted(source.recording.path)]

    def read(source: Source, most_s: float) -> np.ndarray:
        return audio.read(source.recording, source.start, min(source.length, round(most_s * sample_rate)), sample_rate)

    enrolment = np.concatenate([read(source, ENROLMENT_S) for source in had[:ENROLMENT_S]])
    return enrolment[: ENROLMENT_S * sample_rate], [read(source, CLEAN_CLIP_S) for source in others[:CLEAN_CLIPS]]


def remix_plan(sets: dict[str, MixtureDataset], n: int) -> list[tuple[str, int]]:
    """Returns for every remix the name of its set and its number there. Each recording has its share of them by its
    seconds of silence; every kind of mixture has a quarter of each."""
    names = [name for name in sets if name != OTHER]
    ends = np.cumsum([sets[name].games.ends[-1] for name in names])
    plan = []
    for i in range(n):
        share = i * (math.sqrt(5) - 1) / 2 % 1  # spread evenly, however many there are
        own = names and i % OTHER_SCENES
        name = names[int(np.searchsorted(ends, share * ends[-1], side="right"))] if own else OTHER
        group, kind = divmod(i, len(KINDS))
        plan.append((name, (2 * group + (i % AS_RECORDED > 0)) * len(KINDS) + kind))  # odd groups are under conditions
    return plan


def remix(mixtures: MixtureDataset, key: tuple[int, int], coding: Coding | None) -> dict[str, np.ndarray]:
    """Returns the mixture and the target of a remix, each coded as the recording is. -> {name: [T]}"""
    item, rate = mixtures[key], mixtures.sample_rate
    signals = {part: item[part].numpy() for part in ("mixture", "target")}
    return {part: coded(x, rate, coding) if coding and x.any() else x for part, x in signals.items()}


# --- scores of an estimate, and what they are to predict -------------------------------------------------------------

def scores_of(
    mixture: np.ndarray, extract: nonintrusive.Extract, sample_rate: int, target: np.ndarray | None = None
) -> dict[str, str]:
    """Returns the scores of a mixture's estimate for a table and, where the target is known, the truths. [T] -> {}"""
    estimate = extract(mixture)
    known = {} if target is None else truths(target, estimate, sample_rate)
    found = known | nonintrusive.scores(mixture, estimate, extract, sample_rate)
    return {name: f"{value:.6g}" for name, value in found.items()}


def truths(target: np.ndarray, estimate: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Returns what is to be predicted, the names in PREDICTED. [T], [T] -> {}

    si_sdr_db: SI-SDR of the estimate, limited to WORST_DB and BEST_DB; WORST_DB where there is no target.
    other_db: level of the loudest WINDOW_S of the estimate in which the target is silent, over the target's speech.
    """
    if not target.any():
        return {"si_sdr_db": WORST_DB, "other_db": nonintrusive.MOST_DB}
    hop = hop_of(sample_rate)
    target_db, estimate_db = (smooth_levels(hop_powers(x[:, None], hop)[0]) for x in (target, estimate))
    speech_db = float(np.percentile(target_db, 90))
    size, loudest = round(WINDOW_S * sample_rate / hop), nonintrusive.LEAST_DB
    for start in range(0, len(target_db) - size + 1, size // 2):
        window = slice(start, start + size)
        if target_db[window].max() < speech_db + ABSENT_DB:
            loudest = max(loudest, float(to_db(np.mean(10 ** (estimate_db[window] / 10)))) - speech_db)
    found = si_sdr(estimate=torch.from_numpy(estimate), reference=torch.from_numpy(target)).item()
    return {"si_sdr_db": float(np.clip(found, WORST_DB, BEST_DB)), "other_db": min(loudest, nonintrusive.MOST_DB)}


class Calibration:
    """What remixes teach: the SI-SDR of a clip, how loud somebody else is in it, and what may be promised.

    remixes: rows with the scores, the truths and `over`, what they lie under; other_db: nobody else may be louder;
    share, confidence: of what is accepted so much is good, with this confidence
    """

    def __init__(self, remixes: list[dict], *, other_db: float, share: float, confidence: float):
        self.other_db, self.asked = other_db, {"share": share, "confidence": confidence}
        self.features = table_of(remixes, nonintrusive.NAMES)
        self.truths = {name: table_of(remixes, [name])[:, 0] for name in PREDICTED}
        groups = np.array([row["over"] for row in remixes])
        if len(set(groups)) == 1:  # no recording has a silence
            groups = np.arange(len(remixes)) % promise.FOLDS
        self.unseen = {name: promise.cross_validated(self.features, x, groups) for name, x in self.truths.items()}

    def is_good(self, truths: dict[str, np.ndarray], good_db: float) -> np.ndarray:
        """Says, by what is known, which mixtures have so many dB, and nobody else in them. -> [N]"""
        return (truths["si_sdr_db"] >= good_db) & (truths["other_db"] <= self.other_db)

    def keep(self, good_db: float) -> promise.Promise:
        """Returns what may be promised of clips that have so many dB, and nobody else in them."""
        return promise.keep(self.ranked(self.unseen), self.is_good(self.truths, good_db), **self.asked)

    def ranked(self, predicted: dict[str, np.ndarray]) -> np.ndarray:
        """Returns the predicted SI-SDR; -inf where somebody else is predicted. -> [N]"""
        return np.where(predicted["other_db"] <= self.other_db, predicted["si_sdr_db"], -np.inf)

    def predict(self, clips: list[dict]) -> dict[str, np.ndarray]:
        """Returns what is predicted of clips, by the names in PREDICTED. -> [clips] each"""
        features = table_of(clips, nonintrusive.NAMES)
        return {name: promise.forest(self.features, x).predict(features) for name, x in self.truths.items()}

    def errors_db(self) -> np.ndarray:
        """Returns how far the SI-SDR of remixes with a target was predicted wrongly, by what had not seen them."""
        there = self.truths["si_sdr_db"] > WORST_DB
        return np.abs(self.unseen["si_sdr_db"] - self.truths["si_sdr_db"])[there]


def table_of(rows: list[dict], names: Sequence[str]) -> np.ndarray:
    """Returns columns of a table as numbers. -> [rows, names]"""
    return np.array([[float(row[name]) for name in names] for row in rows])
