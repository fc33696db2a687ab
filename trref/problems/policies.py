"""Stochastic policies and value functions on one flat parameter vector, and a trust region with known answers.

A policy is a network (`forward`, `jvp`, `vjp`, from parameters to outputs) under a distribution (`log_prob`, `kl`,
`entropy`, `fisher`, `sample`, on the outputs). Outputs z (N, m) are logits, or means and log standard deviations.
"""

import dataclasses
from typing import Any, ClassVar

from trref import validate
from trref.backend import xp
from trref.nn import heads, mlp

__all__ = [
    "Asked",
    "CategoricalPolicy",
    "GaussianPolicy",
    "LinearSoftmaxPolicy",
    "QuadraticTrustRegion",
    "ValueNetwork",
]

LOG_STD_BOUND = 15.0
"""Standard deviations outside e^±15 are not those of a policy."""


class _Categorical:
    """Actions 0 … K-1 with probabilities softmax(z)."""

    discrete: ClassVar[bool] = True

    def __call__(self, theta, states):
        """Return the logits (N, K)."""
        return self.forward(theta, states)[0]

    def requirements(self, theta, actions=None):
        """What must hold for the values, as pairs for `trref.validate.require`."""
        if actions is None:
            return []
        if actions.dtype.kind not in "iu":
            raise TypeError(
                f"actions must be an array of integers, not {actions.dtype}"
            )
        return [
            (
                lambda: (actions < self.actions).all(),
                f"actions must hold integers below {self.actions}",
            )
        ]

    def log_prob(self, z, actions):
        """Log-probability (N,) of actions (N,), and its derivative in z."""
        return heads.categorical_log_prob(z, actions)

    def entropy(self, z):
        """Entropy (N,), and its derivative in z."""
        return heads.categorical_entropy(z)

    def kl(self, z_old, z):
        """KL(old‖new) (N,), and its derivative in the new z."""
        value, _, gradient = heads.categorical_kl(z_old, z)
        return value, gradient

    def fisher(self, z, u):
        """Multiply the Fisher matrix of each row's distribution, diag(p) - p pᵀ, by u (N, K)."""
        p = xp.exp(heads.log_softmax(z))
        u = u - xp.take_along_axis(
            u, z.argmax(1)[:, None], 1
        )  # a constant is in the null space; now nothing cancels
        return p * (u - (p * u).sum(1, keepdims=True))

    def sample(self, rng, z):
        """Draw actions (N,)."""
        cumulative = xp.cumsum(xp.exp(heads.log_softmax(z)), axis=1)
        uniform = xp.asarray(rng.random((len(z), 1)), dtype=z.dtype)
        return (uniform > cumulative[:, :-1]).sum(1)

    def mode(self, z):
        """Return the most probable actions (N,)."""
        return z.argmax(1)


@dataclasses.dataclass(frozen=True)
class CategoricalPolicy(_Categorical):
    """A multilayer perceptron from states (N, sizes[0]) to logits (N, sizes[-1])."""

    sizes: tuple[int, ...]
    activation: str = "tanh"

    @property
    def size(self):
        """Length of theta."""
        return mlp.size(self.sizes)

    @property
    def actions(self):
        """Number K of actions."""
        return self.sizes[-1]

    def init(self, rng, *, scale=1.0):
        """Draw parameters."""
        return mlp.init(rng, self.sizes, scale=scale)

    def forward(self, theta, states):
        """Return outputs (N, K) and the cache for `jvp` and `vjp`."""
        return mlp.forward(theta, states, self.sizes, self.activation)

    def jvp(self, cache, v):
        """Push a tangent of theta (P,) to the outputs (N, K)."""
        return mlp.jvp(cache, v)

    def vjp(self, cache, cotangent):
        """Pull a cotangent of the outputs (N, K) back to theta (P,)."""
        return mlp.gradient(cache, cotangent)


@dataclasses.dataclass(frozen=True)
class LinearSoftmaxPolicy(_Categorical):
    """Logits ``X W`` with theta = W (features, actions) row by row; with one-hot rows X a table of logits."""

    features: int
    actions: int

    @property
    def size(self):
        """Length of theta."""
        return self.features * self.actions

    def forward(self, theta, states):
        """Return outputs (N, actions) and the cache for `jvp` and `vjp`: the states."""
        if theta.shape != (self.size,):
            raise ValueError(
                f"theta must have shape ({self.size},), not {tuple(theta.shape)}"
            )
        if states.ndim != 2 or states.shape[1] != self.features:
            raise ValueError(
                f"states must have shape (N, {self.features}), not {tuple(states.shape)}"
            )
        return states @ theta.reshape(self.features, self.actions), states

    def jvp(self, cache, v):
        """Push a tangent of theta (P,) to the outputs (N, actions)."""
        return cache @ v.reshape(self.features, self.actions)

    def vjp(self, cache, cotangent):
        """Pull a cotangent of the outputs (N, actions) back to theta (P,)."""
        return (cache.T @ cotangent).ravel()


@dataclasses.dataclass(frozen=True)
class GaussianPolicy:
    """Actions (N, d) with independent Gaussian entries: means from a perceptron, log standard deviations free.

    theta holds the network's parameters and then the d log standard deviations, the same in all states. Outputs are
    (N, 2 d): means, then log standard deviations.
    """

    sizes: tuple[int, ...]
    activation: str = "tanh"
    discrete: ClassVar[bool] = False

    @property
    def size(self):
        """Length of theta."""
        return mlp.size(self.sizes) + self.sizes[-1]

    @property
    def actions(self):
        """Number d of entries of an action."""
        return self.sizes[-1]

    def init(self, rng, *, scale=1.0, log_std=0.0):
        """Draw parameters."""
        return xp.concatenate(
            [mlp.init(rng, self.sizes, scale=scale), xp.full(self.actions, log_std)]
        )

    def __call__(self, theta, states):
        """Return means and log standard deviations (N, 2 d)."""
        return self.forward(theta, states)[0]

    def requirements(self, theta, actions=None):
        """What must hold for the values, as pairs for `trref.validate.require`."""
        if actions is not None and actions.dtype.kind != "f":
            raise TypeError(
                f"actions must be an array of real numbers, not {actions.dtype}"
            )
        message = f"theta must hold log standard deviations within {LOG_STD_BOUND:g} at its end"
        return [(lambda: (abs(theta[-self.actions :]) <= LOG_STD_BOUND).all(), message)]

    def forward(self, theta, states):
        """Return outputs (N, 2 d) and the cache for `jvp` and `vjp`."""
        if theta.shape != (self.size,):
            raise ValueError(
                f"theta must have shape ({self.size},), not {tuple(theta.shape)}"
            )
        d = self.actions
        mean, cache = mlp.forward(theta[:-d], states, self.sizes, self.activation)
        return self._join(mean, theta[-d:]), cache

    def jvp(self, cache, v):
        """Push a tangent of theta (P,) to the outputs (N, 2 d)."""
        d = self.actions
        return self._join(mlp.jvp(cache, v[:-d]), v[-d:])

    def vjp(self, cache, cotangent):
        """Pull a cotangent of the outputs (N, 2 d) back to theta (P,)."""
        d = self.actions
        return xp.concatenate(
            [mlp.gradient(cache, cotangent[:, :d]), cotangent[:, d:].sum(0)]
        )

    @staticmethod
    def _join(mean, log_std):
        return xp.concatenate([mean, xp.zeros_like(mean) + log_std], axis=1)

    def _split(self, z):
        return z[:, : self.actions], z[:, self.actions :]

    def log_prob(self, z, actions):
        """Log-density (N,) of actions (N, d), and its derivative in z."""
        value, gradient = heads.gaussian_log_prob(*self._split(z), actions)
        return value, xp.concatenate([gradient.mean, gradient.log_std], axis=1)

    def entropy(self, z):
        """Differential entropy (N,), and its derivative in z."""
        mean, log_std = self._split(z)
        value, gradient = heads.gaussian_entropy(log_std)
        return value, xp.concatenate([xp.zeros_like(mean), gradient], axis=1)

    def kl(self, z_old, z):
        """KL(old‖new) (N,), and its derivative in the new z."""
        value, _, gradient = heads.gaussian_kl(*self._split(z_old), *self._split(z))
        return value, xp.concatenate([gradient.mean, gradient.log_std], axis=1)

    def fisher(self, z, u):
        """Multiply each row's Fisher matrix, 1/std² for the means and 2 for the log deviations, by u (N, 2 d)."""
        _, log_std = self._split(z)
        u_mean, u_log_std = self._split(u)
        return xp.concatenate([u_mean * xp.exp(-2 * log_std), 2 * u_log_std], axis=1)

    def sample(self, rng, z):
        """Draw actions (N, d)."""
        mean, log_std = self._split(z)
        return mean + xp.exp(log_std) * xp.asarray(
            rng.standard_normal(mean.shape), dtype=z.dtype
        )

    def mode(self, z):
        """Return the most probable actions (N, d): the means."""
        return self._split(z)[0].copy()


@dataclasses.dataclass(frozen=True)
class ValueNetwork:
    """A perceptron from states (N, sizes[0]) to values (N,); ``sizes[-1]`` is 1. Two sizes make it linear."""

    sizes: tuple[int, ...]
    activation: str = "tanh"

    @property
    def size(self):
        """Length of phi."""
        return mlp.size(self.sizes)

    def init(self, rng, *, scale=1.0):
        """Draw parameters."""
        return mlp.init(rng, self.sizes, scale=scale)

    def __call__(self, phi, states):
        """Return the values (N,)."""
        return self.forward(phi, states)[0]

    def forward(self, phi, states):
        """Return values (N,) and the cache for `jvp` and `vjp`."""
        if phi.shape != (self.size,):
            raise ValueError(
                f"phi must have shape ({self.size},), not {tuple(phi.shape)}"
            )
        output, cache = mlp.forward(phi, states, self.sizes, self.activation)
        return output[:, 0], cache

    def jvp(self, cache, v):
        """Push a tangent of phi (P,) to the values (N,)."""
        return mlp.jvp(cache, v)[:, 0]

    def vjp(self, cache, cotangent):
        """Pull a cotangent of the values (N,) back to phi (P,)."""
        return mlp.gradient(cache, cotangent[:, None])


@dataclasses.dataclass(frozen=True)
class QuadraticTrustRegion:
    """``model(x) -> (J, D)`` with ``J = start + gᵀd - bend ‖d‖²/2`` and ``D = dᵀA d / 2`` at ``d = x - centre``."""

    centre: Any
    gradient: Any
    A: Any
    bend: float = 0.0
    start: float = 0.0

    def __call__(self, x):
        """Return objective and divergence."""
        if x.shape != self.centre.shape:
            raise ValueError(
                f"x must have shape {tuple(self.centre.shape)}, not {tuple(x.shape)}"
            )
        d = x - self.centre
        J = self.start + (self.gradient * d).sum() - self.bend * (d * d).sum() / 2
        return J, (d * (self.A @ d)).sum() / 2


class Asked:
    """A policy or value function of which every answer is looked at: a wrong one is an error with its name.

    Shapes are asked, and finite values of `forward` and of derivatives where looking costs no synchronisation.

    Parameters
    ----------
    name : str
        Of the argument.
    model : trref.problems.protocols.Policy or trref.problems.protocols.ValueFunction
    outputs : tuple of int
        The shape of its outputs if that is known beside their number.
    """

    def __init__(self, name, model, outputs=None):
        self.name, self.model, self.outputs = name, model, outputs

    def _array(self, method, value, shape, finite=True):
        name = f"{self.name}.{method}"
        return validate.returned(name, value, shape, finite=finite)

    def _pair(self, method, value):
        if not isinstance(value, tuple) or len(value) != 2:
            kind = type(value).__name__
            raise TypeError(f"{self.name}.{method} must return a pair, not {kind}")
        return value

    def _rows(self, method, z, states, finite=True):
        validate.array(f"the result of {self.name}.{method}", z)
        shape = self.outputs or (len(states), *z.shape[1:])
        return self._array(method, z, shape, finite)

    def __call__(self, theta, states):
        return self._rows("__call__", self.model(theta, states), states, finite=False)

    def forward(self, theta, states):
        z, cache = self._pair("forward", self.model.forward(theta, states))
        z = self._rows("forward", z, states)
        return z, (cache, z.shape, theta.shape)

    def jvp(self, cache, v):
        return self._array("jvp", self.model.jvp(cache[0], v), cache[1])

    def vjp(self, cache, u):
        return self._array("vjp", self.model.vjp(cache[0], u), cache[2])

    def fisher(self, z, u):
        return self._array("fisher", self.model.fisher(z, u), z.shape)

    def log_prob(self, z, actions):
        found, slope = self._pair("log_prob", self.model.log_prob(z, actions))
        self._array("log_prob", found, (len(z),), finite=False)
        return found, self._array("log_prob", slope, z.shape, finite=False)

    def kl(self, old_z, z):
        found, slope = self._pair("kl", self.model.kl(old_z, z))
        return self._array("kl", found, (len(z),), finite=False), slope
