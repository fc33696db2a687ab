"""What is known of `trref.optimizers.polar_decomposition`."""

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Interface,
    Limit,
    Method,
    Objective,
    Solver,
    Transform,
)
from trref.optimizers.polar_decomposition import (
    newton_schulz,
    newton_schulz_jvp,
    newton_schulz_vjp,
    nuclear_norm,
    polar_factor,
    qdwh,
    zolopd,
)


def _example(rng, size):
    x = rng.choice((0.1, 5.0)) * rng.standard_normal((size, 2 + size % 3))
    return {"x": x if rng.random() < 0.5 else x.T.copy()}


def _matrix(rows):
    return lambda: {"x": xp.array(rows)}


FULL_RANK = {
    "one column": _matrix([[3.0], [-4.0]]),
    "one row": _matrix([[3.0, -4.0, 1.0]]),
    "one number": _matrix([[-2.0]]),
    "a scaled rotation": _matrix([[3.0, 4.0], [-4.0, 3.0]]),
    "badly conditioned": _matrix([[1.0, 0.0], [0.0, 1e-3], [0.5, 0.0]]),
}
MATRIX = Interface("matrix", example=_example, edges=FULL_RANK)


DEFICIENT = {
    "not of full rank": _matrix([[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0]]),
    "zero": lambda: {"x": xp.zeros((3, 2))},
    "tiny": _matrix([[3e-18, 4e-18], [-4e-18, 3e-18]]),
}
ILL_CONDITIONED = {
    "condition 1e5": _matrix([[1.0, 1.0, 0.0], [1.0, 1.0 + 1e-4, 0.0], [0.0, 0.0, 3.0]])
}


def _tall_of_full_rank(inputs):
    """The matrix has full rank, and at least as many rows as columns"""
    x = inputs["x"] if inputs["x"].shape[0] >= inputs["x"].shape[1] else inputs["x"].T
    if xp.linalg.matrix_rank(x) < x.shape[1]:
        x = x + 10 * xp.eye(*x.shape)
    return {"x": x, "y": x}


def _norm_floor(x, *, coefficients="muon", steps=5, eps=1e-7):
    norm = float(xp.sqrt((x * x).sum()))
    missing = max(eps - norm, 1e-30)
    return newton_schulz(x, coefficients=coefficients, steps=steps, eps=missing)


MUON_NORM_FLOOR = Deviation(
    "norm floor",
    _norm_floor,
    seen_in="PyTorch 2.13, torch/optim/_muon.py",
    computes="a division by the norm, by epsilon where that is larger, not by their sum",
)


def _distance(U):
    """How far the columns, or of a wide matrix the rows, are from orthonormal."""
    U = U if U.shape[0] >= U.shape[1] else U.T
    return float(xp.sqrt(((U.T @ U - xp.eye(U.shape[1])) ** 2).sum()))


def _certificate(result, x, **_):
    size = float(xp.sqrt((x * x).sum()))
    return {
        "distance of U'U from I": _distance(result.U),
        "residual of x - U H": float(abs(x - result.U @ result.H).max()) / size,
        "asymmetry of H": float(abs(result.H - result.H.T).max()),
        "negative eigenvalue of H": -float(xp.linalg.eigvalsh(result.H).min()) / size,
    }


def _not_orthonormal(result, x, **_):
    """It says by how much."""
    wrong = abs(_distance(result.U) - result.errors[-1])
    return {"error of the last error": (wrong, 1e-12)}


METHOD = Method(
    key="nakatsukasa2010optimizing",
    provenance="confirmed",
    functions=(
        Transform(
            f=polar_factor,
            interface=MATRIX,
            edges={**FULL_RANK, **DEFICIENT},
            wrt="x",
            idempotent=True,
            limits=(
                Limit(
                    "stiefel_retraction.nearest_frame", {}, {}, where=_tall_of_full_rank
                ),
            ),
        ),
        Objective(f=nuclear_norm, interface=MATRIX, wrt="x"),
        Transform(
            f=newton_schulz,
            interface=MATRIX,
            wrt="x",
            # of one number the result is a constant but for epsilon
            edges={k: make for k, make in FULL_RANK.items() if k != "one number"},
            jvp=newton_schulz_jvp,
            vjp=newton_schulz_vjp,
            settings={
                "default": {},
                "cubic": {"coefficients": "cubic", "steps": 4},
                "quintic": {"coefficients": "quintic", "steps": 3},
                "Polar Express, nine steps": {
                    "coefficients": "polar_express",
                    "steps": 9,
                },
                "probe": {"coefficients": "polar_express", "steps": 2, "eps": 0.3},
            },
            deviations=(MUON_NORM_FLOOR,),
        ),
        Solver(
            f=qdwh,
            interface=MATRIX,
            edges={**FULL_RANK, **ILL_CONDITIONED},
            settings={"default": {}, "probe": {"lowest": 1e-9, "max_iter": 5}},
            certificate=_certificate,
            # single precision is held to 1e4 times as much
            tolerances={
                "distance of U'U from I": 1e-10,
                "residual of x - U H": 1e-10,
                "asymmetry of H": 1e-10,
                "negative eigenvalue of H": 1e-10,
            },
            agreement=1e-9,
            failures={
                "one step": lambda: (
                    {"x": xp.array([[1.0, 0.0], [0.0, 1e-3]])},
                    {"max_iter": 1},
                ),
                "zero": lambda: ({"x": xp.zeros((3, 2))}, {}),
            },
            remains=_not_orthonormal,
        ),
        Solver(
            f=zolopd,
            interface=MATRIX,
            edges={**FULL_RANK, **ILL_CONDITIONED},
            settings={
                "default": {},
                "low degrees": {"lowest": 1e-9, "degree": 3, "max_iter": 4},
                "ended by the cubic step": {
                    "lowest": 1e-6,
                    "degree": 1,
                    "max_iter": 4,
                },
                "probe": {"lowest": 1e-9, "degree": 7, "max_iter": 3},
            },
            certificate=_certificate,
            tolerances={
                "distance of U'U from I": 1e-10,
                "residual of x - U H": 1e-10,
                "asymmetry of H": 1e-10,
                "negative eigenvalue of H": 1e-10,
            },
            agreement=1e-9,
            failures={
                "one step of degree one": lambda: (
                    {"x": xp.array([[1.0, 0.0], [0.0, 1e-3]])},
                    {"max_iter": 1, "degree": 1},
                ),
                "zero": lambda: ({"x": xp.zeros((3, 2))}, {}),
            },
            remains=_not_orthonormal,
        ),
    ),
)
