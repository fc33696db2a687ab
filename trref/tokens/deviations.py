"""What public code computes in the place of the papers' equations: small runnable variants."""

import math

from trref.backend import xp
from trref.catalog import Deviation
from trref.nn.heads import log_softmax, one_hot

__all__ = [
    "ALWAYS_DYNAMIC",
    "ANCHOR_DIFFERENTIATED",
    "BAND_AT_THE_ENDS",
    "BAND_RELAXED",
    "BAND_WITH_DUAL_CLIP",
    "BASE_CLIPPED",
    "BATCH_TOKEN_MEAN",
    "CLIP_KEPT",
    "COEFFICIENT_TIMES_LOG_PROB",
    "DIVIDED_BY_CONFLICTS",
    "DPPO_LOG_PROB",
    "DPPO_TOKEN_MEAN",
    "DRPO_CLAMPED",
    "EMPTY_ROWS_DROPPED",
    "FIXED_ENTROPY_BOUND",
    "GATE_DIFFERENTIATED",
    "GROUP_OF_ONE_RAW",
    "K3_CLAMP",
    "K3_STRAIGHT_THROUGH",
    "KEPT_TOKENS_ONLY",
    "LENS_STANDARDISED",
    "LENS_UNBOUNDED",
    "LOG_PROB_SMOOTHED",
    "LOG_RATIO_CLAMP",
    "MASPO_RATIO_CLAMPED",
    "MIN_ENTROPY_FOR_ONE",
    "MULTIPLIER_CONSTANT",
    "PADDED_WIDTH",
    "PROJECTED_RATIO_DETACHED",
    "RATIO_CLAMPED",
    "SAMPLED_TOKEN_ANCHORED",
    "SEQUENCE_CLAMP",
    "SEQUENCE_SUM",
    "SEQUENCE_TOKEN_MEAN",
    "SHIFT_DIFFERENTIATED",
    "STANDARDISED_AFTER_CORRECTION",
    "SUM_OVER_CONSTANT",
    "TIGHTER_LATER",
    "TOKEN_MEAN",
    "UNCORRECTED_K3",
    "VERL_VANILLA",
    "WEIGHT_ABSENT",
    "WITHOUT_MINIMUM",
]


def _column(advantage):
    return advantage[:, None] if advantage.ndim == 1 else advantage


def _terms(log_ratio, advantage, low, high):
    """The clipped token term and its derivative."""
    A, ratio = _column(advantage), xp.exp(log_ratio)
    unclipped, clipped = ratio * A, xp.clip(ratio, 1 - low, 1 + high) * A
    return xp.minimum(unclipped, clipped), xp.where(unclipped <= clipped, unclipped, 0)


def _seq_mean(mask):
    return mask / (len(mask) * xp.maximum(mask.sum(1), 1))[:, None]


def _token_mean(mask):
    return mask / xp.maximum(mask.sum(), 1)


def _weighted(weight, term, derivative):
    return -(weight * term).sum(), -weight * derivative


def _clamped_log_ratio(log_prob, old_log_prob, bound=20.0):
    d = log_prob - old_log_prob
    return xp.clip(d, -bound, bound), abs(d) <= bound


# ------------------------------------------------------------------------------------------------------------- GRPO


def _group_of_one_raw(reward, group, *, eps=0.0):
    same = (group[:, None] == group[None, :]).astype(reward.dtype)
    count = same.sum(1)
    mean = same @ reward / count
    centred = xp.where(((same > 0) & (reward[:, None] != reward[None, :])).any(1), reward - mean, 0)
    std = xp.sqrt(same @ centred**2 / xp.maximum(count - 1, 1)) + eps
    return xp.where(count == 1, reward, centred / xp.where(centred != 0, std, 1))


def _without_minimum(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    ratio, A = xp.exp(log_prob - old_log_prob), _column(advantage)
    inside = (ratio >= 1 - clip) & (ratio <= 1 + clip)
    return _weighted(_seq_mean(mask), xp.clip(ratio, 1 - clip, 1 + clip) * A, inside * ratio * A)


def _log_ratio_clamp(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    d, free = _clamped_log_ratio(log_prob, old_log_prob)
    term, derivative = _terms(d, advantage, clip, clip)
    return _weighted(_seq_mean(mask), term, derivative * free)


def _verl_vanilla(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    d, free = _clamped_log_ratio(log_prob, old_log_prob)
    term, derivative = _terms(d, advantage, clip, clip)
    A = _column(advantage)
    lower = (A < 0) & (term < 3 * A)
    return _weighted(_seq_mean(mask), xp.where(lower, 3 * A, term), derivative * free * ~lower)


def _over_all_tokens(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    return _weighted(_token_mean(mask), *_terms(log_prob - old_log_prob, advantage, clip, clip))


def _empty_rows_dropped(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    rows = xp.maximum((mask.sum(1) > 0).astype(mask.dtype).sum(), 1)
    weight = _seq_mean(mask) * len(mask) / rows
    return _weighted(weight, *_terms(log_prob - old_log_prob, advantage, clip, clip))


GROUP_OF_ONE_RAW = Deviation(
    "a group of one keeps its raw reward",
    _group_of_one_raw,
    seen_in="verl verl/trainer/ppo/core_algos.py, compute_grpo_outcome_advantage",
    computes="mean 0 and deviation 1 for a group of one, so that its advantage is its reward",
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
    seen_in="verl verl/trainer/ppo/core_algos.py",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)
VERL_VANILLA = Deviation(
    "dual clip at 3 and log-ratios clamped to ±20",
    _verl_vanilla,
    seen_in="verl verl/trainer/ppo/core_algos.py, policy loss 'vanilla' under seq-mean-token-mean",
    computes="for negative advantages no less than 3 times the advantage, by default",
    documented=True,
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
    seen_in="verl verl/trainer/ppo/core_algos.py, agg_loss",
    computes="the mean over the answers that have at least one token",
)

# -------------------------------------------------------------------------------------------------- Dr. GRPO and DAPO


def _padded_width(log_prob, old_log_prob, advantage, mask, *, clip=0.2):
    terms = _terms(log_prob - old_log_prob, advantage, clip, clip)
    return _weighted(mask / (mask.shape[0] * mask.shape[1]), *terms)


def _sum_over_constant(log_prob, old_log_prob, advantage, mask, *, max_length=8, clip=0.2):
    return _weighted(mask / max_length, *_terms(log_prob - old_log_prob, advantage, clip, clip))


def _batch_token_mean(log_prob, old_log_prob, advantage, mask, group, *, clip_low=0.2, clip_high=0.28):
    return _weighted(_token_mean(mask), *_terms(log_prob - old_log_prob, advantage, clip_low, clip_high))


PADDED_WIDTH = Deviation(
    "divided by the padded width",
    _padded_width,
    seen_in="verl verl/trainer/ppo/core_algos.py, seq-mean-token-sum-norm without loss_scale_factor",
    computes="the sum over the width of the batch, which varies from batch to batch, in the place of a constant",
)
SUM_OVER_CONSTANT = Deviation(
    "not divided by the number of answers",
    _sum_over_constant,
    seen_in="verl verl/trainer/ppo/core_algos.py, a snapshot of early 2026; fixed since",
    computes="the sum of all tokens' terms over the constant",
)
BATCH_TOKEN_MEAN = Deviation(
    "mean over the tokens of the whole batch",
    _batch_token_mean,
    seen_in="TRL trl/trainer/grpo_trainer.py loss_type='dapo'; verl loss_agg_mode='token-mean'",
    computes="one mean over all tokens in the place of a mean over the tokens of each prompt, averaged over prompts",
    documented=True,
)

# ------------------------------------------------------------------------------------------------------------- GSPO


def _mean_log_ratio(log_prob, old_log_prob, mask):
    return ((log_prob - old_log_prob) * mask).sum(1, keepdims=True) / xp.maximum(mask.sum(1, keepdims=True), 1)


def _of_answers(weight, term, derivative, mask, per_token):
    """Loss of weighted terms; the coefficient of a log-ratio (B, 1) is shared by the tokens: d ratio = per_token."""
    return -(weight * term).sum(), -mask * per_token * (weight * derivative).sum(1, keepdims=True)


def _sequence_clamp(log_prob, old_log_prob, advantage, mask, *, clip_low=3e-4, clip_high=4e-4):
    d = _mean_log_ratio(log_prob, old_log_prob, mask)
    term, derivative = _terms(xp.minimum(d, 10.0), advantage, clip_low, clip_high)
    return _weighted(_seq_mean(mask), term, derivative * (d <= 10))


def _sequence_sum(log_prob, old_log_prob, advantage, mask, *, clip_low=3e-4, clip_high=4e-4):
    d = ((log_prob - old_log_prob) * mask).sum(1, keepdims=True)
    return _of_answers(_seq_mean(mask), *_terms(d, advantage, clip_low, clip_high), mask, 1.0)


def _sequence_token_mean(log_prob, old_log_prob, advantage, mask, *, clip_low=3e-4, clip_high=4e-4):
    d, length = _mean_log_ratio(log_prob, old_log_prob, mask), xp.maximum(mask.sum(1, keepdims=True), 1)
    return _of_answers(_token_mean(mask), *_terms(d, advantage, clip_low, clip_high), mask, 1 / length)


SEQUENCE_CLAMP = Deviation(
    "log-ratio of the answer clamped at 10",
    _sequence_clamp,
    seen_in="verl verl/trainer/ppo/core_algos.py, policy loss 'gspo'",
    computes="the ratio of a log-ratio of at most 10, without gradient beyond; each token's coefficient is its own",
)
SEQUENCE_SUM = Deviation(
    "ratio of the whole answer, not normalised by its length",
    _sequence_sum,
    seen_in="a common slip in re-implementations; neither TRL nor verl has it",
    computes="the product of the token ratios in the place of their geometric mean",
)
SEQUENCE_TOKEN_MEAN = Deviation(
    "answers weighted by their lengths",
    _sequence_token_mean,
    seen_in="TRL trl/trainer/grpo_trainer.py, importance_sampling_level='sequence' under its default loss_type='dapo'",
    computes="the mean over all tokens of their answers' terms: a long answer counts more",
    documented=True,
)

# ------------------------------------------------------------------------------------------------------- divergences


def _k3(log_prob, ref_log_prob):
    d = ref_log_prob - log_prob
    return xp.exp(d) - d - 1, 1 - xp.exp(d)


def _k3_clamp(log_prob, mask, ref_log_prob):
    d = ref_log_prob - log_prob
    free = abs(d) <= 20
    d = xp.clip(d, -20.0, 20.0)
    k = xp.exp(d) - d - 1
    free = free & (k <= 10)
    w = _token_mean(mask)
    return (w * xp.minimum(k, 10.0)).sum(), w * (1 - xp.exp(d)) * free


def _k3_straight_through(log_prob, mask, ref_log_prob):
    w = _token_mean(mask)
    return (w * _k3(log_prob, ref_log_prob)[0]).sum(), w * (log_prob - ref_log_prob)


def _uncorrected_k3(log_prob, old_log_prob, mask, ref_log_prob):
    k, dk = _k3(log_prob, ref_log_prob)
    w = _token_mean(mask)
    return (w * k).sum(), w * dk


K3_CLAMP = Deviation(
    "k3 clamped to ±10",
    _k3_clamp,
    seen_in="verl verl/trainer/ppo/core_algos.py, kl_penalty 'low_var_kl'",
    computes="no more than 10 a token, without gradient beyond",
)
K3_STRAIGHT_THROUGH = Deviation(
    "value of k3, gradient of k2",
    _k3_straight_through,
    seen_in="verl verl/trainer/ppo/core_algos.py, kl_penalty 'k3+'",
    computes="the non-negative value of k3 with the gradient that is right on policy",
    documented=True,
)
UNCORRECTED_K3 = Deviation(
    "k3 without the ratio",
    _uncorrected_k3,
    seen_in="TRL trl/trainer/grpo_trainer.py without use_bias_correction_kl",
    computes="plain k3 on tokens of the old policy, whose mean is neither the divergence nor its gradient",
    documented=True,
)

# ------------------------------------------------------------------------------------------------------------ A-3PO


def _weight_absent(log_prob, old_log_prob, advantage, mask, behavior_log_prob, *, clip=0.2):
    return _weighted(_token_mean(mask), *_terms(log_prob - old_log_prob, advantage, clip, clip))


def _anchor_differentiated(log_prob, advantage, mask, behavior_log_prob, version, *, current_version, clip=0.2):
    d, age = log_prob - behavior_log_prob, current_version - version.astype(log_prob.dtype)
    alpha = xp.where(age >= 1, 1 - 1 / xp.maximum(age, 1), 0)
    term, derivative = _terms((1 - alpha) * d, advantage, clip, clip)
    w, clipped = xp.exp(alpha * d), term < xp.exp((1 - alpha) * d) * _column(advantage)
    return _weighted(_token_mean(mask), w * term, xp.where(clipped, alpha * w * term, w * derivative))


WEIGHT_ABSENT = Deviation(
    "clipped around the proximal policy without the weight",
    _weight_absent,
    seen_in="AReaL areal/utils/functional/functional.py, ppo_actor_loss_fn without rejection_sampling",
    computes="the clipped ratio to the proximal policy, as if that policy had sampled the tokens",
)
ANCHOR_DIFFERENTIATED = Deviation(
    "the interpolated anchor is differentiated",
    _anchor_differentiated,
    seen_in="a common slip in re-implementations; AReaL detaches it",
    computes="a gradient for clipped tokens, too; that of all others is the same",
)

# ----------------------------------------------------------------------------------------------------------- BandPO


def _operator_band(old_log_prob, delta, ball, cap):
    """The authors' operator, without its relaxation: bisection where they bisect, limits where they override."""
    p = xp.exp(xp.clip(old_log_prob, -700.0 if old_log_prob.dtype.itemsize == 8 else -85.0, 0.0))
    inner = xp.clip(p, 1e-12, 1 - 1e-7)
    if ball == "forward_kl":

        def inside(r):
            terms = [xp.maximum(u, 1e-12) for u in (r, (1 - r * inner) / (1 - inner))]
            value = [-xp.log(u) + u - 1 for u in terms]
            return inner * value[0] + (1 - inner) * value[1] <= delta

        lower, upper = (_bisect(inside, xp.ones_like(p), end) for end in (xp.zeros_like(p), 1 / inner))
        at_one = math.exp(-min(delta, 80.0))
    else:
        step = delta / inner if ball == "total_variation" else xp.sqrt(delta * (1 - inner) / inner)
        lower, upper = xp.maximum(1 - step, 0), xp.minimum(1 + step, 1 / inner)
        at_one = max(1 - delta, 0.0) if ball == "total_variation" else 1.0
    near_one, near_zero = p > 1 - 1e-6, p < 1e-6
    upper = xp.where(near_zero, 1 / xp.maximum(p, 1e-12), xp.where(near_one, 1, upper))
    lower = xp.where(near_zero, 0, xp.where(near_one, at_one, lower))
    return lower.astype(p.dtype), xp.clip(upper, 1, cap).astype(p.dtype)


def _bisect(inside, start, end):
    """From `start`, which is inside, towards `end`: the end itself if that is inside, too."""
    saturated, low, high = inside(end), start, end
    for _ in range(60):
        middle = (low + high) / 2
        within = inside(middle)
        low, high = xp.where(within, middle, low), xp.where(within, high, middle)
    return xp.where(saturated, end, low)


def _band_at_the_ends(old_log_prob, *, delta=0.05, ball="forward_kl", cap=100.0):
    return _operator_band(old_log_prob, delta, ball, cap)


def _band_relaxed(
    log_prob, old_log_prob, advantage, mask, *, delta=0.05, ball="forward_kl", cap=100.0, relax=(0.2, 0.28)
):
    lower, upper = _operator_band(old_log_prob, delta, ball, cap)
    lower, upper = xp.minimum(lower, 1 - relax[0]), xp.maximum(upper, 1 + relax[1])
    return _weighted(_seq_mean(mask), *_terms(log_prob - old_log_prob, advantage, 1 - lower, upper - 1))


def _band_with_dual_clip(log_prob, old_log_prob, advantage, mask, *, delta=0.05, ball="forward_kl"):
    lower, upper = _operator_band(old_log_prob, delta, ball, 10.0)
    term, derivative = _terms(log_prob - old_log_prob, advantage, 1 - lower, upper - 1)
    A = _column(advantage)
    bounded = (A < 0) & (term < 10 * A)
    return _weighted(_seq_mean(mask), xp.where(bounded, 10 * A, term), xp.where(bounded, 0, derivative))


BAND_AT_THE_ENDS = Deviation(
    "limits in the place of the roots for p below 1e-6 and above 1 - 1e-6",
    _band_at_the_ends,
    seen_in="OpenMOSS/BandPO RLtraining/verl/verl/bandpo/band/band.py and solver.py",
    computes="the bounds' limits near p = 0 and 1, and 1/p for the KL bound where 1 - p is below delta/27",
)
BAND_RELAXED = Deviation(
    "the band joined with [0.8, 1.28]",
    _band_relaxed,
    seen_in="OpenMOSS/BandPO RLtraining/verl/verl/bandpo/band/band.py, does_relax_high_p_bound=True by default",
    computes="bounds that are nowhere tighter than clip-higher's",
    documented=True,
)
BAND_WITH_DUAL_CLIP = Deviation(
    "capped at 10, with a dual clip at 10",
    _band_with_dual_clip,
    seen_in="OpenMOSS/BandPO, the run scripts of the main experiments",
    computes="for negative advantages no less than 10 times the advantage, and no upper bound above 10",
    documented=True,
)

# -------------------------------------------------------------------------------------------------------------- ACE


def _shift_differentiated(log_prob, old_log_prob, advantage, mask, ref_log_prob, *, alpha=1.0):
    A, length = _column(advantage) + 0 * mask, xp.maximum(mask.sum(1, keepdims=True), 1)
    c = (mask * (log_prob - ref_log_prob)).sum(1, keepdims=True) / length
    softplus, sigmoid = xp.logaddexp(0, c), xp.exp(-xp.logaddexp(0, -c))
    term, derivative = _terms(log_prob - old_log_prob, A, 0.2, 0.2)
    factor, w = xp.where(A < 0, 1 + alpha * softplus, 1), _seq_mean(mask)
    through = (w * term * (A < 0)).sum(1, keepdims=True) * alpha * sigmoid * mask / length
    return -(w * factor * term).sum(), -w * factor * derivative - through


SHIFT_DIFFERENTIATED = Deviation(
    "gradient through the confidence shift",
    _shift_differentiated,
    seen_in="a common slip in re-implementations; the paper holds the shift constant",
    computes="for each token of a wrong answer also the derivative of the penalty factor",
)

# ------------------------------------------------------------------------------------------------------------ R2VPO


def _ratio_clamped(log_prob, old_log_prob, advantage, mask, *, weight=0.04, target=0.02):
    d, free = _clamped_log_ratio(log_prob, old_log_prob)
    A, ratio = _column(advantage), xp.exp(d)
    term = ratio * A - weight * ((ratio - 1) ** 2 - target)
    return _weighted(_token_mean(mask), term, free * ratio * (A - 2 * weight * (ratio - 1)))


def _coefficient_times_log_prob(log_prob, old_log_prob, advantage, mask, *, weight=0.04):
    ratio = xp.exp(log_prob - old_log_prob)
    coefficient = ratio * (_column(advantage) - 2 * weight * (ratio - 1))
    return _weighted(_token_mean(mask), coefficient * log_prob, coefficient)


RATIO_CLAMPED = Deviation(
    "log-ratios clamped to ±20, under the brake",
    _ratio_clamped,
    seen_in="two public re-implementations of R2VPO",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)
COEFFICIENT_TIMES_LOG_PROB = Deviation(
    "the gradient's coefficient, held constant, times the log-probability",
    _coefficient_times_log_prob,
    seen_in="a public re-implementation ('R2VPOLoss')",
    computes="the same gradient, and a value that is not the objective",
)

# ------------------------------------------------------------------------------------------------------------- PSPO


def _clip_kept(log_prob, old_log_prob, advantage, mask, *, alpha=0.1):
    ratio, A = xp.exp(log_prob - old_log_prob), _column(advantage)
    smoothed = (1 - alpha) * ratio + alpha
    unclipped, clipped = smoothed * A, xp.clip(smoothed, 0.8, 1.2) * A
    derivative = (1 - alpha) * ratio * A * (unclipped <= clipped)
    return _weighted(_seq_mean(mask), xp.minimum(unclipped, clipped), derivative)


def _log_prob_smoothed(log_prob, old_log_prob, advantage, mask, *, alpha=0.1):
    term = xp.exp((1 - alpha) * (log_prob - old_log_prob)) * _column(advantage)
    return _weighted(_seq_mean(mask), term, (1 - alpha) * term)


CLIP_KEPT = Deviation(
    "the clip at 0.2 is kept",
    _clip_kept,
    seen_in="a slip to expect where the ratio of a clipped loss is replaced; not seen in public code",
    computes="the smoothed ratio under GRPO's clip: a wider clip of the plain ratio",
)
LOG_PROB_SMOOTHED = Deviation(
    "log-probabilities are mixed in the place of probabilities",
    _log_prob_smoothed,
    seen_in="a slip to expect; not seen in public code",
    computes="the ratio to the power 1 - alpha, which is not a mixture: the gradient's direction changes",
)

# ------------------------------------------------------------------------------------------------------------ MASPO


def _maspo_gate(d, old_log_prob, A):
    """The gate of the default settings, and the share of the derivative that it adds."""
    width = xp.exp(xp.clip(-0.3 * old_log_prob, 0, math.log(10)))
    width = width * xp.clip(xp.where(A < 0, 1 / (1 - 0.03 * xp.minimum(A, 0)), 1 + 0.03 * xp.maximum(A, 0)), 0.1, 10)
    moved = xp.expm1(d)
    away = xp.sign(A) * xp.sign(moved) > 0
    gate = xp.where(away, xp.exp(-(xp.minimum(abs(moved) / width, 40.0) ** 2) / 2), 1)
    return gate, away * (xp.exp(d) / width) * (moved / width)


def _maspo_ratio_clamped(log_prob, old_log_prob, advantage, mask):
    d, free = _clamped_log_ratio(log_prob, old_log_prob)
    A = _column(advantage)
    term = xp.exp(d) * _maspo_gate(d, old_log_prob, A)[0] * A
    return _weighted(_token_mean(mask), term, term * free)


def _gate_differentiated(log_prob, old_log_prob, advantage, mask):
    d, A = log_prob - old_log_prob, _column(advantage)
    gate, more = _maspo_gate(d, old_log_prob, A)
    term = xp.exp(d) * gate * A
    return _weighted(_token_mean(mask), term, term * (1 - more))


MASPO_RATIO_CLAMPED = Deviation(
    "log-ratios clamped to ±20, under the gate",
    _maspo_ratio_clamped,
    seen_in="VenomRose-Juri/MASPO-RL verl/trainer/ppo/core_algos.py, compute_policy_loss with ratio_mode 'maspo'",
    computes="ratio and gate of a clamped log-ratio, without gradient beyond ±20",
)
GATE_DIFFERENTIATED = Deviation(
    "gradient through the gate",
    _gate_differentiated,
    seen_in="a reading of the paper's 'differentiable gate'; the authors' code detaches it",
    computes="the same value, and a gradient that pulls good tokens back and pushes falling bad ones harder",
)

# ---------------------------------------------------------------------------------------------------- DPPO and DRPO


def _dppo_coefficient(log_prob, old_log_prob, A, d_low, d_high, bound):
    """The coefficient of the log-probability, with the total variation of the sampled token."""
    moved, ratio = xp.exp(log_prob) - xp.exp(old_log_prob), xp.minimum(xp.exp(log_prob - old_log_prob), bound)
    dropped = xp.where(A > 0, moved > d_high, moved < -d_low)
    return xp.where(dropped, 0, ratio * A)


def _dppo_log_prob(log_prob, old_log_prob, advantage, mask, *, max_length, d_low=0.15, d_high=0.15):
    c = _dppo_coefficient(log_prob, old_log_prob, _column(advantage), d_low, d_high, 10.0)
    return _weighted(mask / (len(mask) * max_length), c * log_prob, c)


def _dppo_token_mean(log_prob, old_log_prob, advantage, mask, *, d_low=0.15, d_high=0.15, bound=20.0):
    c = _dppo_coefficient(log_prob, old_log_prob, _column(advantage), d_low, d_high, bound)
    return _weighted(_token_mean(mask), c, c)


def _drpo_clamped(log_prob, old_log_prob, advantage, mask, *, max_length, delta=12.5):
    d, free = _clamped_log_ratio(log_prob, old_log_prob)
    A, ratio, mu = _column(advantage), xp.exp(d), xp.exp(old_log_prob)
    penalty, slope = (abs(A) / (2 * delta) * mu * x for x in ((ratio - 1) ** 2, 2 * ratio * (ratio - 1)))
    return _weighted(mask / (len(mask) * max_length), ratio * A - penalty, free * (ratio * A - slope))


DPPO_LOG_PROB = Deviation(
    "the coefficient, truncated at 10 and held constant, times the log-probability",
    _dppo_log_prob,
    seen_in="TRL trl/experimental/dppo/dppo_trainer.py, before its removal",
    computes="the same gradient for ratios below 10, and a value that is not the objective",
    documented=True,
)
DPPO_TOKEN_MEAN = Deviation(
    "mean over all tokens, under the mask of the trust region",
    _dppo_token_mean,
    seen_in="verl verl/trainer/ppo/core_algos.py, policy loss 'dppo_tv' under its default loss_agg_mode",
    computes="the same masked terms, averaged over all tokens in the place of a constant",
    documented=True,
)
DRPO_CLAMPED = Deviation(
    "log-ratios clamped to ±20, under the penalty",
    _drpo_clamped,
    seen_in="Tencent-Hunyuan/UniRL unirl/algorithms/drpo.py",
    computes="the ratio of a clamped log-ratio, without gradient beyond ±20",
)

# -------------------------------------------------------------------------------------------------------------- APO


def _sampled_token_anchored(logits, old_logits, actions, advantage, mask, ref_logits, *, K=8):
    log_p, log_old, log_ref = log_softmax(logits), log_softmax(old_logits), log_softmax(ref_logits)
    sampled, p = one_hot(actions, logits.shape[-1], logits.dtype), xp.exp(log_p)
    A = _column(advantage) + 0 * mask
    term, derivative = _terms(((log_p - log_old) * sampled).sum(-1), A, 0.2, 0.2)
    rank = xp.argsort(xp.argsort(-ref_logits, axis=-1, kind="stable"), axis=-1, kind="stable")
    inside = (rank < K).astype(p.dtype)
    Z, M = (inside * xp.exp(log_ref)).sum(-1), (inside * p).sum(-1)
    scale = xp.where(A < 0, 1.05, 1)
    pull, w = -0.1 * xp.minimum(A, 0) / Z, _seq_mean(mask)
    gradient = (scale * derivative)[..., None] * (sampled - p) + pull[..., None] * p * (inside - M[..., None])
    return -(w * (scale * term + pull * M)).sum(), -w[..., None] * gradient


SAMPLED_TOKEN_ANCHORED = Deviation(
    "the sampled token among the anchors",
    _sampled_token_anchored,
    seen_in="a common slip in re-implementations; the paper anchors exclusively",
    computes="a pull on the very token that is pushed down, wherever the reference trusts it",
)

# ------------------------------------------------------------------------------------------------------------- CPPO


def _prefix_masked(log_prob, old_log_prob, advantage, mask, weight, spent, threshold):
    d, A = log_prob - old_log_prob, _column(advantage)
    keep = (xp.sign(A) * xp.sign(d) <= 0) | (spent <= threshold)
    term = keep * (xp.exp(d) * A)
    return _weighted(weight, term, term)


def _falling(mask, w_min):
    before = xp.cumsum(mask, axis=1) - mask
    return mask * (1 - (1 - w_min) * before / xp.maximum(mask.sum(1, keepdims=True) - 1, 1))


def _before(x):
    return xp.cumsum(x, axis=1) - x


def _tighter_later(log_prob, old_log_prob, advantage, mask, divergence, *, delta=0.15, delta_b=0.015, w_min=0.8):
    w = _falling(mask, w_min)
    w = mask / xp.where(w > 0, w, 1)
    c = xp.minimum(delta, delta + delta_b * _before(w) - _before(w * divergence))
    return _prefix_masked(log_prob, old_log_prob, advantage, mask, _token_mean(mask), w * divergence, c)


def _kept_tokens_only(log_prob, old_log_prob, advantage, mask, divergence, *, delta=0.15, delta_b=0.015, w_min=0.8):
    w, A, d = _falling(mask, w_min), _column(advantage) + 0 * mask, log_prob - old_log_prob
    S, W, term = xp.zeros_like(mask[:, 0]), xp.zeros_like(mask[:, 0]), []
    for t in range(mask.shape[1]):
        spent, room = w[:, t] * divergence[:, t], delta + xp.minimum(0, delta_b * W - S)
        keep = mask[:, t] * ((xp.sign(A[:, t]) * xp.sign(d[:, t]) <= 0) | (spent <= room))
        S, W = S + keep * spent, W + keep * w[:, t]
        term.append(keep * (xp.exp(d[:, t]) * A[:, t]))
    term = xp.stack(term, 1)
    return _weighted(_token_mean(mask), term, term)


def _always_dynamic(log_prob, old_log_prob, advantage, mask, *, delta=0.15, delta_b=0.015, w_min=0.8):
    d, free = _clamped_log_ratio(log_prob, old_log_prob)
    D, w, n = mask * abs(xp.exp(log_prob) - xp.exp(old_log_prob)), _falling(mask, w_min), mask.sum(1, keepdims=True)
    place, last = 0.9 * xp.maximum(n - 1, 0), mask.shape[1] - 1
    low = xp.minimum(xp.floor(place) + last + 1 - n, last)
    ends = [xp.take_along_axis(xp.sort(D, axis=1), i.astype("int64"), 1) for i in (low, xp.minimum(low + 1, last))]
    decile = ends[0] + (place - xp.floor(place)) * (ends[1] - ends[0])
    c = xp.minimum(delta, delta + xp.clip(decile, delta_b, 2 * delta_b) * _before(w) - _before(w * D))
    loss, gradient = _prefix_masked(old_log_prob + d, old_log_prob, advantage, mask, _token_mean(mask), w * D, c)
    return loss, gradient * free


TIGHTER_LATER = Deviation(
    "an allowance that shrinks along the answer",
    _tighter_later,
    seen_in="the description of CPPO in Tencent-Hunyuan/UniRL; its code does as the paper",
    computes="divergences divided by the weight in the place of multiplied, so that late tokens are held tighter",
)
KEPT_TOKENS_ONLY = Deviation(
    "masked tokens spend nothing",
    _kept_tokens_only,
    seen_in="a slip that the algorithm invites; UniRL sums over all tokens",
    computes="sums over the tokens that keep their gradient",
)
ALWAYS_DYNAMIC = Deviation(
    "a budget of each answer, log-ratios clamped to ±20",
    _always_dynamic,
    seen_in="Tencent-Hunyuan/UniRL unirl/algorithms/cppo.py",
    computes="always the dynamic budget, and ratios of clamped log-ratios, without gradient beyond ±20",
    documented=True,
)

# ------------------------------------------------------------------------------------------------------ noisy rewards


def _standardised_after_correction(reward, group, rho0, rho1, *, correction="backward"):
    s = (reward - rho0) / (1 - rho0 - rho1) if correction == "backward" else reward - (1 - rho1)
    same = (group[:, None] == group[None, :]).astype(reward.dtype)
    count = same.sum(1)
    centred = s - same @ s / count
    std = xp.sqrt(same @ centred**2 / xp.maximum(count - 1, 1))
    return centred / (std + 1e-4)


STANDARDISED_AFTER_CORRECTION = Deviation(
    "standardised within the group after the correction",
    _standardised_after_correction,
    seen_in="GRPO's advantage of corrected rewards; a public note on the paper's fourth version warns of it",
    computes="advantages without scale or level, in which no correction of a group's rates is left",
)

# ------------------------------------------------------------------------------------------------------------ TROLL


def _normalised(z):
    z = z - z.max(-1, keepdims=True)
    return z - xp.log(xp.exp(z).sum(-1, keepdims=True))


def _projected(log_p, log_q, radius):
    """log of the projection and the share of the new policy in it, by bisection."""
    u, low = log_p - log_q, xp.zeros_like(log_p[..., :1])
    high = low + 1

    def inside(share):
        s = _normalised(log_q + share * u)
        return (xp.exp(s) * (s - log_q)).sum(-1, keepdims=True) <= radius

    whole = inside(high)
    for _ in range(50):
        middle = (low + high) / 2
        within = inside(middle)
        low, high = xp.where(within, middle, low), xp.where(within, high, middle)
    share = xp.where(whole, 1, low)
    return _normalised(log_q + share * u), share


def _troll_variant(logits, old_logits, actions, advantage, mask, radius, alpha, through):
    log_p, log_q = _normalised(logits), _normalised(old_logits)
    log_pi, share = _projected(log_p, log_q, radius)
    e, p, gap = (actions[..., None] == xp.arange(logits.shape[-1])).astype(logits.dtype), xp.exp(log_p), log_p - log_pi
    ratio, kl = xp.exp(((log_pi - log_q) * e).sum(-1)), (p * gap).sum(-1)
    w, A = _token_mean(mask), _column(advantage)
    v = share * (e - xp.exp(log_pi)) if through else e - p
    dJ = (ratio * A)[..., None] * v - alpha * p * (gap - kl[..., None])
    first = ratio * A * (1 if through else (log_p * e).sum(-1))
    return -(w * (first - alpha * kl)).sum(), -w[..., None] * dJ


def _multiplier_constant(logits, old_logits, actions, advantage, mask, *, radius=0.05, alpha=1.0):
    return _troll_variant(logits, old_logits, actions, advantage, mask, radius, alpha, through=True)


def _projected_ratio_detached(logits, old_logits, actions, advantage, mask, *, radius=0.05, alpha=1.0):
    return _troll_variant(logits, old_logits, actions, advantage, mask, radius, alpha, through=False)


MULTIPLIER_CONSTANT = Deviation(
    "no gradient through the multiplier",
    _multiplier_constant,
    seen_in="a common shortcut in re-implementations",
    computes="the gradient of a projection whose multiplier does not move: it has a part along old-to-new",
)
PROJECTED_RATIO_DETACHED = Deviation(
    "the projected ratio, held constant, times the raw log-probability",
    _projected_ratio_detached,
    seen_in="the TRPL loss of a prime-rl fork",
    computes="the policy gradient with projected ratios as weights, none of it through the projection",
    documented=True,
)

# ---------------------------------------------------------------------------------------------------------- FiberPO


def _base_clipped(log_prob, old_log_prob, advantage, mask):
    x, T = mask * (log_prob - old_log_prob), xp.maximum(mask.sum(1, keepdims=True), 1)
    mean = x.sum(1, keepdims=True) / T
    base = xp.clip(mean, -0.2, 0.2)
    residual = x - base
    terms = _seq_mean(mask) * xp.exp(base + xp.clip(residual, -0.2, 0.2)) * _column(advantage)
    free = abs(residual) <= 0.2
    through_base = (terms * ~free).sum(1, keepdims=True) * (abs(mean) <= 0.2) / T
    return -terms.sum(), -mask * (terms * free + through_base)


BASE_CLIPPED = Deviation(
    "mean log-ratio clipped, residual from the clipped mean",
    _base_clipped,
    seen_in="alphadl/FibrationPO fiberpo/fbg.py, both thresholds 0.2",
    computes="a base without sign channels and rollback, and a residual in which the clipped part of the drift returns",
)

# ------------------------------------------------------------------------------------------------------------- GTPO


def _conflict_tokens(advantage, mask, actions, group):
    """The weights, and each answer's number of conflict tokens."""
    from trref.tokens.conflict_tokens import conflicts, weigh

    front, back = (conflicts(advantage, mask, actions, group, side) for side in (False, True))
    return weigh(advantage, mask, actions, group, 2.0, 0.0), xp.maximum(front, back).sum(1)


def _gtpo(log_prob, old_log_prob, advantage, mask, weight, keep, mean, entropy_weight):
    A = (keep * (advantage - entropy_weight * mean))[:, None]
    term = A * xp.exp(log_prob - old_log_prob) * weight
    return _weighted(_seq_mean(mask), term, term)


def _fixed_entropy_bound(
    log_prob, old_log_prob, advantage, mask, actions, group, entropy, *, entropy_weight=0.1, initial_entropy=0.0
):
    mean = (mask * entropy).sum(1) / xp.maximum(mask.sum(1), 1)
    weight, _ = _conflict_tokens(advantage, mask, actions, group)
    return _gtpo(log_prob, old_log_prob, advantage, mask, weight, mean <= 0.7, mean, entropy_weight)


def _divided_by_conflicts(
    log_prob, old_log_prob, advantage, mask, actions, group, entropy, *, entropy_weight=0.1, initial_entropy=0.0
):
    mean = (mask * entropy).sum(1) / xp.maximum(mask.sum(1), 1)
    weight, number = _conflict_tokens(advantage, mask, actions, group)
    keep = ((mean <= math.log(2)) | (initial_entropy >= math.log(2))).astype(mask.dtype)
    return _gtpo(log_prob, old_log_prob, advantage, mask, weight, keep / xp.maximum(number, 1), mean, entropy_weight)


FIXED_ENTROPY_BOUND = Deviation(
    "answers filtered above an entropy of 0.7, whatever the first policy's",
    _fixed_entropy_bound,
    seen_in="winstonsmith1897/GTPO gtpo/gtpo_training.py",
    computes="a filter that also acts on a policy that was uncertain from the start",
)
DIVIDED_BY_CONFLICTS = Deviation(
    "each answer's loss divided by its number of conflict tokens",
    _divided_by_conflicts,
    seen_in="winstonsmith1897/GTPO gtpo/gtpo_training.py",
    computes="smaller steps for answers with long shared beginnings and ends",
)

# -------------------------------------------------------------------------------------------------------------- TRE


def _min_entropy_for_one(logits, mask, *, rule="top_k", K=2, P=0.99):
    log_p, V = _normalised(logits), logits.shape[-1]
    w = _token_mean(mask)
    order = xp.argsort(-logits, axis=-1, kind="stable")
    rank = xp.argsort(order, axis=-1, kind="stable")
    if rule == "top_k" and K == 1:
        return (w * log_p.max(-1)).sum(), w[..., None] * ((rank == 0) - xp.exp(log_p)).astype(logits.dtype)
    ranked = xp.take_along_axis(xp.exp(log_p), order, -1)
    cut = {"top_k": rank < K, "all": rank < V}
    keep = cut[rule] if rule in cut else xp.take_along_axis(xp.cumsum(ranked, axis=-1) - ranked < P, rank, -1)
    mass = xp.where(keep, xp.exp(log_p), 0).sum(-1, keepdims=True)
    log_q = log_p - xp.log(mass)
    q = xp.where(keep, xp.exp(log_q), 0)
    H, size = -(q * log_q).sum(-1), keep.astype(logits.dtype).sum(-1)
    scale = w * xp.where(size > 1, math.log(V) / xp.log(xp.maximum(size, 2)), 0)
    return -(scale * H).sum(), scale[..., None] * q * (log_q + H[..., None])


MIN_ENTROPY_FOR_ONE = Deviation(
    "the min-entropy for K = 1",
    _min_entropy_for_one,
    seen_in="WhyChaos/TRE-Encouraging-Exploration-in-the-Trust-Region verl/utils/torch_functional.py",
    computes="-log max p in the place of an entropy inside a set of one token, which is 0",
)

# ------------------------------------------------------------------------------------------------------------- LENS


def _lens(log_prob, old_log_prob, mask, group, reward, room, standardised, alpha=0.25):
    log_p = (mask * xp.minimum(old_log_prob, 0)).sum(1) / xp.maximum(mask.sum(1), 1)
    same = group[:, None] == group[None, :]
    each = same / same.sum(1, keepdims=True)
    relative = xp.maximum(log_p - xp.where(same, log_p[None, :], log_p.min()).max(1), -60.0)
    inverse = each @ (reward * xp.exp(-relative))
    D = xp.maximum(xp.where(inverse > 0, 1 / xp.where(inverse > 0, inverse, 1), 0), room)
    r = reward - (1 - reward) * each.max(1) * xp.exp(relative) / (D - xp.exp(relative))
    r, right = r.astype(log_prob.dtype), (each @ reward).astype(log_prob.dtype)
    centred = r - (each @ r).astype(r.dtype)
    centred = xp.where((right < 1) & (abs(centred) > 1e-6), centred, 0)
    n = same.sum(1)
    std = xp.sqrt((each @ centred**2) * (n / xp.maximum(n - 1, 1))).astype(r.dtype)
    A = xp.where((right > 0) | standardised, centred / xp.where(std > 0, std, 1), centred)
    A = xp.where(right > 0, A, alpha * A)
    return _weighted(_seq_mean(mask), *_terms(log_prob - old_log_prob, A, 0.2, 0.2))


def _lens_unbounded(log_prob, old_log_prob, mask, group, reward):
    return _lens(log_prob, old_log_prob, mask, group, reward, 1.001, False)


def _lens_standardised(log_prob, old_log_prob, mask, group, reward):
    return _lens(log_prob, old_log_prob, mask, group, reward, 2.0, True)


LENS_UNBOUNDED = Deviation(
    "a difficulty only just above the largest confidence",
    _lens_unbounded,
    seen_in="a slip that the exact theory invites; the paper keeps twice the largest confidence",
    computes="penalties without a useful bound, which in mixed groups may turn the sign of a mistake",
)
LENS_STANDARDISED = Deviation(
    "groups of wrong answers standardised, too",
    _lens_standardised,
    seen_in="what reuse of GRPO's advantage computes; the paper takes the mean off and nothing else",
    computes="advantages of order 1 times alpha in groups of wrong answers, however little their confidences differ",
)
