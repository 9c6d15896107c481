"""What may be promised of the clips that are accepted: learnt on remixes whose target is known."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import beta

STEP = 1.05     # from one number of accepted remixes that is tried to the next, as a factor
FOLDS = 10
FOREST = {"n_estimators": 300, "min_samples_leaf": 2, "random_state": 0}


class Promise(NamedTuple):
    """Of what is predicted to have `threshold_db` or more, a share of at least `lower` is good, with the confidence
    asked for. That was found on `accepted` remixes, of which `good` are. Of all remixes `all_good` are."""

    threshold_db: float  # inf: no threshold keeps the promise
    accepted: int
    good: int
    all_good: int
    lower: float


def forest(features: np.ndarray, truths: np.ndarray):
    """Returns a learner that predicts truths from features. [N, F], [N] -> it, with predict([M, F]) -> [M]"""
    from sklearn.ensemble import ExtraTreesRegressor  # here: it takes its time, and only who predicts waits

    return ExtraTreesRegressor(**FOREST).fit(features, truths)


def cross_validated(features: np.ndarray, truths: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns what forests predict that saw nothing of the same group, such as the same recording. The groups are dealt
    into FOLDS parts, as far as there are so many. [N, F], [N], [N] -> [N]. Raises ValueError for a single group."""
    from sklearn.model_selection import GroupKFold

    predicted = np.empty(len(truths))
    for seen, unseen in GroupKFold(min(FOLDS, len(np.unique(groups)))).split(features, groups=groups):
        predicted[unseen] = forest(features[seen], truths[seen]).predict(features[unseen])
    return predicted


def lower_bound(good: int, n: int, confidence: float) -> float:
    """Returns the lower end of the one-sided interval of Clopper and Pearson (1934) for a share, of which `good` of n
    were seen."""
    return float(beta.ppf(1 - confidence, good, n - good + 1)) if good else 0.0


def least_to_promise(share: float, confidence: float) -> int:
    """Returns the smallest number of accepted remixes that can keep a promise: all are good then."""
    return math.ceil(math.log(1 - confidence) / math.log(share))


def keep(predicted_db: np.ndarray, is_good: np.ndarray, *, share: float, confidence: float) -> Promise:
    """Finds the lowest threshold that keeps a promise. [N], [N] -> Promise

    Numbers of accepted remixes, the best predicted first, are tried in a fixed order, each STEP times the one before,
    until one fails. So a test that passes by chance is not searched for, and the confidence holds for the last that
    passed (fixed-sequence testing; Angelopoulos et al. 2021, Learn then Test, arXiv 2110.01052).
    """
    order = np.argsort(-predicted_db, kind="stable")
    counts = np.cumsum(is_good[order])
    kept = Promise(math.inf, 0, 0, int(is_good.sum()), 0.0)
    n = least_to_promise(share, confidence)
    while n <= len(order) and np.isfinite(predicted_db[order[n - 1]]):
        good = int(counts[n - 1])
        if (lower := lower_bound(good, n, confidence)) < share - 1e-9:
            break
        kept = kept._replace(threshold_db=float(predicted_db[order[n - 1]]), accepted=n, good=good, lower=lower)
        n = max(n + 1, round(STEP * n))
    return kept
