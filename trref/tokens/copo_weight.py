r"""The weight of COPO: how much the answers of a group disagree, and so how much the group can teach itself.

The final answers to a prompt are counted. With the shares f of the distinct ones among G,

.. math::
    :label: copo-weight-entropy

    H_j = -\sum_a f_{j,a} \log f_{j,a} \in [0, \log G_j]

.. math::
    :label: copo-weight-weight

    w_j = \frac{1}{1 + e^{-\gamma (H_j - h)}}

is the weight of the group's own advantage, and 1 - w that of the global one (:mod:`trref.tokens.copo`). With
:math:`\gamma = 20` and :math:`h = 1.5` it is almost a switch: six different answers give 0.997, one pair among them
0.77, two pairs 0.03. The threshold depends on G: of four answers :math:`\log 4 = 1.39` is the largest entropy, and even
four different ones give 0.09. As a share of :math:`\log 6` it is 0.84 (``unit="log_group"``). A group that agrees on a
wrong answer has H = 0 just as one that agrees on the right one.

**Where implementations differ.** The authors' code could not be read. Whether answers are equal is to be decided on
normalised final answers, not on token strings.

**Provenance.** Partly: entropy, weight and the two constants by two reviews of the paper. Reconstructed: the unit
``"log_group"``.

Han et al., *COPO: Consistency-Aware Policy Optimization*, 2025, arXiv:2508.04138.
"""

import math

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Method
from trref.tokens.interfaces import token_objective
from trref.tokens.terms import group_mean

__all__ = ["PROBE", "UNITS", "consistency_entropy", "local_weight", "weight_of_groups"]

UNITS = ("nats", "log_group")
ANSWERS = token_objective("group", "answer", without=("log_prob", "old_log_prob", "advantage", "mask"))


def _entropy(group, answer, dtype):
    same_group = group[:, None] == group[None, :]
    same = (same_group & (answer[:, None] == answer[None, :])).astype(dtype)
    count = same_group.astype(dtype).sum(1)
    H = -group_mean(xp.log(same.sum(1) / count), group)[0]  # eq. copo-weight-entropy
    return xp.maximum(H, 0), count


def consistency_entropy(group, answer, *, dtype="float64"):
    """Entropy of the final answers of each answer's group, in nats; 0 where they agree.

    Parameters
    ----------
    group : array (B,), integer
    answer : array (B,), integer
        Equal numbers are equal final answers.
    dtype : {"float64", "float32"}
        Of the result.

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        Shapes that differ, negative numbers.
    """
    validate.inputs(ANSWERS.inputs, group, answer)
    validate.choice(("float64", "float32"), dtype=dtype)
    return _entropy(group, answer, dtype)[0]


def weight_of_groups(group, answer, dtype, gamma, threshold, unit):
    """Building block, unchecked: the weight (B,); parameters as in `local_weight`."""
    H, count = _entropy(group, answer, dtype)
    h = threshold * xp.log(count) if unit == "log_group" else threshold
    return xp.exp(-xp.logaddexp(0, -gamma * (H - h)))  # eq. copo-weight-weight


def local_weight(group, answer, *, gamma=20.0, threshold=1.5, unit="nats", dtype="float64"):
    """Weight of the group's own advantage: close to 1 where its answers differ, close to 0 where they agree.

    Parameters
    ----------
    group, answer
        As in `consistency_entropy`.
    gamma : float
        Steepness, in [0, inf).
    threshold : float
        The entropy at which the weight is one half.
    unit : {"nats", "log_group"}
        Of the threshold: the entropy itself, or a share of its largest value.
    dtype : {"float64", "float32"}
        Of the result.

    Returns
    -------
    array (B,), in [0, 1]

    Raises
    ------
    ValueError
        As `consistency_entropy`; numbers out of range, an unknown unit.
    """
    validate.inputs(ANSWERS.inputs, group, answer)
    validate.choice(("float64", "float32"), dtype=dtype)
    validate.interval("[0, inf)", gamma=gamma)
    validate.interval("(-inf, inf)", threshold=threshold)
    validate.choice(UNITS, unit=unit)
    return weight_of_groups(group, answer, dtype, gamma, threshold, unit)


def _members(group):
    return {g: [i for i, h in enumerate(group.tolist()) if h == g] for g in group.tolist()}


def _entropy_by_counting(group, answer):
    H = {}
    for g, rows in _members(group).items():
        given = [int(answer[i]) for i in rows]
        shares = [given.count(a) / len(given) for a in set(given)]
        H[g] = -sum(f * math.log(f) for f in shares)
    return [max(H[g], 0.0) for g in group.tolist()]


def _weight_by_sigmoid(group, answer, *, gamma=20.0, threshold=1.5, unit="nats"):
    sizes = {g: len(rows) for g, rows in _members(group).items()}
    result = []
    for g, H in zip(group.tolist(), _entropy_by_counting(group, answer), strict=True):
        result.append(1 / (1 + math.exp(-gamma * (H - threshold * (math.log(sizes[g]) if unit != "nats" else 1)))))
    return result


PROBE = {"gamma": 3.5, "threshold": 0.6, "unit": "log_group"}
WEIGHTS = {
    "default": {},
    "share of the largest entropy": {"threshold": 0.84, "unit": "log_group"},
    "probe": PROBE,
}
METHOD = Method(
    key="han2025copo",
    provenance="partly",
    functions=(
        Estimator(
            f=consistency_entropy,
            interface=ANSWERS,
            settings={"default": {}, "probe": {}},
            brute_force=_entropy_by_counting,
        ),
        Estimator(f=local_weight, interface=ANSWERS, settings=WEIGHTS, brute_force=_weight_by_sigmoid),
    ),
)
