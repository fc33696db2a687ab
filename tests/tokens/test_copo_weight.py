"""Entropy and weight against SciPy; order and invariance."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import entropy

from trref.tokens.copo_weight import consistency_entropy, local_weight


def _weight(*answers, **hyper):
    return local_weight(np.zeros(len(answers), int), np.array(answers), **hyper)[0]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [((0, 1, 2, 3, 4, 5), 0.997), ((0, 0, 1, 2, 3, 4), 0.77), ((0, 0, 1, 1, 2, 3), 0.03), ((7,) * 6, 9.4e-14)],
)
def test_published_constants(answers, expected):
    assert _weight(*answers) == pytest.approx(expected, rel=0.12)


def test_against_scipy():
    rng = np.random.default_rng(0)
    group, answer = rng.integers(0, 6, 60), rng.integers(0, 5, 60)
    H, w = consistency_entropy(group, answer), local_weight(group, answer, gamma=3.0, threshold=0.9)
    for g in set(group.tolist()):
        expected = entropy(np.unique(answer[group == g], return_counts=True)[1])
        assert np.allclose(H[group == g], expected, rtol=1e-12)
        assert np.allclose(w[group == g], expit(3.0 * (expected - 0.9)), rtol=1e-12)


def test_range_and_order():
    """Each further agreement lowers entropy and weight; the largest entropy is log G."""
    groups = [(0, 1, 2, 3), (0, 0, 1, 2), (0, 0, 1, 1), (0, 0, 0, 1), (0, 0, 0, 0)]
    H = [consistency_entropy(np.zeros(4, int), np.array(a))[0] for a in groups]
    assert pytest.approx(np.log(4)) == H[0] and H[-1] == 0 and (np.diff(H) < 0).all()
    assert (np.diff([_weight(*a, gamma=2.0) for a in groups]) < 0).all()


def test_labels_do_not_matter():
    rng = np.random.default_rng(1)
    group, answer, names = rng.integers(0, 4, 40), rng.integers(0, 5, 40), rng.permutation(100)[:5]
    assert np.array_equal(local_weight(group, answer), local_weight(group, names[answer]))
    assert np.array_equal(local_weight(group, answer), local_weight(9 - group, answer))


def test_the_threshold_depends_on_the_group():
    """Of four answers all different the default weight is below 0.1; in units of log G it is that of six."""
    assert _weight(0, 1, 2, 3) < 0.1
    relative = {"unit": "log_group", "threshold": 1.5 / np.log(6)}
    assert _weight(0, 1, 2, 3, **relative) > 0.98 and _weight(0, 1, 2, 3, 4, 5, **relative) == pytest.approx(
        0.997, 1e-3
    )
