"""What is known of `trref.physics.r2scan_correlation`."""

import dataclasses
from functools import partial

from trref.catalog import Deviation, Method, Objective
from trref.catalog.physics.interfaces import DENSITY, fermi_hole
from trref.physics.r2scan_correlation import BETA, GAMMA, correlation

XCFUN = {"beta": 0.066725, "gamma": 0.031090690869655}


def _xcfun(density, sigma, tau, *, beta=BETA, gamma=GAMMA):
    return correlation(density, sigma, tau, **XCFUN)


def _limited(density, sigma, tau, *, beta=BETA, gamma=GAMMA):
    """libxc's, with whatever constants."""
    return fermi_hole(partial(correlation, beta=beta, gamma=gamma)).f(
        density, sigma, tau
    )


METHOD = Method(
    key="furness2020accurate",
    provenance="confirmed",
    functions=(
        Objective(
            f=correlation,
            interface=DENSITY,
            wrt=("density", "sigma", "tau"),
            sizes=(4, 8, 24),
            settings={"default": {}, "probe": {"beta": 0.05, "gamma": 0.04}},
            deviations=(
                Deviation(
                    "xcfun's constants",
                    _xcfun,
                    seen_in="dftlibs/xcfun, src/functionals/SCAN_like_eps.hpp",
                    computes="correlation with beta 0.066725 and gamma 0.031090690869655",
                ),
                dataclasses.replace(fermi_hole(correlation), f=_limited),
            ),
            refused={
                "a density next to 0": {"density": 1e-13},
                "a negative sigma": {"sigma": -1.0},
                "gradients that no density has": {
                    "sigma": lambda sigma: 0 * sigma + [1.0, -9.0, 1.0]
                },
                "a sigma that is too large": {"sigma": 1e40},
                "a tau that is too large": {"tau": 1e40},
            },
        ),
    ),
)
