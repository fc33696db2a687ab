"""The training loops of the tutorials take the gradient of what they say."""

import numpy as np

from trref.checks import check_gradient
from trref.experiments.preferences import train_letters
from trref.experiments.training import Rule
from trref.nn.heads import log_softmax
from trref.preferences.dpo import length_normalised


def test_letters():
    rng = np.random.default_rng(0)
    chosen, rejected = rng.integers(1, 5, (2, 6, 4)).astype(float)
    theta, ref_theta, seen = rng.standard_normal(4), rng.standard_normal(4), []

    def keep(params, grads, state, *, lr):
        seen.append(grads[0])
        return params, state

    def loss(theta):
        log_p, ref = log_softmax(theta), log_softmax(ref_theta)
        sums = [counts @ law for law in (log_p, ref) for counts in (chosen, rejected)]
        return length_normalised(*sums, chosen.sum(1), rejected.sum(1), beta=1.5)[0]

    rule = Rule(lambda params: None, keep)
    options = {"hyper": {"beta": 1.5}, "lr": 0.0, "steps": 1, "rule": rule}
    run = train_letters(length_normalised, chosen, rejected, theta, ref_theta=ref_theta, **options)
    assert run.losses[0] == loss(theta)
    check_gradient(loss, theta, seen[0], rng=rng)
