"""What methods of this family share: a value and a gradient a row of the input, asked of somebody's function."""

from trref import validate

__all__ = ["row_gradients"]


def row_gradients(score_and_grad, x, name="score_and_grad"):
    """Return the gradients (N, D) of ``score_and_grad(x) -> (values (N), gradients (N, D))``, its result checked."""
    return validate.rows(score_and_grad, x, name)[1]
