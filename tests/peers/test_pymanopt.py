"""The Stiefel manifold against pymanopt."""

import numpy as np
import pytest

from trref.manifolds.stiefel import project, retract_qr

pymanopt = pytest.importorskip("pymanopt")
pytestmark = pytest.mark.peer


@pytest.mark.parametrize(("n", "p"), [(6, 2), (5, 5), (7, 1)])
def test_projection_and_retraction(n, p):
    manifold = pymanopt.manifolds.Stiefel(n, p, retraction="qr")
    rng = np.random.default_rng(n)
    for _ in range(10):
        x = np.linalg.qr(rng.standard_normal((n, p)))[0]
        z = rng.standard_normal((n, p))
        tangent = project(x, z)
        assert np.allclose(tangent, manifold.projection(x, z), atol=1e-14)
        assert np.allclose(retract_qr(x, tangent), manifold.retraction(x, tangent), atol=1e-13)
