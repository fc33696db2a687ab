"""What is known of `trref.policy.gae`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method
from trref.nn.heads import log_softmax
from trref.policy.gae import (
    gae,
    lambda_return,
    policy_gradient_estimate,
    response,
    td_residuals,
)
from trref.problems.mdp import TabularMDP, random_mdp

# ---- segments of episodes


def _segment_example(rng, size):
    shape = (size, 3) if rng.random() < 0.5 else (size,)
    scale = rng.choice((0.05, 0.4, 1.5))
    terminated = (rng.random(shape) < 0.15).astype(float)
    truncated = (1 - terminated) * (rng.random(shape) < 0.15)
    reward, value, final = (
        scale * rng.standard_normal(shape),
        rng.standard_normal(shape),
        rng.standard_normal(shape),
    )
    return _segment(reward, value, final, terminated, truncated)


def _segment(reward, value, final, terminated, truncated):
    """Inside an episode the next value is the next row's; where it ends it is that of its final state."""
    inside = 1 - xp.maximum(terminated, truncated)
    inside[-1] = 0
    next_value = xp.where(inside == 1, xp.concatenate([value[1:], value[:1]]), final)
    return {
        "reward": reward,
        "value": value,
        "next_value": next_value,
        "terminated": terminated,
        "truncated": truncated,
    }


def _segment_edge(terminated, truncated):
    t = xp.arange(1.0, len(terminated) + 1)
    return _segment(
        1 / t,
        t - 2,
        0.5 * t,
        xp.array(terminated, dtype=float),
        xp.array(truncated, dtype=float),
    )


SEGMENT = Interface(
    "segment",
    example=_segment_example,
    edges={
        "ends on the last step": lambda: _segment_edge([0, 0, 0, 1], [0, 0, 0, 0]),
        "cut on the last step": lambda: _segment_edge([0, 0, 0, 0], [0, 0, 0, 1]),
        "every step ends": lambda: _segment_edge([1, 1, 1], [0, 0, 0]),
        "every step is cut": lambda: _segment_edge([0, 0, 0], [1, 1, 1]),
        "terminal at the time limit": lambda: _segment_edge([0, 1, 0], [0, 1, 0]),
        "one step": lambda: _segment_edge([0], [0]),
    },
)
"""``f(reward, value, next_value, terminated, truncated (T or T N), *, gamma, lam)``."""


def _no_value_function(inputs):
    """no value function"""
    return {**inputs, "value": xp.zeros_like(inputs["value"])}


# ---- brute force


def weighted_estimates(
    reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95
):
    """The weighted average of k-step estimates, written out: sums instead of the recursion."""
    if reward.ndim == 2:
        columns = [
            weighted_estimates(
                *(x[:, i] for x in (reward, value, next_value, terminated, truncated)),
                gamma=gamma,
                lam=lam,
            )
            for i in range(reward.shape[1])
        ]
        return xp.stack(columns, axis=1)
    T = len(reward)
    result = xp.zeros(T)
    for t in range(T):
        end = next((s for s in range(t, T) if terminated[s] or truncated[s]), T - 1)
        n = end - t + 1
        for k in range(1, n + 1):
            last = t + k - 1
            estimate = sum(gamma**l * reward[t + l] for l in range(k)) - value[t]
            bootstrap = (
                (1 - terminated[last]) * next_value[last] if k == n else value[t + k]
            )
            estimate += gamma**k * bootstrap
            weight = lam ** (n - 1) if k == n else (1 - lam) * lam ** (k - 1)
            result[t] += weight * estimate
    return result


def recursive_return(
    reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95
):
    """The recursion of lambda-returns: G_t = r_t + gamma ((1 - lam) V(s_{t+1}) + lam G_{t+1}) inside an episode."""
    G = xp.zeros_like(reward)
    for t in range(len(reward) - 1, -1, -1):
        ended = (
            xp.maximum(terminated[t], truncated[t])
            if t + 1 < len(reward)
            else xp.ones_like(reward[t])
        )
        later = G[t + 1] if t + 1 < len(reward) else 0
        bootstrap = (1 - terminated[t]) * next_value[t]
        G[t] = reward[t] + gamma * (
            ended * bootstrap + (1 - ended) * ((1 - lam) * next_value[t] + lam * later)
        )
    return G


def residuals_by_rows(reward, value, next_value, terminated, *, gamma=0.99):
    rows = zip(reward, value, next_value, terminated, strict=True)
    return xp.stack([r - v + xp.where(d == 1, 0, gamma * n) for r, v, n, d in rows])


def gradient_by_loops(score, advantage, *, discount=1.0):
    T, N = advantage.shape
    return (
        sum(
            discount**t * advantage[t, n] * score[t, n]
            for t in range(T)
            for n in range(N)
        )
        / N
    )


def response_by_walking(action_prob, value, mdp, *, steps=10):
    """Two distributions over state and action, with and without the first action given, step by step."""
    S, A = action_prob.shape
    shaped = mdp.reward + mdp.gamma * mdp.transition @ value - value[:, None]
    result = xp.zeros((steps, S, A))
    for s in range(S):
        for a in range(A):
            given, free = xp.zeros((S, A)), xp.zeros((S, A))
            given[s, a], free[s] = 1.0, action_prob[s]
            for step in range(steps):
                result[step, s, a] = ((given - free) * shaped).sum()
                given, free = (
                    xp.einsum("sa,sat->t", p, mdp.transition)[:, None] * action_prob
                    for p in (given, free)
                )
    return result


# ---- scores, and decision processes


def _score_example(rng, size):
    score = rng.standard_normal((size, 3, 4))
    return {
        "score": score,
        "advantage": rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal((size, 3)),
    }


def _response_example(rng, size):
    mdp = random_mdp(
        rng,
        states=size,
        actions=3,
        gamma=rng.choice((0.5, 0.9)),
        scale=rng.choice((0.05, 1.5)),
    )
    action_prob = xp.exp(
        log_softmax(rng.choice((0.3, 3.0)) * rng.standard_normal((size, 3)))
    )
    return {
        "action_prob": action_prob,
        "value": rng.choice((0.0, 1.0)) * rng.standard_normal(size),
        "mdp": mdp,
    }


def _a_chain(action_prob, value):
    """Three states in a row; the first action goes on, the second stays; only leaving the second one earns."""
    transition = xp.zeros((3, 2, 3))
    transition[[0, 1, 2], 0, [1, 2, 2]] = transition[[0, 1, 2], 1, [0, 1, 2]] = 1
    reward = xp.array([[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    mdp = TabularMDP(transition, reward, xp.array([1.0, 0.0, 0.0]), 0.5)
    return {
        "action_prob": xp.array(action_prob, dtype=float),
        "value": xp.array(value, dtype=float),
        "mdp": mdp,
    }


# ---- deviations


def _truncation_as_termination(
    reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95
):
    ended = xp.maximum(terminated, truncated)
    return gae(reward, value, next_value, ended, truncated, gamma=gamma, lam=lam)


def _bootstraps_the_last_step(
    reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95
):
    last = xp.arange(len(reward)) == len(reward) - 1
    terminated = xp.where(last.reshape(-1, *[1] * (reward.ndim - 1)), 0, terminated)
    return gae(reward, value, next_value, terminated, truncated, gamma=gamma, lam=lam)


def _flags_of_the_next_row(
    reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95
):
    terminated, truncated = (
        xp.concatenate([f[1:], f[-1:]]) for f in (terminated, truncated)
    )
    return gae(reward, value, next_value, terminated, truncated, gamma=gamma, lam=lam)


def _across_truncations(
    reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95
):
    none = xp.zeros_like(truncated)
    return gae(reward, value, next_value, terminated, none, gamma=gamma, lam=lam)


def _own_value_at_truncations(
    reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95
):
    next_value = xp.where((truncated == 1) & (terminated == 0), value, next_value)
    return gae(reward, value, next_value, terminated, truncated, gamma=gamma, lam=lam)


def _rewards_to_go(
    reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95
):
    return lambda_return(
        reward, value, next_value, terminated, truncated, gamma=gamma, lam=1.0
    )


FLAGS = (
    Deviation(
        "truncation treated as termination",
        _truncation_as_termination,
        seen_in="CleanRL ppo_continuous_action.py, openai/baselines ppo2/runner.py",
        computes="no bootstrap from the value of the state in which a time limit stopped the episode",
    ),
    Deviation(
        "bootstrap from a terminal state at the end of the segment",
        _bootstraps_the_last_step,
        seen_in="Spinning Up pytorch/ppo/ppo.py (its condition is: time limit, or end of the epoch); its TRPO is right",
        computes="the value of the next state even where the last step of the segment terminated",
    ),
    Deviation(
        "flags read one row too late",
        _flags_of_the_next_row,
        seen_in="code after openai/baselines, CleanRL or Stable-Baselines3, which store 'an episode starts here' and"
        " read row t+1, given flags that say 'this transition ended it'",
        computes="the ends of episodes one step too early",
    ),
    Deviation(
        "the recursion runs on across truncations",
        _across_truncations,
        seen_in="skrl 2.1.0 skrl/agents/torch/ppo/ppo.py, time_limit_bootstrap=False, its default (issue 449)",
        computes="advantages of one episode that go on into the next where a time limit lies between the two",
    ),
    Deviation(
        "bootstrap from the own state's value at a truncation",
        _own_value_at_truncations,
        seen_in="rsl_rl rsl_rl/algorithms/ppo.py, which adds gamma V of the state before a time-out to the reward",
        computes="the value of the state that was left in the place of that of the state in which the time ran out",
    ),
)
RETURNS = (
    Deviation(
        "discounted rewards-to-go as value targets",
        _rewards_to_go,
        seen_in="Spinning Up pytorch/ppo/ppo.py and tf1/trpo; also the paper's own choice for its value function",
        computes="sums of rewards with a bootstrap where an episode was cut: lambda is 1 whatever the advantages have",
        documented=True,
    ),
)

PROBE = {"gamma": 0.9, "lam": 0.6}

METHOD = Method(
    key="schulman2015high",
    provenance={
        "confirmed": ("residual", "recursion", "return", "gradient"),
        "partly": ("response",),
    },
    functions=(
        Estimator(
            f=td_residuals,
            interface=SEGMENT,
            settings={"default": {}, "probe": {"gamma": 0.9}},
            brute_force=residuals_by_rows,
        ),
        Estimator(
            f=gae,
            interface=SEGMENT,
            settings={
                "default": {},
                "one step": {"lam": 0.0},
                "Monte Carlo": {"lam": 1.0},
                "undiscounted": {"gamma": 1.0},
                "probe": PROBE,
            },
            limits=(Limit(to="gae.td_residuals", hyper={"lam": 0.0}),),
            deviations=FLAGS,
            brute_force=weighted_estimates,
        ),
        Estimator(
            f=lambda_return,
            interface=SEGMENT,
            settings={"default": {}, "probe": PROBE},
            limits=(Limit(to="gae.gae", hyper={}, where=_no_value_function),),
            deviations=RETURNS,
            brute_force=recursive_return,
        ),
        Estimator(
            f=policy_gradient_estimate,
            example=_score_example,
            edges={
                "one step": lambda: {
                    "score": xp.ones((1, 1, 2)),
                    "advantage": xp.array([[-0.5]]),
                }
            },
            settings={"default": {}, "probe": {"discount": 0.9}},
            brute_force=gradient_by_loops,
        ),
        Estimator(
            f=response,
            example=_response_example,
            edges={
                "certain actions": lambda: _a_chain(
                    [[1, 0], [1, 0], [0, 1]], [0, 0, 0]
                ),
                "the true values": lambda: _a_chain(
                    [[1, 0], [1, 0], [1, 0]], [1, 2, 0]
                ),
            },
            settings={"default": {}, "probe": {"steps": 3}},
            brute_force=response_by_walking,
            refused={
                "states that the process has not": {
                    "action_prob": lambda action_prob: action_prob[:-1],
                    "value": lambda value: value[:-1],
                },
            },
        ),
    ),
)
