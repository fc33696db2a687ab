"""What is known of `trref.transport.sinkhorn_newton_sparse`."""

from trref.catalog import Limit, Method, Objective, Solver
from trref.catalog.transport.interfaces import CERTIFICATE, DUAL, TRANSPORT
from trref.transport.sinkhorn_newton_sparse import (
    augmented_potential,
    sinkhorn_newton_sparse,
)


def _centred(inputs):
    """potentials of equal sums"""
    f, g = inputs["f"], inputs["g"]
    shift = (g.sum() - f.sum()) / (len(f) + len(g))
    return {**inputs, "f": f + shift, "g": g - shift}


METHOD = Method(
    key="tang2024accelerating",
    provenance={"partly": ("armijo",), "reconstructed": ("augmented",)},
    functions=(
        Objective(
            f=augmented_potential,
            interface=DUAL,
            settings={"default": {"reg": 0.1}, "probe": {"reg": 0.3}},
            wrt=("f", "g"),
            limits=(
                Limit("entropic_dual.dual_value", {}, {"reg": 0.1}, where=_centred),
            ),
            refused={
                "a potential that is too large": {"f": 1e4},
            },
        ),
        Solver(
            f=sinkhorn_newton_sparse,
            prescribed=False,
            interface=TRANSPORT,
            settings={
                "default": {"reg": 0.1},
                "small regularisation": {"reg": 0.02},
                "exact Newton": {"reg": 0.03, "keep": 1.0, "cg_rtol": 1e-8},
                "one sweep, then Newton": {
                    "reg": 0.03,
                    "n_sinkhorn": 1,
                    "keep": 0.5,
                    "cg_rtol": 1e-9,
                },
                "warm start": {"reg": 0.02, "levels": 2},
                "probe": {
                    "reg": 0.05,
                    "tol": 1e-7,
                    "max_iter": 300,
                    "n_sinkhorn": 7,
                    "keep": 0.4,
                    "cg_rtol": 0.01,
                    "levels": 2,
                },
            },
            limits=(
                Limit(
                    "sinkhorn.sinkhorn_scaling",
                    {"max_iter": 10000, "n_sinkhorn": 10000},
                    {"reg": 0.1},
                ),
            ),
            **CERTIFICATE,
            refused={
                "a cost that is too large for reg": {"cost": 1e9},
                "masses of sum 2": {"a": lambda a: 2 * a},
                "other masses of sum 2": {"b": lambda b: 2 * b},
            },
        ),
    ),
)
