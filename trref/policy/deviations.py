"""What public code computes in the place of the papers' equations: small runnable variants."""

from trref.backend import xp
from trref.catalog import Deviation
from trref.nn.heads import categorical_log_prob

__all__ = [
    "BETA_PROPORTIONAL",
    "GAE_BOOTSTRAPS_THE_LAST_STEP",
    "GAE_FLAGS_OF_THE_NEXT_ROW",
    "GAE_TRUNCATION_AS_TERMINATION",
    "KL_IN_THE_ADVANTAGE",
    "RETURN_MONTE_CARLO",
]

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
