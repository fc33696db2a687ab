import numpy as np


def cauchy_point(g, B, *, radius):
    """Minimise g.p + p.B p / 2 along -g, within the radius."""
    n = np.linalg.norm(g)
    if n == 0:
        return np.zeros_like(g)
    tau = min(1, n**3 / (radius * (g @ B @ g)))
    return -tau * radius * g / n
