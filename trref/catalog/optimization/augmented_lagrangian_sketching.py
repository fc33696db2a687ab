"""What is known of `trref.optimization.augmented_lagrangian_sketching`."""

import math

import numpy as np

from trref.backend import xp
from trref.catalog import Method, Solver
from trref.catalog.optimization.exact_merit import constrained, quadratic
from trref.optimization.augmented_lagrangian_sketching import als_minimize
from trref.problems.constrained import QuadraticConstraints, on_the_sphere
from trref.problems.convex import spd_matrix


def _example(rng, size):
    """On a sphere and, of more than two unknowns, perhaps in a plane; the start is on the sphere.

    Random steps are many where the system is far from orthogonal: for them unknowns are few, curvatures near 1, and the
    start not far from a solution.
    """
    kind, T = int(rng.integers(0, 3)), max(size, int(rng.integers(40, 60)))
    size = min(size, 4) if kind else size
    m = int(rng.integers(0, 2)) if size > 2 else 0
    K = size + m + 1
    x0 = rng.standard_normal(size)
    x0 = x0 / math.sqrt(float(x0 @ x0))
    rows = rng.standard_normal((m, size))
    rows = rows - (rows @ x0)[:, None] * x0
    multipliers0 = 0.1 * rng.standard_normal(m + 1)
    if kind == 0:
        objective, sketches = constrained(rng, size, 1)[0], None
    else:
        A = spd_matrix(rng, rng.choice((0.7, 1.0, 1.5), size))
        objective = quadratic(A, A @ x0 + x0 + 0.3 * rng.standard_normal(size))
        multipliers0[0] = 1 + multipliers0[0]
        sketches = rng.standard_normal((T, K))
        if kind == 1:
            sketches = rng.integers(0, K, T)
    return {
        "objective": objective,
        "constraints": on_the_sphere(rows, 0.1 * rng.standard_normal(m)),
        "x0": x0,
        "multipliers0": multipliers0,
        "sketches": sketches,
    }


def _case(A, b, rows, levels, x0, multipliers0, sketches=None):
    """Under linear constraints, or on the circle where there are no rows."""
    n = len(x0)
    if rows:
        bends = xp.zeros((len(rows), n, n))
        constraints = QuadraticConstraints(xp.array(rows), xp.array(levels), bends)
    else:
        constraints = on_the_sphere(xp.zeros((0, n)), xp.zeros(0))
    return {
        "objective": quadratic(A, b),
        "constraints": constraints,
        "x0": xp.array(x0),
        "multipliers0": xp.array(multipliers0),
        "sketches": None if sketches is None else xp.array(sketches),
    }


ONE, SADDLE = [[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, -3.0]]
BEND = [[0.0, 2.0], [2.0, 0.0]]
EDGES = {
    "at the solution": lambda: _case(
        ONE, [0.0, 0.0], [[1.0, 1.0]], [2.0], [1.0, 1.0], [-1.0], [0, 1, 2]
    ),
    "one step": lambda: _case(
        ONE, [1.0, 0.5], [[1.0, 1.0]], [2.0], [0.0, 3.0], [0.0], [2, 0, 1, 2, 1, 0]
    ),
    "all is fixed": lambda: _case(
        ONE, [0.0, 0.0], [[1.0, 1.0], [1.0, -1.0]], [1.0, 3.0], [0.0, 0.0], [0.0, 0.0]
    ),
    "one unknown": lambda: _case(
        [[3.0]], [1.0], [[2.0]], [1.0], [2.0], [0.0], [[1.0, 2.0], [0.5, -1.0]]
    ),
    "an indefinite objective": lambda: _case(
        SADDLE, [0.5, 0.2], None, None, [0.8, 0.6], [0.0]
    ),
    "far from the circle": lambda: _case(
        SADDLE, [1.0, 1.0], None, None, [5.0, 4.0], [0.0]
    ),
    "a wrong multiplier": lambda: _case(
        BEND, [1.0, 0.0], None, None, [0.6, 0.8], [-20.0]
    ),
    "random and indefinite": lambda: _case(
        BEND, [1.0, 0.3], None, None, [-0.6, 0.9], [0.3], [0, 2, 1, 2, 0, 1, 1]
    ),
}

# ---- the method once more, on the host and densely


def _evaluated(problem, z, n):
    (f, slope, H), (c, G, bends) = (part(z[:n]) for part in problem)
    weights = z[n:]
    gradient = slope + G.T @ weights
    return (
        float(f) + weights @ c,
        gradient,
        c,
        G,
        H + np.einsum("i,ijk", weights, bends),
    )


def _merit(at, eta):
    L, g, c, G, H = at
    value = L + eta[0] / 2 * (c @ c) + eta[1] / 2 * (g @ g)
    return float(value), np.r_[
        g + eta[1] * H @ g + eta[0] * G.T @ c, c + eta[1] * G @ g
    ]


class _Inner:
    """A linear system and its least squares corrections by the equations drawn."""

    def __init__(self, matrix, right, sketches, used):
        self.matrix, self.right, self.used = matrix, right, used
        self.taken = 0
        if (
            sketches is not None
        ):  # a combination of equations a row, and the way to the points that solve it
            whole = sketches if sketches.ndim == 2 else np.eye(len(right))[sketches]
            self.rows, self.levels = whole @ matrix, whole @ right
            self.ways = np.linalg.pinv(self.rows[:, None])[..., 0]
        self.exactly = sketches is None
        self.delta = np.zeros(len(right))

    def improve(self, goal, most):
        """K corrections at a time."""
        if self.exactly:
            self.delta = np.linalg.lstsq(self.matrix, self.right, rcond=None)[0]
            return
        size = np.linalg.norm(self.matrix)
        while self.taken < most:
            rounding = 10 * 2.0**-52 * size * np.linalg.norm(self.delta)
            missing = np.linalg.norm(self.right - self.matrix @ self.delta)
            if missing <= max(goal, rounding):
                return
            for _ in range(len(self.right)):
                i = (self.used + self.taken) % len(self.rows)
                short = self.levels[i] - self.rows[i] @ self.delta
                self.delta = self.delta + self.ways[i] * short
                self.taken += 1


def _replayed(
    objective,
    constraints,
    x0,
    multipliers0,
    sketches=None,
    *,
    constraint_weight=1.0,
    gradient_weight=0.1,
    accuracy=0.1,
    forcing=1.0,
    beta=0.1,
    nu=1.5,
    shift=0.1,
    tol=1e-4,
    max_iter=100,
    max_inner=100_000,
):
    """Return step lengths, random steps for each, and the last penalties."""
    problem, n, eps = (objective, constraints), len(x0), 2.0**-52
    z, eta = np.r_[x0, multipliers0], (constraint_weight, gradient_weight)
    lengths, counts, used = [], [], 0
    while True:
        at = _evaluated(problem, z, n)
        _, g, c, G, H = at
        missing = np.linalg.norm(np.r_[g, c])
        if missing <= tol or len(lengths) == max_iter:
            return lengths, counts, eta
        singular = np.linalg.svd(G, compute_uv=False)
        if singular.min() ** 2 <= 10 * len(c) * eps * np.sum(G * G):
            return lengths, counts, eta
        kernel = np.linalg.svd(G)[2][len(c) :]
        along = np.linalg.eigvalsh(kernel @ H @ kernel.T)
        add = shift + np.linalg.norm(H) if len(along) and along.min() < 1e-6 else 0.0
        B = H + add * np.eye(n)
        matrix = np.block([[B, G.T], [G, np.zeros((len(c), len(c)))]])
        inner = _Inner(matrix, -np.r_[g, c], sketches, used)
        psi = 20 * max(1, np.sum(B * B)) / min(1, singular.min() ** 2) / min(1, shift)
        upsilon = max(1, np.linalg.norm(G), np.linalg.norm(H))
        divisor = 1.0
        while True:
            trial = (0.5 - beta) * eta[1] / (1 + sum(eta)) / (upsilon * psi) ** 2
            accuracy = max(min(accuracy / divisor, trial), 1e-6)
            goal = forcing * accuracy * missing / np.linalg.norm(matrix) / psi
            inner.improve(goal, max_inner)
            value, gradient = _merit(at, eta)
            slope = float(gradient @ inner.delta)
            if slope <= -eta[1] / 2 * missing**2 or inner.taken >= max_inner:
                break
            if eta[0] > 1e8 or eta[1] < 1e-8:
                break
            eta, divisor = (nu**2 * eta[0], eta[1] / nu), nu**4
        used += inner.taken
        for halvings in range(40 * (slope < 0)):
            alpha = 0.5**halvings
            new = _merit(_evaluated(problem, z + alpha * inner.delta, n), eta)[0]
            if new <= value + alpha * beta * slope + 10 * eps * abs(value):
                break
        else:
            return lengths, counts, eta
        z = z + alpha * inner.delta
        lengths.append(alpha)
        counts.append(inner.taken)


def _off(a, b):
    """0 for equal lists, infinity where the lengths differ."""
    if len(a) != len(b):
        return math.inf
    return max((abs(x - y) for x, y in zip(a, b, strict=True)), default=0.0)


def _certificate(
    result,
    objective,
    constraints,
    x0,
    multipliers0,
    sketches=None,
    *,
    tol=1e-4,
    **hyper,
):
    """A solution, reported as it is, on the way that is prescribed."""
    given = (objective, constraints, x0, multipliers0, sketches)
    lengths, counts, eta = _replayed(*given, tol=tol, **hyper)
    z, K = np.r_[result.x, result.multipliers], len(x0) + len(multipliers0)
    _, g, c, _, _ = _evaluated((objective, constraints), z, len(x0))
    missing = np.linalg.norm(np.r_[g, c])
    weights = result.constraint_weight / eta[0], result.gradient_weight / eta[1]
    halvings = -sum(math.log2(a) for a in result.step_lengths)
    changes = result.inner_iterations - sum(result.random_steps) - halvings
    asked = hyper.get("constraint_weight", 1.0), hyper.get("nu", 1.5)
    expected = math.log(eta[0] / asked[0]) / math.log(asked[1]) / 2
    return {
        "residual over tol": missing / tol,
        "error of the reported residual": abs(missing - result.residuals[-1]) / tol,
        "step lengths other than prescribed": _off(lengths, result.step_lengths),
        "penalties other than prescribed": max(abs(w - 1) for w in weights),
        "random steps other than prescribed, in K": _off(counts, result.random_steps)
        / K,
        "steps counted otherwise": abs(changes - expected)
        + abs(len(result.residuals) - 1 - result.iterations),
    }


TOLERANCES = {
    "residual over tol": 1 + 1e-6,
    "error of the reported residual": 1e-6,
    "step lengths other than prescribed": 0,
    "penalties other than prescribed": 1e-9,
    # a residual that is at the goal up to rounding may pass or not
    "random steps other than prescribed, in K": 1,
    "steps counted otherwise": 1e-6,
}


def _so_far(result, objective, constraints, x0, multipliers0, sketches=None, **hyper):
    given = (objective, constraints, x0, multipliers0, sketches)
    figures = _certificate(result, *given, **hyper)
    kept = ("error", "lengths", "penalties")
    return {
        name: (figure, TOLERANCES[name])
        for name, figure in figures.items()
        if any(word in name for word in kept)
    }


def _dependent():
    return _case(
        ONE, [1.0, 0.0], [[1.0, 1.0], [2.0, 2.0]], [1.0, 2.0], [0.0, 1.0], [0.0, 0.0]
    )


METHOD = Method(
    key="hong2023constrained",
    provenance="confirmed",
    functions=(
        Solver(
            f=als_minimize,
            example=_example,
            edges=EDGES,
            settings={
                "default": {"max_iter": 40, "max_inner": 40_000},
                "loose": {"forcing": 100.0, "gradient_weight": 2.0},
                "probe": {
                    "constraint_weight": 0.3,
                    "gradient_weight": 0.7,
                    "accuracy": 0.2,
                    "forcing": 30.0,
                    "beta": 0.3,
                    "nu": 1.3,
                    "shift": 0.4,
                    "tol": 1e-6,
                    "max_iter": 50,
                    "max_inner": 50_000,
                },
            },
            sizes=(2, 3),
            certificate=_certificate,
            tolerances=TOLERANCES,
            prescribed=False,
            failures={
                "two steps": lambda: (EDGES["far from the circle"](), {"max_iter": 2}),
                "dependent constraints": lambda: (_dependent(), {}),
                "too few random steps": lambda: (
                    EDGES["random and indefinite"](),
                    {"max_inner": 2, "max_iter": 3},
                ),
            },
            remains=_so_far,
            refused={
                "an equation that there is not": lambda: (
                    {**EDGES["one step"](), "sketches": xp.array([0, 3])},
                    {},
                ),
                "vectors of another length": lambda: (
                    {**EDGES["one step"](), "sketches": xp.ones((3, 2))},
                    {},
                ),
                "a vector of zeros": lambda: (
                    {**EDGES["one step"](), "sketches": xp.zeros((3, 3))},
                    {},
                ),
                "more constraints than unknowns": lambda: (
                    {**EDGES["one unknown"](), "multipliers0": xp.zeros(2)},
                    {},
                ),
            },
        ),
    ),
)
