"""A loss that gives nonsense is named, at whichever call it does so."""

import numpy as np
import pytest

from trref.sharpness import adversarial_model_perturbation as amp
from trref.sharpness import asam, gam, sam
from trref.sharpness import entropy_sgd as esgd
from trref.sharpness import gradient_regularization as gr

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

SPOILERS = {
    "nothing": lambda loss, g: None,
    "a name": lambda loss, g: "loss",
    "the loss alone": lambda loss, g: loss,
    "no loss": lambda loss, g: (None, g),
    "a loss in words": lambda loss, g: ("low", g),
    "losses": lambda loss, g: (np.full(2, loss), g),
    "no gradient": lambda loss, g: (loss, None),
    "a list": lambda loss, g: (loss, g.tolist()),
    "a longer gradient": lambda loss, g: (loss, np.append(g, 1.0)),
    "a column": lambda loss, g: (loss, g[:, None]),
    "single precision": lambda loss, g: (loss, g.astype(np.float32)),
    "a loss that is no number": lambda loss, g: (np.nan, g),
    "an infinite loss": lambda loss, g: (np.float64(np.inf), g),
    "a gradient with NaN": lambda loss, g: (loss, np.where(np.arange(len(g)) == 0, np.nan, g)),
    "an infinite gradient": lambda loss, g: (loss, np.full_like(g, -np.inf)),
}


class Spoiled:
    """Half the squared norm on five samples, right up to some call, and spoiled from there on."""

    def __init__(self, spoil, after, calls=None):
        self.spoil, self.after, self.calls = spoil, after, [0] if calls is None else calls

    def __call__(self, theta):
        self.calls[0] += 1
        right = theta @ theta / 2, theta.copy()
        return right if self.calls[0] <= self.after else self.spoil(*right)

    def __len__(self):
        return 5

    def on(self, rows):
        return self


FUNCTIONS = {
    "sam.worst_perturbation": (sam.worst_perturbation, 1),
    "sam.perturbed_gradient": (sam.perturbed_gradient, 2),
    "sam.share_gradient": (lambda loss, theta: sam.share_gradient(loss, theta, share=3), 4),
    "sam.sharpness": (lambda loss, theta: sam.sharpness(loss, theta, steps=2), 4),
    "asam.worst_perturbation": (asam.worst_perturbation, 1),
    "asam.perturbed_gradient": (asam.perturbed_gradient, 2),
    "entropy_sgd.langevin_average": (
        lambda loss, theta: esgd.langevin_average(loss, theta, np.ones((2, len(theta)))),
        2,
    ),
    "gam.four_displacements": (gam.four_displacements, 4),
    "gam.gam_accelerated": (gam.gam_accelerated, 4),
    "gradient_regularization.flooding": (gr.flooding, 1),
    "gradient_regularization.finite_difference_gradient": (gr.finite_difference_gradient, 2),
    "amp.worst_perturbation": (lambda loss, theta: amp.worst_perturbation(loss, theta, steps=2), 2),
    "amp.perturbed_gradient": (amp.perturbed_gradient, 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@given(spoiler=st.sampled_from(sorted(SPOILERS)), after=st.integers(0, 3), n=st.integers(1, 4))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_what_a_loss_returns_is_named(name, spoiler, after, n):
    f, calls = FUNCTIONS[name]
    theta = np.linspace(-1.0, 2.0, n)
    if after >= calls:
        f(Spoiled(SPOILERS[spoiler], after), theta)
        return
    with pytest.raises((TypeError, ValueError), match="loss_and_grad"):
        f(Spoiled(SPOILERS[spoiler], after), theta)


def test_a_loss_without_samples_has_no_shares():
    with pytest.raises(TypeError, match=r"loss_and_grad must have .*on\(\)"):
        sam.share_gradient(lambda theta: (theta @ theta, 2 * theta), np.ones(2), share=1)
