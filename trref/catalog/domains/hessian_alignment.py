"""What is known of `trref.domains.hessian_alignment`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.catalog.domains.interfaces import DOMAIN_HEAD
from trref.domains.hessian_alignment import (
    Transfer,
    alignment_objective,
    gradient_product,
    head_gradient,
    hessian_diagonal,
    hessian_product,
    hutchinson_diagonal,
    transfer_bound,
)
from trref.domains.terms import HeadGradient, bend, excess, probabilities, pull


def _softmax(z):
    p = xp.exp(z - z.max())
    return p / p.sum()


def _rows(theta, domain):
    return [(z, _softmax(z @ theta)) for z in domain]


def _gradients(theta, features, labels):
    result = xp.zeros((len(features), *theta.shape))
    for e, domain in enumerate(features):
        for i, (z, p) in enumerate(_rows(theta, domain)):
            p[labels[e, i]] -= 1
            result[e] += xp.outer(z, p) / len(domain)
    return result


def _hessians(theta, features):
    """The whole matrices, a Kronecker product a row."""
    result = []
    for domain in features:
        H = 0
        for z, p in _rows(theta, domain):
            H = H + xp.kron(xp.outer(z, z), xp.diag(p) - xp.outer(p, p)) / len(domain)
        result.append(H)
    return xp.stack(result)


def _times(H, V):
    return (H @ V.reshape(len(H), -1, 1)).reshape(V.shape)


def _diagonals(theta, features):
    H = _hessians(theta, features)
    return xp.stack([xp.diag(h).reshape(theta.shape) for h in H])


def _probed(theta, features, probes):
    H, total = _hessians(theta, features), 0
    for z in probes:
        total = total + z * _times(H, xp.zeros((len(H), *theta.shape)) + z)
    return total / len(probes)


def _pooled(theta, features, labels, *, alpha, beta, kind="product"):
    """Where products are compared, with that of the pooled Hessian and the pooled gradient."""
    if kind == "diagonal":
        return alignment_objective(
            theta, features, labels, alpha=alpha, beta=beta, kind=kind
        )
    value, gradient = alignment_objective(
        theta, features, labels, alpha=alpha, beta=beta
    )
    Z, turn = features, lambda A: xp.swapaxes(A, 1, 2)
    p = probabilities(theta, Z)
    error = excess(p, labels)
    g = pull(Z, error)
    product = lambda V: pull(Z, bend(p, Z @ V))  # noqa: E731
    a = product(g)
    off = a.mean(0) - product(xp.zeros_like(g) + g.mean(0)).mean(0)
    # |a - r|² = |a - mean|² + |mean - r|² on average, and the second is moved by each a
    R = xp.zeros_like(g) + 2 * alpha * off
    W, A_g, A_r = product(R), Z @ g, Z @ R
    both = [A - (p * A).sum(-1, keepdims=True) for A in (A_g, A_r)]
    slopes = bend(p, Z @ W) + bend(p, both[0] * both[1])
    rows = bend(p, A_g) @ turn(R) + bend(p, A_r) @ turn(g) + error @ turn(W)
    d_features = (slopes @ theta.T + rows) / Z.shape[1] / len(Z)
    return value + alpha * (off**2).sum(), HeadGradient(
        gradient.theta + pull(Z, slopes).mean(0), gradient.features + d_features
    )


def _definite(rng, P):
    Q = xp.linalg.qr(rng.standard_normal((P, P)))[0]
    return Q * rng.uniform(0.5, 4.0, P) @ Q.T


def _pair(rng, size):
    source, target = _definite(rng, size), _definite(rng, size)
    return {"source": (source + source.T) / 2, "target": (target + target.T) / 2}


def _matrices(source, target):
    return lambda: {"source": xp.array(source), "target": xp.array(target)}


def _by_eigenvectors(source, target, *, delta):
    w, Q = xp.linalg.eigh(source)
    root = Q / xp.sqrt(w) @ Q.T
    norm = xp.linalg.norm(target - source, 2)
    most = xp.linalg.eigvalsh(root @ target @ root).max()
    return Transfer(xp.asarray(delta * norm / w.min()), delta * xp.maximum(most - 1, 0))


NO_SUCH_CLASS = {
    "a label that is no class": {"labels": 99},
}


METHOD = Method(
    key="hemati2023understanding",
    provenance={
        "confirmed": ("hgp", "hutchinson", "objective"),
        "partly": ("transfer",),
        "reconstructed": (
            "gradient",
            "product",
            "diagonal",
            "cumulant",
            "product-gradient",
            "diagonal-gradient",
        ),
    },
    functions=(
        Estimator(
            f=head_gradient,
            interface=DOMAIN_HEAD,
            brute_force=_gradients,
            refused=NO_SUCH_CLASS,
        ),
        Estimator(
            f=hessian_product,
            interface=DOMAIN_HEAD,
            brute_force=lambda theta, features, V: _times(
                _hessians(theta, features), V
            ),
        ),
        Estimator(
            f=gradient_product,
            interface=DOMAIN_HEAD,
            brute_force=lambda theta, features, labels: _times(
                _hessians(theta, features), _gradients(theta, features, labels)
            ),
            refused=NO_SUCH_CLASS,
        ),
        Estimator(f=hessian_diagonal, interface=DOMAIN_HEAD, brute_force=_diagonals),
        Estimator(f=hutchinson_diagonal, interface=DOMAIN_HEAD, brute_force=_probed),
        Objective(
            f=alignment_objective,
            interface=DOMAIN_HEAD,
            wrt=("theta", "features"),
            settings={
                "default": {"alpha": 0.1, "beta": 0.5},
                "diagonal": {"alpha": 0.3, "beta": 0.0, "kind": "diagonal"},
                "both, diagonal": {"alpha": 0.3, "beta": 0.7, "kind": "diagonal"},
                "the mean loss": {"alpha": 0.0, "beta": 0.0},
                "probe": {"alpha": 0.7, "beta": 0.3, "kind": "diagonal"},
            },
            deviations=(
                Deviation(
                    "pooled reference",
                    _pooled,
                    seen_in="huawei-noah/Federated-Learning HessianAlignment domainbed/algorithms.py, class HGP",
                    computes="products compared with that of the mean Hessian and the mean gradient, held constant",
                ),
            ),
            refused=NO_SUCH_CLASS,
        ),
        Estimator(
            f=transfer_bound,
            example=_pair,
            edges={
                "in one dimension": _matrices([[2.0]], [[3.0]]),
                "twice the source": _matrices(
                    [[2.0, 0.5], [0.5, 1.0]], [[4.0, 1.0], [1.0, 2.0]]
                ),
                "a flat target": _matrices([[2.0, 0.0], [0.0, 1.0]], [[0.0] * 2] * 2),
                "an indefinite target": _matrices(
                    [[2.0, 0.5], [0.5, 1.0]], [[1.0, 3.0], [3.0, 1.0]]
                ),
            },
            settings={"default": {"delta": 0.1}, "probe": {"delta": 0.3}},
            brute_force=_by_eigenvectors,
            refused={
                "an indefinite source": lambda: (
                    _matrices([[1.0, 2.0], [2.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])(),
                    {"delta": 0.1},
                ),
                "a target that is not symmetric": lambda: (
                    _matrices([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.5], [0.0, 1.0]])(),
                    {"delta": 0.1},
                ),
            },
        ),
    ),
)
