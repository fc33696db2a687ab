import numpy as np


def direction_parameter(gradient, previous_gradient, direction, *, rule="HZ"):
    """Beta, the share of the old direction in the new one."""
    g, d, y = gradient, direction, gradient - previous_gradient
    old = previous_gradient @ previous_gradient
    if rule == "FR":
        return g @ g / old
    if rule in ("PR", "PR+"):
        beta = g @ y / old
        return beta
    if rule in ("HS", "HS+"):
        beta = g @ y / (d @ y)
        return max(beta, 0.0) if rule == "HS+" else beta
    if rule == "DY":
        return g @ g / (d @ y)
    beta = (y - 2 * (y @ y) / (d @ y) * d) @ g / (d @ y)
    return max(beta, -1 / (np.linalg.norm(d) * min(np.sqrt(old), 0.01)))
