"""The Stiefel manifold and its conjugate gradients against pymanopt."""

import numpy as np
import pytest

from trref.manifolds.riemannian_cg import riemannian_cg
from trref.manifolds.stiefel import project, retract_qr
from trref.manifolds.stiefel_exponential import exponential
from trref.manifolds.stiefel_gradient import inner, riemannian_gradient, riemannian_hessian
from trref.manifolds.stiefel_retraction import retract_polar
from trref.manifolds.stiefel_transport import transport
from trref.problems.convex import spd_matrix
from trref.problems.frames import Brockett

pymanopt = pytest.importorskip("pymanopt")
pytestmark = pytest.mark.peer

SIZES = [(6, 2), (5, 5), (7, 1), (12, 4)]


def _points(n, p, retraction="qr"):
    manifold = pymanopt.manifolds.Stiefel(n, p, retraction=retraction)
    rng = np.random.default_rng(n)
    for _ in range(10):
        x = np.linalg.qr(rng.standard_normal((n, p)))[0]
        yield manifold, x, rng.standard_normal((n, p)), rng


@pytest.mark.parametrize(("n", "p"), SIZES)
@pytest.mark.parametrize(("name", "retract"), [("qr", retract_qr), ("polar", retract_polar)])
def test_projection_and_retractions(n, p, name, retract):
    for manifold, x, z, _ in _points(n, p, name):
        tangent = project(x, z)
        assert np.allclose(tangent, manifold.projection(x, z), atol=1e-14, rtol=1e-9)
        assert np.allclose(retract(x, tangent), manifold.retraction(x, tangent), atol=1e-13, rtol=1e-9)


@pytest.mark.parametrize(("n", "p"), SIZES)
def test_exponential_and_transport(n, p):
    for manifold, x, z, rng in _points(n, p):
        tangent, other = project(x, z), project(x, rng.standard_normal((n, p)))
        y = exponential(x, tangent)
        assert np.allclose(y, manifold.exp(x, tangent), atol=1e-11, rtol=1e-9)
        assert np.allclose(transport(x, y, other), manifold.transport(x, y, other), atol=1e-13, rtol=1e-9)


@pytest.mark.parametrize(("n", "p"), SIZES)
def test_metric_gradient_and_hessian(n, p):
    for manifold, x, z, rng in _points(n, p):
        u, v, G, bent = (rng.standard_normal((n, p)) for _ in range(4))
        tangent = project(x, z)
        assert np.isclose(inner(x, u, v), manifold.inner_product(x, u, v), rtol=1e-12)
        assert np.allclose(
            riemannian_gradient(x, G), manifold.euclidean_to_riemannian_gradient(x, G), atol=1e-13, rtol=1e-9
        )
        theirs = manifold.euclidean_to_riemannian_hessian(x, G, bent, tangent)
        assert np.allclose(riemannian_hessian(x, tangent, G, bent), theirs, atol=1e-12, rtol=1e-9)


def _principal_components(n, p):
    rng = np.random.default_rng(n)
    f = Brockett(spd_matrix(rng, np.linspace(0.1, 1, n)), np.arange(p, 0, -1.0))
    return f, np.linalg.qr(rng.standard_normal((n, p)))[0]


def _theirs(f, x0, rule, retraction, gradient_norm):
    manifold = pymanopt.manifolds.Stiefel(*x0.shape, retraction=retraction)
    numpy = pymanopt.function.numpy(manifold)
    problem = pymanopt.Problem(manifold, numpy(lambda x: f(x)[0]), euclidean_gradient=numpy(lambda x: f(x)[1]))
    optimizer = pymanopt.optimizers.ConjugateGradient(
        beta_rule=rule, verbosity=0, min_gradient_norm=gradient_norm, min_step_size=0, max_iterations=2000
    )
    return optimizer.run(problem, initial_point=x0)


@pytest.mark.parametrize(
    ("beta", "rule", "retraction"),
    [("PR+", "PolakRibiere", "qr"), ("HS", "HestenesStiefel", "qr"), ("PR+", "PolakRibiere", "polar")],
)
def test_principal_components(beta, rule, retraction):
    """The same minimum and the same eigenvectors, with fewer evaluations."""
    for n, p in [(20, 3), (50, 5)]:
        f, x0 = _principal_components(n, p)
        calls = [0, 0]

        def counted(x, who, f=f, calls=calls):
            calls[who] += 1
            return f(x)

        ours = riemannian_cg(lambda x: counted(x, 0), x0, beta=beta, retraction=retraction)
        theirs = _theirs(lambda x: counted(x, 1), x0, rule, retraction, 1e-6 * np.linalg.norm(f(x0)[1]))
        vectors = np.linalg.eigh(f.A)[1][:, : -p - 1 : -1]
        assert ours.losses[-1] == pytest.approx(theirs.cost, rel=1e-8)
        for x in (ours.x, theirs.point):
            assert abs((x * vectors).sum(0)).min() > 1 - 1e-6
        assert calls[0] < calls[1]
