r"""CORAL, IRMv1, V-REx and Fishr: what else can be made equal in all domains.

Each of four penalties asks that something is the same in E domains, which is written here for a softmax head
:math:`\Theta` on features :math:`Z_e` (n rows z, labels y, probabilities p, logits :math:`s = z\Theta`, losses
:math:`L_e`). CORAL (arXiv:1607.01719) asks it of the features' means and covariances, of each pair of domains,

.. math::
    :label: domain-penalties-coral

    \frac{2}{E(E-1)} \sum_{e<f} \big( \|\mu_e - \mu_f\|^2 + \|C_e - C_f\|_F^2 \big), \qquad
    C = \frac{1}{n-1} \sum_i (z_i - \mu)(z_i - \mu)^\top,

IRMv1 (arXiv:1907.02893) that the head is best in each domain as far as its scale goes,

.. math::
    :label: domain-penalties-irm

    \frac1E \sum_e \Big( \frac{\partial L_e(w s)}{\partial w} \Big|_{w=1} \Big)^2
    = \frac1E \sum_e \Big( \frac1n \sum_i \langle p_i - y_i, s_i \rangle \Big)^2,

V-REx (arXiv:2003.00688) that the losses are equal,

.. math::
    :label: domain-penalties-vrex

    \frac1E \sum_e (L_e - \bar L)^2,

and Fishr that the gradients of single rows, :math:`g_i = z_i \otimes (p_i - y_i)`, vary alike in every coordinate:

.. math::
    :label: domain-penalties-fishr

    \frac1E \sum_e \|v_e - \bar v\|^2, \qquad v_e = \frac1n \sum_i (g_i - \bar g_e)^2

Deviations from a mean sum to 0, so that means over domains may be held constant in the derivatives. With c the
derivative by what is squared, times 1/E, they are

.. math::
    :label: domain-penalties-gradients

    \text{V-REx: } c_e = \tfrac2E (L_e - \bar L), \quad \partial s = \tfrac{c_e}{n} (p - y); \qquad
    \text{IRMv1: } \partial s = \tfrac{c_e}{n} \big( p - y + J(s) \big); \qquad
    \text{Fishr: } \partial g_i = \tfrac2n (g_i - \bar g_e) \circ c_e,

with :math:`J(s) = p \circ (s - \langle p, s \rangle)`, and :math:`\partial\Theta = \sum Z^\top \partial s`,
:math:`\partial Z = \partial s\, \Theta^\top` beside what depends on z itself.

With one domain CORAL, V-REx and Fishr are 0, IRMv1 is not. With one row a domain the covariance is 0.

**Where implementations differ.** DomainBed's CORAL divides both terms of a pair by nothing, but adds the pairs of each
batch to one loss, divided by their number; its IRMv1 multiplies the scalars of two halves of the batch, so that their
noise does not count; its Fishr follows v with a moving average. Here all rows are seen.

**Provenance.** From memory of the papers, IRMv1 and Fishr also from code; derivatives are derived and checked here.

Rame, Dancette and Cord, *Fishr: Invariant Gradient Variances for Out-of-Distribution Generalization*, 2021,
arXiv:2109.02934.
"""

from trref.backend import xp
from trref.domains.terms import (
    HeadGradient,
    bend,
    classes_there_are,
    cross_entropies,
    excess,
    probabilities,
)
from trref.signature import D, E, Index, K, N, Real, Scalar, checked


@checked
def coral(features: Real[E, N, D]) -> tuple[Scalar, Real[E, N, D]]:
    """The mean over pairs of domains of how far means and covariances are apart.

    Parameters
    ----------
    features
        Of N rows in each of E domains.
    """
    E, n, _ = features.shape
    # eq. domain-penalties-coral
    mu, divisor, pairs = features.mean(1), max(n - 1, 1), max(E * (E - 1) / 2, 1)
    centred = features - mu[:, None]
    C = xp.swapaxes(centred, 1, 2) @ centred / divisor
    apart_mu, apart_C = mu - mu.mean(0), C - C.mean(0)
    # the sum over pairs is E times the sum of squares about the mean
    value = E / pairs * ((apart_mu**2).sum() + (apart_C**2).sum())

    slope = 2 * E / pairs
    d_rows = 2 * centred @ apart_C / divisor + apart_mu[:, None] / n
    return value, slope * d_rows


@checked(also=classes_there_are)
def irm(
    theta: Real[D, K], features: Real[E, N, D], labels: Index[E, N]
) -> tuple[Scalar, HeadGradient]:
    """The mean square of the losses' slopes along the head's scale.

    Parameters
    ----------
    theta
        The head: D features to K classes.
    labels
        Class of each row.
    """
    p = probabilities(theta, features)
    error = excess(p, labels)
    logits = features @ theta
    slopes = (error * logits).sum(2).mean(1)
    value = (slopes**2).mean()  # eq. domain-penalties-irm
    # eq. domain-penalties-gradients
    each = (error + bend(p, logits)) / logits.shape[1]
    d_logits = 2 / len(slopes) * slopes[:, None, None] * each
    return value, _through(theta, features, d_logits)


def _through(theta, features, d_logits):
    d_theta = (xp.swapaxes(features, 1, 2) @ d_logits).sum(0)
    return HeadGradient(d_theta, d_logits @ theta.T)


@checked(also=classes_there_are)
def vrex(
    theta: Real[D, K], features: Real[E, N, D], labels: Index[E, N]
) -> tuple[Scalar, HeadGradient]:
    """The variance of the domains' losses."""
    error = excess(probabilities(theta, features), labels)
    losses = cross_entropies(theta, features, labels).mean(1)
    apart = losses - losses.mean()
    value = (apart**2).mean()  # eq. domain-penalties-vrex
    # eq. domain-penalties-gradients
    d_logits = 2 / len(apart) * apart[:, None, None] * error / error.shape[1]
    return value, _through(theta, features, d_logits)


@checked(also=classes_there_are)
def fishr(
    theta: Real[D, K], features: Real[E, N, D], labels: Index[E, N]
) -> tuple[Scalar, HeadGradient]:
    """How far the variances of single rows' gradients are apart."""
    p = probabilities(theta, features)
    error = excess(p, labels)
    rows = features[..., None] * error[:, :, None]
    centred = rows - rows.mean(1, keepdims=True)
    # eq. domain-penalties-fishr
    v = (centred**2).mean(1)
    apart = v - v.mean(0)
    value = (apart**2).sum() / len(v)

    # eq. domain-penalties-gradients
    c = 2 / len(v) * apart
    d_rows = 2 / rows.shape[1] * centred * c[:, None]
    d_logits = bend(p, (d_rows * features[..., None]).sum(2))
    d_theta, d_features = _through(theta, features, d_logits)
    return value, HeadGradient(
        d_theta, d_features + (d_rows * error[:, :, None]).sum(3)
    )
