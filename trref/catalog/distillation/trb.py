"""What is known of `trref.distillation.trb`."""

import dataclasses
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective, Sampler
from trref.catalog.distillation.interfaces import TAUGHT_DISTRIBUTION
from trref.distillation.trb import (
    Blend,
    blend,
    blended_rollout,
    budget,
    opd,
    skd_rollout,
    trust_region_blend,
)
from trref.nn.heads import log_softmax
from trref.problems.next_token import NextToken
from trref.tokens.terms import token_mean
from trref.tokens.tre import region


def _beyond_the_list():
    """One response of one token, out of more than 64."""
    wave = xp.sin(1.0 + xp.arange(70.0))
    return {
        "logits": 2 * wave[None, None],
        "teacher_logits": xp.cos(xp.arange(70.0))[None, None],
        "mask": xp.ones((1, 1)),
    }


# where tokens are equally likely to the student, the list of the likeliest jumps
WITHOUT_TIES = dataclasses.replace(
    TAUGHT_DISTRIBUTION,
    edges={
        name: make
        for name, make in TAUGHT_DISTRIBUTION.edges.items()
        if name != "equal logits"
    }
    | {"a vocabulary longer than the list": _beyond_the_list},
)


def _renormalised(logits, teacher_logits, mask, *, top_k=None):
    """Both distributions are renormalised on the student's list."""
    if top_k is None or top_k >= logits.shape[-1]:
        return opd(logits, teacher_logits, mask)
    keep = region(logits, "top_k", top_k, 1.0) == 1
    q, p = (log_softmax(xp.where(keep, z, -1e4)) for z in (logits, teacher_logits))
    a, share, w = xp.where(keep, q - p, 0), xp.exp(q), token_mean(mask)
    terms = (share * a).sum(-1)
    return (w * terms).sum(), w[..., None] * share * (a - terms[..., None])


def _rest(log_share):
    """The logarithm of what is not in the list, and where its share is not held at 1e-7."""
    bounded = xp.minimum(log_share, -1e-7)
    return xp.log(-xp.expm1(bounded)), log_share < -1e-7


def _with_the_rest(logits, teacher_logits, mask, *, top_k=None):
    """What is not on the student's list is one token more."""
    if top_k is None or top_k >= logits.shape[-1]:
        return opd(logits, teacher_logits, mask)
    keep, w = region(logits, "top_k", top_k, 1.0), token_mean(mask)
    log_q, log_p = log_softmax(logits), log_softmax(teacher_logits)
    q, a = xp.exp(log_q), log_q - log_p
    rest, free = _rest(xp.log((keep * q).sum(-1)))
    log_ratio = rest - _rest(xp.log((keep * xp.exp(log_p)).sum(-1)))[0]
    terms = (keep * q * a).sum(-1) + xp.exp(rest) * log_ratio
    slope = keep * (a + 1 - xp.where(free, log_ratio + 1, 0)[..., None])
    dL = q * (slope - (q * slope).sum(-1, keepdims=True))
    return (w * terms).sum(), w[..., None] * dL


TRL = "TRL 1.16.0 trl/experimental/iw_opd/iw_opd_trainer.py, generalized_jsd_loss with beta=1, top_k and add_tail"
LISTS = (
    Deviation(
        "the rest of the vocabulary as one token more",
        _with_the_rest,
        seen_in=TRL + "=True",
        computes="the divergence of the list and of what is not on it, which is never negative",
        documented=True,
    ),
    Deviation(
        "renormalised on the list",
        _renormalised,
        seen_in=TRL + "=False",
        computes="the divergence of both distributions given that a token is on the list",
        documented=True,
    ),
)


def _teacher_as_old(inputs):
    """the old policy is the teacher"""
    return inputs, {**inputs, "old_logits": inputs["teacher_logits"]}


def _rows_example(rng, size):
    V = int(rng.integers(3, 8))
    student = float(rng.choice((0.5, 2.0))) * rng.standard_normal((size, V))
    away = float(rng.choice((0.05, 0.5, 3.0)))
    return {
        "logits": student,
        "teacher_logits": student + away * rng.standard_normal((size, V)),
    }


def _rows(logits, teacher_logits):
    return {"logits": xp.array(logits), "teacher_logits": xp.array(teacher_logits)}


ROWS = {
    "the student is the teacher": lambda: _rows([[0.5, -1.0, 2.0]], [[0.5, -1.0, 2.0]]),
    "one row equal, one not": lambda: _rows(
        [[0.5, -1.0], [1.0, 0.0]], [[0.5, -1.0], [-2.0, 0.0]]
    ),
    "one token to choose from": lambda: _rows([[0.5], [2.0]], [[-1.0], [2.0]]),
    "the teacher forbids a token": lambda: _rows(
        [[0.0, 0.0, 0.0]], [[0.0, 0.0, -25.0]]
    ),
    "the teacher is certain": lambda: _rows([[1.0, 0.0, -1.0]], [[0.0, 0.0, 20.0]]),
}


def _shares(logits):
    e = [math.exp(z - max(logits)) for z in logits]
    return [x / sum(e) for x in e]


def _blended(student, teacher, beta):
    """One row, by powers of probabilities."""
    q, p = _shares(student), _shares(teacher)
    e = [x ** (1 - beta) * y**beta for x, y in zip(q, p, strict=True)]
    return [x / sum(e) for x in e]


def _blend_by_powers(logits, teacher_logits, *, beta=0.5):
    pairs = zip(logits.tolist(), teacher_logits.tolist(), strict=True)
    return [[math.log(x) for x in _blended(*pair, beta)] for pair in pairs]


def _largest(student, teacher, radius):
    """The largest exponent that the ball admits, by halving."""
    q = _shares(student)

    def inside(beta):
        mu = _blended(student, teacher, beta)
        kl = sum(x * math.log(x / y) for x, y in zip(mu, q, strict=True))
        return kl <= radius * (1 + 1e-14) + 1e-15

    if inside(1.0):
        return 1.0
    low, high = 0.0, 1.0
    while radius > 0 and (low + high) / 2 not in (low, high):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) else (low, middle)
    return low


def _region_by_halving(logits, teacher_logits, *, radius=0.01):
    pairs = list(zip(logits.tolist(), teacher_logits.tolist(), strict=True))
    betas = [_largest(*pair, radius) for pair in pairs]
    rows = [
        [math.log(x) for x in _blended(*pair, beta)]
        for pair, beta in zip(pairs, betas, strict=True)
    ]
    return Blend(xp.array(rows), xp.array(betas))


def _line(step, *, radius=0.01, steps=25):
    return [radius * (steps - k) / steps if k < steps else 0.0 for k in step.tolist()]


def _policies(rng, size):
    """Two tables over the states of a random automaton."""
    V = 5
    children = rng.integers(0, size, (size, V))
    student = rng.standard_normal((size, V))
    teacher = student + 2 * rng.standard_normal((size, V))
    return {
        "student": NextToken(children, student),
        "teacher": NextToken(children, teacher),
    }


def _frequencies(drawn, shape, policy, law):
    """How often each token comes at the first, second and last place, within five standard errors."""
    children, found = policy.children, {"shape": (drawn.shape == shape, True, 0)}
    reach = (xp.arange(len(children)) == 0).astype(float)
    for t in range(shape[1]):
        each = reach[:, None] * law
        if t in (0, 1, shape[1] - 1):
            for v, chance in enumerate(each.sum(0).tolist()):
                share = float((drawn[:, t] == v).mean())
                error = math.sqrt(chance * (1 - chance) / len(drawn))
                found[f"token {v} at {t}"] = (share, chance, 5 * error + 1e-9)
        reach = xp.zeros(len(children))
        for s, row in enumerate(children.tolist()):
            for v, onward in enumerate(row):
                reach[onward] += each[s, v]
    return found


def _of_the_blend(drawn, student, teacher, *, draws=1000, length=4, radius=0.01):
    pairs = zip(student.table.tolist(), teacher.table.tolist(), strict=True)
    law = [_blended(*pair, _largest(*pair, radius)) for pair in pairs]
    return _frequencies(drawn, (draws, length), student, xp.array(law))


def _of_the_list(drawn, student, teacher, *, draws=1000, length=4, top_k=25):
    law = []
    for ours, theirs in zip(
        student.table.tolist(), teacher.table.tolist(), strict=True
    ):
        q, p = _shares(ours), _shares(theirs)
        listed = sorted(range(len(p)), key=lambda v: -p[v])[:top_k]
        off = 1 - sum(q[v] for v in listed)
        law.append([(q[v] if v in listed else 0.0) + off * p[v] for v in range(len(p))])
    return _frequencies(drawn, (draws, length), student, xp.array(law))


ROLLOUTS = {
    "default": {},
    "the student alone": {"radius": 0.0},
    "probe": {"draws": 700, "length": 3, "radius": 0.3},
}
LOG_PROBABILITIES_FAR_APART = {
    "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
}


METHOD = Method(
    key="plyusov2026trust",
    provenance={
        "confirmed": ("loss", "region", "blend", "budget", "skd"),
        "reconstructed": ("gradient",),
    },
    functions=(
        Objective(
            f=opd,
            interface=WITHOUT_TIES,
            wrt="logits",
            settings={
                "default": {},
                "sixty-four": {"top_k": 64},
                "probe": {"top_k": 3},
                "the likeliest": {"top_k": 1},
            },
            limits=(
                Limit(
                    "f_divergences.divergence",
                    {},
                    {"kind": "reverse_kl"},
                    where=_teacher_as_old,
                ),
            ),
            deviations=LISTS,
            refused=LOG_PROBABILITIES_FAR_APART,
        ),
        Estimator(
            f=blend,
            example=_rows_example,
            edges=ROWS,
            settings={
                "default": {},
                "the student": {"beta": 0.0},
                "the teacher": {"beta": 1.0},
                "probe": {"beta": 0.3},
            },
            brute_force=_blend_by_powers,
            refused=LOG_PROBABILITIES_FAR_APART,
        ),
        Estimator(
            f=trust_region_blend,
            example=_rows_example,
            edges=ROWS,
            settings={
                "default": {},
                "the student": {"radius": 0.0},
                "everything": {"radius": 100.0},
                "probe": {"radius": 0.3},
            },
            brute_force=_region_by_halving,
            refused=LOG_PROBABILITIES_FAR_APART,
        ),
        Estimator(
            f=budget,
            example=lambda rng, size: {"step": rng.integers(0, 60, size).astype(float)},
            edges={
                "first, last and after it": lambda: {
                    "step": xp.array([0.0, 25.0, 90.0])
                }
            },
            settings={"default": {}, "probe": {"radius": 0.3, "steps": 40}},
            brute_force=_line,
        ),
        Sampler(
            f=blended_rollout,
            example=_policies,
            edges={},
            settings=ROLLOUTS,
            moments=_of_the_blend,
        ),
        Sampler(
            f=skd_rollout,
            example=_policies,
            edges={},
            settings={
                "default": {},
                "probe": {"draws": 700, "length": 3, "top_k": 2},
            },
            moments=_of_the_list,
        ),
    ),
)
