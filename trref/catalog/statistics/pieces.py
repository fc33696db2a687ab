"""What certificates of penalised losses look at."""

import math

from trref.backend import xp
from trref.krylov.terms import norm


def objective_and_gradient(
    loss_and_grad, x, penalized, *, penalty, penalty_weight, a, gamma
):
    """The objective, and the gradient of its part without the l1 norm, entry by entry."""
    value, gradient = loss_and_grad(x)
    mask = [1.0] * len(x) if penalized is None else penalized.tolist()
    total, slopes, w = [float(value)], [], penalty_weight
    for b, bears in zip(x.tolist(), mask, strict=True):
        size, sign = abs(b), math.copysign(1.0, b)
        if not bears:
            slopes.append(0.0)
        elif penalty == "l1":
            total.append(w * size)
            slopes.append(0.0)
        elif penalty == "mcp":
            inside = size <= gamma * w
            total.append(
                w * size - size**2 / (2 * gamma) if inside else gamma * w**2 / 2
            )
            slopes.append(-sign * min(size / gamma, w))
        else:
            ramp = max(size - w, 0.0)
            total.append(
                w * size - ramp**2 / (2 * (a - 1))
                if size <= a * w
                else (a + 1) * w**2 / 2
            )
            slopes.append(-sign * min(ramp / (a - 1), w))
    return math.fsum(total), gradient + xp.array(slopes)


def mapping(x, gradient, penalized, lr, penalty_weight):
    """The gradient mapping, entry by entry: the step to 0 where the entry would change its sign."""
    mask = [1.0] * len(x) if penalized is None else penalized.tolist()
    result = []
    for b, g, bears in zip(x.tolist(), gradient.tolist(), mask, strict=True):
        moved, w = b - lr * g, lr * penalty_weight * bears
        if moved > w:
            end = moved - w
        elif moved < -w:
            end = moved + w
        else:
            end = 0.0
        result.append((b - end) / lr)
    return xp.array(result)


def length(smoothness, penalty, a, gamma):
    """0.99 over the smoothness of loss and concave part."""
    return 0.99 / max(
        smoothness, {"mcp": 1 / gamma, "scad": 1 / (a - 1), "l1": 0.0}[penalty]
    )


def figures(
    result,
    loss_and_grad,
    x0,
    penalized=None,
    *,
    smoothness=1.0,
    penalty="mcp",
    penalty_weight=0.1,
    a=3.7,
    gamma=2.0,
    gtol=1e-6,
    **_,
):
    """Gradient mapping and objective at the solution, computed apart."""
    how = {"penalty": penalty, "penalty_weight": penalty_weight, "a": a, "gamma": gamma}
    value, gradient = objective_and_gradient(loss_and_grad, result.x, penalized, **how)
    lr = length(smoothness, penalty, a, gamma)
    return value, norm(mapping(result.x, gradient, penalized, lr, penalty_weight))
