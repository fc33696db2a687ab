"""Layer and root-mean-square normalisation over the last axis."""

from trref.backend import xp

__all__ = [
    "layer_norm",
    "layer_norm_jvp",
    "layer_norm_vjp",
    "rms_norm",
    "rms_norm_jvp",
    "rms_norm_vjp",
]


def _standardise(x, eps):
    centred = x - x.mean(-1, keepdims=True)
    scale = 1 / xp.sqrt((centred * centred).mean(-1, keepdims=True) + eps)
    return centred * scale, scale


def layer_norm(x, gain, bias, *, eps=1e-5):
    """Return ``gain * (x - mean) / sqrt(variance + eps) + bias`` for x (..., D), gain and bias (D,)."""
    z, _ = _standardise(x, eps)
    return gain * z + bias


def _through(z, scale, t):
    """Apply the (symmetric) Jacobian of the standardisation: ``scale * (t - mean(t) - z mean(z t))``."""
    return scale * (t - t.mean(-1, keepdims=True) - z * (z * t).mean(-1, keepdims=True))


def layer_norm_vjp(x, gain, cotangent, *, eps=1e-5):
    """Return the derivatives of ``sum(cotangent * layer_norm(x, gain, bias))`` by x, gain and bias."""
    z, scale = _standardise(x, eps)
    rows = tuple(range(x.ndim - 1))
    return (
        _through(z, scale, cotangent * gain),
        (cotangent * z).sum(rows),
        cotangent.sum(rows),
    )


def layer_norm_jvp(x, gain, tangent, *, eps=1e-5):
    """Return the derivative of the output along a tangent of x."""
    return gain * _through(*_standardise(x, eps), tangent)


def _scale(x, eps):
    scale = 1 / xp.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return x * scale, scale


def rms_norm(x, gain, *, eps=1e-6):
    """Return ``gain * x / sqrt(mean(x²) + eps)`` for x (..., D) and gain (D,): no mean is taken off.

    For trust_functions (before each SwiGLU block) and hyperpp (bounded features).
    """
    return gain * _scale(x, eps)[0]


def _through_scale(z, scale, t):
    """Apply the (symmetric) Jacobian of the scaling: ``scale * (t - z mean(z t))``."""
    return scale * (t - z * (z * t).mean(-1, keepdims=True))


def rms_norm_vjp(x, gain, cotangent, *, eps=1e-6):
    """Return the derivatives of ``sum(cotangent * rms_norm(x, gain))`` by x and gain."""
    z, scale = _scale(x, eps)
    return _through_scale(z, scale, cotangent * gain), (cotangent * z).sum(
        tuple(range(x.ndim - 1))
    )


def rms_norm_jvp(x, gain, tangent, *, eps=1e-6):
    """Return the derivative of the output along a tangent of x."""
    return gain * _through_scale(*_scale(x, eps), tangent)
