"""What objects must offer that methods take as arguments: the words of a signature for them.

A protocol lists methods. `trref.signature.checked` asks at a call that an object has them all; no class needs to name
the protocol.
"""

from typing import Any, Protocol

__all__ = ["DecisionProcess", "Policy", "SampleLoss", "ValueFunction"]


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


class SampleLoss(Protocol):
    """A mean loss over samples that can be had on some of them, as `trref.problems.networks.ClassifierLoss`."""

    def __call__(self, theta) -> Any:
        """The loss and its gradient."""

    def __len__(self) -> int:
        """The number of samples."""

    def on(self, rows) -> Any:
        """The loss on some samples: a slice of their numbers."""


class ValueFunction(Protocol):
    """A network from states to one number, as `trref.problems.policies.ValueNetwork`."""

    def forward(self, theta, states) -> Any:
        """The values (N), and the cache for `jvp` and `vjp`."""

    def jvp(self, cache, v) -> Any:
        """Push a tangent of theta (P,) to the values."""

    def vjp(self, cache, cotangent) -> Any:
        """Pull a cotangent of the values back to theta."""
