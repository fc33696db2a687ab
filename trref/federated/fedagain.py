r"""FedAgain: listen less to clients who reconstruct badly, or who ran far.

K clients train an autoencoder to notice anomalies: what it reconstructs badly is none of what it has seen. In each
round they start from the server's parameters :math:`\theta` and lower

.. math::
    :label: fedagain-loss

    L(\theta) = \frac1n \sum_{i=1}^n \|x_i - \hat x_i\|^2, \qquad \hat x = \tanh(x W_1 + b_1)\, W_2 + b_2,

on their own data. If those are corrupted, so is what they send back, :math:`\theta_k`. Two signals tell. The first is
how well the client's model reconstructs,

.. math::
    :label: fedagain-error

    e_k = \frac1n \sum_i \|x_i - \hat x_i(\theta_k)\|^2,

on the client's data as it says itself, or on a few clean samples that the server has. The second is how far it went,

.. math::
    :label: fedagain-divergence

    d_k = \|\theta_k - \theta\|.

A client is trusted by the inverse of their product, and the server takes the mean by trust:

.. math::
    :label: fedagain-trust

    w_k = \frac{1}{e_k d_k + \epsilon}, \qquad \alpha_k = \frac{w_k}{\sum_j w_j}

.. math::
    :label: fedagain-aggregate

    \theta \leftarrow \sum_{k=1}^K \alpha_k \theta_k

Where all signals are equal, or :math:`\epsilon` is large, that is federated averaging of equal counts. With
:math:`\epsilon \to 0` the units of either signal do not matter. For comparison there are the error alone,
:math:`1/(e_k + \epsilon)`, the divergence alone, and neither. How many samples a client has does not count.

**Two holes.** A client that returns what it was sent has :math:`d_k = 0`, and is trusted by :math:`1/\epsilon`: almost
alone, though it did nothing. And if errors are what clients say of themselves, one whose data are trivially easy is
trusted most; a clean sample at the server closes that hole. Honest clients whose data are unlike the others' go
farther, and count less.

An anomaly's score is the squared error of its reconstruction,

.. math::
    :label: fedagain-score

    s(x) = \|x - \hat x\|^2.

**Where implementations differ.** No public code is known.

**Provenance.** The two signals are confirmed in the abstract, their inverse product in a written summary of the same
group's next paper (arXiv:2603.19512), with its example. Who computes the error differs between descriptions: the
client on its own data, or the server on a curated sample; a third, the error of the server's model on the client's
data, judges the data and not what the client made of them.

Reyes-Amezcua et al., *Robust Federated Anomaly Detection Using Dual-Signal Autoencoders: Application to Kidney Stone
Identification in Ureteroscopy*, 2025, arXiv:2510.06230.
"""

from typing import Literal, NamedTuple

from trref.backend import xp
from trref.signature import (
    D,
    H,
    K,
    N,
    NonNegative,
    P,
    PositiveFloat,
    Real,
    Scalar,
    Simplex,
    checked,
)

Signals = Literal["both", "error", "divergence", "none"]


class AutoencoderGradient(NamedTuple):
    """Derivatives by the autoencoder's parameters."""

    W1: Real[D, H]
    b1: Real[H]
    W2: Real[H, D]
    b2: Real[D]


@checked
def autoencoder_loss(
    W1: Real[D, H], b1: Real[H], W2: Real[H, D], b2: Real[D], X: Real[N, D]
) -> tuple[Scalar, AutoencoderGradient]:
    """The mean squared distance of samples from what an autoencoder makes of them.

    Parameters
    ----------
    W1, b1
        To H hidden units.
    W2, b2
        And back.
    X
        Samples, a row each.
    """
    h = xp.tanh(X @ W1 + b1)
    error = h @ W2 + b2 - X
    value = (error * error).sum() / len(X)  # eq. fedagain-loss

    back = 2 / len(X) * error
    inner = back @ W2.T * (1 - h * h)
    return value, AutoencoderGradient(
        X.T @ inner, inner.sum(0), h.T @ back, back.sum(0)
    )


@checked
def anomaly_scores(X: Real[N, D], reconstructed: Real[N, D]) -> NonNegative[N]:
    """How far each sample is from its reconstruction, squared.

    Parameters
    ----------
    reconstructed
        What a model makes of them.
    """
    return ((X - reconstructed) ** 2).sum(1)  # eq. fedagain-score


@checked
def reconstruction_errors(
    X: Real[N, D], reconstructed: Real[K, N, D]
) -> NonNegative[K]:
    """The mean of such scores under each client's model, on the same samples.

    Parameters
    ----------
    reconstructed
        What each of K models makes of them.
    """
    return ((X - reconstructed) ** 2).sum(2).mean(1)  # eq. fedagain-error


@checked
def divergences(thetas: Real[K, P], theta: Real[P]) -> NonNegative[K]:
    """How far each client went.

    Parameters
    ----------
    thetas
        Parameters of each client after its steps.
    theta
        What the server sent them.
    """
    return xp.sqrt(((thetas - theta) ** 2).sum(1))  # eq. fedagain-divergence


@checked
def trust_weights(
    errors: NonNegative[K],
    divergences: NonNegative[K],
    *,
    eps: PositiveFloat = 1e-4,
    signals: Signals = "both",
) -> Simplex[K]:
    """How much each client's parameters weigh.

    Parameters
    ----------
    errors
        Of each client's model.
    divergences
        How far each client went.
    eps
        Bounds the trust in a client without errors, or that did not move.
    signals
        What trust is the inverse of.
    """
    signal = {
        "both": errors * divergences,
        "error": errors,
        "divergence": divergences,
        "none": xp.zeros_like(errors),
    }[signals]
    trust = 1 / (signal + eps)
    return trust / trust.sum()  # eq. fedagain-trust


@checked
def aggregate(
    thetas: Real[K, P],
    theta: Real[P],
    errors: NonNegative[K],
    *,
    eps: PositiveFloat = 1e-4,
    signals: Signals = "both",
) -> Real[P]:
    """The clients' parameters, averaged by trust."""
    far = divergences.unchecked(thetas, theta)
    shares = trust_weights.unchecked(errors, far, eps=eps, signals=signals)
    return shares @ thetas  # eq. fedagain-aggregate
