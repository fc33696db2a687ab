import numpy as np


def log_sum_exp(s, axis):
    return np.log(np.exp(s).sum(axis))


def sinkhorn_log(cost, a, b, *, reg, tol=1e-9, max_iter=10000):
    """Sinkhorn's iteration for the potentials f and g."""
    a, b = a / a.sum(), b / b.sum()
    f, g, errors = np.zeros_like(a), np.zeros_like(b), []
    while len(errors) < max_iter and not (errors and errors[-1] <= tol):
        f = reg * (np.log(a) + 1 - log_sum_exp((g - cost) / reg, 1))
        g = reg * (np.log(b) + 1 - log_sum_exp((f[:, None] - cost) / reg, 0))
        plan = np.exp((f[:, None] + g - cost) / reg - 1)
        errors.append(float(abs(plan.sum(1) - a).sum()))
    return {"plan": plan, "f": f, "g": g, "marginal_errors": errors, "converged": errors[-1] <= tol}
