"""The problems offer what the protocols list."""

import numpy as np
import pytest

from trref.nn import two_heads
from trref.problems import (
    bilevel,
    convex,
    denoisers,
    domains,
    maps,
    mdp,
    measurements,
    mixtures,
    networks,
    pde,
    policies,
    protocols,
    rows,
    samples,
    trajectories,
)
from trref.signature import checked

RNG = np.random.default_rng(0)
RING = mixtures.MixtureNoise(mixtures.ring())
CLASSIFIER = networks.random_classifier(RNG, points=3)
NETWORK = denoisers.TimeNetwork(2, (3,))
TABLE = trajectories.all_trajectories(mdp.random_mdp(RNG, states=2, actions=2), 2)
HEADS = two_heads.Sizes((2, 3), (2,), (1,))
TWO_SETS = domains.DomainAdversarial(np.ones((4, 2)), np.zeros(4, int), np.ones((3, 2)), HEADS)
OFFERED = {
    protocols.AdversarialDomains: [TWO_SETS],
    protocols.ClassifyingLoss: [CLASSIFIER],
    protocols.CurvedSamples: [
        samples.LinearSamples(np.eye(2), np.ones(2)),
        samples.QuadraticSamples(np.eye(2), np.eye(2)),
    ],
    protocols.CoupledLevels: [bilevel.CoupledBilevel(), bilevel.BalancedBilevel()],
    protocols.GridEquation: [pde.reaction_diffusion(4, 3)[0], pde.sorption(4, 3)[0]],
    protocols.LogitNetwork: [CLASSIFIER],
    protocols.TrajectoryTable: [TABLE],
    protocols.TwoLevels: [bilevel.quadratic_bilevel(RNG)],
    protocols.CurvedLoss: [convex.Rosenbrock(), convex.logistic(RNG, points=4, dims=2), CLASSIFIER],
    protocols.DecisionProcess: [mdp.random_mdp(RNG, states=2, actions=2), mdp.corridor()],
    protocols.DenoisingModel: [
        RING,
        mixtures.ScaledNoise(mixtures.ring(), np.ones(2)),
        mixtures.GuidedModel(RING, RING, 2.0),
        denoisers.WithParameters(NETWORK, None),
    ],
    protocols.DenoisingNetwork: [NETWORK, denoisers.Residual(RING, NETWORK)],
    protocols.DifferentiableMap: [maps.LinearMap(np.eye(2)), maps.Network(np.zeros(6), (2, 2))],
    protocols.DomainLosses: [domains.DomainLosses(np.zeros((2, 3, 1)), np.zeros((2, 3), int))],
    protocols.Measurement: [measurements.LinearMeasurement(np.eye(2))],
    protocols.Policy: [policies.CategoricalPolicy((2, 2)), policies.GaussianPolicy((2, 1))],
    protocols.RowNetwork: [rows.RowLoss(None, None, (2, 2)), rows.RowScore(None, None, (2, 2))],
    protocols.SampleLoss: [CLASSIFIER, samples.LinearSamples(np.eye(2), np.ones(2))],
    protocols.SeparableLoss: [CLASSIFIER, samples.QuadraticSamples(np.eye(2), np.eye(2))],
    protocols.ValueFunction: [policies.ValueNetwork((2, 1))],
}


def test_every_protocol_has_someone():
    assert {p.__name__ for p in OFFERED} == set(protocols.__all__)


@pytest.mark.parametrize("protocol", OFFERED, ids=lambda p: p.__name__)
def test_what_is_offered_passes_and_a_bare_function_does_not(protocol):
    def f(given):
        """Take it."""
        return given

    f.__annotations__["given"] = protocol
    f = checked(f)
    for one in OFFERED[protocol]:
        assert f(one) is one
    with pytest.raises(TypeError, match="given"):
        f(3.0)
