"""What is known of `trref.bilevel.lv_hba`."""

import numpy as np

from trref.bilevel.lv_hba import level_step, lv_hba, merit, saddle_step
from trref.bilevel.prox_lagrangian import Levels, Saddle
from trref.catalog import Deviation, Estimator, Method, Objective, Solver
from trref.catalog.bilevel.interfaces import COUPLED
from trref.catalog.bilevel.prox_lagrangian import by_bisection

SVM = "SUSTech-Optimization/LV-HBA, Hyperparameter optimization/Linear SVM/diabetes/LV-HBA.py"


def _box(problem, value, radius):
    return min(max(value, -radius if problem.equality else 0.0), radius)


def _rows(*arrays):
    return zip(*(a.tolist() for a in arrays), strict=True)


def _saddle_by_entry(
    problem,
    x,
    y,
    z,
    theta,
    multiplier,
    *,
    gamma1=1.0,
    gamma2=1.0,
    radius=10.0,
    inner_lr=0.1,
):
    if problem.equality:
        n, (m,), (c,) = len(x), multiplier.tolist(), z.tolist()
        force = np.concatenate([theta[:n] - x + m, np.full(n, 1 + m)])
        rise = x.sum() + theta.sum() - (m - c) / gamma2
        return Saddle(
            theta - inner_lr * (force + (theta - y) / gamma1),
            np.array([_box(problem, m + inner_lr * rise, radius)]),
        )
    found = []
    for a, b, c, t, m in _rows(x, y, z, theta, multiplier):
        new = t - inner_lr * (t - 2 * a + m + (t - b) / gamma1)
        if problem.floor is not None:
            new = max(new, problem.floor)
        rise = a + t - problem.limit - (m - c) / gamma2
        found.append((new, _box(problem, m + inner_lr * rise, radius)))
    return Saddle(*np.array(found).T)


def _nearest(problem, a, b):
    """The nearest of the pairs that may be it: the point, its feet on both lines, and their corner."""
    limit, floor = problem.limit, problem.floor
    pairs = [(a, b), ((a - b + limit) / 2, (b - a + limit) / 2)]
    if floor is not None:
        pairs += [(a, floor), (limit - floor, floor)]
    low = -np.inf if floor is None else floor
    allowed = [p for p in pairs if sum(p) <= limit + 1e-12 and p[1] >= low - 1e-12]
    return min(allowed, key=lambda p: (p[0] - a) ** 2 + (p[1] - b) ** 2)


def _levels_by_entry(
    problem,
    x,
    y,
    z,
    theta,
    multiplier,
    *,
    c=1.0,
    gamma1=1.0,
    gamma2=1.0,
    radius=10.0,
    lr=0.1,
    multiplier_lr=0.1,
):
    if problem.equality:
        n, m, w = len(x), multiplier[0], z[0]
        a, b, t = y[:n], y[n:], theta[:n]
        moved = np.concatenate(
            [
                x - lr * ((x - b) / c - a + t - m),
                a - lr * ((a - 1) / c + a - x - (a - t) / gamma1),
                b - lr * ((b - x) / c + 1 - (b - theta[n:]) / gamma1),
            ]
        )
        moved = moved - moved.mean()
        up = _box(problem, w + multiplier_lr * (m - w) / gamma2, radius)
        return Levels(moved[:n], moved[n:], np.array([up]))
    found = []
    for a, b, w, t, m in _rows(x, y, z, theta, multiplier):
        d_a = (a - problem.goal) / c - 2 * (b - 2 * a) + 2 * (t - 2 * a) - m
        d_b = (b - problem.goal) / c + b - 2 * a - (b - t) / gamma1
        pair = _nearest(problem, a - lr * d_a, b - lr * d_b)
        up = w + multiplier_lr * (m - w) / gamma2
        found.append((*pair, _box(problem, up, radius)))
    return Levels(*np.array(found).T)


def _times_gamma(
    problem,
    x,
    y,
    z,
    theta,
    multiplier,
    *,
    gamma1=1.0,
    gamma2=1.0,
    radius=10.0,
    inner_lr=0.1,
):
    """A proximal term of weight 1 / gamma1 is what the code means by gamma1."""
    return saddle_step(
        problem,
        x,
        y,
        z,
        theta,
        multiplier,
        gamma1=1 / gamma1,
        gamma2=gamma2,
        radius=radius,
        inner_lr=inner_lr,
    )


def _free_multiplier(
    problem,
    x,
    y,
    z,
    theta,
    multiplier,
    *,
    gamma1=1.0,
    gamma2=1.0,
    radius=10.0,
    inner_lr=0.1,
):
    stepped = saddle_step(
        problem,
        x,
        y,
        z,
        theta,
        multiplier,
        gamma1=gamma1,
        gamma2=gamma2,
        radius=radius,
        inner_lr=inner_lr,
    )
    g = problem.constraints(x, theta)[0]
    rise = g - (multiplier - z) / gamma2
    return stepped._replace(multiplier=multiplier + inner_lr * rise)


def _x_stays(
    problem,
    x,
    y,
    z,
    theta,
    multiplier,
    *,
    c=1.0,
    gamma1=1.0,
    gamma2=1.0,
    radius=10.0,
    lr=0.1,
    multiplier_lr=0.1,
):
    gammas = {"gamma1": gamma1, "gamma2": gamma2}
    d = merit(problem, x, y, z, theta, multiplier, c=c, **gammas)[1]
    stepped = level_step(
        problem,
        x,
        y,
        z,
        theta,
        multiplier,
        c=c,
        radius=radius,
        lr=lr,
        multiplier_lr=multiplier_lr,
        **gammas,
    )
    x, y = problem.project(x, y - lr * d.y)
    return stepped._replace(x=x, y=y)


def _z_stays(
    problem,
    x,
    y,
    z,
    theta,
    multiplier,
    *,
    c=1.0,
    gamma1=1.0,
    gamma2=1.0,
    radius=10.0,
    lr=0.1,
    multiplier_lr=0.1,
):
    stepped = level_step(
        problem,
        x,
        y,
        z,
        theta,
        multiplier,
        c=c,
        gamma1=gamma1,
        gamma2=gamma2,
        radius=radius,
        lr=lr,
        multiplier_lr=multiplier_lr,
    )
    return stepped._replace(z=z)


def _value(problem, x, y, z, saddle, gammas):
    """The proximal Lagrangian, by the words of the problems."""
    theta, multiplier = saddle
    near, far = theta - y, multiplier - z
    if problem.equality:
        a, b = theta[: len(x)], theta[len(x) :]
        f, g = a @ a / 2 - x @ a + b.sum(), np.array([x.sum() + theta.sum()])
    else:
        f, g = ((theta - 2 * x) ** 2).sum() / 2, x + theta - problem.limit
    near, far = near @ near / gammas["gamma1"], far @ far / gammas["gamma2"]
    return f, f + multiplier @ g + (near - far) / 2


def _certificate(
    result,
    problem,
    x0,
    y0,
    z0,
    *,
    gamma1=1.0,
    gamma2=1.0,
    radius=10.0,
    lr=0.1,
    multiplier_lr=0.1,
    gtol=1e-2,
    c0=1.0,
    growth=0.3,
    **_,
):
    """Feasible, no step left from the exact saddle point, f - v of the size of (∇F / c)², as at stationary points."""
    gammas, c = {"gamma1": gamma1, "gamma2": gamma2}, result.c
    x, y, z, theta, multiplier = (np.asarray(v, dtype=float) for v in result[:5])
    exact = by_bisection(problem, x, y, z, radius=radius, **gammas)
    v = _value(problem, x, y, z, exact, gammas)[1]
    f = _value(problem, x, y, z, Saddle(y, z), gammas)[0]
    moved = _levels_by_entry(
        problem,
        x,
        y,
        z,
        *exact,
        c=c,
        lr=lr,
        multiplier_lr=multiplier_lr,
        radius=radius,
        **gammas,
    )
    steps = np.concatenate(
        [(moved.x - x) / lr, (moved.y - y) / lr, (moved.z - z) / multiplier_lr]
    )
    return {
        "constraints": _violation(problem, x, y),
        "lower level above its value, over the pull of the upper one": c**2
        * max(0.0, float(f - v))
        / (gtol**2 + sum((d @ d) for d in problem.upper(x, y)[1:])),
        "gradient over gtol": c * float(np.linalg.norm(steps)) / gtol,
        "lower level from the saddle point, over gtol": c
        * float(abs(theta - exact.theta).max())
        / gtol,
        "multiplier from the saddle point, over gtol": c
        * float(abs(multiplier - exact.multiplier).max())
        / gtol,
        "weight": abs(c / (c0 * result.iterations**growth) - 1),
        "iterations": abs(result.iterations - len(result.residuals)),
        "stopped late": sum(r <= gtol for r in result.residuals[:-1]),
    }


def _violation(problem, x, y):
    if problem.equality:
        return float(abs(x.sum() + y.sum()))
    floor = -np.inf if problem.floor is None else problem.floor
    return float(max(0, (x + y - problem.limit).max(), (floor - y).max()))


def _feasible(result, problem, x0, y0, z0, *, radius=10.0, **_):
    x, y, z = (np.asarray(v) for v in result[:3])
    return {
        "constraints": (_violation(problem, x, y), 1e-6),
        "outside of the box": (float(max(-z.min(), (z - radius).max())), 0.0),
    }


def _start():
    edge = COUPLED.edges["a constraint far from held"]()
    return COUPLED.of(edge, ("problem", "x0", "y0", "z0"))


FAST = {"lr": 0.3, "multiplier_lr": 0.5, "inner_lr": 0.3, "gtol": 0.05}
GAMMAS = {"gamma1": 0.4, "gamma2": 3.0}
METHOD = Method(
    key="yao2024constrained",
    provenance="confirmed",
    functions=(
        Objective(
            f=merit,
            wrt=("x", "y", "z"),
            interface=COUPLED,
            settings={"default": {}, "probe": {"c": 2.5} | GAMMAS},
        ),
        Estimator(
            f=saddle_step,
            interface=COUPLED,
            settings={
                "default": {},
                "a small box": {"radius": 0.5},
                "probe": {"radius": 0.7, "inner_lr": 0.3} | GAMMAS,
            },
            brute_force=_saddle_by_entry,
            deviations=(
                Deviation(
                    "times gamma",
                    _times_gamma,
                    seen_in=SVM,
                    computes="the proximal slope multiplied by gamma1 in the place of divided by it",
                ),
                Deviation(
                    "a free multiplier",
                    _free_multiplier,
                    seen_in=SVM,
                    computes="the multiplier's step without the projection on the box",
                ),
            ),
        ),
        Estimator(
            f=level_step,
            interface=COUPLED,
            settings={
                "default": {},
                "a small box": {"radius": 0.5},
                "probe": {
                    "c": 2.5,
                    "radius": 0.7,
                    "lr": 0.3,
                    "multiplier_lr": 0.2,
                }
                | GAMMAS,
            },
            brute_force=_levels_by_entry,
            deviations=(
                Deviation(
                    "the upper level stays",
                    _x_stays,
                    seen_in=SVM,
                    computes="no gradient step of x, which moves by the projection alone",
                ),
                Deviation(
                    "z stays",
                    _z_stays,
                    seen_in="Liuyuan999/Penalty_Based_Lagrangian_Bilevel, hyperparam_opt/algorithms/lv_hba.py",
                    computes="no step of z",
                ),
            ),
        ),
        Solver(
            f=lv_hba,
            interface=COUPLED,
            sizes=(2, 4),
            seeds=(0,),
            settings={
                "default": FAST,
                "probe": {
                    "radius": 6.0,
                    "lr": 0.25,
                    "multiplier_lr": 0.4,
                    "inner_lr": 0.25,
                    "c0": 1.2,
                    "growth": 0.25,
                    "gtol": 0.06,
                    "max_iter": 4000,
                    "gamma1": 0.8,
                    "gamma2": 1.4,
                },
            },
            certificate=_certificate,
            tolerances={
                "constraints": 1e-9,
                "lower level above its value, over the pull of the upper one": 5.0,
                "gradient over gtol": 3.0,
                "lower level from the saddle point, over gtol": 3.0,
                "multiplier from the saddle point, over gtol": 3.0,
                "weight": 1e-9,
                "iterations": 0.0,
                "stopped late": 0.0,
            },
            failures={"three steps": lambda: (_start(), {"max_iter": 3})},
            remains=_feasible,
        ),
    ),
)
