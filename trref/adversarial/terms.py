"""What methods of this family share: a value and a gradient a row of the input, asked of somebody's function."""

from trref import backend, validate
from trref.backend import xp

__all__ = ["row_gradients"]


def row_gradients(score_and_grad, x, name="score_and_grad"):
    """Return the gradients (N, D) of ``score_and_grad(x) -> (values (N), gradients (N, D))``, its result checked.

    As `trref.validate.loss_and_grad` has it, values that are not finite are refused on the host.
    """
    result = score_and_grad(x)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"{name} must return a tuple (values, gradients), not {type(result).__name__}"
        )
    for what, array, shape in zip(
        ("values", "gradients"), result, (x.shape[:1], x.shape), strict=True
    ):
        validate.array(f"the {what} that {name} returns", array)
        if array.shape != shape:
            raise ValueError(
                f"{name} must return {what} of shape {tuple(shape)}, not {tuple(array.shape)}"
            )
        if array.dtype != x.dtype:
            raise TypeError(
                f"{name} returns {array.dtype} {what} at {x.dtype} points: give it data of one dtype"
            )
        if backend.backend_name() == "numpy" and not xp.isfinite(array).all():
            raise ValueError(f"{name} must return finite values")
    return result[1]
