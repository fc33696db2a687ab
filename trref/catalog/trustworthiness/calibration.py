"""What is known of `trref.trustworthiness.calibration`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.catalog.trustworthiness.interfaces import ANSWERS
from trref.trustworthiness.calibration import (
    Reliability,
    brier,
    calibration_error,
    calibration_floor,
    correlation,
    histogram_binning,
    overconfidence,
    reliability,
    temperature_loss,
)


def _bin(c, bins):
    return min(math.floor(bins * c), bins - 1)


def _bin_by_bin(confidence, correct, *, bins=10):
    parts = []
    pairs = list(zip(confidence.tolist(), correct.tolist(), strict=True))
    for b in range(bins):
        here = [(c, r) for c, r in pairs if _bin(c, bins) == b]
        n = max(len(here), 1)
        sums = (math.fsum(c for c, _ in here), math.fsum(r for _, r in here))
        parts.append((len(here) / len(pairs), sums[0] / n, sums[1] / n))
    return Reliability(*(xp.array(column) for column in zip(*parts, strict=True)))


def _error(confidence, correct, *, bins=10):
    share, claimed, right = _bin_by_bin(confidence, correct, bins=bins)
    return math.fsum((share * abs(right - claimed)).tolist())


def _floor(confidence, uniform, *, bins=10):
    each = [
        _error(confidence, (row < confidence).astype(float), bins=bins)
        for row in uniform
    ]
    return math.fsum(each) / len(each)


def _counted(confidence, correct, *, threshold=0.9, conditional=False):
    sure = [
        r
        for c, r in zip(confidence.tolist(), correct.tolist(), strict=True)
        if c >= threshold
    ]
    of = max(len(sure), 1) if conditional else len(confidence)
    return sure.count(0.0) / of


def _by_groups(confidence, correct):
    """The point-biserial form: a difference of means."""
    c = confidence.tolist()
    right = [v for v, r in zip(c, correct.tolist(), strict=True) if r]
    wrong = [v for v, r in zip(c, correct.tolist(), strict=True) if not r]
    if not right or not wrong or max(c) == min(c):
        return 0.0
    mean = math.fsum(c) / len(c)
    deviation = math.hypot(*(v - mean for v in c)) / math.sqrt(len(c))
    apart = math.fsum(right) / len(right) - math.fsum(wrong) / len(wrong)
    return apart / deviation * math.sqrt(len(right) * len(wrong)) / len(c)


def _squares(confidence, correct):
    pairs = zip(confidence.tolist(), correct.tolist(), strict=True)
    return math.fsum((c - r) ** 2 for c, r in pairs) / len(confidence)


def _looked_up(confidence, correct, query, *, bins=10):
    table = _bin_by_bin(confidence, correct, bins=bins)
    result = []
    for c in query.tolist():
        b = _bin(c, bins)
        result.append(float(table.accuracy[b]) if table.share[b] > 0 else c)
    return xp.array(result)


def _right_closed(confidence, correct, *, bins=10):
    """Bins (a, b], and 0 in the first."""
    return calibration_error(1 - confidence, 1 - correct, bins=bins)


def _error_rate(confidence, correct, *, threshold=0.9, conditional=False):
    return overconfidence(confidence, correct, threshold=0.0, conditional=conditional)


def _logits(rng, size):
    C = int(rng.integers(2, 5))
    return {
        "logits": rng.choice((0.3, 2.0, 8.0)) * rng.standard_normal((size, C)),
        "labels": rng.integers(0, C, size),
        "temperature": xp.asarray(rng.uniform(0.4, 3.0)),
    }


BINS = {
    "default": {},
    "one bin": {"bins": 1},
    "half-sure": {"bins": 2},
    "probe": {"bins": 8},
}

METHOD = Method(
    key="roumeliotis2025orchestrator",
    provenance={
        "partly": ("bins", "error", "overconfidence", "correlation"),
        "reconstructed": ("floor", "brier", "histogram", "temperature"),
    },
    functions=(
        Estimator(
            f=calibration_error,
            interface=ANSWERS,
            settings=BINS,
            brute_force=_error,
            deviations=(
                Deviation(
                    "bins that are closed at the right",
                    _right_closed,
                    seen_in="scikit-learn, sklearn.calibration.calibration_curve",
                    computes="a confidence on the edge of two bins goes to the lower one",
                ),
            ),
        ),
        Estimator(
            f=reliability,
            interface=ANSWERS,
            settings=BINS,
            brute_force=_bin_by_bin,
        ),
        Estimator(
            f=calibration_floor,
            interface=ANSWERS,
            settings=BINS,
            brute_force=_floor,
        ),
        Estimator(
            f=overconfidence,
            interface=ANSWERS,
            settings={
                "default": {},
                "of those that are sure": {"conditional": True},
                "probe": {"threshold": 0.6, "conditional": True},
                "on the edge": {"threshold": 0.5},
            },
            brute_force=_counted,
            deviations=(
                Deviation(
                    "whatever the confidence",
                    _error_rate,
                    seen_in="Applied-AI-Research-Lab/Orchestrator-Agent-Trust, AgenticAI.ipynb: as far as the "
                    "size of the rates in its prompt tells, 260/512 and 213/512",
                    computes="the rate of errors, without a threshold",
                ),
            ),
        ),
        Estimator(f=correlation, interface=ANSWERS, brute_force=_by_groups),
        Estimator(f=brier, interface=ANSWERS, brute_force=_squares),
        Estimator(
            f=histogram_binning,
            interface=ANSWERS,
            settings=BINS,
            brute_force=_looked_up,
        ),
        Objective(
            f=temperature_loss,
            wrt="temperature",
            example=_logits,
            edges={
                "one class": lambda: {
                    "logits": xp.array([[2.0], [-1.0]]),
                    "labels": xp.array([0, 0]),
                    "temperature": xp.asarray(0.5),
                },
                "nearly sure and wrong": lambda: {
                    "logits": xp.array([[9.0, -9.0, 0.0]]),
                    "labels": xp.array([1]),
                    "temperature": xp.asarray(1.5),
                },
                "equal logits": lambda: {
                    "logits": xp.ones((3, 4)),
                    "labels": xp.array([0, 1, 3]),
                    "temperature": xp.asarray(2.0),
                },
            },
            refused={
                "a label that is no class": {"labels": 99},
                "a temperature next to 0": {"temperature": 1e-4},
            },
        ),
    ),
)
