"""What is known of `trref.tokens.lite_ppo`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import GROUP_REWARD, TOKEN_OBJECTIVE
from trref.tokens.dr_grpo import centred_advantage
from trref.tokens.grpo import grpo
from trref.tokens.lite_ppo import lite_ppo, lite_ppo_advantage


def _advantage_by_loops(reward, group, *, eps=1e-6):
    r, g = reward.tolist(), group.tolist()
    mean = math.fsum(r) / len(r)
    squares = math.fsum((x - mean) ** 2 for x in r)
    scale = math.sqrt(squares / max(len(r) - 1, 1)) + eps
    found = []
    for x, prompt in zip(r, g, strict=True):
        inside = [y for y, other in zip(r, g, strict=True) if other == prompt]
        equal = len(set(inside)) == 1
        found.append(0.0 if equal else (x - math.fsum(inside) / len(inside)) / scale)
    return xp.asarray(found)


def about_the_group_means(reward, group, *, eps=1e-6):
    centred = centred_advantage(reward, group)
    variance = (centred**2).sum() / max(len(reward) - 1, 1)
    return centred / xp.where(variance > 0, xp.sqrt(variance) + eps, 1)


def mean_over_answers(
    log_prob, old_log_prob, reward, group, mask, *, clip=0.2, eps=1e-6
):
    advantage = lite_ppo_advantage(reward, group, eps=eps)
    return grpo(log_prob, old_log_prob, advantage, mask, clip=clip)


ABOUT_THE_GROUP_MEANS = Deviation(
    "the deviation about the groups' means",
    about_the_group_means,
    seen_in="AReaL 1.0.4 areal/utils/data.py, Normalization with mean_level='group' and std_level='batch'",
    computes="a deviation without the differences between prompts: smaller, so that advantages are larger",
)
MEAN_OVER_ANSWERS = Deviation(
    "mean over answers",
    mean_over_answers,
    seen_in="ROLL 0.3.0, the settings of its page on Lite PPO: loss_agg_mode 'seq-mean-token-mean'",
    computes="the mean over answers of the mean over their tokens, as GRPO",
)


def its_own_advantage(inputs):
    """the other's advantage is that of `lite_ppo_advantage`"""
    advantage = lite_ppo_advantage(inputs["reward"], inputs["group"])
    return inputs, {**inputs, "advantage": advantage}


def one_prompt(inputs):
    """all answers are to one prompt"""
    return {**inputs, "group": 0 * inputs["group"]}


METHOD = Method(
    key="liu2025part",
    provenance="confirmed",
    functions=(
        Estimator(
            f=lite_ppo_advantage,
            interface=GROUP_REWARD,
            settings={
                "default": {},
                "TRL": {"eps": 1e-4},
                "nothing added": {"eps": 0.0},
                "probe": {"eps": 0.3},
            },
            limits=(
                Limit("grpo.group_advantage", {"eps": 0.0}, {"std": "batch"}),
                Limit("grpo.group_advantage", {"eps": 0.0}, {}, where=one_prompt),
            ),
            deviations=(ABOUT_THE_GROUP_MEANS,),
            brute_force=_advantage_by_loops,
        ),
        Objective(
            f=lite_ppo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"clip": 0.35, "eps": 0.3}},
            limits=(
                Limit(
                    "dapo.dapo_over_batch",
                    {},
                    {"clip_low": 0.2, "clip_high": 0.2},
                    where=its_own_advantage,
                ),
            ),
            deviations=(MEAN_OVER_ANSWERS,),
        ),
    ),
)
