"""Penalties and their sparse regressions against the author's package, whose compiler stands aside."""

import importlib.util

import numpy as np
import pytest

from tests.peers import trainers
from trref.problems.samples import LinearSamples
from trref.statistics import accelerated_gradient, nonconvex_penalties

pytestmark = pytest.mark.peer


class _Numpy:
    """NumPy with the name that version 2 dropped."""

    infty = np.inf

    def __getattr__(self, name):
        return getattr(np, name)


@pytest.fixture(scope="module")
def package():
    if trainers.absent("nonconvexAG"):
        pytest.skip(f"no files of nonconvexAG in {trainers.FOLDER}: tools/test.py --peers")
    path = trainers.FOLDER / "nonconvexAG" / "__init__.py"
    spec = importlib.util.spec_from_file_location("nonconvexAG", path)
    module = importlib.util.module_from_spec(spec)
    with trainers.within("nonconvexAG"):
        spec.loader.exec_module(module)
    module._np = _Numpy()
    return module


@pytest.mark.parametrize("weight", [0.6, 1.0])
@pytest.mark.parametrize(("name", "shape"), [("scad", {"a": 3.7}), ("mcp", {"gamma": 2.0})])
def test_penalties_and_derivatives(package, name, shape, weight):
    b = np.array([-9.0, -3.7, -2.4, -2.0, -1.0, -0.3, 0.0, 0.2, 1.3, 2.7, 4.0])

    def theirs(part):
        """Of all but the first entry, which has no penalty there."""
        told = getattr(package, name.upper() + part)(np.append(0.0, b), weight, *shape.values())
        return told[1:]

    how = {"penalty_weight": weight, **shape}
    assert np.allclose(getattr(nonconvex_penalties, name)(b, **how), theirs(""), rtol=1e-12, atol=1e-14)
    value, slope = getattr(nonconvex_penalties, f"{name}_concave")(b, **how)
    assert value == pytest.approx(theirs("_concave").sum(), rel=1e-12)
    assert np.allclose(slope, theirs("_concave_grad"), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("penalty", ["SCAD", "MCP"])
def test_a_regression_with_an_intercept(package, penalty):
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(60), rng.standard_normal((60, 8))])
    y = X @ np.array([1.0, 2.0, -1.5, *np.zeros(6)]) + 0.3 * rng.standard_normal(60)
    start = np.zeros(9)
    _, theirs = package.UAG_LM_SCAD_MCP(X, y, start, tol=1e-12, maxit=3000, _lambda=0.2, penalty=penalty)
    L = np.linalg.eigvalsh(X.T @ X / 60)[-1]
    ours = accelerated_gradient.accelerated_gradient(
        LinearSamples(X, y),
        start,
        np.array([0.0] + [1.0] * 8),
        smoothness=float(L),
        penalty=penalty.lower(),
        penalty_weight=0.2,
        gtol=1e-9,
    )
    assert ours.converged and (theirs[3:] == 0).any()
    assert np.allclose(ours.x, theirs, rtol=1e-7, atol=1e-8)
