"""What people argue about, written as they would write it: each function is identified as what it is, and nothing else.

None of these shares a line with the references.
"""

import functools

import numpy as np
import pytest

from trref.conformance import identify


def _surrogate(log_ratio, advantage, mask, low=0.2, high=0.2):
    A = np.broadcast_to(advantage[:, None] if advantage.ndim == 1 else advantage, mask.shape)
    ratio = np.exp(log_ratio)
    return np.minimum(ratio * A, np.clip(ratio, 1 - low, 1 + high) * A)


def _per_answer(per_token, mask):
    """The mean over each answer's tokens, then over the answers."""
    rows = [row[m == 1].mean() if m.any() else 0.0 for row, m in zip(per_token, mask, strict=True)]
    return -sum(rows) / len(rows)


def _per_token(per_token, mask):
    return -per_token[mask == 1].sum() / max(int((mask == 1).sum()), 1)


def grpo(log_prob, old_log_prob, advantage, mask):
    return _per_answer(_surrogate(log_prob - old_log_prob, advantage, mask), mask)


def grpo_of_all_tokens(log_prob, old_log_prob, advantage, mask):
    return _per_token(_surrogate(log_prob - old_log_prob, advantage, mask), mask)


def dapo(log_prob, old_log_prob, advantage, mask):
    return _per_token(_surrogate(log_prob - old_log_prob, advantage, mask, high=0.28), mask)


def dapo_with_clamp(log_prob, old_log_prob, advantage, mask):
    return _per_token(_surrogate(np.clip(log_prob - old_log_prob, -20, 20), advantage, mask, high=0.28), mask)


def dr_grpo(log_prob, old_log_prob, advantage, mask, max_length=8):
    s = _surrogate(log_prob - old_log_prob, advantage, mask)
    return -np.where(mask == 1, s, 0).sum() / (len(mask) * max_length)


def gspo(log_prob, old_log_prob, advantage, mask):
    d = [(x[m == 1].mean() if m.any() else 0.0) for x, m in zip(log_prob - old_log_prob, mask, strict=True)]
    return _per_answer(_surrogate(np.array(d)[:, None] * np.ones_like(mask), advantage, mask, 3e-4, 4e-4), mask)


def without_minimum(log_prob, old_log_prob, advantage, mask):
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    return _per_answer(np.clip(np.exp(log_prob - old_log_prob), 0.8, 1.2) * A * np.ones_like(mask), mask)


def with_clamp(log_prob, old_log_prob, advantage, mask):
    return _per_answer(_surrogate(np.clip(log_prob - old_log_prob, -20, 20), advantage, mask), mask)


def dual_clip(log_prob, old_log_prob, advantage, mask):
    A = np.broadcast_to(advantage[:, None] if advantage.ndim == 1 else advantage, mask.shape)
    s = _surrogate(log_prob - old_log_prob, advantage, mask)
    return _per_answer(np.where(A < 0, np.maximum(s, 3 * A), s), mask)


def k1(log_prob, mask, ref_log_prob):
    return -_per_token(log_prob - ref_log_prob, mask)


def k2(log_prob, mask, ref_log_prob):
    return -_per_token((log_prob - ref_log_prob) ** 2 / 2, mask)


def k3(log_prob, mask, ref_log_prob):
    d = ref_log_prob - log_prob
    return -_per_token(np.exp(d) - d - 1, mask)


def _weighed(value, coefficient, mask):
    return value, np.where(mask == 1, coefficient, 0.0) / max(mask.sum(), 1)


def k1_differentiated(log_prob, mask, ref_log_prob):
    return _weighed(k1(log_prob, mask, ref_log_prob), 1.0, mask)


def k2_differentiated(log_prob, mask, ref_log_prob):
    return _weighed(k2(log_prob, mask, ref_log_prob), log_prob - ref_log_prob, mask)


def k3_differentiated(log_prob, mask, ref_log_prob):
    return _weighed(k3(log_prob, mask, ref_log_prob), 1 - np.exp(ref_log_prob - log_prob), mask)


def k3_with_the_gradient_of_k2(log_prob, mask, ref_log_prob):
    d = ref_log_prob - log_prob
    return _weighed(-_per_token(np.minimum(np.exp(d) - d - 1, 10), mask), -d, mask)


def k1_as_a_reward(log_prob, mask, ref_log_prob):
    charge = log_prob - ref_log_prob
    return _weighed(-_per_token(charge * log_prob, mask), charge, mask)


def _standardised(reward, group, ddof, eps=0.0):
    result = np.zeros_like(reward)
    for g in np.unique(group):
        r = reward[group == g]
        spread = r.std(ddof=ddof) if len(r) > ddof else 0.0
        result[group == g] = (r - r.mean()) / (spread + eps) if spread > 1e-12 * abs(r).max() else 0.0
    return result


def sample_deviation(reward, group):
    return _standardised(reward, group, 1)


def population_deviation(reward, group):
    return _standardised(reward, group, 0)


def mean_only(reward, group):
    return np.array([r - reward[group == g].mean() for r, g in zip(reward, group, strict=True)])


ARGUMENTS = {
    "token_objective": {
        grpo: "grpo.grpo",
        grpo_of_all_tokens: "grpo.grpo, deviation 'mean over all tokens of the batch'",
        dapo: "dapo.dapo_over_batch",
        dapo_with_clamp: "dapo.dapo_over_batch, deviation 'log-ratios clamped to ±20'",
        dr_grpo: "dr_grpo.dr_grpo",
        gspo: "gspo.gspo",
        without_minimum: "grpo.grpo, deviation 'without the minimum'",
        with_clamp: "grpo.grpo, deviation 'log-ratios clamped to ±20'",
        dual_clip: "dual_clip.dual_clip",
        k1: "kl_estimators.kl_in_loss [k1]",
        k2: "kl_estimators.kl_in_loss [k2]",
        k3: "kl_estimators.kl_in_loss",
        k1_differentiated: "kl_estimators.kl_in_loss [k1]",
        k2_differentiated: "kl_estimators.kl_in_loss [k2]",
        k3_differentiated: "kl_estimators.kl_in_loss",
        k3_with_the_gradient_of_k2: "kl_estimators.kl_in_loss, deviation 'value of k3, gradient of k2'",
        k1_as_a_reward: "kl_estimators.kl_in_reward",
    },
    "group_reward": {
        sample_deviation: "grpo.group_advantage",
        population_deviation: "grpo.group_advantage [population]",
        mean_only: "grpo.group_advantage [none]",
    },
}
PAIRS = [(interface, f, text) for interface, all_ in ARGUMENTS.items() for f, text in all_.items()]


@functools.cache
def _exact(interface, f):
    found = identify(f, interface)
    return tuple(m.candidate for m in found.exact), str(found)


@pytest.mark.parametrize(("interface", "f", "text"), PAIRS, ids=[f.__name__ for _, f, _ in PAIRS])
def test_identified(interface, f, text):
    exact, message = _exact(interface, f)
    named = [c for c in exact if c.text == text or c.text.startswith(f"{text} (")]
    assert named, message
    # whatever else fits is the same function by a declared limit, or a deviation that computes another's equation
    for candidate in exact:
        limits = {limit.to for c in (candidate, *named) for limit in c.record.limits}
        same = candidate.record is named[0].record or {candidate.record.name, named[0].record.name} & limits
        assert same or candidate.deviation or named[0].deviation, message


def test_they_are_told_apart():
    """No two of them share an exact match, but for a value that comes with and without its gradient."""
    seen = {}
    for interface, f, text in PAIRS:
        for candidate in _exact(interface, f)[0]:
            assert seen.setdefault(candidate.text, text) == text, f"{f.__name__} is taken for {seen[candidate.text]}"
