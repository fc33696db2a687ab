"""What is known of `trref.tokens.troll_projection`."""

from trref.backend import xp
from trref.catalog import Estimator, Method, Transform
from trref.nn.heads import log_softmax
from trref.tokens.troll_projection import (
    multiplier,
    project_jvp,
    project_kl,
    project_vjp,
)


def _multiplier_by_bisection(logits, old_logits, *, radius=0.05):
    log_p, log_q = log_softmax(logits), log_softmax(old_logits)

    def excess(share, i):
        s = log_softmax(log_q[i] + share * (log_p - log_q)[i])
        return float((xp.exp(s) * (s - log_q[i])).sum()) - radius

    result = []
    for i in range(len(logits)):
        low, high = 0.0, 1.0
        while excess(1.0, i) > 1e-13 and (low + high) / 2 not in (low, high):
            middle = (low + high) / 2
            low, high = (low, middle) if excess(middle, i) > 0 else (middle, high)
        result.append(1 / high - 1)
    return result


def _outside(result, logits, old_logits):
    """How far the projections are outside the largest ball of the settings."""
    kl = (xp.exp(result) * (result - log_softmax(old_logits))).sum(-1)
    return xp.maximum(kl.max() - 0.3, 0)


def _rows(rng, size):
    old = float(rng.choice((0.5, 1.5, 4.0))) * rng.standard_normal((size, 6))
    return {
        "logits": old
        + float(rng.choice((0.05, 0.4, 1.5))) * rng.standard_normal((size, 6)),
        "old_logits": old,
    }


def _edge(logits, old_logits):
    return {"logits": xp.array(logits), "old_logits": xp.array(old_logits)}


EDGES = {
    "on-policy": lambda: _edge([[0.5, -1.0, 2.0]], [[0.5, -1.0, 2.0]]),
    "one token to choose from": lambda: _edge([[0.5], [2.0]], [[-1.0], [2.0]]),
    "nearly certain": lambda: _edge(
        [[12.0, 0.0, -3.0], [0.0, 11.0, 1.0]], [[0.0, 0.5, -3.0], [11.0, 0.0, 1.0]]
    ),
    "a rare token risen by 1e11": lambda: _edge([[0.0, 0.0, 3.0]], [[0.0, 0.0, -22.0]]),
    "far outside": lambda: _edge([[9.0, 0.0, 0.0, -9.0]], [[-5.0, 0.0, 0.0, 5.0]]),
}


SETTINGS = {"default": {}, "tight": {"radius": 1e-3}, "probe": {"radius": 0.3}}


LOG_PROBABILITIES_FAR_APART = {
    "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
}


METHOD = Method(
    key="becker2025troll",
    provenance={
        "confirmed": ("problem", "dual"),
        "reconstructed": ("root", "gradient"),
    },
    functions=(
        Transform(
            f=project_kl,
            example=_rows,
            edges=EDGES,
            wrt="logits",
            settings=SETTINGS,
            jvp=project_jvp,
            vjp=project_vjp,
            feasible=_outside,
            refused=LOG_PROBABILITIES_FAR_APART,
        ),
        Estimator(
            f=multiplier,
            example=_rows,
            edges=EDGES,
            settings=SETTINGS,
            brute_force=_multiplier_by_bisection,
            refused=LOG_PROBABILITIES_FAR_APART,
        ),
    ),
)
