"""What public code computes in the place of the papers' equations: small runnable variants.

Those of the natural gradient and of TRPO are in ``_trust_region_deviations``.
"""

from trref.backend import xp
from trref.catalog import Deviation
from trref.nn.heads import categorical_log_prob

__all__ = [
    "BETA_PROPORTIONAL",
    "GAE_BOOTSTRAPS_THE_LAST_STEP",
    "GAE_FLAGS_OF_THE_NEXT_ROW",
    "GAE_TRUNCATION_AS_TERMINATION",
    "KL_IN_THE_ADVANTAGE",
    "PPO_POPULATION_STANDARDISED",
    "PPO_PRODUCT_CLIPPED",
    "PPO_SAMPLE_STANDARDISED",
    "PPO_WITHOUT_MINIMUM",
    "RETURN_MONTE_CARLO",
    "VALUE_CLIPPED",
    "VALUE_CLIPPED_BRANCH",
    "VALUE_HALVED",
]

# ------------------------------------------------------------------------------------------------------------- ppo


def _clipped(log_prob, old_log_prob, advantage, clip):
    ratio = xp.exp(log_prob - old_log_prob)
    unclipped, clipped = ratio * advantage, xp.clip(ratio, 1 - clip, 1 + clip) * advantage
    N = len(log_prob)
    return -xp.minimum(unclipped, clipped).sum() / N, -xp.where(unclipped <= clipped, unclipped, 0) / N


def _without_minimum(log_prob, old_log_prob, advantage, *, clip=0.2):
    ratio = xp.exp(log_prob - old_log_prob)
    inside = (ratio >= 1 - clip) & (ratio <= 1 + clip)
    N = len(log_prob)
    return -(xp.clip(ratio, 1 - clip, 1 + clip) * advantage).sum() / N, -xp.where(inside, ratio, 0) * advantage / N


def _standardise(advantage, ddof):
    if len(advantage) == 1:
        return advantage
    centred = advantage - advantage.mean()
    return centred / (xp.sqrt((centred**2).sum() / (len(advantage) - ddof)) + 1e-8)


def _sample_standardised(log_prob, old_log_prob, advantage, *, clip=0.2):
    return _clipped(log_prob, old_log_prob, _standardise(advantage, ddof=1), clip)


def _population_standardised(log_prob, old_log_prob, advantage, *, clip=0.2):
    return _clipped(log_prob, old_log_prob, _standardise(advantage, ddof=0), clip)


def _product_clipped(log_prob, old_log_prob, advantage, *, clip=0.2):
    product = xp.exp(log_prob - old_log_prob) * advantage
    clipped = xp.clip(product, 1 - clip, 1 + clip)
    N = len(log_prob)
    return -xp.minimum(product, clipped).sum() / N, -xp.where(product <= clipped, product, 0) / N


PPO_PRODUCT_CLIPPED = Deviation(
    "ratio times advantage clipped",
    _product_clipped,
    seen_in="Pytorch-DPPO, issue 3",
    computes="the interval is applied to ratio * advantage in the place of the ratio",
)

PPO_WITHOUT_MINIMUM = Deviation(
    "without the minimum",
    _without_minimum,
    seen_in="a common slip in re-implementations; none of the five public implementations read has it",
    computes="clip(ratio) * advantage alone, so that a ratio outside the interval never gets a gradient",
)

PPO_SAMPLE_STANDARDISED = Deviation(
    "advantages standardised in the minibatch (sample deviation)",
    _sample_standardised,
    seen_in="Stable-Baselines3 ppo/ppo.py, CleanRL ppo_continuous_action.py",
    computes="the clipped surrogate of (A - mean) / (std + 1e-8) with ddof 1; a minibatch of one is left alone",
    documented=True,
)

PPO_POPULATION_STANDARDISED = Deviation(
    "advantages standardised in the minibatch (population deviation)",
    _population_standardised,
    seen_in="openai/baselines ppo2/model.py",
    computes="the clipped surrogate of (A - mean) / (std + 1e-8) with ddof 0",
    documented=True,
)


def _total(inputs, value_loss, d_value, value_weight, entropy_weight, clip):
    """Assemble the total loss of PPO around another value loss."""
    loss, d_log_prob = _clipped(inputs["log_prob"], inputs["old_log_prob"], inputs["advantage"], clip)
    N = len(d_log_prob)
    total = loss + value_weight * value_loss.sum() / N - entropy_weight * inputs["entropy"].sum() / N
    d_entropy = xp.full_like(inputs["entropy"], -entropy_weight / N)
    return total, (d_log_prob, value_weight * d_value / N, d_entropy)


def _value_clipped(*, value_weight=0.5, entropy_weight=0.01, clip=0.2, **inputs):
    error, inside, clipped_error = _value_errors(inputs, clip)
    worse = clipped_error**2 > error**2
    d_value = xp.where(worse, clipped_error * inside, error)
    return _total(inputs, xp.maximum(error**2, clipped_error**2) / 2, d_value, value_weight, entropy_weight, clip)


def _value_clipped_branch(*, value_weight=0.5, entropy_weight=0.01, clip=0.2, **inputs):
    _, inside, clipped_error = _value_errors(inputs, clip)
    return _total(inputs, clipped_error**2, 2 * clipped_error * inside, value_weight, entropy_weight, clip)


def _value_errors(inputs, clip):
    """The old value is the target minus the advantage, as in every trainer that regresses on lambda-returns."""
    old_value = inputs["value_target"] - inputs["advantage"]
    move = inputs["value"] - old_value
    inside = (abs(move) <= clip).astype(move.dtype)
    clipped = old_value + xp.clip(move, -clip, clip)
    return inputs["value"] - inputs["value_target"], inside, clipped - inputs["value_target"]


def _value_halved(*, value_weight=0.5, entropy_weight=0.01, clip=0.2, **inputs):
    error = inputs["value"] - inputs["value_target"]
    return _total(inputs, error**2 / 2, error, value_weight, entropy_weight, clip)


VALUE_CLIPPED = Deviation(
    "value clipping",
    _value_clipped,
    seen_in="openai/baselines ppo2/model.py, CleanRL ppo_continuous_action.py",
    computes="half the larger of two squared errors, of the value and of the value clipped to old value ± clip;"
    " CleanRL's help calls it the paper's",
)

VALUE_CLIPPED_BRANCH = Deviation(
    "value clipping without the maximum",
    _value_clipped_branch,
    seen_in="Stable-Baselines3 ppo/ppo.py with clip_range_vf (off by default)",
    computes="the squared error of the clipped value alone: no gradient once the value is outside the interval",
    documented=True,
)

VALUE_HALVED = Deviation(
    "half the squared error",
    _value_halved,
    seen_in="CleanRL ppo_continuous_action.py, openai/baselines ppo2/model.py (inside the value coefficient of 0.5)",
    computes="a value loss with a factor 1/2 beside its coefficient",
)


def _kl_in_the_advantage(logits, old_logits, actions, advantage, *, beta=1.0):
    log_prob, d_log_prob = categorical_log_prob(logits, actions)
    old_log_prob = categorical_log_prob(old_logits, actions)[0]
    ratio = xp.exp(log_prob - old_log_prob)
    term = ratio * (advantage - beta * (log_prob - old_log_prob)) / len(ratio)
    return -term.sum(), -term[:, None] * d_log_prob


KL_IN_THE_ADVANTAGE = Deviation(
    "penalty in the reward",
    _kl_in_the_advantage,
    seen_in="verl 0.9.1 verl/trainer/ppo/ray_trainer.py, apply_kl_penalty (of the old policy from a"
    " reference, in the reward), and other trainers of language models",
    computes="an advantage reduced by beta times the sampled log-ratio, a constant of the gradient, instead of the"
    " exact divergence in the objective",
    documented=True,
)


def _beta_proportional(beta, kl, *, target=0.01):
    return beta * (1 + xp.clip(kl / target - 1, -0.2, 0.2))


BETA_PROPORTIONAL = Deviation(
    "proportional controller",
    _beta_proportional,
    seen_in="verl 0.9.1 verl/trainer/ppo/core_algos.py, AdaptiveKLController, after arXiv:1909.08593",
    computes="beta (1 + clip(kl / target - 1, ±0.2) n / horizon), here with n = horizon",
    documented=True,
)

# ------------------------------------------------------------------------------------------------------------- gae


def _advantages(delta, decay):
    carry, advantages = xp.zeros_like(delta[0]), []
    for t in reversed(range(len(delta))):
        carry = delta[t] + decay[t] * carry
        advantages.append(carry)
    return xp.stack(advantages[::-1])


def _truncation_as_termination(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    alive = 1 - xp.maximum(terminated, truncated)
    return _advantages(reward + gamma * alive * next_value - value, gamma * lam * alive)


GAE_TRUNCATION_AS_TERMINATION = Deviation(
    "truncation treated as termination",
    _truncation_as_termination,
    seen_in="CleanRL ppo_continuous_action.py, openai/baselines ppo2/runner.py",
    computes="no bootstrap from the value of the state in which a time limit stopped the episode",
)


def _bootstraps_the_last_step(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    alive = 1 - terminated
    alive[-1] = 1
    decay = gamma * lam * (1 - xp.maximum(terminated, truncated))
    return _advantages(reward + gamma * alive * next_value - value, decay)


GAE_BOOTSTRAPS_THE_LAST_STEP = Deviation(
    "bootstrap from a terminal state at the end of the segment",
    _bootstraps_the_last_step,
    seen_in="Spinning Up pytorch/ppo/ppo.py (its condition is: time limit, or end of the epoch); its TRPO is right",
    computes="the value of the next state even where the last step of the segment terminated",
)


def _flags_of_the_next_row(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    terminated, truncated = (xp.concatenate([f[1:], f[-1:]]) for f in (terminated, truncated))
    decay = gamma * lam * (1 - xp.maximum(terminated, truncated))
    return _advantages(reward + gamma * (1 - terminated) * next_value - value, decay)


GAE_FLAGS_OF_THE_NEXT_ROW = Deviation(
    "flags read one row too late",
    _flags_of_the_next_row,
    seen_in="code after openai/baselines, CleanRL or Stable-Baselines3, which store 'an episode starts here' and read"
    " row t+1, given flags that say 'this transition ended it'",
    computes="the ends of episodes one step too early",
)


def _monte_carlo(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    target, rows = next_value[-1] * (1 - terminated[-1]), []
    for t in reversed(range(len(reward))):
        cut = truncated[t] * (1 - terminated[t])
        target = reward[t] + gamma * (cut * next_value[t] + (1 - cut) * (1 - terminated[t]) * target)
        rows.append(target)
    return xp.stack(rows[::-1])


RETURN_MONTE_CARLO = Deviation(
    "discounted rewards-to-go as value targets",
    _monte_carlo,
    seen_in="Spinning Up pytorch/ppo/ppo.py and tf1/trpo; also the paper's own choice for its value function",
    computes="sums of rewards with a bootstrap where an episode was cut: lambda is 1 whatever the advantages have",
    documented=True,
)
