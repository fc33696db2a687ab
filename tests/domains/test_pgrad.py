"""Principal gradients by hand and against scikit-learn, their length, straight paths, and descent on quadratics."""

import numpy as np
import pytest

from trref.domains.fish import fish_step, inner_trajectory
from trref.domains.pgrad import parallel_trajectory, pgrad_step, principal_gradient, spectrum
from trref.problems.domains import DomainLosses


def _walk(seed, T=5, P=7):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.standard_normal((T + 1, P)) * np.linspace(2, 0.3, P), 0)


def _three_domains(seed=0):
    rng = np.random.default_rng(seed)
    losses = DomainLosses(rng.standard_normal((3, 20, 3)), rng.integers(0, 2, (3, 20)))
    return losses, rng.standard_normal(6)


def test_numbers_by_hand():
    """Centred rows (-3, 1), (0, -2), (3, 1): eigenvalues 18 and 6, delta (-6, 0); the tie of the second gives -1."""
    path = np.array([[0.0, 3.0], [3.0, 0.0], [6.0, 3.0]])
    assert np.allclose(spectrum(path), [18, 6, 0], atol=1e-14, rtol=1e-9)
    g = principal_gradient(path)
    assert np.allclose(g[0], -6 * 3 / np.sqrt(10), rtol=1e-9) and abs(g[1]) == pytest.approx(6 / np.sqrt(10))
    assert np.allclose(principal_gradient(path, components=1), [-6, 0], atol=1e-14, rtol=1e-9)


def test_against_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    for seed in range(5):
        path = _walk(seed)
        delta = path[0] - path[-1]
        pca = decomposition.PCA(3).fit(path)
        variance = pca.explained_variance_ * (len(path) - 1) / (path.shape[1] - 1)
        assert np.allclose(spectrum(path)[:3], variance, rtol=1e-10)
        V = pca.components_ * np.where(pca.components_ @ delta > 0, 1, -1)[:, None]
        expected = np.linalg.norm(delta) * variance @ V / np.linalg.norm(variance)
        assert np.allclose(principal_gradient(path, components=3), expected, rtol=1e-10, atol=1e-12)


def test_length_and_side():
    for seed in range(20):
        path = _walk(seed)
        delta = path[0] - path[-1]
        for components in (1, 2, 5, 9):
            g = principal_gradient(path, components=components)
            assert np.linalg.norm(g) == pytest.approx(np.linalg.norm(delta), rel=1e-12)
            assert g @ delta >= 0


def test_where_it_is_and_how_large_does_not_matter():
    path = _walk(3)
    assert np.allclose(principal_gradient(5 * path + 100), 5 * principal_gradient(path), rtol=1e-10, atol=1e-10)
    inner = path.copy()
    inner[1:-1] = path[-2:0:-1]
    assert np.allclose(principal_gradient(inner), principal_gradient(path), rtol=1e-11, atol=1e-12)


def test_extreme_scales():
    path = _walk(4)
    for scale in (1e-90, 1e90):
        assert np.allclose(principal_gradient(scale * path) / scale, principal_gradient(path), rtol=1e-10, atol=1e-12)


def test_a_straight_path_gives_the_way_back():
    direction, at = np.array([1.0, -2.0, 0.5]), np.array([0.0, 0.3, 1.1, 2.0])
    path = 4.0 + at[:, None] * direction
    assert np.allclose(principal_gradient(path), path[0] - path[-1], rtol=1e-13)
    assert not principal_gradient(np.ones((3, 2))).any()


def test_other_weights_would_give_the_way_back_too():
    """With |v·delta|/|delta| in the place of the eigenvalues' shares: what PGrad adds are the eigenvalues."""
    path = _walk(5)
    delta = path[0] - path[-1]
    V = np.linalg.svd(path - path.mean(0), full_matrices=False)[2][:5]
    assert np.allclose(np.abs(V @ delta) @ (np.sign(V @ delta)[:, None] * V), delta, rtol=1e-10, atol=1e-10)


def test_one_step_is_that_of_fish():
    losses, theta = _three_domains()
    ours = pgrad_step(losses, theta, np.array([2]), inner_lr=0.4, lr=0.6)
    assert np.allclose(ours, fish_step(losses, theta, np.array([2]), lr=0.4, meta=0.6), rtol=1e-13)


def test_short_steps_descend_on_the_mean_loss():
    for seed in range(8):
        losses, theta = _three_domains(seed)
        path = inner_trajectory(losses, theta, np.array([2, 0, 1, 0, 1, 2]), lr=1e-3)
        assert principal_gradient(path) @ losses(theta)[1].sum(0) > 0


def test_on_a_quadratic_the_components_are_the_eigenvectors_it_moves_along():
    """theta_t = (I - a H)^t theta_0; of eigenvalues 1 and 0.01 the first does nearly all the moving."""
    Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))
    path = np.stack([Q @ (np.array([0.9, 0.999, 0.9999, 1.0]) ** t) for t in range(9)])
    first = principal_gradient(path, components=1)
    assert abs(first @ Q[:, 0]) / np.linalg.norm(first) > 0.9999


def test_parallel_steps_start_at_the_start():
    losses, theta = _three_domains()
    path = parallel_trajectory(losses, theta, np.array([1, 2]), lr=0.5)
    expected = [theta, theta - 0.5 * losses(theta)[1][1], theta - 0.5 * losses(theta)[1][2]]
    assert np.allclose(path, expected, rtol=1e-14)


def test_weight_decay():
    losses, theta = _three_domains()
    order = np.array([0, 1, 2])
    plain = pgrad_step(losses, theta, order, inner_lr=0.3)
    assert np.allclose(
        pgrad_step(losses, theta, order, inner_lr=0.3, weight_decay=0.5), plain - 0.1 * 0.5 * theta, rtol=1e-13
    )


def test_bad_input():
    losses, theta = _three_domains()
    with pytest.raises(ValueError, match="order must be less than 3"):
        pgrad_step(losses, theta, np.array([3]), inner_lr=0.1)
    with pytest.raises(ValueError, match="components"):
        principal_gradient(_walk(0), components=0)
