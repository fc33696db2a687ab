"""What public code computes in the place of the papers' equations: small runnable variants."""

from trref.backend import xp
from trref.catalog import Deviation

__all__ = [
    "GAE_TRUNCATION_AS_TERMINATION",
    "PPO_POPULATION_STANDARDISED",
    "PPO_SAMPLE_STANDARDISED",
    "PPO_WITHOUT_MINIMUM",
]


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


def _truncation_as_termination(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    done = xp.maximum(terminated, truncated)
    delta = reward + gamma * (1 - done) * next_value - value
    carry, advantages = xp.zeros_like(delta[0]), []
    for t in reversed(range(len(delta))):
        carry = delta[t] + gamma * lam * (1 - done[t]) * carry
        advantages.append(carry)
    return xp.stack(advantages[::-1])


GAE_TRUNCATION_AS_TERMINATION = Deviation(
    "truncation treated as termination",
    _truncation_as_termination,
    seen_in="CleanRL ppo_continuous_action.py, openai/baselines ppo2/runner.py",
    computes="no bootstrap from the value of the state in which a time limit stopped the episode",
)
