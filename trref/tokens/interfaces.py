"""The signatures that token objectives share.

B responses to a few prompts, padded to T tokens. ``mask`` is 1 on the tokens of a response; where it is 0, the other
arrays may hold any valid number, and neither the value nor the gradient depends on it. ``log_prob`` is differentiated,
everything else is data. Further inputs have these names, here and in no other form:

===================== ======= =====================================================================
``ref_log_prob``      (B T)   log-probabilities under the reference policy
``behavior_log_prob`` (B T)   under the policy that sampled, where that is not the old one
``version``           (B T)   the version (0, 1, …) of the policy that sampled the token
``group``             (B)     the prompt that the response answers: any non-negative numbers
``reward``            (B)     0 or 1
``answer``            (B)     the final answer, as a number: equal answers have equal numbers
``domain``            (B)     the domain of the prompt, as a number
``actions``           (B T)   the tokens
``entropy``           (B T)   entropy of the policy before the token
``divergence``        (B T)   divergence of the policy from the old one before the token
``ref_logits``        (B T V) for full-distribution objectives
===================== ======= =====================================================================
"""

import functools
import math

from trref.backend import xp
from trref.catalog import Input, Interface

__all__ = [
    "FULL_DISTRIBUTION",
    "GROUP_REWARD",
    "TOKEN_OBJECTIVE",
    "full_distribution",
    "token_objective",
]

TOKEN_INPUTS = {
    "log_prob": Input("B T", "log_prob"),
    "old_log_prob": Input("B T", "log_prob"),
    "advantage": Input("B | B T"),
    "mask": Input("B T", "mask"),
}
FULL_INPUTS = {
    "logits": Input("B T V"),
    "old_logits": Input("B T V"),
    "actions": Input("B T", "index"),
    "advantage": Input("B | B T"),
    "mask": Input("B T", "mask"),
}
EXTRA = {
    "ref_log_prob": Input("B T", "log_prob"),
    "behavior_log_prob": Input("B T", "log_prob"),
    "version": Input("B T", "index"),
    "group": Input("B", "index"),
    "reward": Input("B", "mask"),
    "answer": Input("B", "index"),
    "domain": Input("B", "index"),
    "actions": Input("B T", "index"),
    "entropy": Input("B T", "nonnegative"),
    "divergence": Input("B T", "nonnegative"),
    "ref_logits": Input("B T V"),
}
SPREADS = (0.05, 0.4, 1.5)  # of the log-ratios
CLIPS = (1.2, 0.8, 1.28, 1.25, 0.75, 1.0003, 0.9996)  # bounds in use; 1.25 and 0.75 are exact in binary
V = 6


def _responses(rng, B):
    """Prompt, reward and advantage of each response: groups of about four, the first neither all right nor all wrong.

    The advantage has the sign of a standardised reward and no other regularity.
    """
    P = max(1, B // 4)
    group = rng.permutation([i % P if i < 2 * P else int(rng.integers(P)) for i in range(B)])
    reward = (rng.random(B) < rng.choice((0.25, 0.5, 0.75), P)[group]).astype(float)
    first = [i for i in range(B) if group[i] == group[0]]
    reward[first[: len(first) // 2]] = 1.0
    reward[first[len(first) // 2 :]] = 0.0
    centred = xp.zeros(B)
    for g in range(P):
        r = reward[group == g]
        centred[group == g] = (r - r.mean()) / r.std() if r.std() > 0 else 0.0
    return group, reward, centred * xp.exp(0.3 * rng.standard_normal(B))


def _token_example(rng, B, per_token):
    T, spread = int(rng.integers(3, 8)), float(rng.choice(SPREADS))
    shape = (B, T)
    group, reward, advantage = _responses(rng, B)
    mask = (xp.arange(T) < rng.integers(1, T + 1, (B, 1))).astype(float)
    each = advantage[:, None] * xp.exp(0.5 * rng.standard_normal(shape))
    each = xp.where(mask == 1, each, 50 * rng.standard_normal(shape))
    old = -rng.exponential(1.5, shape) - 0.05

    def near(scale):
        moved = -abs(old + scale * rng.standard_normal(shape)) - 1e-3
        return xp.where(mask == 1, moved, -10 * rng.random(shape))

    return {
        "log_prob": near(spread),
        "old_log_prob": xp.where(mask == 1, old, -10 * rng.random(shape)),
        "advantage": each if per_token else advantage,
        "mask": mask,
        "ref_log_prob": near(float(rng.choice(SPREADS))),
        "behavior_log_prob": near(float(rng.choice(SPREADS))),
        "version": rng.integers(0, 5, shape),
        "group": group + 3,
        "reward": reward,
        "answer": rng.integers(0, 3, B),
        "domain": group % 2,
        "actions": rng.integers(0, V, shape),
        "entropy": rng.random(shape) * math.log(V),
        "divergence": rng.exponential(0.1, shape),
    }


def _token_edge(log_ratio, advantage, mask=None, *, old=-1.25, group=None):
    log_ratio = xp.array(log_ratio, dtype=float)
    B, T = log_ratio.shape
    column, row = xp.arange(B)[:, None], xp.arange(T)[None, :]
    old = xp.zeros((B, T)) + xp.array(old, dtype=float)
    return {
        "log_prob": old + log_ratio,
        "old_log_prob": old,
        "advantage": xp.array(advantage, dtype=float),
        "mask": xp.ones((B, T)) if mask is None else xp.array(mask, dtype=float),
        "ref_log_prob": old + 0.25 - 0.125 * row,
        "behavior_log_prob": old - 0.125 + 0.0625 * column,
        "version": (column + row) % 4,
        "group": xp.array(group) if group else xp.arange(B) // 2,
        "reward": (xp.array(advantage, dtype=float).reshape(B, -1)[:, 0] > 0).astype(float),
        "answer": xp.arange(B) % 2,
        "domain": xp.arange(B) // 4,
        "actions": (column + 2 * row) % V,
        "entropy": 0.3 + 0.1 * row + 0.0 * column,
        "divergence": 0.02 + 0.05 * row + 0.0 * column,
    }


TOKEN_EDGES = {
    "on the clip bounds": lambda: _token_edge([[math.log(r) for r in CLIPS]] * 2, [1.0, -1.0]),
    "outside the clip bounds, both signs": lambda: _token_edge([[0.7, -0.7, 0.3]] * 2, [1.5, -1.5]),
    "on-policy": lambda: _token_edge([[0.0] * 3] * 4, [1.0, -2.0, 0.5, 0.0]),
    "equal rewards": lambda: _token_edge([[0.3, -0.1], [0.02, 0.5]], [0.0, 0.0]),
    "a row without tokens": lambda: _token_edge([[0.3, -0.1], [0.2, 0.1]], [1.0, -1.0], [[1, 1], [0, 0]]),
    "no tokens at all": lambda: _token_edge([[0.3, -0.1]], [1.0], [[0, 0]]),
    "gaps in the mask": lambda: _token_edge([[0.3, -0.4, 0.1, 0.2]] * 2, [1.0, -0.5], [[0, 1, 0, 1], [1, 0, 0, 1]]),
    "lengths 1 and T": lambda: _token_edge([[0.1, 0.2, -0.1, 0.05]] * 2, [1.0, -1.0], [[1, 0, 0, 0], [1, 1, 1, 1]]),
    "one response": lambda: _token_edge([[0.1, -0.3, 0.05]], [-0.4]),
    "one token": lambda: _token_edge([[0.1]], [0.8]),
    "groups of one": lambda: _token_edge([[0.1, -0.2], [0.3, 0.0]], [0.5, -1.5], group=[7, 2]),
    "certain and all but impossible tokens": lambda: _token_edge(
        [[-1e-12, -2.0, 4.0]] * 2, [1.0, -1.0], old=[0.0, -18.0, -4.1]
    ),
    "far off policy": lambda: _token_edge(
        [[23.0, -23.0, 0.1], [23.0, -23.0, 0.1], [21.0, 12.0, 11.0]],
        [1.0, -1.0, -1.0],
        old=[[-24.0, -1.0, -1.25], [-24.0, -1.0, -1.25], [-24.0, -14.0, -13.0]],
    ),
}


def _full_example(rng, B, per_token):
    tokens = _token_example(rng, B, per_token)
    shape = (*tokens["mask"].shape, V)
    old = float(rng.choice((0.5, 1.5, 4.0))) * rng.standard_normal(shape)
    return {
        "logits": old + float(rng.choice(SPREADS)) * rng.standard_normal(shape),
        "old_logits": old,
        **{name: tokens[name] for name in ("actions", "advantage", "mask", "version", "group", "reward", "answer")},
        "domain": tokens["domain"],
        "ref_logits": old + 0.4 * rng.standard_normal(shape),
    }


def _full_edge(old, step, advantage, mask=None):
    old, step = xp.array(old, dtype=float), xp.array(step, dtype=float)
    tokens = _token_edge(xp.zeros(old.shape[:2]), advantage, mask)
    names = ("advantage", "mask", "version", "group", "reward", "answer", "domain")
    return {
        "logits": old + step,
        "old_logits": old,
        "actions": tokens["actions"] % old.shape[2],
        **{name: tokens[name] for name in names},
        "ref_logits": old - 0.25 * xp.cos(xp.arange(old.shape[2])),
    }


BASE_LOGITS = [[[0.5, -0.25, 1.0], [0.0, 2.0, -1.0]], [[1.5, 0.75, -0.5], [-1.0, 0.25, 0.5]]]
STEP = [0.25, -0.5, 0.125]
FULL_EDGES = {
    "on-policy": lambda: _full_edge(BASE_LOGITS, [0.0] * 3, [1.0, -1.0]),
    "equal rewards": lambda: _full_edge(BASE_LOGITS, STEP, [0.0, 0.0]),
    "equal logits": lambda: _full_edge([[[1.0] * 4] * 2] * 2, [0.0] * 4, [1.0, -1.0]),
    "a row without tokens": lambda: _full_edge(BASE_LOGITS, STEP, [1.0, -1.0], [[1, 1], [0, 0]]),
    "no tokens at all": lambda: _full_edge(BASE_LOGITS, STEP, [1.0, -1.0], [[0, 0], [0, 0]]),
    "certain and all but impossible tokens": lambda: _full_edge(
        [[[18.0, 0.0, -3.0], [-18.0, 0.0, 1.0]]] * 2, [0.5, 0.0, -0.25], [1.0, -1.0]
    ),
    "two tokens to choose from": lambda: _full_edge([[[0.5, -0.5]] * 2] * 2, [1.0, 0.0], [1.0, -1.0]),
    "one response of one token": lambda: _full_edge([[[0.5, 0.0, -1.0]]], STEP, [-0.7]),
    "a larger vocabulary": lambda: _full_edge(
        [[2 * xp.cos(1.7 * xp.arange(40) ** 2)]] * 2, 0.3 * xp.sin(xp.arange(40)), [1.0, -1.0]
    ),
}


def _name(base, extra, advantage, without):
    """Interfaces of one base name have compatible examples: advantages of one fixed shape are another base."""
    base = {"B": "answer_", "B T": "each_"}.get(advantage, "") + base
    return base + (f" with {', '.join(extra)}" if extra else "") + (f" without {', '.join(without)}" if without else "")


def _interface(name, inputs, example, edges, extra, advantage, without=()):
    if advantage not in ("B", "B T", "B | B T"):
        raise ValueError(f'advantage must be "B", "B T" or "B | B T", not {advantage!r}')
    if unknown := set(extra) - set(EXTRA):
        raise ValueError(f"no further inputs {sorted(unknown)}")
    inputs = {n: Input(advantage) if n == "advantage" else i for n, i in inputs.items() if n not in without}
    inputs |= {n: EXTRA[n] for n in extra}

    def make(rng, size):
        per_token = {"B": False, "B T": True}.get(advantage, rng.random() < 0.3)
        return _select(example(rng, size, per_token))

    def _select(batch):
        if advantage == "B T" and batch["advantage"].ndim == 1:
            batch["advantage"] = batch["advantage"][:, None] + xp.zeros_like(batch["mask"])
        return {n: batch[n] for n in inputs}

    named = {label: lambda edge=edge: _select(edge()) for label, edge in edges.items()}
    return Interface(_name(name, extra, advantage, without), inputs=inputs, example=make, edges=named)


@functools.cache
def token_objective(*extra, advantage="B | B T", without=()):
    """Return the interface of a token objective with the further inputs `extra`, after the four of all.

    Parameters
    ----------
    *extra : str
        Names of the table above, in the order of the function's arguments.
    advantage : str
        ``"B"`` for objectives of whole responses.
    without : tuple of str
        Which of the four the function does not need.

    Returns
    -------
    Interface
        ``f(log_prob, old_log_prob, advantage, mask, *extra, *, …) -> (loss, d loss / d log_prob)``.
    """
    return _interface("token_objective", TOKEN_INPUTS, _token_example, TOKEN_EDGES, extra, advantage, without)


@functools.cache
def full_distribution(*extra, advantage="B | B T", without=()):
    """Return the interface of an objective of the whole distribution; parameters as in `token_objective`.

    Returns
    -------
    Interface
        ``f(logits, old_logits, actions, advantage, mask, *extra, *, …) -> (loss, d loss / d logits)``.
    """
    return _interface("full_distribution", FULL_INPUTS, _full_example, FULL_EDGES, extra, advantage, without)


def _reward_example(rng, size):
    group, reward, _ = _responses(rng, size)
    if rng.random() < 0.5:
        reward = float(rng.choice((0.05, 1.0, 20.0))) * (reward + 0.5 * rng.standard_normal(size))
    return {"reward": reward, "group": group}


def _reward_edge(reward, group):
    return {"reward": xp.array(reward, dtype=float), "group": xp.array(group)}


TOKEN_OBJECTIVE = token_objective()
"""``f(log_prob (B T), old_log_prob (B T), advantage (B | B T), mask (B T), *, …) -> (loss, d loss / d log_prob)``."""

FULL_DISTRIBUTION = full_distribution()
"""``f(logits (B T V), old_logits (B T V), actions (B T), advantage, mask, *, …) -> (loss, d loss / d logits)``."""

GROUP_REWARD = Interface(
    "group_reward",
    inputs={"reward": Input("B"), "group": Input("B", "index")},
    example=_reward_example,
    edges={
        "equal rewards": lambda: _reward_edge([0.1, 0.1, 0.1, 0.7, 0.7], [0, 0, 0, 4, 4]),
        "one group equal, one not": lambda: _reward_edge([1.0, 1.0, 0.0, 1.0], [0, 0, 1, 1]),
        "groups of one": lambda: _reward_edge([0.3, -2.0], [5, 1]),
        "two responses": lambda: _reward_edge([1.0, 0.0], [3, 3]),
        "one response": lambda: _reward_edge([1.0], [0]),
        "groups out of order": lambda: _reward_edge([1.0, 0.0, 0.0, 1.0, 0.5], [9, 2, 9, 2, 9]),
    },
)
"""``f(reward (B), group (B), *, …) -> (B)``: advantages or weights of the responses to a few prompts."""
