"""Implementations in JAX: arrays in float64, gradients by ``jax.grad`` and ``jax.vjp``.

JAX is imported only where an implementation uses it.
"""

import numpy as np

__all__ = ["arrays", "gradients", "pulled_back", "steps"]


def _jax():
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


def arrays(value):
    """NumPy to JAX, within lists, too; callables of arrays become callables of JAX's."""
    jax = _jax()
    if isinstance(value, np.ndarray):
        return jax.numpy.asarray(value)
    if isinstance(value, list):
        return [arrays(v) for v in value]
    if not callable(value) or isinstance(value, type):
        return value

    def wrapped(*given):
        result = value(*map(np.asarray, given))
        if isinstance(result, tuple):
            return tuple(map(jax.numpy.asarray, result))
        return jax.numpy.asarray(result)

    return wrapped


def gradients(function, leaves):
    """Return the gradients of ``function(*leaves)``, a scalar, by each of the leaves."""
    return _jax().grad(function, argnums=tuple(range(len(leaves))))(*leaves)


def pulled_back(function, leaf, cotangent):
    """Return the cotangent of a result, pulled back to the leaf."""
    jax = _jax()
    result, pull = jax.vjp(function, leaf)
    return pull(jax.numpy.asarray(cotangent, result.dtype))[0]


def steps(transformation, params, gradients):
    """Yield the parameters after each step of an optax transformation."""
    import optax

    state = transformation.init(params)
    for grads in gradients:
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        yield params
