"""What is known of `trref.tokens.reinforce_plus_plus`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.places import of_one_token
from trref.tokens.dr_grpo import centred_advantage
from trref.tokens.reinforce_plus_plus import (
    reinforce_plus_plus,
    reinforce_plus_plus_baseline,
    reward_to_go,
    standardise,
)
from trref.tokens.terms import group_mean


def _to_go_by_loops(
    reward, log_prob, ref_log_prob, mask, *, kl_weight=0.01, discount=1.0
):
    found = xp.zeros(mask.shape)
    for i in range(mask.shape[0]):
        tokens = [t for t in range(mask.shape[1]) if mask[i, t]]
        for k, t in enumerate(tokens):
            for n, s in enumerate(tokens[k:]):
                r = -kl_weight * (log_prob[i, s] - ref_log_prob[i, s])
                r = r + reward[i] if s == tokens[-1] else r
                found[i, t] += discount**n * r
    return found


def _standardised_by_loops(x, mask, *, ddof=0, eps=1e-8):
    places = [(i, t) for i in range(len(mask)) for t in range(mask.shape[1])]
    places = [(i, t) for i, t in places if mask[i, t]]
    values = [float(x[i, t]) for i, t in places]
    found = xp.zeros(mask.shape)
    if len(set(values)) > 1:
        mean = math.fsum(values) / len(values)
        variance = math.fsum((v - mean) ** 2 for v in values)
        variance = variance / max(len(values) - ddof, 1) + eps
        for (i, t), v in zip(places, values, strict=True):
            found[i, t] = (v - mean) / math.sqrt(variance)
    return found


def _plain_by_loops(
    reward,
    log_prob,
    ref_log_prob,
    mask,
    *,
    kl_weight=0.01,
    discount=1.0,
    ddof=0,
    eps=1e-8,
):
    charge = {"kl_weight": kl_weight, "discount": discount}
    to_go = _to_go_by_loops(reward, log_prob, ref_log_prob, mask, **charge)
    return _standardised_by_loops(to_go, mask, ddof=ddof, eps=eps)


def _baseline_by_loops(reward, group, mask, *, ddof=0, eps=1e-8):
    each = xp.zeros(mask.shape)
    for i in range(len(reward)):
        inside = [float(r) for r, g in zip(reward, group, strict=True) if g == group[i]]
        equal = len(set(inside)) == 1
        each[i] = 0.0 if equal else reward[i] - math.fsum(inside) / len(inside)
    return _standardised_by_loops(each, mask, ddof=ddof, eps=eps)


def own_charge(reward, log_prob, ref_log_prob, mask, *, kl_weight=0.01):
    return mask * (reward[:, None] - kl_weight * (log_prob - ref_log_prob))


def cut_by_gaps(reward, log_prob, ref_log_prob, mask, *, kl_weight=0.01, discount=1.0):
    number = xp.cumsum(mask, 1)
    last = mask * (number == mask.sum(1, keepdims=True))
    each = mask * (last * reward[:, None] - kl_weight * (log_prob - ref_log_prob))
    columns, running = [], xp.zeros_like(reward)
    for t in reversed(range(mask.shape[1])):
        running = mask[:, t] * (each[:, t] + discount * running)
        columns.append(running)
    return xp.stack(columns[::-1], axis=1)


def group_of_one_raw(reward, group, mask, *, ddof=0, eps=1e-8):
    count = group_mean(reward, group)[1]
    centred = xp.where(count == 1, reward, centred_advantage.unchecked(reward, group))
    spread = centred[:, None] + xp.zeros_like(mask)
    return standardise.unchecked(spread, mask, ddof=ddof, eps=eps)


OWN_CHARGE = Deviation(
    "each token's own charge alone",
    own_charge,
    seen_in="NeMo-RL, August 2026, nemo_rl/algorithms/advantage_estimator.py",
    computes="the reward less the token's own log-ratio, without those of later tokens",
)
CUT_BY_GAPS = Deviation(
    "a gap in the mask cuts the return",
    cut_by_gaps,
    seen_in="SkyRL, August 2026, ppo_utils.py; verl until early 2026 (0.9.1 carries the return across)",
    computes="a reward behind a gap in the mask, such as a tool's output, does not reach the tokens before it",
)
GROUP_OF_ONE_RAW = Deviation(
    "a group of one keeps its raw reward",
    group_of_one_raw,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_reinforce_plus_plus_baseline_outcome_advantage",
    computes="a baseline of 0 for a prompt with one answer, before the batch is standardised",
)


def one_prompt_of_one_token(inputs):
    """all answers are to one prompt, and have one token"""
    ours = of_one_token({**inputs, "group": 0 * inputs["group"]})
    return ours, {name: ours[name] for name in ("reward", "group")}


def plain_of_one_token(inputs):
    """answers have one token, and the other's are to one prompt"""
    ours = of_one_token(inputs)
    group = xp.zeros(len(ours["reward"]), dtype=int)
    return ours, {"reward": ours["reward"], "group": group}


def _standardise_example(rng, size):
    batch = TOKEN_OBJECTIVE.example(rng, size)
    return {"x": batch["log_prob"], "mask": batch["mask"]}


def _standardise_edge(x, mask):
    return {"x": xp.array(x, dtype=float), "mask": xp.array(mask, dtype=float)}


POPULATION = {"std": "population"}
SAMPLE = {"ddof": 1}
METHOD = Method(
    key="hu2025reinforce",
    provenance="confirmed",
    functions=(
        Estimator(
            f=reward_to_go,
            interface=TOKEN_OBJECTIVE,
            settings={
                "default": {},
                "no charge": {"kl_weight": 0.0},
                "probe": {"kl_weight": 0.3, "discount": 0.9},
            },
            deviations=(OWN_CHARGE, CUT_BY_GAPS),
            brute_force=_to_go_by_loops,
        ),
        Estimator(
            f=standardise,
            example=_standardise_example,
            edges={
                "one token": lambda: _standardise_edge([[3.0, 5.0]], [[0, 1]]),
                "all equal": lambda: _standardise_edge([[0.1] * 3] * 2, [[1] * 3] * 2),
                "all equal, with padding": lambda: _standardise_edge(
                    [[0.1, 0.1, 0.1, 7.0]], [[1, 1, 1, 0]]
                ),
                "no tokens": lambda: _standardise_edge([[1.0, 2.0]], [[0, 0]]),
                "two tokens": lambda: _standardise_edge([[1.0, 4.0]], [[1, 1]]),
            },
            settings={
                "default": {},
                "sample": SAMPLE,
                "nothing added": {"eps": 0.0},
                "probe": {"ddof": 2, "eps": 0.3},
            },
            brute_force=_standardised_by_loops,
        ),
        Estimator(
            f=reinforce_plus_plus,
            interface=TOKEN_OBJECTIVE,
            settings={
                "default": {},
                "verl": SAMPLE,
                "probe": {"kl_weight": 0.3, "discount": 0.9, "ddof": 2, "eps": 0.3},
            },
            limits=(
                Limit(
                    "grpo.group_advantage",
                    {"kl_weight": 0.0, "eps": 0.0},
                    POPULATION,
                    where=plain_of_one_token,
                ),
            ),
            brute_force=_plain_by_loops,
        ),
        Estimator(
            f=reinforce_plus_plus_baseline,
            interface=TOKEN_OBJECTIVE,
            settings={
                "default": {},
                "verl": SAMPLE,
                "probe": {"ddof": 2, "eps": 0.3},
            },
            limits=(
                Limit(
                    "grpo.group_advantage",
                    {"eps": 0.0},
                    POPULATION,
                    where=one_prompt_of_one_token,
                ),
            ),
            deviations=(GROUP_OF_ONE_RAW,),
            brute_force=_baseline_by_loops,
        ),
    ),
)
