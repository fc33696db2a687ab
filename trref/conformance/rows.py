"""Episodes as padded rows, as trainers of language models have them.

The catalogue's estimators get columns of steps, in which episodes end and are cut. Such a trainer gets each episode as
a row, padded to the longest, and a mask; what follows a cut comes into the last reward.
"""

import numpy as np

__all__ = ["FOLDED", "padded"]

FOLDED = ("next_value", "terminated", "truncated")


def padded(inputs, gamma):
    """Return the rows ``{"reward", "value", "mask"}``, and how a result of their shape gets back to columns.

    Parameters
    ----------
    inputs : dict
        reward, value, next_value, terminated and truncated, each (T, Lead).
    gamma : float
        The discount of the value that follows a cut.

    Raises
    ------
    ValueError
        No rows can be made of these, or the result has another shape.
    """
    names = ("reward", "value", *FOLDED)
    if any(name not in inputs for name in names):
        raise ValueError(f"nothing: rows are made of {', '.join(names)} alone")
    if gamma is None:
        raise ValueError("nothing: rows need a discount (--set gamma=VALUE)")
    shape = inputs["reward"].shape
    r, v, n, d, c = (inputs[name].reshape(shape[0], -1) for name in names)
    spans = [
        (first, last + 1, column)
        for column in range(r.shape[1])
        for first, last in _episodes(d[:, column] + c[:, column])
    ]
    longest = max((last - first for first, last, _ in spans), default=0)
    rows = {name: np.zeros((len(spans), longest), r.dtype) for name in names[:2]}
    rows["mask"] = np.zeros((len(spans), longest), r.dtype)
    for i, (first, last, column) in enumerate(spans):
        length, end = last - first, last - 1
        rows["reward"][i, :length] = r[first:last, column]
        follows = gamma * (1 - d[end, column]) * n[end, column]
        rows["reward"][i, length - 1] += follows
        rows["value"][i, :length] = v[first:last, column]
        rows["mask"][i, :length] = 1

    def back(result):
        if result.shape != (len(spans), longest):
            raise ValueError(
                f"an array of shape {result.shape}, expected {(len(spans), longest)}"
            )
        columns = np.zeros(r.shape, result.dtype)
        for row, (first, last, column) in zip(result, spans, strict=True):
            columns[first:last, column] = row[: last - first]
        return columns.reshape(shape)

    return rows, back


def _episodes(ended):
    """Yield the first and last step of each episode of a column."""
    first = 0
    for step in range(len(ended)):
        if ended[step] > 0 or step == len(ended) - 1:
            yield first, step
            first = step + 1
