"""What is known of `trref.policy.counterpol`."""

import dataclasses

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective, Solver
from trref.catalog.policy.interfaces import SURROGATE
from trref.catalog.policy.trpo_improvement import COMPARISON, return_by_summation
from trref.nn.heads import log_softmax
from trref.policy.counterpol import (
    Explanation,
    counterpol,
    counterpol_loss,
    explanation,
    minimal_change,
    sampled_loss,
)
from trref.problems.mdp import TabularMDP, random_mdp


def _aimed(make, gain):
    """With a target that is the old policy's return and `gain` times the scale of the rewards."""

    def inputs(*arguments):
        batch = make(*arguments)
        mdp = batch["mdp"]
        J = mdp(xp.exp(log_softmax(batch["old_logits"]))).expected_return
        scale = float(abs(mdp.reward).max())
        return batch | {"target": xp.asarray(J + gain * scale)}

    return inputs


AIMED = dataclasses.replace(
    COMPARISON,
    name="policy_comparison with a target",
    example=_aimed(COMPARISON.example, 0.3),
    edges={
        **{n: _aimed(make, 0.2) for n, make in COMPARISON.edges.items()},
        "downwards": _aimed(COMPARISON.edges["nearly deterministic"], -0.2),
    },
)


def _start(make):
    """The policy to be explained alone."""

    def inputs(*arguments):
        batch = make(*arguments)
        return {
            "logits": batch["old_logits"],
            **{n: batch[n] for n in ("mdp", "target")},
        }

    return inputs


def _short_sighted(rng, size):
    """A process whose returns are of the size of its rewards, so that one step length fits all."""
    mdp = random_mdp(rng, states=size, actions=3, gamma=0.6)
    logits = rng.standard_normal((size, 3))
    J = mdp(xp.exp(log_softmax(logits))).expected_return
    gain = float(rng.choice((-0.2, 0.2)))
    return {"logits": logits, "mdp": mdp, "target": xp.asarray(J + gain)}


def _visits(policy, mdp):
    """Normalised visits, followed step by step."""
    state, total, weight = mdp.start, 0 * mdp.start, 1 - mdp.gamma
    while weight > 1e-18:
        total = total + weight * state
        state = xp.einsum("s,sa,sat->t", state, policy, mdp.transition)
        weight *= mdp.gamma
    return total


def _explained(logits, old_logits, mdp):
    old, new = xp.exp(log_softmax(old_logits)), xp.exp(log_softmax(logits))
    kl = xp.array(
        [float((p * xp.log(p / q)).sum()) for p, q in zip(old, new, strict=True)]
    )
    return Explanation(kl, _visits(old, mdp) * kl, new - old)


def _one_action(
    logits,
    old_logits,
    mdp,
    target,
    *,
    scale=1.0,
    return_weight=0.1,
    kl_weight=0.9,
    direction="ref_new",
):
    """The divergence in each state is one term, of the likeliest actions."""
    L, dL = counterpol_loss(
        logits,
        old_logits,
        mdp,
        target,
        scale=scale,
        return_weight=return_weight,
        kl_weight=0.0,
    )
    log_p, ref = log_softmax(logits), xp.exp(log_softmax(old_logits))
    d = (1 - mdp.gamma) * mdp(ref).visits * ref.max(1)
    own = (xp.arange(logits.shape[1]) == log_p.argmax(1)[:, None]).astype(log_p.dtype)
    L = L - kl_weight * (d * (own * log_p).sum(1)).sum()
    return L, dL - kl_weight * d[:, None] * (own - xp.exp(log_p))


ONE_ACTION = Deviation(
    "one term in the place of the divergence",
    _one_action,
    seen_in="shripaddeshmukh/Counterpol code/counterpol_lunarlander.ipynb",
    computes="minus the reference's probability of its likeliest action times the log-probability of the policy's own",
)


def _sampled(make):
    def inputs(*arguments):
        batch = make(*arguments)
        old, A = batch["old_log_prob"], batch["advantage"]
        return {
            "log_prob": batch["log_prob"],
            "ref_log_prob": old,
            "q_value": 3 + A,
            "mean_return": xp.array(2.5),
            "target": xp.array(4.5),
        }

    return inputs


def _near(result, logits, mdp, target, *, tolerance=0.01, **_):
    """How far the return of the logits is from its target, over the tolerance, and from what is reported."""
    J = return_by_summation(result.logits, logits, mdp)
    return {
        "distance over the tolerance": abs(J - float(target)) / tolerance,
        "return misreported": abs(J - result.returns[-1]) / max(1.0, abs(J)),
        "steps misreported": abs(len(result.returns) - 1 - result.iterations),
    }


def _least(result, logits, mdp, target, **_):
    """Errors of the return, of the fixed point, and of the divergence that is reported."""
    first, new = xp.exp(log_softmax(logits)), xp.exp(result.log_prob)
    _, advantage, visits, J = mdp(new)
    d = _visits(first, mdp)
    J0 = float(mdp(first).expected_return)
    slope = d[:, None] * (new - first) + result.multiplier * (
        visits[:, None] * new * advantage
    )
    kl = (d * (first * (xp.log(first) - result.log_prob)).sum(1)).sum()
    return {
        "error of the return": abs(float(J - target))
        / max(abs(float(target)), abs(J0)),
        "not stationary": float(abs(slope).max()),
        "not normalised": float(abs(new.sum(1) - 1).max()),
        "divergence misreported": abs(float(kl - result.divergence)),
        "return misreported": abs(float(J) - result.returns[-1]) / max(1.0, abs(J0)),
    }


def _beyond():
    """A process of rewards of at most 1, and a return that none can have."""
    mdp = TabularMDP(
        xp.array([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.0, 1.0]]]),
        xp.array([[1.0, 0.0], [0.0, 0.5]]),
        xp.array([1.0, 0.0]),
        0.5,
    )
    return {
        "logits": xp.array([[0.0, 1.0], [1.0, 0.0]]),
        "mdp": mdp,
        "target": xp.array(9.0),
    }


def _unreached(result, logits, mdp, target, **how):
    figures = _near(result, logits, mdp, target, **how)
    return {n: (figures[n], 1e-9) for n in ("return misreported", "steps misreported")}


def _unsolved(result, logits, mdp, target, **_):
    figures = _least(result, logits, mdp, target)
    names = ("not normalised", "divergence misreported")
    return {n: (figures[n], 1e-9) for n in names}


def _at_the_reference(inputs):
    """the reference is the policy"""
    return {**inputs, "old_logits": inputs["logits"]}


WEIGHTS = {
    "default": {},
    "the other direction": {"direction": "new_ref"},
    "probe": {
        "scale": 2.5,
        "return_weight": 0.7,
        "kl_weight": 0.3,
        "direction": "new_ref",
    },
}
METHOD = Method(
    key="deshmukh2023counterfactual",
    provenance={
        "confirmed": ("loss", "sampled", "pivot"),
        "reconstructed": ("gradient", "minimal", "explanation"),
    },
    functions=(
        Objective(
            f=counterpol_loss,
            interface=AIMED,
            wrt="logits",
            settings=WEIGHTS,
            deviations=(ONE_ACTION,),
            limits=(
                Limit(
                    "counterpol.counterpol_loss",
                    {},
                    {"direction": "new_ref"},
                    where=_at_the_reference,
                ),
            ),
        ),
        Objective(
            f=sampled_loss,
            example=_sampled(SURROGATE.example),
            edges={n: _sampled(make) for n, make in SURROGATE.edges.items()},
            wrt="log_prob",
            settings={
                "default": {},
                "probe": {"scale": 2.5, "return_weight": 0.7, "kl_weight": 0.3},
            },
        ),
        Solver(
            f=counterpol,
            example=_short_sighted,
            edges={
                "near": lambda: {**_beyond(), "target": xp.array(0.5)},
            },
            sizes=(4, 8),
            settings={
                "default": {"return_weight": 1.0},
                "probe": {
                    "scale": 2.5,
                    "return_weight": 0.7,
                    "kl_weight": 0.3,
                    "every": 20,
                    "lr": 0.8,
                    "tolerance": 0.02,
                    "max_iter": 4000,
                },
            },
            certificate=_near,
            tolerances={
                "distance over the tolerance": 1 + 1e-9,
                "return misreported": 1e-9,
                "steps misreported": 0.0,
            },
            failures={"out of reach": lambda: (_beyond(), {"max_iter": 5})},
            remains=_unreached,
        ),
        Solver(
            f=minimal_change,
            example=_start(AIMED.example),
            edges={
                **{n: _start(make) for n, make in AIMED.edges.items()},
                "at the target": _start(
                    _aimed(COMPARISON.edges["nearly deterministic"], 0.0)
                ),
            },
            sizes=(4, 8),
            settings={"default": {}, "probe": {"tolerance": 1e-7, "max_iter": 150}},
            certificate=_least,
            tolerances={
                "error of the return": 1e-6,
                "not stationary": 1e-6,
                "not normalised": 1e-12,
                "divergence misreported": 1e-12,
                "return misreported": 1e-9,
            },
            agreement=1e-4,
            prescribed=False,
            failures={"out of reach": lambda: (_beyond(), {"max_iter": 20})},
            remains=_unsolved,
        ),
        Estimator(f=explanation, interface=COMPARISON, brute_force=_explained),
    ),
)
