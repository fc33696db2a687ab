"""What is known of `trref.policy.spo`."""

import itertools

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.policy.interfaces import SURROGATE
from trref.catalog.policy.trpo_improvement import COMPARISON
from trref.nn.heads import log_softmax
from trref.policy.spo import penalised_surrogate, return_bound, tabular_optimum


def _standardised(log_prob, old_log_prob, advantage, *, radius=0.2):
    centred = advantage - advantage.mean()
    spread = xp.sqrt((centred**2).sum() / max(len(advantage) - 1, 1)) + 1e-8
    A = centred / spread if len(advantage) > 1 else advantage
    return penalised_surrogate(log_prob, old_log_prob, A, radius=radius)


STANDARDISED = Deviation(
    "advantages standardised in the minibatch",
    _standardised,
    seen_in="Simple-Policy-Optimization (MyRepositories-hub) mujoco/trainer.py",
    computes="the loss of (A - mean) / (std + 1e-8) with ddof 1; a minibatch of one is left alone",
    documented=True,
)


def _one_token_each(inputs):
    """each sample is an answer of one token"""
    column = {n: inputs[n][:, None] for n in ("log_prob", "old_log_prob")}
    mask = xp.ones_like(column["log_prob"])
    return inputs, column | {"advantage": inputs["advantage"], "mask": mask}


def _bound_by_loops(logits, old_logits, mdp):
    """The sums written out, with values and visits followed step by step."""
    new, old = xp.exp(log_softmax(logits)), xp.exp(log_softmax(old_logits))
    V, state, discount = xp.zeros(len(new)), mdp.start, 1.0
    visits = xp.zeros(len(new))
    while discount > 1e-18:
        V = (old * (mdp.reward + mdp.gamma * mdp.transition @ V)).sum(1)
        visits = visits + discount * state
        state = xp.einsum("s,sa,sat->t", state, old, mdp.transition)
        discount *= mdp.gamma
    Q = mdp.reward + mdp.gamma * mdp.transition @ V
    gains = [float(new[s] @ (Q[s] - V[s])) for s in range(len(new))]
    far = [float(abs(new[s] - old[s]).sum()) / 2 for s in range(len(new))]
    worst, g = max(map(abs, gains)), mdp.gamma
    each = (
        n * (gain - 2 * worst * g / (1 - g) * tv)
        for n, gain, tv in zip(visits.tolist(), gains, far, strict=True)
    )
    return float(mdp.start @ V) + sum(each)


def _row_by_supports(p, A, radius):
    """Try every set of actions that keep a probability, solve for the multiplier, and keep the set that is optimal."""
    moved = [a for a in range(len(A)) if A[a]]
    sign = {a: 1.0 if A[a] > 0 else -1.0 for a in moved}
    idle = sum(p[a] for a in range(len(A)) if not A[a])
    at_the_top = {a: max(0.0, 1 + radius * sign[a]) for a in moved}
    left = 1 - sum(p[a] * at_the_top[a] for a in moved)
    if idle and left >= 0:  # nothing holds the others up
        return [at_the_top.get(a, left / idle) for a in range(len(A))]
    for number in range(len(moved), 0, -1):
        for kept in itertools.combinations(moved, number):
            surplus = sum(p[a] * (1 + radius * sign[a]) for a in kept) - 1
            mu = surplus / (radius * sum(p[a] / abs(A[a]) for a in kept))
            each = {a: 1 + radius * (sign[a] - mu / abs(A[a])) for a in moved}
            inside = all((each[a] >= 0) == (a in kept) for a in moved)
            if inside and abs(sum(p[a] * each[a] for a in kept) - 1) < 1e-9:
                return [each[a] if a in kept else 0.0 for a in range(len(A))]
    raise AssertionError("no set of actions is optimal")


def _optimum_by_supports(old_logits, advantage, *, radius=0.2):
    rows = zip(
        xp.exp(log_softmax(old_logits)).tolist(), advantage.tolist(), strict=True
    )
    return [_row_by_supports(p, A, radius) for p, A in rows]


def _states(rng, size):
    K = int(rng.integers(2, 5))
    return {
        "old_logits": float(rng.choice((0.3, 1.5))) * rng.standard_normal((size, K)),
        "advantage": float(rng.choice((0.1, 1.0, 9.0)))
        * rng.standard_normal((size, K)),
    }


def _state(old_logits, advantage):
    return {"old_logits": xp.array(old_logits), "advantage": xp.array(advantage)}


METHOD = Method(
    key="xie2024simple",
    provenance={
        "confirmed": ("objective",),
        "partly": ("bound",),
        "reconstructed": ("gradient", "optimum"),
    },
    functions=(
        Objective(
            f=penalised_surrogate,
            interface=SURROGATE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"radius": 0.35}},
            limits=(
                Limit("ppo.unclipped_surrogate", {"radius": 1e14}),
                Limit(
                    "drpo.spo",
                    {"radius": 0.3},
                    {"radius": 0.3, "max_length": 1.0},
                    where=_one_token_each,
                ),
            ),
            deviations=(STANDARDISED,),
        ),
        Estimator(
            f=return_bound,
            interface=COMPARISON,
            brute_force=_bound_by_loops,
        ),
        Estimator(
            f=tabular_optimum,
            example=_states,
            edges={
                "equal advantages": lambda: _state(
                    [[0.5, -1.0, 0.2]], [[0.7, 0.7, 0.7]]
                ),
                "no advantages": lambda: _state([[0.5, -1.0]], [[0.0, 0.0]]),
                "an action without an advantage": lambda: _state(
                    [[0.5, -1.0, 0.2], [0.0, 0.0, 0.0]],
                    [[1.0, 0.0, -2.0], [1.0, 0.0, -0.5]],
                ),
                "it gets nothing": lambda: _state(
                    [[2.0, -4.0, 0.0]], [[1.0, 0.0, -1.0]]
                ),
                "next to nothing takes what is left": lambda: _state(
                    [[0.5, -1.0, 0.2]], [[-1.0, -2.0, -1e-200]]
                ),
                "next to nothing gets nothing": lambda: _state(
                    [[2.0, 1.0, -4.0]], [[1.0, 2.0, 1e-200]]
                ),
                "all of them small": lambda: _state(
                    [[0.5, -1.0, 0.2]], [[1e-17, -2e-17, 0.5e-17]]
                ),
                "small beside the others": lambda: _state(
                    [[0.5, -1.0, 0.2]], [[-1.0, -2.0, -1e-12]]
                ),
                "an action that loses all": lambda: _state(
                    [[0.0, 0.0, 0.0]], [[0.01, 1.0, 2.0]]
                ),
            },
            settings={
                "default": {},
                "probe": {"radius": 0.35},
                "wide": {"radius": 1.5},
            },
            brute_force=_optimum_by_supports,
        ),
    ),
)
