"""Data from several domains, and their losses: one module for every method that sees more than one distribution.

`shortcut_domains` and `spurious_groups` draw data in which a feature predicts the label for the wrong reason.
`DomainLosses` is one loss a domain of a linear softmax classifier, `DomainAdversarial` a classifier that is to
learn features which do not tell a source from a target domain.

For fish, pgrad and hessian_alignment (shortcut domains, losses a domain), trustworthy_erm (spurious groups) and sdat
(source and target, with `trref.problems.moons`).
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from trref.backend import special, xp
from trref.nn import heads, losses, mlp, two_heads

__all__ = [
    "DomainAdversarial",
    "DomainLosses",
    "Groups",
    "ShortcutDomains",
    "shortcut_domains",
    "spurious_groups",
]


class ShortcutDomains(NamedTuple):
    """Features (E, N, D) and labels (E, N) of the training domains; (N, D) and (N,) of the test domain."""

    features: Any
    labels: Any
    test_features: Any
    test_labels: Any


class Groups(NamedTuple):
    """Inputs X (N, D), labels (N,) of 0 or 1, and the group (N,): twice the label, plus 1 where the nuisance is 1."""

    X: Any
    labels: Any
    group: Any


def shortcut_domains(
    rng, *, domains=4, points=200, reliability=0.85, scale=1.5, noise_features=3
):
    """Draw domains that each have a shortcut of their own (host).

    Features are ±1: the first agrees with the label (0 or 1, as -1 or 1) in a share `reliability` of the rows in every
    domain; then there is one a domain, times `scale`, that equals the label in its own domain and is random in the
    others and in the test domain; then noise; last a constant 1.

    Parameters
    ----------
    rng : numpy.random.Generator
    domains, points : int
        E and N.
    reliability, scale : float
    noise_features : int

    Returns
    -------
    ShortcutDomains
    """
    shape = (domains + 1, points)
    labels = rng.integers(0, 2, shape)
    sign = 2 * labels - 1
    right = np.where(rng.random(shape) < reliability, sign, -sign)
    shortcuts = rng.choice([-1.0, 1.0], (*shape, domains))
    for e in range(domains):
        shortcuts[e, :, e] = sign[e]
    noise = rng.standard_normal((*shape, noise_features))
    parts = [right[..., None], scale * shortcuts, noise, np.ones((*shape, 1))]
    features = np.concatenate(parts, axis=2)
    return ShortcutDomains(features[:-1], labels[:-1], features[-1], labels[-1])


def spurious_groups(
    rng, points, *, aligned=0.95, core=0.8, spurious=2.0, noise_features=3
):
    """Draw labels, a weak core feature and a strong nuisance that agrees with the label in a share of the rows (host).

    With ``aligned=0.5`` the nuisance says nothing: the test data.

    Parameters
    ----------
    rng : numpy.random.Generator
    points : int
    aligned : float
        In [0, 1].
    core, spurious : float
        Distance of each of the two classes from 0 along its feature, whose standard deviation is 1 and ½.
    noise_features : int

    Returns
    -------
    Groups
        D = 3 + noise_features: core, nuisance, noise, and a constant 1.
    """
    labels = rng.integers(0, 2, points)
    nuisance = np.where(rng.random(points) < aligned, labels, 1 - labels)
    columns = [
        core * (2 * labels - 1) + rng.standard_normal(points),
        spurious * (2 * nuisance - 1) + 0.5 * rng.standard_normal(points),
        *rng.standard_normal((noise_features, points)),
        np.ones(points),
    ]
    return Groups(np.stack(columns, 1), labels, 2 * labels + nuisance)


@dataclasses.dataclass(frozen=True)
class DomainLosses:
    """One mean cross-entropy a domain of ``softmax(x W)``: ``theta (P) -> (losses (E), gradients (E, P))``.

    theta is W (D, K) row by row.

    Parameters
    ----------
    features : array (E, N, D)
    labels : integer array (E, N)
    classes : int
        K.
    """

    features: Any
    labels: Any
    classes: int = 2

    def _logits(self, theta):
        D = self.features.shape[2]
        if theta.shape[-1] != D * self.classes:
            raise ValueError(
                f"theta must have length {D * self.classes}, not {theta.shape[-1]}"
            )
        return self.features @ theta.reshape(*theta.shape[:-1], D, self.classes)

    def _pull(self, slopes):
        E, N, _ = self.features.shape
        return (xp.swapaxes(self.features, 1, 2) @ slopes).reshape(E, -1) / N

    def __call__(self, theta):
        """Return the losses (E,) and their gradients (E, P)."""
        if theta.ndim != 1:
            raise ValueError(
                f"theta must be one vector, not of shape {tuple(theta.shape)}"
            )
        log_p = heads.log_softmax(self._logits(theta))
        e = heads.one_hot(self.labels, self.classes, theta.dtype)
        return -(e * log_p).sum(2).mean(1), self._pull(xp.exp(log_p) - e)

    def hessian_products(self, theta, V):
        """Multiply each domain's Hessian by its row of V (E, P)."""
        p, U = xp.exp(heads.log_softmax(self._logits(theta))), self._logits(V)
        return self._pull(p * (U - (p * U).sum(2, keepdims=True)))

    def on(self, domains):
        """Return the losses of some of the domains: a slice or an integer array."""
        return dataclasses.replace(
            self, features=self.features[domains], labels=self.labels[domains]
        )

    def __len__(self):
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class DomainAdversarial:
    """Two losses of one body: of the classes on the source, and of telling source from target.

    `trref.nn.two_heads` with ``theta`` = body and first head, the classes, and ``phi`` = second head, one logit that is
    positive for the source. Several networks, theta (S, P) and phi (S, Q), are computed together, on the same data or
    on data of their own: source (S, N, D), labels (S, N), target (S, M, D).

    Parameters
    ----------
    source : array (N, D)
    labels : integer array (N,)
    target : array (M, D)
    sizes : trref.nn.two_heads.Sizes
        The second head ends in 1.
    activation : str
        See `trref.nn.activations`.
    """

    source: Any
    labels: Any
    target: Any
    sizes: two_heads.Sizes
    activation: str = "tanh"

    @property
    def size(self):
        """Length of theta; that of phi is the rest of ``two_heads.size(sizes)``."""
        body, first, _ = self.sizes.networks
        return mlp.size(body) + mlp.size(first)

    def task(self, theta):
        """Return the mean cross-entropy on the source, and its gradient by theta."""
        sizes = (*self.sizes.body, *self.sizes.first)
        logits, cache = mlp.forward(theta, self.source, sizes, self.activation)
        value, d_logits = losses.softmax_cross_entropy(logits, self.labels)
        return value, mlp.gradient(cache, d_logits)

    def domain(self, theta, phi):
        """Return the domain loss and its gradients by theta and by phi.

        ``-mean log σ(D) over the source - mean log(1 - σ(D)) over the target``: a sum of two means, not their mean.
        """
        N, M = self.source.shape[-2], self.target.shape[-2]
        X = xp.concatenate([self.source, self.target], axis=-2)
        both = xp.concatenate([theta, phi], axis=-1)
        classes, logits, cache = two_heads.forward(both, X, self.sizes, self.activation)
        is_source = (xp.arange(N + M) < N)[:, None].astype(X.dtype)
        share = is_source / N + (1 - is_source) / M
        terms = xp.logaddexp(logits, xp.zeros_like(logits)) - is_source * logits
        slope = share * (special.expit(logits) - is_source)
        gradient = two_heads.vjp(cache, xp.zeros_like(classes), slope)
        return (
            (share * terms).sum((-2, -1)),
            gradient[..., : self.size],
            gradient[..., self.size :],
        )

    def predict(self, theta, X):
        """Return the most probable class of each row of X."""
        sizes = (*self.sizes.body, *self.sizes.first)
        return mlp.forward(theta, X, sizes, self.activation)[0].argmax(-1)

    def on(self, source, target):
        """Return the losses on a batch: rows of the source and rows of the target."""
        return dataclasses.replace(
            self,
            source=self.source[source],
            labels=self.labels[source],
            target=self.target[target],
        )
