"""What decentralised methods share: what agents on a graph exchange, and how their steps are followed to the end."""

import dataclasses
import math
import warnings
from typing import Any, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.manifolds.drcgd_consensus import distance_from
from trref.manifolds.stiefel import tangent_part
from trref.manifolds.stiefel_retraction import polar_factors
from trref.manifolds.terms import DecentralisedResult, mix


@dataclasses.dataclass(frozen=True)
class Together:
    """All agents in this process. What does the same between processes has the same two verbs."""

    weights: Any

    def mix(self, x):
        """Return each agent's weighted mean of its neighbours' arrays x (A, …) and its own."""
        return mix(self.weights, x)

    def gather(self, x):
        """Return everybody's arrays (A, …): here they are already."""
        return x


def together(x0, weights, rounds):
    """Return one frame an agent, and the network, which averages in rounds."""
    return xp.stack([x0] * len(weights)), Together(linalg.matrix_power(weights, rounds))


class Step(NamedTuple):
    """Frames and directions of the agents here, the singular values of what was projected to them, and what goes into
    the next step."""

    frames: Any
    directions: Any
    spread: Any
    carried: Any


def follow(steps, loss_and_grad, network, *, tol, max_iter, watch=None):
    """Take steps until the agents agree, at a stationary point, or `max_iter` of them are done.

    `network` has the verbs of `Together`; `watch` is told of each step, with what was measured at the mean so far.
    """
    losses, norms, errors, scale = [], [], [], None
    for step in steps:
        mean, loss, norm, error, size = measure(loss_and_grad, step, network)
        scale = size if scale is None else scale
        losses.append(loss)
        norms.append(norm)
        errors.append(error)
        if watch:
            watch(step, losses, norms, errors)
        converged = norm <= tol * scale and error <= tol
        if converged or len(losses) > max_iter:
            break

    iterations = len(losses) - 1
    if not converged:
        message = f"stopped after {iterations} iterations: consensus error {error:.2e}, gradient {norm:.2e}"
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=4)
    agents, directions = network.gather(step.frames), network.gather(step.directions)
    return DecentralisedResult(
        mean, agents, directions, losses, norms, errors, iterations, converged
    )


def local_gradients(loss_and_grad, x):
    """The Riemannian gradient of each agent's own function."""
    return tangent_part(x, validate.rows(loss_and_grad, x, "loss_and_grad")[1])


def measure(loss_and_grad, step, network):
    """Return the induced mean, and there, on the host: loss, norm of the Riemannian gradient, consensus error, and the
    norm of the Euclidean gradient."""
    x = network.gather(step.frames)
    mean, spread, _ = polar_factors(x.mean(0))
    there = xp.broadcast_to(mean, step.frames.shape)
    losses, gradients = validate.rows(loss_and_grad, there, "loss_and_grad")
    G = network.gather(gradients).mean(0)
    g, s = tangent_part(mean, G), network.gather(step.spread)
    rank = xp.minimum(s.min() / s.max(), spread.min())
    numbers = xp.stack(
        [
            network.gather(losses).mean(),
            (g * g).sum(),
            (G * G).sum(),
            distance_from(x, mean),
            rank,
        ]
    ).tolist()
    loss, gg, GG, error, rank = numbers
    if not math.isfinite(loss + GG):
        raise ValueError("loss_and_grad must give finite values")
    if rank <= x.shape[-2] * float(xp.finfo(x.dtype).eps):
        raise ValueError("lr is too long: a sum of frame and step lost its rank")
    return mean, loss, math.sqrt(gg), error, math.sqrt(GG)
