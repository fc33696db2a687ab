"""What decision processes, value functions and policies answer is looked at: a wrong answer has an error of its own."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from trref.policy.gae_value_trust_region import value_trust_region_step
from trref.policy.natural_gradient import fisher_vector_product
from trref.policy.trpo import trpo_step
from trref.policy.trpo_improvement import (
    expected_return,
    lower_bound,
    performance_difference,
    surrogate_return,
    theoretical_policy_iteration,
)
from trref.problems.mdp import random_mdp
from trref.problems.policies import CategoricalPolicy, GaussianPolicy, ValueNetwork

RNG = np.random.default_rng(0)
N, D, K = 6, 3, 4
STATES, ADVANTAGE = RNG.standard_normal((N, D)), RNG.standard_normal(N)
MDP = random_mdp(RNG, states=4, actions=3)
LOGITS = RNG.standard_normal(MDP.reward.shape)

SPOILED = {
    "nothing": lambda x: None,
    "a text": lambda x: "text",
    "a list": lambda x: x.tolist(),
    "NaN": lambda x: x * np.nan,
    "another shape": lambda x: np.concatenate([x, x]),
}


@dataclasses.dataclass(frozen=True)
class Spoiled:
    """An object one method of which answers wrongly: the whole answer, or the part of a tuple of this number."""

    good: Any
    method: str
    change: Any
    part: int | None = None

    def __getattr__(self, name):
        method = getattr(self.good, name)
        return self._changed(method) if name == self.method else method

    def __call__(self, *given):
        return self._changed(self.good)(*given) if self.method == "__call__" else self.good(*given)

    def _changed(self, method):
        def f(*given):
            answer = method(*given)
            if self.part is None:
                return self.change(answer)
            return tuple(self.change(x) if i == self.part else x for i, x in enumerate(answer))

        return f


def _refused(name, call, *given):
    """An error of the function's own that begins with what failed, and no other."""
    with pytest.raises((TypeError, ValueError), match=rf"^(the result of )?{name}\b.* must "):
        call(*given)


METHODS = {"forward": 0, "jvp": None, "vjp": None, "fisher": None, "log_prob": 0, "kl": 0, "__call__": None}
PAIRS = list(itertools.product(METHODS, SPOILED))
FIELDS = list(itertools.product(["value", "advantage", "visits", "expected_return"], SPOILED))


@pytest.mark.parametrize(
    "policy", [CategoricalPolicy((D, 5, K)), GaussianPolicy((D, 5, 2))], ids=["discrete", "normal"]
)
@pytest.mark.parametrize(("method", "how"), [x for x in PAIRS if x != ("__call__", "NaN")])  # a trial that is rejected
def test_policies(policy, method, how):
    theta = policy.init(np.random.default_rng(1))
    actions = policy.sample(np.random.default_rng(2), policy(theta, STATES))
    spoiled = Spoiled(policy, method, SPOILED[how], METHODS[method])
    _refused("policy", trpo_step, spoiled, theta, STATES, actions, ADVANTAGE)
    if method in ("forward", "jvp", "vjp", "fisher"):
        _refused("policy", fisher_vector_product, spoiled, theta, theta, STATES)
    if METHODS[method] is not None:
        _refused("policy", trpo_step, Spoiled(policy, method, lambda x: x[0]), theta, STATES, actions, ADVANTAGE)


@pytest.mark.parametrize("method", ["forward", "jvp", "vjp"])
@pytest.mark.parametrize("how", SPOILED)
def test_value_functions(method, how):
    network = ValueNetwork((D, 5, 1))
    theta = network.init(np.random.default_rng(1))
    spoiled = Spoiled(network, method, SPOILED[how], METHODS[method])
    _refused("value_function", value_trust_region_step, spoiled, theta, STATES, ADVANTAGE)
    if method == "forward":
        whole = Spoiled(network, method, lambda pair: pair[0])
        _refused("value_function", value_trust_region_step, whole, theta, STATES, ADVANTAGE)


@pytest.mark.parametrize(("field", "how"), [x for x in FIELDS if x != ("expected_return", "a list")])  # it is a number
def test_decision_processes(field, how):
    def change(answer):
        value = getattr(answer, field)
        return answer._replace(**{field: SPOILED[how](np.atleast_1d(value) if how == "another shape" else value)})

    for spoiled in (Spoiled(MDP, "__call__", change), Spoiled(MDP, "__call__", tuple)):
        for f in (expected_return, theoretical_policy_iteration):
            _refused("mdp", f, LOGITS, spoiled)
        for f in (performance_difference, surrogate_return, lower_bound):
            _refused("mdp", f, LOGITS, 0.5 * LOGITS, spoiled)
