"""What public code computes in the place of the papers' equations: small runnable variants."""

from trref.backend import xp
from trref.catalog import Deviation

__all__ = ["ADAM_EPSILON_HAT"]


def _epsilon_hat(params, grads, state, *, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    t = state.step + 1
    m = [beta1 * m + (1 - beta1) * g for m, g in zip(state.m, grads, strict=True)]
    v = [beta2 * v + (1 - beta2) * g * g for v, g in zip(state.v, grads, strict=True)]
    rate = lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
    params = [p - rate * m_i / (xp.sqrt(v_i) + eps) for p, m_i, v_i in zip(params, m, v, strict=True)]
    return params, type(state)(t, m, v)


ADAM_EPSILON_HAT = Deviation(
    "epsilon hat",
    _epsilon_hat,
    seen_in="TensorFlow and Keras, optimizers/adam.py",
    computes="epsilon added to the root of the uncorrected second moment (the form that ends the paper's section 2)",
    documented=True,
)
