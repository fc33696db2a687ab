"""What objects must offer that methods take as arguments: the words of a signature for them.

A protocol lists methods. `trref.signature.checked` asks at a call that an object has them all; no class needs to name
the protocol.
"""

from typing import Any, Protocol

__all__ = [
    "AdversarialDomains",
    "ClassifyingLoss",
    "CoupledLevels",
    "CurvedLoss",
    "CurvedSamples",
    "DecisionProcess",
    "DenoisingModel",
    "DenoisingNetwork",
    "DifferentiableMap",
    "DomainLosses",
    "GridEquation",
    "LogitNetwork",
    "Measurement",
    "Policy",
    "RowNetwork",
    "SampleLoss",
    "SeparableLoss",
    "TrajectoryTable",
    "TwoLevels",
    "ValueFunction",
]


class AdversarialDomains(Protocol):
    """Losses of a network on a source and a target, as `trref.problems.domains.DomainAdversarial`."""

    def task(self, theta) -> Any:
        """The loss of the classes on the source, and its gradient."""

    def domain(self, theta, phi) -> Any:
        """The loss of telling source from target, and its gradients by theta and by phi."""


class ClassifyingLoss(Protocol):
    """A classifier's mean loss that shows its logits, as `trref.problems.networks.ClassifierLoss`."""

    X: Any
    """The inputs (N, D)."""

    def __call__(self, theta) -> Any:
        """The loss and its gradient."""

    def logits(self, theta) -> Any:
        """The logits (N, K)."""

    def logits_vjp(self, theta, cotangent) -> Any:
        """The gradient of ``sum(cotangent * logits)``."""

    def each(self, theta) -> Any:
        """Each sample's loss (N,) and gradient (N, P)."""

    def at(self, X) -> Any:
        """The loss at other inputs, with the same labels."""


class CoupledLevels(Protocol):
    """A problem of two levels with constraints on both, as `trref.problems.bilevel.CoupledBilevel`."""

    equality: Any
    """Whether the constraints' values are to be 0."""

    def upper(self, x, y) -> Any:
        """Value and both gradients of the upper level."""

    def lower(self, x, y) -> Any:
        """Value and both gradients of the lower level."""

    def constraints(self, x, y) -> Any:
        """Values (C,), at most 0 (or 0) where they hold, and Jacobians (C, N) and (C, M)."""

    def project(self, x, y) -> Any:
        """The nearest pair that keeps the constraints."""

    def project_lower(self, y) -> Any:
        """The nearest y of the lower level's own set."""


class CurvedLoss(Protocol):
    """A loss that also multiplies its Hessian, as those of `trref.problems.convex` and `trref.problems.networks`."""

    def __call__(self, theta) -> Any:
        """The loss and its gradient."""

    def hessian_product(self, theta, v) -> Any:
        """The Hessian at theta, times v."""


class CurvedSamples(Protocol):
    """A mean over samples that knows each one's gradient and Hessian, as those of `trref.problems.samples`."""

    def __call__(self, theta) -> Any:
        """The mean loss and its gradient."""

    def each(self, theta) -> Any:
        """Losses (N,) and gradients (N, P) of the samples."""

    def each_product(self, theta, V) -> Any:
        """Each sample's Hessian times its row of V (N, P)."""


class DecisionProcess(Protocol):
    """A finite Markov decision process that is known, as `trref.problems.mdp.TabularMDP`."""

    transition: Any
    """Probabilities (S, A, S) of the next state."""
    reward: Any
    """The expected reward (S, A)."""
    start: Any
    """Probabilities (S) of the first state."""
    gamma: float
    """The discount."""

    def __call__(self, action_prob) -> Any:
        """What a policy (S, A) is worth: fields value, advantage, visits and expected_return."""


class DenoisingModel(Protocol):
    """A model of noise, data or velocity, with its derivative, as those of `trref.problems.mixtures`."""

    def __call__(self, x, t) -> Any:
        """The prediction (N, D) at points (N, D) and noise times (N,)."""

    def vjp(self, x, t, cotangent) -> Any:
        """The derivative by x of ``sum(cotangent * model(x, t))``."""


class DenoisingNetwork(Protocol):
    """Such a model with parameters, as those of `trref.problems.denoisers`."""

    def forward(self, theta, x, t) -> Any:
        """The prediction (N, D), and the cache for `vjp`."""

    def vjp(self, cache, cotangent) -> Any:
        """The derivatives of ``sum(cotangent * prediction)`` by theta and x."""


class DifferentiableMap(Protocol):
    """A map from points to outputs that pulls cotangents back, as those of `trref.problems.maps`."""

    def __call__(self, x) -> Any:
        """The outputs (N, M) of points (N, D)."""

    def vjp(self, x, cotangent) -> Any:
        """The gradients (N, D) of ``sum(cotangent * map(x))``."""


class DomainLosses(Protocol):
    """One loss a domain, as `trref.problems.domains.DomainLosses`."""

    def __call__(self, theta) -> Any:
        """The losses (E,) and their gradients (E, P)."""

    def hessian_products(self, theta, V) -> Any:
        """Each domain's Hessian times its row of V (E, P)."""

    def __len__(self) -> int:
        """The number of domains."""


class GridEquation(Protocol):
    """Residuals of an equation for all values of a grid, as those of `trref.problems.pde`."""

    def residual(self, u) -> Any:
        """The rows (E) at values (M)."""

    def jvp(self, u, V) -> Any:
        """The rows' derivatives along V, (M) or (M, N)."""

    def vjp(self, u, r) -> Any:
        """The gradient (M) of ``r · residual(u)``."""

    def curvature(self, u, r, V) -> Any:
        """The second derivatives of ``r · residual(u)``, times V."""


class LogitNetwork(Protocol):
    """A network on fixed inputs, as `trref.problems.networks.ClassifierLoss`."""

    def logits(self, theta) -> Any:
        """The outputs (N, K)."""

    def logits_vjp(self, theta, cotangent) -> Any:
        """The gradient (P,) of ``sum(cotangent * logits)``."""


class Measurement(Protocol):
    """A linear map of rows and its adjoint, as `trref.problems.measurements.LinearMeasurement`."""

    def __call__(self, x) -> Any:
        """The measurements (N, M) of rows (N, D)."""

    def adjoint(self, y) -> Any:
        """The adjoint's rows (N, D) for measurements (N, M)."""


class Policy(Protocol):
    """A network from states to outputs under a distribution of actions, as in `trref.problems.policies`."""

    def __call__(self, theta, states) -> Any:
        """The outputs z (N, m)."""

    def forward(self, theta, states) -> Any:
        """The outputs, and the cache for `jvp` and `vjp`."""

    def jvp(self, cache, v) -> Any:
        """Push a tangent of theta (P,) to the outputs."""

    def vjp(self, cache, cotangent) -> Any:
        """Pull a cotangent of the outputs back to theta."""

    def log_prob(self, z, actions) -> Any:
        """Log-probability (N,) of actions, and its derivative in z."""

    def kl(self, z_old, z) -> Any:
        """KL(old‖new) (N,), and its derivative in the new z."""

    def fisher(self, z, u) -> Any:
        """The Fisher matrix of each row's distribution, times u."""

    def requirements(self, theta, actions=None) -> Any:
        """What must hold for the values, as pairs for `trref.validate.require`."""


class RowNetwork(Protocol):
    """A value a row of the input, of a network that can be looked into, as in `trref.problems.rows`."""

    def __call__(self, x) -> Any:
        """The values (N,) and their gradients by x (N, D)."""

    def logits(self, x) -> Any:
        """The network's outputs (N, K)."""

    def jvp(self, x, tangent) -> Any:
        """The derivative (N, K) of the outputs along a tangent of x."""


class SampleLoss(Protocol):
    """A mean loss over samples that can be had on some of them, as `trref.problems.networks.ClassifierLoss`."""

    def __call__(self, theta) -> Any:
        """The loss and its gradient."""

    def __len__(self) -> int:
        """The number of samples."""

    def on(self, rows) -> Any:
        """The loss on some samples: a slice of their numbers."""


class SeparableLoss(Protocol):
    """A mean loss that knows each sample's gradient, as those of `trref.problems.samples`."""

    def __call__(self, theta) -> Any:
        """The loss and its gradient."""

    def __len__(self) -> int:
        """The number of samples."""

    def each(self, theta) -> Any:
        """Each sample's loss (N,) and gradient (N, P)."""

    def on(self, rows) -> Any:
        """The loss on some samples: a slice or an array of their numbers."""


class TrajectoryTable(Protocol):
    """All trajectories of a small process, as `trref.problems.trajectories.Trajectories`."""

    states: Any
    """The states (M, H)."""

    actions: Any
    """The actions (M, H)."""

    gamma: Any
    """The discount."""

    def probabilities(self, action_prob) -> Any:
        """The probability (M,) of each under a policy (S, A)."""

    def returns(self, reward, *, discounted=True) -> Any:
        """The sum (M,) of each one's rewards, for a reward (S, A)."""


class TwoLevels(Protocol):
    """A problem of two levels, the lower one with two derivatives, as `trref.problems.bilevel.QuadraticBilevel`."""

    def upper(self, x, y) -> Any:
        """Value and both gradients of the upper level."""

    def lower(self, x, y) -> Any:
        """Value and both gradients of the lower level."""

    def lower_hessian(self, x, y) -> Any:
        """Second derivatives by y, (M, M)."""

    def lower_cross(self, x, y) -> Any:
        """Mixed second derivatives (N, M)."""


class ValueFunction(Protocol):
    """A network from states to one number, as `trref.problems.policies.ValueNetwork`."""

    def forward(self, theta, states) -> Any:
        """The values (N), and the cache for `jvp` and `vjp`."""

    def jvp(self, cache, v) -> Any:
        """Push a tangent of theta (P,) to the values."""

    def vjp(self, cache, cotangent) -> Any:
        """Pull a cotangent of the values back to theta."""
