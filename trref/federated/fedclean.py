r"""FedCLEAN: trust clients whose models look at a few images as honest ones do.

Clients with unlike data send unlike parameters, so that distances between these do not tell who attacks. Instead the
server feeds n trigger samples to every client's model and looks at the pre-activations A of one layer, an array (n, h)
for each of K clients. They are centred by their geometric median,

.. math::
    :label: fedclean-median

    M = \arg\min_Z \sum_{k=1}^K \|A_k - Z\|,

.. math::
    :label: fedclean-normalise

    \tilde A_k = \sigma(A_k - M), \qquad \sigma(t) = \frac1{1 + e^{-t}},

which no minority can move far. A conditional variational autoencoder that has been trained on maps of an honest model
knows how they look, given the class c of each sample. It minimises, with fixed noise :math:`\epsilon`,

.. math::
    :label: fedclean-vae

    \frac1n \sum_j \Big[ \tfrac12 \|a - \hat a\|^2 + \frac\beta2 \sum_i (\sigma_i^2 + \mu_i^2 - 1 - \log \sigma_i^2)
    \Big], \qquad z = \mu + \sigma \circ \epsilon,

    (\mu, \log \sigma^2) = \tanh([a, c] W_1 + b_1)\, W_2 + b_2, \qquad
    \hat a = \tanh([z, c] W_3 + b_3)\, W_4 + b_4,

with the derivatives, where :math:`\bar z` is that of the first term by z,

.. math::
    :label: fedclean-vae-gradient

    \partial_\mu = \bar z + \beta \mu, \qquad
    \partial_{\log \sigma^2} = \tfrac12\, \sigma \circ \epsilon \circ \bar z + \tfrac\beta2 (\sigma^2 - 1).

The logarithms are kept within 60 of 0, where :math:`\sigma` would leave the range of numbers. How badly it
reconstructs a client's maps is that client's error,

.. math::
    :label: fedclean-error

    e_k = \frac1{n h} \sum_j \|\tilde A_k[j] - \hat A_k[j]\|^2.

Trust spreads from the smallest error to the next larger one, until there is a gap,

.. math::
    :label: fedclean-trust

    \text{accept } e_{(i+1)} \text{ while } e_{(i+1)} - e_{(i)} \le \lambda\, (e_{(K)} - e_{(1)}),

and those who were accepted are averaged by their counts,

.. math::
    :label: fedclean-aggregate

    \theta = \frac{\sum_{k \text{ accepted}} n_k \theta_k}{\sum_{k \text{ accepted}} n_k}.

With :math:`\lambda \ge 1` that is federated averaging; equal errors accept all; below :math:`1/(K - 1)` somebody is
always flagged, unless all are equal, since the largest gap is at least the range over K - 1. The rule has holes. The
seed is the smallest error: an attacker with unremarkable maps is the seed, and may shut honest clients out. One extreme
client widens the range, and lets a milder one in. As an option, which is not the paper's, at least a majority of
:math:`\lfloor K/2 \rfloor + 1` is accepted, whatever
the gaps among them. Errors that are not finite must be replaced by the largest finite one
before.

With a linear network and :math:`\beta = 1` the error of the autoencoder is not that of principal components: along each
component that it keeps, of variance :math:`\lambda_i > 1`, it loses another :math:`1 / \lambda_i`.

**Where implementations differ.** In the authors' code the first term is a mean over all n h entries, and the second a
sum over samples and latents with the weight :math:`\tfrac12`: in the form above :math:`\beta = n h / 4`, so that the
latents are as good as switched off, and the reconstruction is the mean map of the class.

**Provenance.** Everything was read in the authors' code (its final variant), not in the paper; the majority is ours.

Ben Ghali, Bellafqira and Coatrieux, *FedCLEAN: byzantine defense by CLustering Errors of Activation maps in Non-IID
federated learning environments*, 2025, arXiv:2501.12123.
"""

import warnings
from typing import NamedTuple

from trref import validate
from trref.backend import special, xp
from trref.federated.fedavg import average
from trref.nn import flat
from trref.signature import (
    C,
    D,
    H,
    K,
    L,
    Mask,
    N,
    NonNegative,
    NonNegativeFloat,
    P,
    Positive,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    checked,
)


class Median(NamedTuple):
    """The point with the smallest sum of distances, and how far each iteration moved."""

    point: Real[D]
    moves: list[float]
    iterations: int
    converged: bool


@checked
def geometric_median(
    points: Real[K, D], *, rtol: PositiveFloat = 1e-12, max_iter: PositiveInt = 5000
) -> Median:
    """The point with the smallest sum of distances to others.

    If one of the points is it, that one is returned; where several are as good, the
    first. Else it lies between them, and weighted means lead there (Weiszfeld). They
    would not leave a point, so they start from a step off the best one, and only improve.

    Parameters
    ----------
    points
        One a row.
    rtol
        Ends when a step is at most this times the largest distance from the mean.
    max_iter
        Most steps.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached.
    """
    spread = float(abs(points - points.mean(0)).max())
    rtol = max(rtol, 4 * float(xp.finfo(points.dtype).eps))
    sums = xp.stack([_distances(points, v).sum() for v in points])
    best = xp.take(points, sums.argmin(), axis=0)
    step = _away(points, best)
    z, moves = best + step, []
    if float(abs(step).max()) == 0:
        moves = [0.0]
    while len(moves) < max_iter and (not moves or moves[-1] > rtol * spread):
        # eq. fedclean-median
        weights = 1 / xp.maximum(_distances(points, z), 1e-12 * spread)
        new = weights @ points / weights.sum()

        z, step = new, abs(new - z).max()
        moves.append(float(step))
    converged = moves[-1] <= rtol * spread
    if not converged:
        message = (
            f"geometric_median stopped after {len(moves)} steps, the last of which"
            f" moved it by {moves[-1]:.2e}"
        )
        warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return Median(z, moves, len(moves), converged)


def _distances(points, z):
    return xp.sqrt(((points - z) ** 2).sum(1))


def _away(points, z):
    """A step that improves on one of the points; 0 if the others do not pull it away."""
    far = _distances(points, z)
    near = 1 / xp.where(far > 0, far, xp.inf)
    pull = near @ (points - z)
    strength = xp.sqrt((pull * pull).sum())
    held = (far == 0).astype(far.dtype).sum()
    free = 1 - held / xp.where(strength > 0, strength, 1)
    total = near.sum()
    return xp.maximum(free, 0) * pull / xp.where(total > 0, total, 1)


@checked
def normalised_maps(maps: Real[K, N, H], median: Real[N, H]) -> Prob[K, N, H]:
    """Activation maps about their median, squeezed into 0 to 1.

    Parameters
    ----------
    maps
        Pre-activations of each client's model, on N samples.
    median
        Their geometric median.
    """
    return special.expit(maps - median)  # eq. fedclean-normalise


def _shapes(theta, activation, condition, noise):
    """The shapes of all parameters; the hidden layers are as wide as these make them."""
    H, C, L = activation.shape[-1], condition.shape[1], noise.shape[1]
    E = len(theta) // (
        2 * H + 2 * C + 3 * L + 2
    )  # 2 L + H more are left, too few for one
    into, back = (
        ((H + C, E), (E,), (E, 2 * L), (2 * L,)),
        ((L + C, E), (E,), (E, H), (H,)),
    )
    return into + back


def _an_autoencoder(theta, activation, condition, noise, **_):
    """Parameters that are not those of an autoencoder of these arrays."""
    shapes = _shapes(theta, activation, condition, noise)
    if shapes[1][0] < 1 or flat.size(shapes) != len(theta):
        raise ValueError(
            f"theta must be the parameters of an autoencoder of these arrays, not {len(theta)} numbers"
        )
    return []


def _forward(theta, activation, condition, noise):
    shapes = _shapes(theta, activation, condition, noise)
    W1, b1, W2, b2, W3, b3, W4, b4 = flat.split(theta, shapes)
    seen = xp.concatenate([activation, condition], axis=1)
    u = xp.tanh(seen @ W1 + b1)
    mu, raw = xp.split(u @ W2 + b2, 2, axis=1)
    log_variance = xp.clip(raw, -60, 60)
    sigma = xp.exp(log_variance / 2)
    latent = xp.concatenate([mu + sigma * noise, condition], axis=1)
    w = xp.tanh(latent @ W3 + b3)
    return (W2, W3, W4), seen, u, mu, log_variance, sigma, latent, w, w @ W4 + b4


@checked(also=_an_autoencoder)
def vae_objective(
    theta: Real[P],
    activation: Real[N, H],
    condition: Real[N, C],
    noise: Real[N, L],
    *,
    beta: NonNegativeFloat,
) -> tuple[Scalar, Real[P]]:
    """The loss of a conditional variational autoencoder.

    Parameters
    ----------
    theta
        Its parameters, in the order W1, b1, …, W4, b4, of two hidden layers as wide.
    activation
        What is reconstructed.
    condition
        What is known of each row, such as its class.
    noise
        Standard normal, of the latents.
    beta
        Weight of the divergence from the standard normal distribution.
    """
    told = _forward(theta, activation, condition, noise)
    (W2, W3, W4), seen, u, mu, log_variance, sigma, latent, w, out = told
    n, off = len(activation), out - activation
    divergence = (sigma**2 + mu**2 - 1 - log_variance).sum()
    # eq. fedclean-vae
    value = ((off * off).sum() + beta * divergence) / 2 / n

    back = off / n
    d_w = back @ W4.T * (1 - w * w)
    z_bar = (d_w @ W3.T)[:, : mu.shape[1]]
    # eq. fedclean-vae-gradient
    d_mu = z_bar + beta / n * mu
    d_log = sigma * noise * z_bar / 2 + beta / (2 * n) * (sigma**2 - 1)
    d_log = xp.where(abs(log_variance) < 60, d_log, 0)
    d_code = xp.concatenate([d_mu, d_log], axis=1)

    d_u = d_code @ W2.T * (1 - u * u)
    pairs = ((seen, d_u), (u, d_code), (latent, d_w), (w, back))
    return value, flat.join([x for a, d in pairs for x in (a.T @ d, d.sum(0))])


def _maps_of_one(theta, maps, condition, noise, **_):
    """Parameters that are not those of an autoencoder of these arrays."""
    return _an_autoencoder(theta, maps, condition, noise)


@checked(also=_maps_of_one)
def reconstruction_errors(
    theta: Real[P], maps: Real[K, N, H], condition: Real[N, C], noise: Real[N, L]
) -> NonNegative[K]:
    """How badly each client's maps are reconstructed.

    Parameters
    ----------
    maps
        Normalised activation maps.
    """
    # eq. fedclean-error
    outs = [_forward(theta, each, condition, noise)[-1] for each in maps]
    return ((maps - xp.stack(outs)) ** 2).mean((1, 2))


@checked
def trusted(
    errors: Real[K], *, share: NonNegativeFloat = 0.3, majority: bool = False
) -> Mask[K]:
    """Whose errors are connected to the smallest one.

    Parameters
    ----------
    errors
        Of each client.
    share
        The largest gap that is passed, relative to the range of all errors.
    majority
        Whether trust passes any gap until more than half are trusted.
    """
    order = xp.argsort(errors)
    sorted_errors = xp.take(errors, order)
    most = share * (sorted_errors[-1] - sorted_errors[0])
    # eq. fedclean-trust
    gaps = xp.concatenate([xp.zeros_like(most)[None], xp.diff(sorted_errors)])
    stops = gaps > most
    if majority:
        stops = stops & (xp.arange(len(errors)) > len(errors) // 2)
    accepted = xp.cumsum(stops) == 0
    return xp.take(accepted, xp.argsort(order)).astype(errors.dtype)


@checked
def aggregate(
    thetas: Real[K, P],
    counts: Positive[K],
    errors: Real[K],
    *,
    share: NonNegativeFloat = 0.3,
    majority: bool = False,
) -> Real[P]:
    """The average of those who are trusted.

    Parameters
    ----------
    thetas
        Parameters of each client.
    counts
        Samples of each client.
    """
    kept = trusted.unchecked(errors, share=share, majority=majority) * counts
    return average.unchecked(thetas, kept)  # eq. fedclean-aggregate
