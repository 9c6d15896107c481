"""Means, their intervals, and what may be said of a difference."""

import importlib.util

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from extractor.scoring import MEASURES, PRESENT, Interval, differences, groups_of, interval, means

VALUES = np.random.default_rng(0).normal(3, 2, 40)
WORDS = np.random.default_rng(1).integers(1, 30, 40).astype(float)
DB, PERCENT, COSINE = MEASURES["si_sdri"], MEASURES["wer"], MEASURES["estoi"]


def item(kind: str = "game", snr_db: float | None = None, present: bool = True) -> dict:
    return {"kind": kind, "snr_db": snr_db, "present": present}


# ---------------------------------------------------------------------------------------------------------------------
# intervals


def ratio(values, weights, axis=-1):
    return (values * weights).sum(axis) / weights.sum(axis)


@pytest.mark.parametrize("weights", [None, WORDS], ids=["files", "words"])
def test_an_interval_is_scipys_percentile_bootstrap_at_the_expanded_level(weights):
    data, statistic = ((VALUES,), np.mean) if weights is None else ((VALUES, weights), ratio)
    level = 1 - 2 * norm.cdf(-2.0226909 * np.sqrt(40 / 39))  # t of 39 degrees of freedom
    settings = {"paired": True, "n_resamples": 50_000, "method": "percentile", "confidence_level": level, "rng": 1}
    expected = bootstrap(data, statistic, **settings)
    found = interval(VALUES, weights)
    assert found[1:3] == pytest.approx(tuple(expected.confidence_interval), abs=0.03)  # 0.05 standard errors each
    assert found.mean == pytest.approx(statistic(*data)) and found.n == 40


def test_nan_is_no_value_and_takes_its_weight_with_it_and_what_has_no_weight_is_no_value():
    assert interval([1.0, np.nan, 3.0]) == interval([1.0, 3.0])
    for values, weights in (([1.0, np.nan, 3.0], [1, 100, 3]), ([1.0, 9.0, 3.0], [1, 0, 3])):
        assert interval(values, weights) == interval([1.0, 3.0], weights=[1, 3])
    one = interval([np.nan, 2.0])
    assert (one.mean, one.n) == (2.0, 1) and np.isnan(one.low) and np.isnan(one.high)
    for none in (interval([np.nan]), interval([]), interval([1.0, 9.0], weights=[0, 0])):
        assert none.n == 0 and np.isnan(none.mean)


def test_another_run_has_the_same_interval_of_the_same_values():
    spec = importlib.util.find_spec("extractor.scoring")
    spec.loader.exec_module(again := importlib.util.module_from_spec(spec))
    assert again.interval(VALUES) == interval(VALUES)


@pytest.mark.parametrize("found, measure, text", [
    (Interval(7.46, 6.2, 8.7, 9), DB, "+7.5 [+6.2, +8.7]"),
    (Interval(-7.46, -8.7, 0.04, 9), DB, "-7.5 [-8.7, +0.0]"),
    (Interval(-0.04, -0.04, 0.0, 9), DB, "+0.0 [+0.0, +0.0]"),  # no -0.0
    (Interval(12.6, 3.2, 30.5, 9), PERCENT, "13% [3, 30]"),
    (Interval(-0.4, -0.4, 0.4, 9), PERCENT, "0% [0, 0]"),
    (Interval(0.876, 0.8, 0.95, 9), COSINE, "0.88 [0.80, 0.95]"),
    (Interval(-0.876, -0.9, -0.8, 9), COSINE, "-0.88 [-0.90, -0.80]"),
    (Interval(7.46, np.nan, np.nan, 1), DB, "+7.5"),
    (Interval(7.46, np.nan, np.nan, 1), PERCENT, "7%"),
    (Interval(np.nan, np.nan, np.nan, 0), DB, "-"),
])
def test_an_interval_as_text(found, measure, text):
    assert found.text(measure) == text


# ---------------------------------------------------------------------------------------------------------------------
# groups


TEN_SNRS = [item("game", snr) for snr in (-4.0, -2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)]


@pytest.mark.parametrize("items, groups", [
    ([item("voices", 5), item("game", -5), item("absent", None, False), item("voices", -5), item("game", 2.5)],
     {"voices": [0, 3], "game": [1, 4], "absent": [2], "at -5 dB": [1, 3], "at 2.5 dB": [4], "at 5 dB": [0],
      PRESENT: [0, 1, 3, 4]}),
    ([item("game", 5), item("game", 5)], {"game": [0, 1]}),
    ([item("game", 5), item("game", None)], {"game": [0, 1]}),
    ([item("game", 0), item("game", 5), item("game", 0, present=False), item("game", -5, present=False)],
     {"game": [0, 1, 2, 3], "at 0 dB": [0], "at 5 dB": [1], PRESENT: [0, 1]}),
    ([item("music", None, False), item("game", None, False)], {"music": [0], "game": [1]}),
    (TEN_SNRS, {"game": [*range(10)]} | {f"at {x['snr_db']:g} dB": [i] for i, x in enumerate(TEN_SNRS)}
     | {PRESENT: [*range(10)]}),
    ([*TEN_SNRS, item("game", 7.4)],
     {"game": [*range(11)], "at -5 dB": [0], "at 0 dB": [1, 2, 3, 4], "at 5 dB": [5, 6, 7, 8, 9, 10],
      PRESENT: [*range(11)]}),
], ids=[
    "by kind, by SNR, those with the target", "one SNR is no group, one group no sum", "an unknown SNR is no group",
    "who is absent is in no group of an SNR", "nobody has the target", "ten SNRs are a group each",
    "more than ten SNRs are rounded to 5 dB",
])
def test_items_are_grouped(items, groups):
    assert list(groups_of(items).items()) == list(groups.items())


def test_means_are_by_group_over_what_was_measured_and_word_error_rates_over_words():
    items = [item("game"), item("game"), item("absent", present=False), item("voices")]
    game = [{"si_sdri": 1.0, "pesq": 2.0, "wer": 50.0, "words": 2.0}, {"si_sdri": 4.0, "wer": 0.0, "words": 8.0}]
    found = means(items, [*game, {"residual_level": -30.0}, {}])
    in_game = {"si_sdri": (2.5, 2), "pesq": (2.0, 1), "wer": (pytest.approx(10), 2)}
    assert {kind: {m: (x.mean, x.n) for m, x in by.items()} for kind, by in found.items()} == {
        "game": in_game, "absent": {"residual_level": (-30.0, 1)}, "voices": {}, PRESENT: in_game,
    }


# ---------------------------------------------------------------------------------------------------------------------
# differences


def against(measure: str, ours: list[float], theirs: list[float]) -> tuple[Interval, str]:
    rows = ([{measure: x, "words": 1.0} for x in values] for values in (ours, theirs))
    return differences([item()] * len(ours), *rows)["game"][measure]


def test_a_difference_is_ours_minus_theirs_pair_by_pair():
    theirs = np.random.default_rng(0).normal(0, 20, 10)
    gaps = np.arange(1.0, 11.0)
    found, verdict = against("si_sdr", list(theirs + gaps), list(theirs))
    assert found == pytest.approx(interval(gaps))  # much narrower than of two groups that are not paired
    assert verdict == "better"


@pytest.mark.parametrize(
    "measure, more, less",
    [("si_sdri", "better", "worse"), ("pesq", "better", "worse"), ("wer", "worse", "better"),
     ("leakage", "worse", "better"), ("target_loss", "worse", "better"), ("residual_level", "worse", "better")],
)
def test_whether_more_is_better_depends_on_the_measure(measure, more, less):
    high, low = [3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 2.0, 3.0, 5.0, 4.0]
    assert against(measure, high, low)[1] == more
    assert against(measure, low, high)[1] == less
    assert against(measure, high, high)[1] == "within"
    assert against(measure, [1.0, -1.0, 2.0, -2.0, 1.0, -1.0], [0.0] * 6)[1] == "within"


def test_of_what_should_be_zero_the_distances_from_zero_are_compared():
    found, verdict = against("level_error", [-1.0, 1.0, -2.0, 2.0, 1.0, 1.0], [6.0, -6.0, -6.0, 6.0, 6.0, -7.0])
    assert found.mean == pytest.approx(8 / 6 - 37 / 6) and verdict == "better"
    assert against("level_error", [-6.0] * 6, [1.0] * 6)[1] == "worse"
    assert against("level_error", [-1.0] * 6, [1.0] * 6)[1] == "within"


def test_items_that_one_side_lacks_are_left_out():
    ours, theirs = [{"si_sdr": 5.0}, {"si_sdr": 100.0}, {}, {"si_sdr": 7.0}], [{"si_sdr": 4.0}, {}, {"si_sdr": -9.0}]
    found, _ = differences([item()] * 4, ours, [*theirs, {"si_sdr": 4.0}])["game"]["si_sdr"]
    assert (found.mean, found.n) == (2.0, 2)
    assert differences([item(), item()], [{"si_sdr": 1.0}, {}], [{"pesq": 1.0}, {}]) == {"game": {}}


def test_differences_of_word_error_rates_weigh_by_words_and_all_others_by_files():
    ours = [{"wer": 50.0, "words": 2.0, "si_sdr": 4.0}, {"wer": 0.0, "words": 8.0, "si_sdr": 0.0}]
    theirs = [{"wer": 0.0, "words": 2.0, "si_sdr": 0.0}, {"wer": 25.0, "words": 8.0, "si_sdr": 0.0}]
    found = differences([item(), item()], ours, theirs)["game"]
    assert found["wer"][0].mean == pytest.approx(10 - 20) and found["si_sdr"][0].mean == pytest.approx(2)


def test_with_few_pairs_chance_alone_is_seldom_called_better_or_worse():
    rng = np.random.default_rng(0)
    for n in (2, 3, 4, 10):
        verdicts = [against("si_sdr", list(rng.normal(size=n)), [0.0] * n)[1] for _ in range(200)]
        assert np.mean([verdict != "within" for verdict in verdicts]) <= 0.15, f"of {n} pairs"
