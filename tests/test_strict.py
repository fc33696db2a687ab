"""The strict device refuses what CuPy would refuse, counts what would stall it, and computes NumPy's bits."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import trref
from trref import strict
from trref.backend import linalg, sparse, special, to_host, xp


@pytest.fixture(autouse=True)
def _on_the_strict_device():
    with trref.use_backend("strict"):
        yield


@pytest.fixture
def x():
    return xp.asarray(np.arange(6.0).reshape(2, 3))


def _missing(names, module):
    return next(n for n in dir(module) if n[0].islower() and callable(getattr(module, n)) and n not in names)


@pytest.mark.parametrize(
    "offence",
    [
        lambda x: np.asarray(x),
        lambda x: np.array(x),
        lambda x: x + np.ones(3),
        lambda x: np.ones(3) * x,
        lambda x: xp.add(x, np.ones(3)),
        lambda x: xp.where(x > 1, x, np.zeros((2, 3))),
        lambda x: xp.concatenate([x, np.zeros((1, 3))]),
        lambda x: x @ np.ones((3, 1)),
        lambda x: linalg.solve(x @ x.T, np.ones(2)),
        lambda x: special.logsumexp(np.ones(3)),
        lambda x: x.__setitem__(0, np.ones(3)),
        lambda x: sparse.csr_matrix(np.eye(3)),
        lambda x: [1, 2, 3][x[0, 1]],
    ],
)
def test_host_and_device_do_not_mix(x, offence):
    with pytest.raises(TypeError):
        offence(x)


@pytest.mark.parametrize(
    "offence",
    [
        lambda x: getattr(xp, _missing(strict.NAMES["xp"], np)),
        lambda x: getattr(linalg, _missing(strict.NAMES["linalg"], np.linalg)),
        lambda x: special.voigt_profile(x, 1.0, 1.0),
        lambda x: x.newbyteorder(),
        lambda x: x.setflags(write=False),
        lambda x: sparse.lil_matrix,
        lambda x: getattr(sparse.csr_matrix(x), _missing(strict.NAMES["sparse_matrix"]["csr_matrix"], csr_matrix)),
    ],
)
def test_what_cupy_lacks_is_missing(x, offence):
    with pytest.raises(AttributeError, match="CuPy"):
        offence(x)


@pytest.mark.parametrize(
    "offence",
    [
        lambda x: xp.sum(x, where=x > 1),
        lambda x: x.sum(initial=0.0),
        lambda x: xp.exp(x, where=x > 1),
        lambda x: np.sum(x, where=True),
        lambda x: special.logsumexp(x, axis=1, nan_policy="omit"),
        lambda x: linalg.svd(x, hermitian=True),
        lambda x: xp.asarray([1.0], like=x),
    ],
)
def test_keywords_that_cupy_lacks_are_refused(x, offence):
    with pytest.raises(TypeError):
        offence(x)


@pytest.mark.parametrize(
    ("wait", "count"),
    [
        (lambda x: float(x[0, 0]), 1),
        (lambda x: int(x[0, 0]), 1),
        (lambda x: bool((x > 0).any()), 1),
        (lambda x: x.sum().item(), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: f"{x[0, 0]:.3f}", 1),
        (lambda x: str(x), 1),
        (lambda x: repr(x), 1),
        (lambda x: x[x > 1], 1),
        (lambda x: xp.nonzero(x), 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: xp.unique(x), 1),
        (lambda x: xp.where(x > 1), 1),
        (lambda x: x.get(), 1),
        (lambda x: to_host(x), 1),
        (lambda x: [float(v) for row in x for v in row], 6),
        (lambda x: xp.where(x > 1, x, 0).sum() + x.mean() + x.shape[0] + x.size, 0),
        (lambda x: x[:, xp.asarray([0, 2])] @ x[0, :2], 0),
        (lambda x: linalg.qr(x), 0),
    ],
)
def test_synchronisations_are_counted(x, wait, count):
    with strict.synchronisations() as counted:
        wait(x)
    assert counted() == count


def test_a_python_loop_grows_with_the_size():
    counts = []
    for size in (4, 8):
        v = xp.ones(size)
        with strict.synchronisations() as counted:
            sum(float(e) for e in v)
        counts.append(counted())
    assert counts == [4, 8]


def test_same_bits_as_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 4)), rng.standard_normal((4, 3))
    device = to_host(xp.tanh(xp.asarray(a) @ xp.asarray(b)).sum(axis=0) / 3)
    assert np.array_equal(device, np.tanh(a @ b).sum(axis=0) / 3)
    for ours, numpys in zip(linalg.qr(xp.asarray(a)), np.linalg.qr(a), strict=True):
        assert np.array_equal(to_host(ours), numpys)


def test_reductions_and_entries_stay_on_the_device(x):
    assert type(x.sum()) is type(x[0, 0]) is type(xp.max(x)) is strict.StrictArray
    assert x.sum().shape == ()


def test_in_place_operations(x):
    y = x.copy()
    y += 1
    y[0] = x[1]
    y[:, 0] *= 2.0
    assert to_host(y).tolist() == [[6.0, 4.0, 5.0], [8.0, 5.0, 6.0]]
    assert to_host(x).tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_sparse_matrices(x):
    s = sparse.csr_matrix(x)
    assert s.nnz == 5
    assert to_host(s @ xp.ones(3)).tolist() == [3.0, 12.0]
    assert to_host(s.T.tocsr().toarray()).tolist() == to_host(x.T).tolist()
    assert to_host((2.0 * s + s).toarray()).tolist() == to_host(3 * x).tolist()


def test_numpy_functions_dispatch(x):
    assert float(np.sum(x)) == 15.0
    assert isinstance(np.exp(x), strict.StrictArray)
