"""A detector under questions: its loss from its parts, its derivative in every part, blindness, macro-F1 by hand."""

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import f1_score

from trref.nn import flat
from trref.trustworthiness.question_attention import question_attention
from trref.trustworthiness.trust_vl import detector_loss, detector_shapes, macro_f1

SIZES = {
    "dim": 4,
    "queries": 3,
    "tokens": 2,
    "kinds": 3,
    "hidden": 5,
    "layers": 2,
    "width": 3,
    "classes": 2,
}


def _items(seed, N=6):
    rng = np.random.default_rng(seed)
    shapes = detector_shapes(vision=3, **SIZES)
    mask = np.ones((N, 4))
    mask[0, 2:] = 0
    return {
        "theta": 0.5 * rng.standard_normal(flat.size(shapes)),
        "patches": rng.standard_normal((N, 4, 3)),
        "kind": np.arange(N) % 3,
        "labels": rng.integers(0, 2, N),
        "mask": mask,
    }


def test_loss_is_its_parts():
    items = _items(0)
    queries, table, inner, W, b = flat.split(items["theta"], detector_shapes(vision=3, **SIZES))
    Z = question_attention(
        queries, items["patches"], inner, table[items["kind"]], items["mask"], heads=2, hidden=5, layers=2, width=3
    )
    p = special.softmax(Z.mean(1) @ W + b, axis=1)
    expected = -np.log(p[np.arange(6), items["labels"]]).mean()
    assert detector_loss(**items, heads=2, **SIZES)[0] == pytest.approx(expected, rel=1e-12)


def test_every_part_of_the_gradient():
    items = _items(1)
    gradient = detector_loss(**items, heads=2, **SIZES)[1]
    shapes = detector_shapes(vision=3, **SIZES)
    rng, step = np.random.default_rng(2), 1e-5
    parts = flat.split(np.arange(len(gradient)), shapes)
    for rows in (part.ravel() for part in parts):
        for _ in range(6):
            d = np.zeros(len(gradient))
            d[rows] = rng.choice([-1.0, 1.0], len(rows))
            ahead, behind = (
                detector_loss(**{**items, "theta": items["theta"] + s * d}, heads=2, **SIZES)[0] for s in (step, -step)
            )
            slope = (ahead - behind) / (2 * step)
            assert gradient @ d == pytest.approx(slope, abs=1e-7 * abs(gradient).sum())
    asked_of_one = {**items, "kind": np.zeros(6, dtype=int)}
    by_table = flat.split(detector_loss(**asked_of_one, heads=2, **SIZES)[1], shapes)[1]
    assert abs(by_table[0]).max() > 0 and (by_table[1:] == 0).all(), "what is not asked does not learn"


def test_the_same_question_means_the_same_answer():
    """With one row of the table for all kinds, the kind makes no difference."""
    items = _items(3)
    table = flat.split(items["theta"], detector_shapes(vision=3, **SIZES))[1]
    other = {**items, "kind": (items["kind"] + 1) % 3}
    assert abs(detector_loss(**items, heads=2, **SIZES)[0] - detector_loss(**other, heads=2, **SIZES)[0]) > 1e-6
    table[:] = table[:1]
    assert detector_loss(**items, heads=2, **SIZES)[0] == detector_loss(**other, heads=2, **SIZES)[0]


@pytest.mark.parametrize("seed", range(6))
def test_f1_by_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    predicted, labels = rng.integers(0, 3, (2, 12))
    theirs = f1_score(labels, predicted, labels=range(5), average="macro", zero_division=0)
    assert macro_f1(predicted, labels, classes=5) == pytest.approx(theirs, rel=1e-12)


def test_f1_by_hand():
    """Class 0: one hit, one missed; class 1: one hit, one false alarm; class 2 is absent."""
    predicted, labels = np.array([0, 1, 1]), np.array([0, 0, 1])
    assert macro_f1(predicted, labels, classes=2) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert macro_f1(predicted, labels, classes=3) == pytest.approx(4 / 9)
    # always the larger class: an accuracy of 0.9, and an F1 of less than a half
    labels = np.array([0] * 9 + [1])
    assert macro_f1(0 * labels, labels, classes=2) == pytest.approx(0.9 * 2 / 1.9 / 2)


def test_what_is_refused():
    items = _items(4)
    with pytest.raises(ValueError, match="kind must be less than 3"):
        detector_loss(**{**items, "kind": items["kind"] + 1}, heads=2, **SIZES)
    with pytest.raises(ValueError, match="heads must divide dim = 4"):
        detector_loss(**items, heads=3, **SIZES)
    with pytest.raises(ValueError, match="theta must have"):
        detector_loss(**{**items, "theta": items["theta"][1:]}, heads=2, **SIZES)
    with pytest.raises(ValueError, match="predicted must be less than 2"):
        macro_f1(np.array([2]), np.array([0]), classes=2)
