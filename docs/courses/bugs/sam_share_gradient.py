import numpy as np


def worst(g, rho, p):
    """The step of length rho in the p-norm along which a linear loss rises most."""
    if not g.any():
        return np.zeros_like(g)
    if p == "inf":
        return rho * np.sign(g)
    q = p / (p - 1)
    h = abs(g) / abs(g).max()
    return rho * np.sign(g) * h ** (q - 1) / (h**q).sum() ** (1 / p)


def share_gradient(loss_and_grad, theta, *, share, rho=0.05, p=2.0):
    """The loss and the gradient of SAM with a perturbation for each share of the batch."""
    n, values, gradients, weights = len(loss_and_grad), [], [], []
    starts = range(0, n, share)
    for start in starts:
        part = loss_and_grad.on(slice(start, min(start + share, n)))
        value, gradient = part(theta + worst(part(theta)[1], rho, p))
        values.append(value)
        gradients.append(gradient)
        weights.append(1 / len(starts))
    loss = sum(w * value for w, value in zip(weights, values, strict=True))
    return loss, sum(w * g for w, g in zip(weights, gradients, strict=True))
