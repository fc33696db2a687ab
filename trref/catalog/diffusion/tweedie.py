"""What is known of `trref.diffusion.tweedie`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method
from trref.diffusion.tweedie import denoiser_jacobian, posterior_covariance
from trref.problems.mixtures import GaussianMixture, three_components


def _example(rng, size):
    """Of a mixture of three at noise level 0.6, in one to four dimensions."""
    D = int(rng.integers(1, 5))
    cube = rng.standard_normal((3, D, D)) / 2
    mixture = GaussianMixture(
        rng.dirichlet(xp.ones(3)),
        rng.choice((0.3, 2.0)) * rng.standard_normal((3, D)),
        cube @ cube.swapaxes(1, 2) + 0.05 * xp.eye(D),
    ).noised(0.8, 0.6)
    return {"score_jacobian": mixture.score_jacobian(rng.standard_normal((size, D)))}


def _certain():
    """Data at one point: the derivative of the score is -1/sigma²."""
    return {"score_jacobian": xp.tile(-xp.eye(2) / 0.36, (3, 1, 1))}


def _between():
    """Between the modes the density is convex in one direction."""
    mixture = three_components().noised(0.8, 0.6)
    return {"score_jacobian": mixture.score_jacobian(xp.array([[0.0, 0.6]]))}


HESSIAN = Interface(
    "score_jacobian",
    example=_example,
    edges={
        "data at one point": _certain,
        "between modes": _between,
        "flat": lambda: {"score_jacobian": xp.zeros((2, 3, 3))},
    },
)
"""Second derivatives (N, D, D) of a noisy log-density."""

SETTINGS = {
    "default": {},
    "noise without an end": {"alpha": 1.0, "sigma": 5.0},
    "probe": {"alpha": 0.3, "sigma": 1.7},
}


def _by_entries(score_jacobian, scale, sigma):
    rows = [
        [[(i == j) + sigma**2 * H[i, j] for j in range(len(H))] for i in range(len(H))]
        for H in score_jacobian
    ]
    return scale * xp.array(rows)


def covariance_by_entries(score_jacobian, *, alpha=0.8, sigma=0.6):
    """Brute force: entry by entry."""
    return _by_entries(score_jacobian, (sigma / alpha) ** 2, sigma)


def jacobian_by_entries(score_jacobian, *, alpha=0.8, sigma=0.6):
    """Brute force: entry by entry."""
    return _by_entries(score_jacobian, 1 / alpha, sigma)


def _isotropic(score_jacobian, *, alpha=0.8, sigma=0.6):
    eye = xp.eye(score_jacobian.shape[-1], dtype=score_jacobian.dtype)
    mean = xp.diagonal(score_jacobian, 0, 1, 2).mean()
    flat = xp.broadcast_to(mean * eye, score_jacobian.shape)
    return posterior_covariance(flat.copy(), alpha=alpha, sigma=sigma)


ISOTROPIC = Deviation(
    "one variance for all",
    _isotropic,
    seen_in="baofff/Analytic-DPM, where the mean is estimated from squared scores of training data",
    computes="the mean of the variances over entries and points, times the identity",
    documented=True,
)


def _times_the_precision(inputs):
    """times sigma²/alpha"""
    return 0.6**2 / 0.8


METHOD = Method(
    key="efron2011tweedie",
    provenance="confirmed",
    functions=(
        Estimator(
            f=posterior_covariance,
            interface=HESSIAN,
            settings=SETTINGS,
            limits=(
                Limit("tweedie.denoiser_jacobian", {}, factor=_times_the_precision),
            ),
            brute_force=covariance_by_entries,
            deviations=(ISOTROPIC,),
        ),
        Estimator(
            f=denoiser_jacobian,
            interface=HESSIAN,
            settings=SETTINGS,
            brute_force=jacobian_by_entries,
        ),
    ),
)
