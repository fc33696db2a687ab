"""What is known of `trref.policy.parl`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.policy.parl import (
    Hypergradient,
    Parl,
    a_parl,
    hypergradient,
    lower_value,
    upper_objective,
)
from trref.problems.mdp import TabularMDP, random_mdp
from trref.problems.trajectories import all_trajectories


def _problem(rng, size):
    S, A = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    mdp = random_mdp(rng, states=S, actions=A, gamma=0.9, concentration=1.0)
    return {
        "nu": rng.standard_normal(size) / math.sqrt(size),
        "theta": 0.5 * rng.standard_normal((S, A)),
        "features": rng.standard_normal((S, A, size)),
        "true_reward": rng.standard_normal((S, A)),
        "table": all_trajectories(mdp, 3 if S * A == 4 else 2),
    }


def _one_state(theta, nu, reward, horizon):
    """One state with two actions, whose features are the actions."""
    mdp = TabularMDP(xp.ones((1, 2, 1)), xp.zeros((1, 2)), xp.ones(1), 0.5)
    return {
        "nu": xp.array(nu),
        "theta": xp.array([theta]),
        "features": xp.eye(2)[None],
        "true_reward": xp.array([reward]),
        "table": all_trajectories(mdp, horizon),
    }


PROBLEM = Interface(
    "preference_problem",
    example=_problem,
    edges={
        "one step": lambda: _one_state([0.5, -0.25], [1.0, -0.5], [0.5, 2.0], 1),
        "hardly any reward yet": lambda: _one_state(
            [0.5, -0.25], [0.1, -0.05], [0.5, 2.0], 2
        ),
        "the true reward": lambda: _one_state([0.25, 0.5], [0.5, 2.0], [0.5, 2.0], 2),
        "clear preferences": lambda: _one_state(
            [0.5, -0.5], [1.5, -1.5], [3.0, -3.0], 2
        ),
    },
)


def _softmax(theta):
    e = xp.exp(theta - theta.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _walks(theta, table):
    """Each trajectory's chance, states, actions and score, one after the other."""
    p = _softmax(theta)
    for states, actions, chance in zip(
        table.states.tolist(),
        table.actions.tolist(),
        table.chance.tolist(),
        strict=True,
    ):
        score, steps = xp.zeros_like(p), []
        for s, a in zip(states, actions, strict=True):
            chance *= float(p[s, a])
            score = score.copy()
            score[s] -= p[s]
            score[s, a] += 1
            steps.append(score)
        yield chance, states, actions, steps


def _hessians(nu, theta, features, table, regularisation):
    """Both second derivatives of the lower level, trajectory by trajectory."""
    p, P = _softmax(theta), theta.size
    H, cross = -regularisation * xp.eye(P), xp.zeros((len(nu), P))
    for chance, states, actions, steps in _walks(theta, table):
        curve = xp.zeros((P, P))
        for h, (s, a) in enumerate(zip(states, actions, strict=True)):
            rows = slice(s * p.shape[1], (s + 1) * p.shape[1])
            curve = curve.copy()
            curve[rows, rows] -= xp.diag(p[s]) - xp.outer(p[s], p[s])
            S, w = steps[h].ravel(), chance * table.gamma**h
            H += w * float(features[s, a] @ nu) * (xp.outer(S, S) + curve)
            cross += w * xp.outer(features[s, a], S)
    return H, cross


def _upper_by_pairs(nu, theta, features, true_reward, table):
    """The two derivatives of the upper level, and its value, pair by pair."""
    G, d_nu, d_theta = 0.0, xp.zeros_like(nu), xp.zeros(theta.size)
    walks = [
        (
            chance,
            sum(features[s, a] for s, a in zip(states, actions, strict=True)),
            sum(float(true_reward[s, a]) for s, a in zip(states, actions, strict=True)),
            steps[-1].ravel(),
        )
        for chance, states, actions, steps in _walks(theta, table)
    ]
    for c0, f0, R0, s0 in walks:
        for c1, f1, R1, s1 in walks:
            gap, y = float((f0 - f1) @ nu), 1 / (1 + math.exp(R1 - R0))
            q = 1 / (1 + math.exp(-gap))
            U = y * math.log(q) + (1 - y) * math.log1p(-q)
            G += c0 * c1 * U
            d_nu = d_nu + c0 * c1 * (y - q) * (f0 - f1)
            d_theta = d_theta + c0 * c1 * U * (s0 + s1)
    return G, d_nu, d_theta


def _hypergradient_by_loops(
    nu, theta, features, true_reward, table, *, regularisation=0.3
):
    _, d_nu, d_theta = _upper_by_pairs(nu, theta, features, true_reward, table)
    H, cross = _hessians(nu, theta, features, table, regularisation)
    implicit = -cross @ xp.linalg.inv(H) @ d_theta
    return Hypergradient(d_nu + implicit, d_nu, implicit)


def _a_parl_by_loops(
    nu,
    theta,
    features,
    true_reward,
    table,
    *,
    regularisation=0.3,
    lr=0.5,
    inner_lr=0.5,
    inner_steps=20,
    steps=10,
):
    for _ in range(steps):
        for _ in range(inner_steps):
            slope = -regularisation * theta
            for chance, states, actions, each in _walks(theta, table):
                for h, (s, a) in enumerate(zip(states, actions, strict=True)):
                    r = float(features[s, a] @ nu)
                    slope = slope + chance * table.gamma**h * r * each[h]
            theta = theta + inner_lr * slope
        whole = _hypergradient_by_loops(
            nu, theta, features, true_reward, table, regularisation=regularisation
        )
        nu = nu + lr * whole.total
    return Parl(nu, theta, _upper_by_pairs(nu, theta, features, true_reward, table)[0])


def _direct_alone(nu, theta, features, true_reward, table, *, regularisation=0.3):
    whole = hypergradient(
        nu, theta, features, true_reward, table, regularisation=regularisation
    )
    return Hypergradient(whole.direct, whole.direct, 0 * whole.direct)


DIRECT_ALONE = Deviation(
    "the direct term alone",
    _direct_alone,
    seen_in="alternating preference-based learning, such as the reward models of RLHF trainers (TRL's RewardTrainer)",
    computes="the gradient of the likelihood with the data held fixed",
)


METHOD = Method(
    key="chakraborty2023parl",
    provenance="partly",
    functions=(
        Objective(
            f=lower_value,
            interface=PROBLEM,
            wrt="theta",
            settings={"default": {}, "probe": {"regularisation": 0.7}},
        ),
        Objective(f=upper_objective, interface=PROBLEM, wrt=("nu", "theta")),
        Estimator(
            f=hypergradient,
            interface=PROBLEM,
            settings={"default": {}, "probe": {"regularisation": 0.7}},
            brute_force=_hypergradient_by_loops,
            deviations=(DIRECT_ALONE,),
        ),
        Estimator(
            f=a_parl,
            interface=PROBLEM,
            sizes=(4, 8),
            settings={
                "default": {"steps": 2, "inner_steps": 3},
                "probe": {
                    "steps": 3,
                    "inner_steps": 2,
                    "lr": 0.3,
                    "inner_lr": 0.2,
                    "regularisation": 0.7,
                },
            },
            brute_force=_a_parl_by_loops,
        ),
    ),
)
