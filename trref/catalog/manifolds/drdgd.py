"""What is known of `trref.manifolds.drdgd`."""

from trref.backend import xp
from trref.catalog import Limit, Method, Solver
from trref.catalog.manifolds.agents import AGREEMENT, DECENTRALISED, DESCENT, REFUSED
from trref.manifolds.drdgd import drdgd, drgta
from trref.problems.frames import AgentsPCA


def _alone(inputs):
    """one agent"""
    return {
        **inputs,
        "loss_and_grad": AgentsPCA(inputs["loss_and_grad"].C[:1]),
        "weights": xp.eye(1),
    }


SETTINGS = {
    "default": {},
    "probe": {
        "lr": 0.2,
        "consensus_lr": 0.8,
        "decay": 0.3,
        "rounds": 2,
        "tol": 0.03,
        "max_iter": 150,
    },
}


METHOD = Method(
    key="chen2021decentralized",
    provenance="confirmed",
    functions=(
        Solver(
            f=drdgd,
            interface=DECENTRALISED,
            refused=REFUSED,
            settings=SETTINGS,
            limits=(Limit("drcgd.dprgd", {}, where=_alone),),
            **DESCENT,
        ),
        Solver(
            f=drgta,
            interface=DECENTRALISED,
            refused=REFUSED,
            settings=SETTINGS,
            limits=(Limit("drdgd.drdgd", {}, where=_alone),),
            **AGREEMENT,
        ),
    ),
)
