"""What is known of `trref.federated.gradient_inversion`."""

from trref.backend import xp
from trref.catalog import Estimator, Interface, Method, Objective
from trref.federated.gradient_inversion import (
    Extremes,
    analytic_leak,
    extreme_eigenvalues,
    gradient_jacobian,
    matching_hessian,
    matching_loss,
    parameter_gradient,
    predicted_offset,
)


def _flat(x, W1, b1, W2, b2, target):
    """Layer by layer, with outer products; of complex inputs, too."""
    h = xp.tanh(x @ W1 + b1)
    e = xp.exp(h @ W2 + b2)
    delta = e / e.sum() - target
    inner = (W2 @ delta) * (1 - h * h)
    parts = xp.outer(x, inner), inner, xp.outer(h, delta), delta
    return xp.concatenate([part.ravel() for part in parts])


def _columns(x, W1, b1, W2, b2, target):
    """Complex steps, one input after the other."""
    columns = []
    for unit in xp.eye(len(x)):
        g = _flat(x + 1e-30j * unit, W1, b1, W2, b2, target)
        columns.append(g.imag / 1e-30)
    return xp.stack(columns, 1)


def _network(rng, size):
    D, H, K = size, int(rng.integers(1, 5)), int(rng.integers(2, 5))
    scale = rng.choice((0.3, 1.5))
    arguments = {
        "x": rng.standard_normal(D),
        "W1": scale * rng.standard_normal((D, H)) / D**0.5,
        "b1": 0.3 * rng.standard_normal(H),
        "W2": scale * rng.standard_normal((H, K)),
        "b2": 0.3 * rng.standard_normal(K),
        "target": xp.eye(K)[int(rng.integers(0, K))],
    }
    other = {**arguments, "x": arguments["x"] + 0.3 * rng.standard_normal(D)}
    return {**arguments, "gradient": _flat(**other)}


def _small(D, H, K, shift=0.5):
    wave = lambda *shape: xp.sin(1 + xp.arange(float(xp.prod(shape)))).reshape(shape)  # noqa: E731
    shapes = {"x": (D,), "W1": (D, H), "b1": (H,), "W2": (H, K), "b2": (K,)}
    arguments = {name: wave(*shape) for name, shape in shapes.items()}
    arguments["target"] = xp.full(K, 0.5 / K) + 0.5 * (xp.arange(K) == 0)
    g = _flat(**{**arguments, "x": arguments["x"] + shift})
    return {**arguments, "gradient": g}


NETWORK = Interface(
    "network_of_one_sample",
    example=_network,
    edges={
        "a soft target": lambda: _small(2, 3, 2),
        "fewer parameters than inputs": lambda: {
            **_small(4, 1, 1),
            "target": xp.array([1.0]),
            "gradient": xp.arange(7.0),
        },
        "one of each": lambda: _small(1, 1, 2),
        "a long gradient was seen": lambda: {
            **_small(2, 1, 2),
            "gradient": 1e3 - xp.arange(7.0),
        },
    },
)


def _curved(rng, size):
    P, D = size, int(rng.integers(1, 5))
    return {"jacobian": rng.standard_normal((P, D)), "gradient": rng.standard_normal(P)}


def _projected(jacobian, gradient, *, kind="squared"):
    if kind == "squared":
        return 2 * sum(xp.outer(row, row) for row in jacobian)
    P = len(gradient)
    middle = xp.eye(P) - xp.outer(gradient, gradient) / (gradient @ gradient)
    return jacobian.T @ middle @ jacobian / (gradient @ gradient)


def _hessian(rng, size):
    Q = xp.linalg.qr(rng.standard_normal((size, size)))[0]
    H = Q * rng.uniform(0.1, 1.5, size) @ Q.T
    return {"hessian": (H + H.T) / 2, "offset": rng.standard_normal(size)}


def _by_steps(hessian, offset, *, lr, steps):
    for _ in range(steps):
        offset = offset - lr * (hessian @ offset)
    return offset


def _leaked(rng, size):
    x, inner = rng.standard_normal(size), rng.standard_normal(int(rng.integers(1, 5)))
    return {"weight_gradient": xp.outer(x, inner), "bias_gradient": inner}


def _quotients(weight_gradient, bias_gradient):
    """The mean over units, by their bias gradients squared: of one sample all units agree."""
    return weight_gradient @ bias_gradient / (bias_gradient @ bias_gradient)


KINDS = {"default": {}, "angle": {"kind": "cosine"}, "probe": {"kind": "cosine"}}
FLAT = {
    "the cosine of 0": lambda: (
        {**_small(2, 1, 2), "gradient": xp.zeros(7)},
        {"kind": "cosine"},
    )
}

METHOD = Method(
    key="hong2023foreseeing",
    provenance={
        "confirmed": ("loss",),
        "partly": ("gradient", "leak"),
        "reconstructed": ("slope", "jacobian", "hessian", "contraction"),
    },
    functions=(
        Estimator(f=parameter_gradient, interface=NETWORK, brute_force=_flat),
        Estimator(f=gradient_jacobian, interface=NETWORK, brute_force=_columns),
        Objective(
            f=matching_loss,
            interface=NETWORK,
            wrt="x",
            settings=KINDS,
            refused={
                **FLAT,
                "another length": lambda: (
                    {**_small(2, 1, 2), "gradient": xp.ones(6)},
                    {},
                ),
            },
        ),
        Estimator(
            f=matching_hessian,
            example=_curved,
            edges={
                "one entry": lambda: {
                    "jacobian": xp.array([[2.0, -1.0]]),
                    "gradient": xp.array([3.0]),
                },
                "along one input": lambda: {
                    "jacobian": xp.array([[2.0, 0.0], [0.0, 1.0]]),
                    "gradient": xp.array([3.0, 0.0]),
                },
            },
            settings=KINDS,
            brute_force=_projected,
            refused={
                "the cosine of 0": lambda: (
                    {"jacobian": xp.ones((2, 1)), "gradient": xp.zeros(2)},
                    {"kind": "cosine"},
                )
            },
        ),
        Estimator(
            f=extreme_eigenvalues,
            example=lambda rng, size: {"hessian": _hessian(rng, size)["hessian"]},
            edges={"one": lambda: {"hessian": xp.array([[0.7]])}},
            brute_force=lambda hessian: Extremes(
                xp.asarray(xp.linalg.svd(hessian)[1][0]),
                xp.asarray(1 / xp.linalg.norm(xp.linalg.inv(hessian), 2)),
            ),
        ),
        Estimator(
            f=predicted_offset,
            example=_hessian,
            edges={
                "one": lambda: {
                    "hessian": xp.array([[0.7]]),
                    "offset": xp.array([2.0]),
                },
                "flat": lambda: {
                    "hessian": xp.zeros((2, 2)),
                    "offset": xp.array([2.0, -1.0]),
                },
            },
            settings={
                "default": {"lr": 0.5, "steps": 10},
                "too long steps": {"lr": 2.0, "steps": 3},
                "probe": {"lr": 0.3, "steps": 7},
            },
            brute_force=_by_steps,
        ),
        Estimator(
            f=analytic_leak,
            example=_leaked,
            edges={
                "one unit moved": lambda: {
                    "weight_gradient": xp.array([[0.0, 2.0], [0.0, -4.0]]),
                    "bias_gradient": xp.array([0.0, -0.5]),
                }
            },
            brute_force=_quotients,
            refused={
                "no unit moved": lambda: (
                    {"weight_gradient": xp.zeros((2, 1)), "bias_gradient": xp.zeros(1)},
                    {},
                )
            },
        ),
    ),
)
