"""extractor/promise.py: what may be promised, and of how many."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from extractor import promise


@pytest.mark.parametrize(("good", "n"), [(0, 10), (1, 10), (59, 60), (92, 93), (300, 300)])
def test_the_lower_bound_is_the_exact_one_of_a_binomial_share(good, n):
    theirs = binomtest(good, n, alternative="greater").proportion_ci(0.95, method="exact").low
    assert promise.lower_bound(good, n, 0.95) == pytest.approx(theirs, abs=1e-9)


def test_fifty_nine_that_are_all_good_are_the_fewest_for_95_percent_with_95_percent_confidence():
    assert 0.95**59 <= 0.05 < 0.95**58 and promise.least_to_promise(0.95, 0.95) == 59


def test_the_threshold_goes_down_until_too_many_are_bad():
    """100 good ones, then 50 bad ones: of the n best at most 5 % may be bad, and the bound must hold, too."""
    predicted = -np.arange(150.0)
    kept = promise.keep(predicted, predicted > -100, share=0.95, confidence=0.95)
    assert 59 <= kept.accepted <= 101 and kept.all_good == 100
    assert kept.threshold_db == -(kept.accepted - 1) and kept.good == min(100, kept.accepted)
    assert kept.lower == pytest.approx(promise.lower_bound(kept.good, kept.accepted, 0.95)) and kept.lower >= 0.95


def test_nothing_is_promised_where_one_of_the_best_is_bad_or_where_there_are_too_few():
    predicted = -np.arange(200.0)
    for n, bad in ((200, 0), (200, 58), (58, 999)):
        kept = promise.keep(predicted[:n], np.arange(n) != bad, share=0.95, confidence=0.95)
        assert kept.threshold_db == math.inf and kept.accepted == 0


def test_what_is_predicted_to_have_somebody_else_in_it_is_never_below_a_threshold_that_is_found():
    predicted = np.r_[-np.arange(70.0), np.full(100, -np.inf)]
    kept = promise.keep(predicted, np.ones(170, bool), share=0.95, confidence=0.95)
    assert -70 < kept.threshold_db <= -58


def test_promises_that_are_broken_are_rarer_than_the_confidence_says():
    """Of 400 calibrations on 300 remixes each, of which the better predicted ones are good more often."""
    rng, broken, found = np.random.default_rng(0), 0, 0
    for _ in range(400):
        predicted = rng.uniform(0, 1, 300)
        kept = promise.keep(predicted, rng.uniform(0, 1, 300) < chance(predicted), share=0.9, confidence=0.9)
        if kept.accepted:
            found += 1
            broken += chance(np.linspace(kept.threshold_db, 1, 1000)).mean() < 0.9
    assert found > 300 and broken < 0.1 * 400


def chance(predicted: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + predicted, 0, 1)


def test_what_is_predicted_of_a_group_was_learnt_from_other_groups_alone():
    """Features give away the group, and truths are the group's own: by its own group each would be exact. Others come
    to their mean, which is far from that of the first and the last."""
    groups = np.repeat(np.arange(5), 20)
    features, truths = np.eye(5)[groups], 10.0 * groups
    predicted = promise.cross_validated(features, truths, groups)
    assert np.abs(promise.forest(features, truths).predict(features) - truths).max() < 1e-9
    assert np.abs(predicted - truths)[np.isin(groups, (0, 4))].min() > 10
