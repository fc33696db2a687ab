"""What is known of `trref.physics.r2scan`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective, Transform
from trref.catalog.physics.interfaces import DENSITY, fermi_hole, points
from trref.catalog.physics.r2scan_correlation import XCFUN
from trref.catalog.physics.r2scan_exchange import factor
from trref.physics.r2scan import (
    EnergyDensity,
    Ratio,
    energy_density,
    r2scan,
    regularised_ratio,
    switch,
    switch_derivative,
)
from trref.physics.r2scan_correlation import correlation
from trref.physics.r2scan_exchange import exchange
from trref.physics.terms import Potential

C = (1.0, -0.64, -0.4352, -1.535685604549, 3.061560252175, -1.915710236206)
C += (0.516884468372, -0.051848879792)
FITS = (
    (0.0310907, 0.21370, 7.5957, 3.5876, 1.6382, 0.49294),
    (0.01554535, 0.20548, 14.1189, 6.1977, 3.3662, 0.62517),
    (0.0168869, 0.11125, 10.357, 3.6231, 0.88026, 0.49671),
)


def _exchange(n, s, t):
    p = s / (4 * (3 * math.pi**2) ** (2 / 3) * n ** (8 / 3))
    w, u = s / 8 / n, 0.3 * (3 * math.pi**2) ** (2 / 3) * n ** (5 / 3)
    F = factor(p, (t - w) / (u + 0.001 * w))
    return -0.75 * (3 / math.pi) ** (1 / 3) * n ** (4 / 3) * F.real


def _local(r, z):
    """Both local energies per particle, the first also without its factor."""
    dx = ((1 + z) ** (4 / 3) + (1 - z) ** (4 / 3)) / 2
    G = (1 - 2.363 * (dx - 1)) * (1 - z**12)
    bare = -0.0285764 / (1 + 0.0889 * math.sqrt(r) + 0.125541 * r)
    u, p, m = (
        -2
        * A
        * (1 + a * r)
        * math.log(
            1 + 1 / (2 * A * sum(c * r ** (i / 2 + 0.5) for i, c in enumerate(b)))
        )
        for A, a, *b in FITS
    )
    scale = 2 ** (4 / 3) - 2
    F, z4 = 2 * (dx - 1) / scale, z**4
    return bare, bare * G, G, u + F * z4 * (p - u) - m * F * (1 - z4) * 9 * scale / 8


def _slope(f, r):
    """By a difference of fourth order."""
    h = 1e-3 * r
    return (8 * (f(r + h) - f(r - h)) - (f(r + 2 * h) - f(r - 2 * h))) / (12 * h)


def _correlation(n, z, s, t):
    """Per particle; the slopes of the local energies by differences."""
    r, p = (
        (4 * math.pi * n / 3) ** (-1 / 3),
        s / (4 * (3 * math.pi**2) ** (2 / 3) * n ** (8 / 3)),
    )
    bare, e0, G, e1 = _local(r, z)
    phi, ds = (((1 + z) ** k + (1 - z) ** k) / 2 for k in (2 / 3, 5 / 3))
    w, u = s / 8 / n, 0.3 * (3 * math.pi**2) ** (2 / 3) * n ** (5 / 3)
    alpha = (t - w) / (u * ds + 0.001 * w)
    if alpha < 0:
        f = math.exp(-0.64 * alpha / (1 - alpha))
    elif alpha <= 2.5:
        f = math.fsum(c * alpha**i for i, c in enumerate(C))
    else:
        f = -0.7 * math.exp(1.5 / (1 - alpha))
    w0 = math.exp(-bare / 0.0285764) - 1
    g0 = (1 + 4 * 0.12802585262625815 * p) ** -0.25
    one_orbital = (bare + 0.0285764 * math.log(1 + w0 * (1 - g0))) * G
    gamma = (1 - math.log(2)) / math.pi**2
    w1 = math.expm1(-e1 / gamma / phi**3)
    beta = 0.06672455060314922 * (1 + 0.1 * r) / (1 + 0.1778 * r)
    t2 = math.pi / 4 * (9 * math.pi / 4) ** (1 / 3) * p / r / phi**2
    apart = _slope(lambda x: _local(x, z)[1] - _local(x, z)[3], r)
    df = math.fsum(i * c for i, c in enumerate(C))
    B = 20 * r * apart - 0.045 * (e0 - e1)
    dy = df / (27 * gamma * ds * phi**3 * w1) * B * p * math.exp(-(p**2) / 0.361**4)
    g1 = (1 + 4 * (beta * t2 / gamma / w1 - dy)) ** -0.25
    slow = e1 + gamma * phi**3 * math.log1p(w1 * (1 - g1))
    return slow + f * (one_orbital - slow)


def _energies(density, sigma, tau):
    rows = []
    for (nu, nd), (uu, ud, dd), (tu, td) in zip(
        density.tolist(), sigma.tolist(), tau.tolist(), strict=True
    ):
        n = nu + nd
        x = (_exchange(2 * nu, 4 * uu, 2 * tu) + _exchange(2 * nd, 4 * dd, 2 * td)) / 2
        c = n * _correlation(n, (nu - nd) / n, uu + 2 * ud + dd, tu + td)
        rows.append((x, c))
    return EnergyDensity(*xp.array(rows).T)


def _xcfun(density, sigma, tau):
    x, by_x = exchange(density, sigma, tau)
    c, by_c = correlation(density, sigma, tau, **XCFUN)
    return x + c, Potential(*(a + b for a, b in zip(by_x, by_c, strict=True)))


SWITCH = {
    "example": lambda rng, size: {
        "alpha": rng.choice((0.3, 2.2, 20.0)) * rng.uniform(-0.1, 1.1, size)
    },
    "edges": {
        "all three branches": lambda: {"alpha": xp.array([-0.5, 1.25, 4.0])},
        "far below": lambda: {"alpha": xp.array([-900.0])},
        "the uniform gas": lambda: {"alpha": xp.array([1.0, 0.75])},
    },
    "settings": {
        "default": {},
        "correlation": {"kind": "correlation"},
        "probe": {"kind": "correlation"},
    },
}


def _slopes(alpha, *, kind="exchange"):
    """By the coefficients' derivative, branch by branch."""
    coefficients, c1, c2, d = (
        (C, 0.64, 1.5, 0.7) if kind == "correlation" else (EXCHANGE, 0.667, 0.8, 1.24)
    )
    slopes = []
    for a in alpha.tolist():
        if a < 0:
            slopes.append(-c1 / (1 - a) ** 2 * math.exp(-c1 * a / (1 - a)))
        elif a <= 2.5:
            slopes.append(
                math.fsum(i * c * a ** (i - 1) for i, c in enumerate(coefficients) if i)
            )
        else:
            slopes.append(-c2 * d / (1 - a) ** 2 * math.exp(c2 / (1 - a)))
    return xp.array(slopes)


EXCHANGE = (1.0, -0.667, -0.4445555, -0.663086601049, 1.451297044490, -0.887998041597)
EXCHANGE += (0.234528941479, -0.023185843322)


def _unpolarised(rng, size):
    made = points(rng, size)
    s = made["sigma"]
    return {
        "density": made["density"].sum(1),
        "sigma": s[:, 0] + 2 * s[:, 1] + s[:, 2],
        "tau": made["tau"].sum(1),
    }


def _ratio(density, sigma, tau):
    """Derivatives by steps along the imaginary axis."""

    def alpha(n, s, t):
        w = s / 8 / n
        return (t - w) / (0.3 * (3 * math.pi**2) ** (2 / 3) * n ** (5 / 3) + 0.001 * w)

    h, rows = 1e-100, []
    for point in zip(density.tolist(), sigma.tolist(), tau.tolist(), strict=True):
        moved = [[x + (i == k) * h * 1j for i, x in enumerate(point)] for k in range(3)]
        rows.append((alpha(*point), *(alpha(*m).imag / h for m in moved)))
    return Ratio(*xp.array(rows).T)


REFUSED = {
    "a density next to 0": {"density": 1e-13},
    "a negative sigma": {"sigma": -1.0},
    "gradients that no density has": {
        "sigma": lambda sigma: 0 * sigma + [1.0, -9.0, 1.0]
    },
    "a sigma that is too large": {"sigma": 1e40},
    "a tau that is too large": {"tau": 1e40},
}


METHOD = Method(
    key="furness2020accurate",
    provenance="confirmed",
    functions=(
        Transform(
            f=switch,
            wrt="alpha",
            jvp=lambda alpha, *, tangent, **hyper: (
                tangent * switch_derivative(alpha, **hyper)
            ),
            vjp=lambda alpha, *, cotangent, **hyper: (
                cotangent * switch_derivative(alpha, **hyper)
            ),
            **SWITCH,
        ),
        Estimator(f=switch_derivative, brute_force=_slopes, **SWITCH),
        Estimator(
            f=regularised_ratio,
            brute_force=_ratio,
            example=_unpolarised,
            edges={
                "one orbital, and less": lambda: {
                    "density": xp.array([0.5, 0.5]),
                    "sigma": xp.array([1.0, 1.0]),
                    "tau": xp.array([0.25, 0.125]),
                },
                "no gradient": lambda: {
                    "density": xp.array([2.0]),
                    "sigma": xp.array([0.0]),
                    "tau": xp.array([3.0]),
                },
            },
            refused={
                "a density next to 0": {"density": 1e-13},
                "a sigma that is too large": {"sigma": 1e40},
                "a tau that is too large": {"tau": 1e40},
            },
        ),
        Estimator(
            f=energy_density,
            interface=DENSITY,
            brute_force=_energies,
            tolerance=1e-9,
            sizes=(4, 8, 32),
            refused=REFUSED,
        ),
        Objective(
            f=r2scan,
            interface=DENSITY,
            wrt=("density", "sigma", "tau"),
            sizes=(4, 8, 24),
            deviations=(
                fermi_hole(r2scan),
                Deviation(
                    "xcfun's constants",
                    _xcfun,
                    seen_in="dftlibs/xcfun, src/functionals/SCAN_like_eps.hpp",
                    computes="correlation with beta 0.066725 and gamma 0.031090690869655",
                ),
            ),
            refused=REFUSED,
        ),
    ),
)
