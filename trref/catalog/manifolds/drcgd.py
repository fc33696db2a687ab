"""What is known of `trref.manifolds.drcgd`."""

from trref.catalog import Limit, Method, Solver
from trref.catalog.manifolds.agents import AGREEMENT, DECENTRALISED, DESCENT, REFUSED
from trref.manifolds.drcgd import dprgd, drcgd

COMMON = {"lr": 0.2, "decay": 0.3, "rounds": 2, "tol": 0.03, "max_iter": 150}


METHOD = Method(
    key="chen2023decentralized",
    provenance={
        "confirmed": ("problem", "step", "beta", "direction", "dprgd"),
        "reconstructed": ("safeguards",),
    },
    functions=(
        Solver(
            f=drcgd,
            interface=DECENTRALISED,
            refused=REFUSED,
            settings={
                "default": {},
                "capped": {"beta_cap": 0.6},
                "restarted": {"restart": 0.9},
                "probe": {**COMMON, "beta_cap": 0.7, "restart": 0.2},
            },
            limits=(Limit(to="drcgd.dprgd", hyper={"beta_cap": 0.0}),),
            **AGREEMENT,
        ),
        Solver(
            f=dprgd,
            interface=DECENTRALISED,
            refused=REFUSED,
            settings={"default": {}, "probe": COMMON},
            **DESCENT,
        ),
    ),
)
