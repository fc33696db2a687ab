"""What objects must offer that methods take as arguments: the words of a signature for them.

A protocol lists methods. `trref.signature.checked` asks at a call that an object has them all; no class needs to name
the protocol.
"""

from typing import Any, Protocol

__all__ = ["Policy"]


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
