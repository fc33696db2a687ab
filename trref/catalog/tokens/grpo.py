"""What is known of `trref.tokens.grpo`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.tokens.interfaces import GROUP_REWARD, TOKEN_OBJECTIVE
from trref.catalog.tokens.pieces import (
    clipped_terms_of_clamped,
    dual_clipped_terms_of_clamped,
    weighted,
)
from trref.catalog.tokens.places import REINFORCE_OVER_ANSWERS, of_one_token
from trref.tokens.grpo import aggregation_weights, group_advantage, grpo
from trref.tokens.terms import (
    clip_surrogate,
    group_mean,
    per_token,
    seq_mean,
    token_mean,
)


def _group_of_one_raw(reward, group, *, eps=0.0):
    count = group_mean(reward, group)[1]
    return xp.where(
        count == 1, reward / (1 + eps), group_advantage(reward, group, eps=eps)
    )


def _without_minimum(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    ratio, A = xp.exp(log_prob - old_log_prob), per_token(advantage)
    inside = (ratio >= 1 - clip) & (ratio <= 1 + clip)
    return weighted(
        seq_mean(mask), xp.clip(ratio, 1 - clip, 1 + clip) * A, inside * ratio * A
    )


def _log_ratio_clamp(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    return weighted(
        seq_mean(mask),
        *clipped_terms_of_clamped(log_prob, old_log_prob, advantage, clip, clip),
    )


def _verl_vanilla(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    return weighted(
        seq_mean(mask),
        *dual_clipped_terms_of_clamped(log_prob, old_log_prob, advantage, clip, clip),
    )


def _dual_clip_by_clip(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    term, derivative = clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    A, bound = per_token(advantage), 1 + 2 * clip
    lower = (A < 0) & (term < bound * A)
    return weighted(
        seq_mean(mask), xp.where(lower, bound * A, term), derivative * ~lower
    )


def _over_all_tokens(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    return weighted(
        token_mean(mask), *clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    )


def _empty_rows_dropped(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    rows = xp.maximum((mask.sum(1) > 0).astype(mask.dtype).sum(), 1)
    weight = seq_mean(mask) * len(mask) / rows
    return weighted(
        weight, *clip_surrogate(log_prob, old_log_prob, advantage, clip, clip)
    )


GROUP_OF_ONE_RAW = Deviation(
    "a group of one keeps its raw reward",
    _group_of_one_raw,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py and SkyRL 0.4.0 ppo_utils.py, compute_grpo_outcome_advantage",
    computes="mean 0 and deviation 1 for a group of one, so that its advantage is its reward (over 1 + eps)",
)


WITHOUT_MINIMUM = Deviation(
    "without the minimum",
    _without_minimum,
    seen_in="a common slip in re-implementations; neither TRL nor verl has it",
    computes="clip(ratio) * advantage alone, so that a ratio outside the interval never gets a gradient",
)


LOG_RATIO_CLAMP = Deviation(
    "log-ratios clamped to ±20",
    _log_ratio_clamp,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, all policy losses but 'gspo', 'clip_cov', 'kl_cov', 'geo_mean';"
    " OpenRLHF 0.11.2 openrlhf/models/loss.py, PolicyLoss; SkyRL 0.4.0 ppo_utils.py, ppo_policy_loss",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)


VERL_VANILLA = Deviation(
    "dual clip at 3 and log-ratios clamped to ±20",
    _verl_vanilla,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, compute_policy_loss_vanilla under seq-mean-token-mean;"
    " EasyR1 verl/trainer/core_algos.py, compute_policy_loss with loss_avg_mode='seq'",
    computes="for negative advantages no less than 3 times the advantage, by default",
    documented=True,
)


DUAL_CLIP_BY_CLIP = Deviation(
    "dual clip at 1 + 2 clip",
    _dual_clip_by_clip,
    seen_in="ROLL roll/pipeline/rlvr/actor_worker.py with dual_clip_loss",
    computes="for negative advantages no less than 1 + 2 clip times the advantage: 1.4 by default, where others have 3",
)


TOKEN_MEAN = Deviation(
    "mean over all tokens of the batch",
    _over_all_tokens,
    seen_in="TRL trl/trainer/grpo_trainer.py, its default loss_type='dapo'; verl's default loss_agg_mode='token-mean'",
    computes="the same terms, averaged over tokens in the place of answers",
    documented=True,
)


EMPTY_ROWS_DROPPED = Deviation(
    "answers without tokens are not counted",
    _empty_rows_dropped,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, agg_loss where its caller gives no global_batch_size;"
    " OpenRLHF 0.11.2 openrlhf/models/loss.py, aggregate_loss likewise",
    computes="the mean over the answers that have at least one token",
)


def advantage_by_loops(reward, group, *, std="sample", baseline="mean", eps=0.0):
    result = xp.zeros(len(reward))
    for i in range(len(reward)):
        r = [float(x) for x, g in zip(reward, group, strict=True) if g == group[i]]
        if len(set(r)) == 1:
            continue
        others = (sum(r) - float(reward[i])) / (len(r) - 1)
        b = others if baseline == "leave_one_out" else sum(r) / len(r)
        among = [float(x) for x in reward] if std == "batch" else r
        squares = sum((x - sum(among) / len(among)) ** 2 for x in among)
        s = (
            1
            if std == "none"
            else (squares / (len(among) - (std != "population"))) ** 0.5 + eps
        )
        result[i] = (float(reward[i]) - b) / s
    return result


def weights_by_loops(mask, group, *, aggregation="seq_mean", max_length=None):
    length = {i: sum(row) for i, row in enumerate(mask.tolist())}
    prompt = {
        g: sum(n for i, n in length.items() if group[i] == g)
        for g in set(group.tolist())
    }
    divisor = {
        "seq_mean": lambda i: len(mask) * length[i],
        "token_mean": lambda i: sum(length.values()),
        "group_token_mean": lambda i: len(prompt) * prompt[int(group[i])],
        "constant": lambda i: len(mask) * max_length,
    }[aggregation]
    return [
        [m / divisor(i) if m else 0.0 for m in row]
        for i, row in enumerate(mask.tolist())
    ]


def actions(inputs):
    """answers have one token"""
    one = of_one_token(inputs)
    return one, {name: array.reshape(-1) for name, array in one.items()}


METHOD = Method(
    key="shao2024deepseekmath",
    provenance="confirmed",
    functions=(
        Estimator(
            f=group_advantage,
            interface=GROUP_REWARD,
            settings={
                "default": {},
                **{std: {"std": std} for std in ("population", "batch", "none")},
                "batch, regularised": {"std": "batch", "eps": 0.1},
                "leave one out": {"std": "none", "baseline": "leave_one_out"},
                "TRL": {"eps": 1e-4},
                "verl": {"eps": 1e-6},
                "probe": {"std": "population", "baseline": "leave_one_out", "eps": 0.3},
            },
            deviations=(GROUP_OF_ONE_RAW,),
            brute_force=advantage_by_loops,
        ),
        Estimator(
            f=aggregation_weights,
            interface=TOKEN_OBJECTIVE,
            settings={
                "default": {},
                **{
                    name: {"aggregation": name}
                    for name in ("token_mean", "group_token_mean")
                },
                "probe": {"aggregation": "constant", "max_length": 6.5},
            },
            brute_force=weights_by_loops,
        ),
        Objective(
            f=grpo,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={"default": {}, "probe": {"clip": 0.35}},
            limits=(
                Limit("ppo.clipped_surrogate", {}, where=actions),
                REINFORCE_OVER_ANSWERS,
            ),
            deviations=(
                WITHOUT_MINIMUM,
                LOG_RATIO_CLAMP,
                VERL_VANILLA,
                DUAL_CLIP_BY_CLIP,
                TOKEN_MEAN,
                EMPTY_ROWS_DROPPED,
            ),
        ),
    ),
)
