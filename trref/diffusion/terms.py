"""What several methods of the family share."""

from trref import validate
from trref.backend import xp

SHORTEST = 1e-4
"""Of a step in noise time: the density of a step without noise is infinite."""


def towards_the_data(u, next_u, **_):
    """A step in noise time that is shorter than 1e-4."""
    message = f"u must be above next_u by at least {SHORTEST:g}"
    return [(lambda: (u - next_u >= SHORTEST).all(), message)]


def predicted(model, x, time):
    """Call ``model(x, t)`` at one noise time for all rows; require an array like x. Values are for the caller."""
    prediction = model(x, xp.zeros_like(x[:, 0]) + time)
    validate.array("the result of model", prediction)
    if prediction.shape != x.shape or prediction.dtype != x.dtype:
        raise ValueError(
            f"model must give {x.dtype} arrays of shape {tuple(x.shape)}, "
            f"not {prediction.dtype} {tuple(prediction.shape)}"
        )
    return prediction


def pulled(model, x, time, cotangent):
    """Call ``model.vjp(x, t, cotangent)`` at one noise time for all rows; require an array like x."""
    t = xp.zeros_like(x[:, 0]) + time
    value = model.vjp(x, t, cotangent)
    validate.returned("model.vjp", value, x.shape, finite=True)
    if value.dtype != x.dtype:
        raise TypeError(f"model.vjp returns {value.dtype} at {x.dtype} points")
    return value


def near_policies(log_prob, old_log_prob):
    """Log-probabilities of steps, which ``log_prob()`` gives, more than 30 from the old ones."""
    bound = validate.LOG_RATIO_BOUND
    message = (
        f"old_log_prob must be within {bound:g} of the log-probabilities under velocity"
    )
    return (lambda: (abs(log_prob() - old_log_prob) <= bound).all(), message)


def a_step(**grid):
    """Require a grid of two numbers or more."""
    for name, numbers in grid.items():
        if len(numbers) < 2:
            raise ValueError(f"{name} must hold at least two numbers")


def falling_times(times, **_):
    """Fewer than two times, or steps that are shorter than 1e-4."""
    a_step(times=times)
    message = f"times must fall by at least {SHORTEST:g} at each step"
    return [(lambda: (times[:-1] - times[1:] >= SHORTEST).all(), message)]


def to_less_noise(alpha_bar, next_alpha_bar, **_):
    """A step away from the data."""
    message = f"next_alpha_bar must not be below alpha_bar = {alpha_bar}"
    return [(lambda: next_alpha_bar >= alpha_bar, message)]


def falling_to_the_data(times, alpha_bar, **_):
    """Times that rise, signal levels that fall, and a start without signal."""
    return [
        (lambda: (times[1:] <= times[:-1]).all(), "times must not rise"),
        (lambda: (alpha_bar[1:] >= alpha_bar[:-1]).all(), "alpha_bar must not fall"),
        (lambda: alpha_bar[0] > 0, "alpha_bar must be positive"),
        (lambda: alpha_bar[-2] < 1, "alpha_bar must be below 1 before the last step"),
    ]


def not_rising(times, **_):
    """Times that rise, or fewer than two."""
    a_step(times=times)
    return [(lambda: (times[1:] <= times[:-1]).all(), "times must not rise")]


def finite(x):
    """Return x; ValueError where the model has spoiled it."""
    validate.require((lambda: xp.isfinite(x).all(), "model must give finite values"))
    return x


def bounds_in_order(smallest, largest, **_):
    """Bounds that are the wrong way round."""
    if smallest > largest:
        raise ValueError(f"smallest = {smallest:g} must not be above largest")
    return []
