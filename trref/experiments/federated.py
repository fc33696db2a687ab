"""Rounds between clients and a server, and between neighbours in a graph.

The methods are pure functions of arrays with an axis of clients; only what happens between clients stands here, so
that it can be replaced by processes. A server needs one verb, `Together` as a call: every client's messages, stacked.
A graph needs two, `Mixing`: ``mix``, with neighbours only, and ``gather``, for what is measured.

For fedagain, fedclean, fedimpro, diff2 and sequential_gradient_coding (a server), drcgd and drdgd (a graph).
"""

import dataclasses
from typing import Any

import numpy as np

from trref.backend import to_host, xp
from trref.problems.splits import dirichlet_split

__all__ = ["Mixing", "Together", "client_losses", "federate"]


@dataclasses.dataclass(frozen=True)
class Together:
    """All clients in this process: ``exchange(step, received)`` gives the stacked messages of all of them.

    ``step(k, received)`` is client k's, and returns a tuple of arrays. A client draws from a generator of its own, such
    as ``default_rng([seed, k, round])``, and touches its own data only: then processes give the same bits.
    """

    clients: int

    def __call__(self, step, received):
        """Return one array a message, (K, …)."""
        messages = [step(k, received) for k in range(self.clients)]
        return tuple(xp.stack(column) for column in zip(*messages, strict=True))


@dataclasses.dataclass(frozen=True)
class Mixing:
    """All agents of a graph in this process, with weights (K, K) that are 0 between strangers."""

    weights: Any

    def mix(self, x):
        """Return each agent's weighted mean of its neighbours' arrays x (K, …) and its own."""
        return (self.weights @ x.reshape(len(x), -1)).reshape(x.shape)

    def gather(self, x):
        """Return everybody's arrays (K, …): here they are already."""
        return x


def federate(exchange, client, server, theta, rounds, *, watch=None):
    """Run rounds: all clients start from the server's parameters, and the server makes new ones of their messages.

    Parameters
    ----------
    exchange : Together
        Or whatever does the same between processes.
    client : callable
        ``client(k, round, theta) -> tuple of arrays``.
    server : callable
        ``server(theta, *stacks) -> theta``.
    theta : array (P,)
    rounds : int
    watch : callable, optional
        ``watch(theta)`` after each round.

    Returns
    -------
    theta : array (P,)
    watched : list
    """
    watched = []
    for r in range(rounds):
        theta = server(
            theta, *exchange(lambda k, received, r=r: client(k, r, received), theta)
        )
        if watch:
            watched.append(watch(theta))
    return theta, watched


def client_losses(rng, loss, clients, concentration):
    """Split a loss over clients by `trref.problems.splits.dirichlet_split`.

    Parameters
    ----------
    rng : numpy.random.Generator
    loss : callable
        With ``labels`` and ``on(rows)``, such as `trref.problems.networks.ClassifierLoss`.
    clients : int
    concentration : float

    Returns
    -------
    list of callables
        One a client; its length is the client's count.
    """
    group = dirichlet_split(rng, to_host(loss.labels), clients, concentration)
    return [loss.on(xp.asarray(np.flatnonzero(group == k))) for k in range(clients)]
