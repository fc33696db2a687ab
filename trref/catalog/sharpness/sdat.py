"""What is known of `trref.sharpness.sdat`."""

import math

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    Transform,
)
from trref.nn import two_heads
from trref.problems.domains import DomainAdversarial
from trref.problems.networks import ClassifierLoss
from trref.sharpness.sdat import (
    condition_features,
    condition_features_jvp,
    condition_features_vjp,
    discriminator_objective,
    domain_loss,
    generator_objective,
    reversal,
    worst_perturbation,
)


def _game(rng, size):
    sizes = two_heads.Sizes((2, 3 + size % 3, 3), (2,), (2 + size % 2, 1))
    source = rng.standard_normal((size, 2))
    labels = (source[:, 0] + 0.3 * rng.standard_normal(size) > 0).astype(int)
    target = rng.standard_normal((size + 1, 2)) + rng.choice((0.2, 2.0))
    game = DomainAdversarial(source, labels, target, sizes)
    both = two_heads.init(rng, sizes)
    return {
        "game": game,
        "theta": both[: game.size],
        "phi": both[game.size :],
        "perturbation": 0.1 * rng.standard_normal(game.size),
    }


def _small(source, labels, target, scale=1.0):
    """Two inputs, two features, and parameters that are waves."""
    sizes = two_heads.Sizes((2, 2), (2,), (1,))
    game = DomainAdversarial(
        xp.array(source), xp.array(labels), xp.array(target), sizes
    )
    theta = scale * xp.cos(xp.arange(game.size, dtype=float))
    return {
        "game": game,
        "theta": theta,
        "phi": scale * xp.array([1.0, -0.5, 0.2]),
        "perturbation": 0.1 * xp.ones_like(theta),
    }


GAME = Interface(
    "domain_game",
    example=_game,
    edges={
        "one sample each": lambda: _small([[1.0, -0.5]], [1], [[0.3, 2.0]]),
        "target is the source": lambda: _small(
            [[1.0, 0.0], [0.0, -1.0]], [0, 1], [[1.0, 0.0], [0.0, -1.0]]
        ),
        "nothing to ascend": lambda: _small(
            [[1.0, 2.0], [-1.0, 0.5]], [0, 1], [[3.0, 0.0]], scale=0.0
        ),
    },
)
"""``f(game, theta (P), phi (Q), …)``: the losses of a network and of its adversary."""


def _logits(rng, size):
    scale = rng.choice((0.5, 20.0))
    return {
        "source_logit": scale * rng.standard_normal(size),
        "target_logit": scale * rng.standard_normal(size + 3),
    }


def _features(rng, size):
    prob = rng.random((size, 2 + size // 4 % 2)) + 0.01
    return {
        "features": rng.standard_normal((size, 3 + size % 3)),
        "prob": prob / prob.sum(1, keepdims=True),
    }


def _halved(source_logit, target_logit):
    loss, gradient = domain_loss(source_logit, target_logit)
    return loss / 2, type(gradient)(*(g / 2 for g in gradient))


def _domain_where_it_was(
    game,
    theta,
    phi,
    *,
    rho=0.05,
    domain_weight=1.0,
    smooth="task",
    perturbation=None,
):
    """Both losses, and then the domain loss moved back to theta."""
    if perturbation is None:
        how = {"rho": rho, "domain_weight": domain_weight, "smooth": smooth}
        perturbation = worst_perturbation(game, theta, phi, **how)
    task, g = game.task(theta if smooth == "adversarial" else theta + perturbation)
    domain, d, _ = game.domain(theta, phi)
    return task - domain_weight * domain, g - domain_weight * d


def _by_exponentials(progress, *, steepness=1.0):
    return xp.asarray([math.tanh(steepness * s / 2) for s in progress.tolist()])


def _on_the_source(inputs):
    """The domain loss has no weight"""
    game = inputs["game"]
    sizes = (*game.sizes.body, *game.sizes.first)
    loss = ClassifierLoss(game.source, game.labels, sizes, game.activation)
    return inputs, {"loss_and_grad": loss, "theta": inputs["theta"]}


SDAT_MEANS_HALVED = Deviation(
    "means halved",
    _halved,
    seen_in="val-iisc/SDAT, dalib/adaptation/dann.py and cdan.py",
    computes="the mean of the two means, so that the weight counts half",
    documented=True,
)
SDAT_DOMAIN_AT_THETA = Deviation(
    "domain loss at theta",
    _domain_where_it_was,
    seen_in="the paper's objective as printed, and re-implementations that follow it",
    computes="the domain loss and its gradient at theta, not at the perturbed point",
)

METHOD = Method(
    key="rangwani2022closer",
    provenance="confirmed",
    functions=(
        Objective(
            f=domain_loss,
            example=_logits,
            wrt=("source_logit", "target_logit"),
            edges={
                "one each": lambda: {
                    "source_logit": xp.array([0.3]),
                    "target_logit": xp.array([-2.0]),
                },
                "an adversary that knows nothing": lambda: {
                    "source_logit": xp.zeros(3),
                    "target_logit": xp.zeros(2),
                },
                "very sure, and wrong": lambda: {
                    "source_logit": xp.array([-800.0, 1.0]),
                    "target_logit": xp.array([900.0]),
                },
            },
            deviations=(SDAT_MEANS_HALVED,),
        ),
        Objective(
            f=generator_objective,
            interface=GAME,
            wrt="theta",
            stopped={"perturbation": worst_perturbation},
            settings={
                "default": {},
                "all": {"smooth": "all", "domain_weight": 0.3},
                "adversarial": {"smooth": "adversarial", "rho": 0.2},
                "probe": {"rho": 0.3, "domain_weight": 0.4, "smooth": "all"},
            },
            limits=(
                Limit(
                    "sam.perturbed_gradient",
                    {"domain_weight": 0.0, "rho": 0.2},
                    {"rho": 0.2},
                    where=_on_the_source,
                ),
                Limit(
                    "sdat.generator_objective",
                    {"rho": 0.0, "smooth": "adversarial"},
                    {"rho": 0.0, "smooth": "task"},
                ),
            ),
            deviations=(SDAT_DOMAIN_AT_THETA,),
        ),
        Objective(f=discriminator_objective, interface=GAME, wrt="phi"),
        Estimator(
            f=reversal,
            example=lambda rng, size: {
                "progress": rng.choice((0.1, 5.0)) * rng.random(size)
            },
            edges={"start and end": lambda: {"progress": xp.array([0.0, 1.0, 1e4])}},
            settings={"default": {}, "probe": {"steepness": 10.0}},
            brute_force=_by_exponentials,
        ),
        Transform(
            f=condition_features,
            wrt="features",
            jvp=condition_features_jvp,
            vjp=condition_features_vjp,
            example=_features,
            edges={
                "a class is certain": lambda: {
                    "features": xp.array([[1.0, -2.0, 3.0]]),
                    "prob": xp.array([[0.0, 1.0]]),
                },
            },
        ),
    ),
)
