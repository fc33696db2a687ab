"""The vanilla recurrent layer ``h_t = tanh(x_t W_in + h_{t-1} W_rec + b)`` and backpropagation through time."""

from typing import NamedTuple

from trref.backend import xp

__all__ = ["RecurrentGradient", "recurrent", "recurrent_vjp"]


class RecurrentGradient(NamedTuple):
    """Derivatives with respect to the inputs, the start state and the parameters."""

    x: object
    h0: object
    W_in: object
    W_rec: object
    b: object


def recurrent(x, h0, W_in, W_rec, b):
    """Run the layer.

    Parameters
    ----------
    x : array (B, T, D)
    h0 : array (B, H)
    W_in : array (D, H)
    W_rec : array (H, H)
    b : array (H,)

    Returns
    -------
    array (B, T, H)
        The states h_1 … h_T.
    """
    h, states = h0, []
    for t in range(x.shape[1]):
        h = xp.tanh(x[:, t] @ W_in + h @ W_rec + b)
        states.append(h)
    return xp.stack(states, axis=1)


def recurrent_vjp(x, h0, W_in, W_rec, states, cotangent):
    """Backpropagate through time: derivatives of ``sum(cotangent * states)``.

    Parameters
    ----------
    x, h0, W_in, W_rec : arrays
        As in `recurrent`.
    states, cotangent : array (B, T, H)

    Returns
    -------
    RecurrentGradient
    """
    carry, deltas = xp.zeros_like(h0), []
    for t in reversed(range(x.shape[1])):
        delta = (cotangent[:, t] + carry) * (1 - states[:, t] ** 2)
        carry = delta @ W_rec.T
        deltas.append(delta)
    delta = xp.stack(deltas[::-1], axis=1)
    previous = xp.concatenate([h0[:, None], states[:, :-1]], axis=1)
    return RecurrentGradient(
        x=delta @ W_in.T,
        h0=carry,
        W_in=xp.einsum("btd,bth->dh", x, delta),
        W_rec=xp.einsum("btg,bth->gh", previous, delta),
        b=delta.sum((0, 1)),
    )
