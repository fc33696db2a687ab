"""What is known of `trref.policy.trpo_improvement`."""

from trref.backend import xp
from trref.catalog import Estimator, Interface, Limit, Method, Objective, Solver
from trref.nn.heads import log_softmax
from trref.policy.trpo_improvement import (
    expected_return,
    lower_bound,
    performance_difference,
    surrogate_return,
    theoretical_policy_iteration,
)
from trref.problems.mdp import TabularMDP, random_mdp


def _example(rng, size):
    mdp = random_mdp(
        rng,
        states=size,
        actions=3,
        gamma=rng.choice((0.5, 0.9)),
        scale=rng.choice((0.05, 1.5)),
    )
    old = rng.standard_normal((size, 3))
    new = old + rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal((size, 3))
    return {"logits": new, "old_logits": old, "mdp": mdp}


def _edge(new, old, reward):
    transition = xp.array([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.0, 1.0]]])
    mdp = TabularMDP(
        transition, xp.array(reward, dtype=float), xp.array([1.0, 0.0]), 0.8
    )
    return {
        "logits": xp.array(new, dtype=float),
        "old_logits": xp.array(old, dtype=float),
        "mdp": mdp,
    }


COMPARISON = Interface(
    "policy_comparison",
    example=_example,
    edges={
        "the same policy": lambda: _edge(
            [[0, 1], [1, 0]], [[0, 1], [1, 0]], [[1, 0], [0, 2]]
        ),
        "nearly deterministic": lambda: _edge(
            [[0, 4], [4, 0]], [[3, 0], [0, 3]], [[1, 0], [0, 2]]
        ),
        "the second action is always better": lambda: _edge(
            [[1, 0], [0, 1]], [[0, 0], [0, 0]], [[0, 1], [0, 3]]
        ),
    },
)
"""``f(logits, old_logits (S A), mdp)``."""


def return_by_summation(logits, old_logits, mdp):
    """Brute force: follow the distribution over states, step by step, until gamma^t is below rounding."""
    policy = xp.exp(log_softmax(logits))
    state, total, discount = mdp.start, 0.0, 1.0
    while discount > 1e-18:
        total += discount * float((state[:, None] * policy * mdp.reward).sum())
        state = xp.einsum("s,sa,sat->t", state, policy, mdp.transition)
        discount *= mdp.gamma
    return total


def bound_by_loops(logits, old_logits, mdp, *, divergence="kl"):
    """Brute force: the sums and maxima written out, with advantages from Bellman's equation iterated."""
    new, old = xp.exp(log_softmax(logits)), xp.exp(log_softmax(old_logits))
    V, visits, state, discount = xp.zeros(len(new)), xp.zeros(len(new)), mdp.start, 1.0
    while discount > 1e-18:
        V = (old * (mdp.reward + mdp.gamma * mdp.transition @ V)).sum(1)
        visits, state = (
            visits + discount * state,
            xp.einsum("s,sa,sat->t", state, old, mdp.transition),
        )
        discount *= mdp.gamma
    A = mdp.reward + mdp.gamma * mdp.transition @ V - V[:, None]
    worst = 0.0
    for p, q in zip(old, new, strict=True):
        far = sum(abs(p - q)) / 2
        worst = max(
            worst, float(far**2 if divergence == "tv" else sum(p * xp.log(p / q)))
        )
    L = mdp.start @ V + sum(visits[s] * new[s] @ A[s] for s in range(len(new)))
    return L - 4 * abs(A).max() * mdp.gamma / (1 - mdp.gamma) ** 2 * worst


def guarantee(result, logits, mdp, **_):
    """Certificate: by how much a return fell, was below its bound, or is not that of the logits; over the scale."""
    scale = float(abs(mdp.reward).max()) / (1 - mdp.gamma) or 1.0
    steps = list(
        zip(result.returns[:-1], result.bounds, result.returns[1:], strict=True)
    )
    final = float(mdp(xp.exp(log_softmax(result.logits))).expected_return)
    return {
        "fall of the return": max(0.0, max(a - b for a, _, b in steps)) / scale,
        "return below its bound": max(0.0, max(m - b for _, m, b in steps)) / scale,
        "bound below the return before": max(0.0, max(a - m for a, m, _ in steps))
        / scale,
        "return misreported": abs(final - result.returns[-1]) / scale,
    }


GUARANTEED = {
    "fall of the return": 1e-12,
    "return below its bound": 1e-12,
    "bound below the return before": 1e-12,
    "return misreported": 1e-12,
}


def at_the_old_policy(inputs):
    """at the old policy"""
    return {**inputs, "logits": inputs["old_logits"]}


METHOD = Method(
    key="schulman2015trust",
    provenance={
        "confirmed": ("difference", "surrogate", "gradient", "tv-bound", "kl-bound"),
        "reconstructed": ("step",),
    },
    functions=(
        Objective(f=expected_return, interface=COMPARISON, wrt="logits"),
        Objective(
            f=surrogate_return,
            interface=COMPARISON,
            wrt="logits",
            limits=(
                Limit(
                    to="trpo_improvement.expected_return",
                    hyper={},
                    where=at_the_old_policy,
                ),
            ),
        ),
        Estimator(
            f=performance_difference,
            interface=COMPARISON,
            brute_force=return_by_summation,
        ),
        Estimator(
            f=lower_bound,
            interface=COMPARISON,
            settings={"default": {}, "probe": {"divergence": "tv"}},
            brute_force=bound_by_loops,
        ),
        Solver(
            f=theoretical_policy_iteration,
            interface=COMPARISON,
            settings={"default": {}, "probe": {"iterations": 2}},
            certificate=guarantee,
            tolerances=GUARANTEED,
            direct=True,  # as many maximisations as are asked for, each in closed form
            agreement=1e-8,
        ),
    ),
)
