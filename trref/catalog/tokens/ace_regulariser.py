"""What is known of `trref.tokens.ace_regulariser`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Method, Objective
from trref.nn.heads import log_softmax
from trref.tokens.ace_regulariser import decomposition, selective_regulariser


def _example(rng, size):
    reference = float(rng.choice((0.3, 1.0, 3.0))) * rng.standard_normal((size, 6))
    logits = reference + float(rng.choice((0.05, 0.4, 1.5))) * rng.standard_normal(
        (size, 6)
    )
    return {
        "logits": logits,
        "ref_logits": reference,
        "wrong": (rng.random((size, 6)) < 0.6).astype(float),
    }


def _edge(step, wrong):
    reference = xp.array([[0.5, -0.25, 1.0], [0.0, 2.0, -1.0]])
    return {
        "logits": reference + xp.array(step),
        "ref_logits": reference,
        "wrong": xp.array(wrong, dtype=float),
    }


EDGES = {
    "the reference itself": lambda: _edge([0.0, 0.0, 0.0], [[1, 0, 1], [0, 1, 1]]),
    "nothing wrong": lambda: _edge([0.5, -0.5, 0.0], [[0, 0, 0], [0, 0, 0]]),
    "everything wrong": lambda: _edge([0.5, -0.5, 0.0], [[1, 1, 1], [1, 1, 1]]),
    "certain of a wrong answer": lambda: _edge(
        [5.0, 0.0, -1.0], [[1, 0, 0], [1, 0, 1]]
    ),
    "certain of a right answer": lambda: _edge(
        [5.0, 0.0, -1.0], [[0, 1, 1], [0, 1, 1]]
    ),
}


def _decomposition_by_answers(logits, ref_logits, wrong, *, length=1.0):
    log_p, log_q = log_softmax(logits), log_softmax(ref_logits)
    parts = xp.zeros((3, *logits.shape))
    for n in range(logits.shape[0]):
        for y in range(logits.shape[1]):
            c = float(log_p[n, y] - log_q[n, y]) / length
            softplus, slope = (
                max(c, 0.0) + math.log1p(math.exp(-abs(c))),
                1 / (1 + math.exp(-c)) / length,
            )
            score = -xp.exp(log_p[n])
            score[y] += 1
            weights = xp.array([-softplus, softplus + slope, slope])
            parts[:, n] += (
                math.exp(log_p[n, y]) * float(wrong[n, y]) * weights[:, None] * score
            )
    return parts


LENGTHS = {"default": {}, "probe": {"length": 7.5}}
METHOD = Method(
    key="xu2026overconfident",
    provenance="partly",
    functions=(
        Objective(
            f=selective_regulariser,
            example=_example,
            edges=EDGES,
            wrt="logits",
            settings=LENGTHS,
        ),
        Estimator(
            f=decomposition,
            example=_example,
            edges=EDGES,
            settings=LENGTHS,
            brute_force=_decomposition_by_answers,
        ),
    ),
)
