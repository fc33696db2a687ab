"""What is known of `trref.domains.domain_penalties`."""

import dataclasses

from trref.catalog import Method, Objective
from trref.catalog.domains.interfaces import DOMAIN_HEAD
from trref.domains.domain_penalties import coral, fishr, irm, vrex

# where all losses are equal the variance is a square of 0, whose slopes are rounding
DIFFER = dataclasses.replace(
    DOMAIN_HEAD,
    edges={n: e for n, e in DOMAIN_HEAD.edges.items() if n != "identical domains"},
)
HEAD = {"interface": DOMAIN_HEAD, "wrt": ("theta", "features")}

NO_SUCH_CLASS = {
    "a label that is no class": {"labels": 99},
}


METHOD = Method(
    key="rame2021fishr",
    provenance={
        "partly": ("coral", "irm", "vrex", "fishr"),
        "reconstructed": ("gradients",),
    },
    functions=(
        Objective(f=coral, interface=DOMAIN_HEAD, wrt="features"),
        Objective(
            f=irm,
            **HEAD,
            refused=NO_SUCH_CLASS,
        ),
        Objective(
            f=vrex,
            interface=DIFFER,
            wrt=("theta", "features"),
            refused=NO_SUCH_CLASS,
        ),
        Objective(
            f=fishr,
            **HEAD,
            refused=NO_SUCH_CLASS,
        ),
    ),
)
