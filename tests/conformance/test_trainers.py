"""What trainers of language models compute, in the words of this project: `verify` names each by its deviation.

The trainers themselves, where they can be installed, are judged in tests/peers.
"""

import numpy as np
import pytest

from trref.conformance import Options, verify

SIZES = (4, 8)


def _per_token(advantage):
    return advantage if advantage.ndim == 2 else advantage[:, None]


def _clipped(log_ratio, advantage, low, high, dual=None, kind=float):
    r = np.exp(log_ratio.astype(kind)).astype(float)
    A = _per_token(advantage)
    term = np.minimum(r * A, np.clip(r, 1 - low, 1 + high) * A)
    return term if dual is None else np.where(A < 0, np.maximum(term, dual * A), term)


def _tokens(term, mask):
    return (term * mask).sum() / max(mask.sum(), 1)


def _answers(term, mask):
    return ((term * mask).sum(1) / np.maximum(mask.sum(1), 1)).mean()


def clamped(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
    d = np.clip(log_prob - old_log_prob, -20, 20)
    return -_tokens(_clipped(d, advantage, clip_low, clip_high), mask)


def clamped_and_dual(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
    d = np.clip(log_prob - old_log_prob, -20, 20)
    return -_tokens(_clipped(d, advantage, clip_low, clip_high, dual=3.0), mask)


def padding_summed(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.28):
    term = _clipped(log_prob - old_log_prob, advantage, clip_low, clip_high)
    return -np.broadcast_to(term, mask.shape).sum() / max(mask.sum(), 1)


def masked_outside(log_prob, old_log_prob, advantage, mask):
    r = np.exp(log_prob - old_log_prob)
    kept = mask * (r >= 1 / 8) * (r <= 8)
    return -(kept * r * _per_token(advantage)).sum() / max(mask.sum(), 1)


def dual_by_the_clip(log_prob, old_log_prob, advantage, mask, clip=0.2):
    return -_answers(_clipped(log_prob - old_log_prob, advantage, clip, clip, dual=1 + 2 * clip), mask)


def ratio_in_float32(log_prob, old_log_prob, advantage, mask, clip=0.2):
    d = np.clip(log_prob - old_log_prob, -20, 20)
    return -_answers(_clipped(d, advantage, clip, clip, kind=np.float32), mask)


def of_answers_and_dual(log_prob, old_log_prob, advantage, mask, clip_low=3e-4, clip_high=4e-4):
    d = ((log_prob - old_log_prob) * mask).sum(1) / np.maximum(mask.sum(1), 1)
    d = np.clip(d, -20, 20)[:, None] * mask
    return -_answers(_clipped(d, advantage, clip_low, clip_high, dual=3.0), mask)


def estimates_clamped(log_prob, mask, ref_log_prob, estimator="k3"):
    d = log_prob - ref_log_prob
    e = np.exp(-np.maximum(d, -10))
    k = {"k1": d, "k2": d**2 / 2, "k3": e - 1 + np.maximum(d, -10)}[estimator]
    return _tokens(np.clip(k, -10, 10), mask)


TRAINERS = [
    ("dapo.dapo_over_batch", clamped, "'log-ratios clamped to ±20'"),
    ("dapo.dapo_over_batch", clamped_and_dual, "'dual clip at 3 and log-ratios clamped to ±20'"),
    ("dapo.dapo_over_batch", padding_summed, "'padding counts in the sum'"),
    ("dapo.dapo_over_batch", masked_outside, "'tokens outside [1/8, 8] are masked, the others not clipped'"),
    ("grpo.grpo", dual_by_the_clip, "'dual clip at 1 + 2 clip'"),
    ("grpo.grpo", ratio_in_float32, "'log-ratios clamped to ±20'"),
    ("gspo.gspo", of_answers_and_dual, "'dual clip at 3 and the answer's log-ratio clamped to ±20'"),
    ("kl_estimators.kl_in_loss", estimates_clamped, "'every estimate clamped to ±10'"),
]


@pytest.mark.parametrize(("name", "loss", "text"), TRAINERS, ids=[f.__name__ for _, f, _ in TRAINERS])
def test_it_is_named(name, loss, text):
    verdict = verify(name, loss, Options(gradient=False), sizes=SIZES)
    assert verdict.status == "deviates"
    assert any(text in str(e) for e in verdict.explanations), str(verdict)


def test_rounding_beside_a_deviation_is_said():
    verdict = verify("grpo.grpo", ratio_in_float32, Options(gradient=False), sizes=SIZES)
    assert "float32 inside, or a small number" in str(verdict), str(verdict)


def test_what_is_right_elsewhere_is_not_explained():
    """Only the empty batch differs: nothing is said of the others, be they at a kink."""

    def without_padding(value, old_value, value_target, mask, clip=0.2):
        kept = mask > 0
        v, old, target = value[kept], old_value[kept], value_target[kept]
        clipped = old + np.clip(v - old, -clip, clip)
        with np.errstate(all="ignore"):
            return np.float64(0.5) * np.maximum((v - target) ** 2, (clipped - target) ** 2).sum() / v.size

    verdict = verify("value_loss.value_loss", without_padding, sizes=SIZES)
    assert verdict.status == "conforms except" and [e.name for e in verdict.exemptions] == ["nonempty"]
    assert not verdict.explanations, str(verdict)
