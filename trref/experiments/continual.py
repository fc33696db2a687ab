"""Tasks one after the other: what is learned, and what is forgotten.

For trust_region_continual and robust_continual, on `trref.problems.splits.permuted_pixels` or ``by_class``.
"""

import numpy as np

__all__ = ["forgetting", "sequence"]


def sequence(tasks, theta, learn, evaluate):
    """Learn tasks in turn, and evaluate all of them after each.

    Parameters
    ----------
    tasks : sequence
    theta : anything
        What is learned: parameters, or parameters with whatever a method remembers.
    learn : callable
        ``learn(theta, task, t) -> theta``.
    evaluate : callable
        ``evaluate(theta, task) -> float``, such as the test accuracy.

    Returns
    -------
    theta : anything
        At the end.
    accuracies : array (T, T)
        Row t: all tasks after the t-th has been learned.
    """
    rows = []
    for t, task in enumerate(tasks):
        theta = learn(theta, task, t)
        rows.append([evaluate(theta, other) for other in tasks])
    return theta, np.array(rows)


def forgetting(accuracies):
    """Return the mean drop of a task's accuracy from the moment it was learned to the end, the last task left out."""
    return float((np.diag(accuracies) - accuracies[-1])[:-1].mean())
