"""What is known of `trref.diffusion.lora`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Transform
from trref.diffusion.lora import AdapterGradients, lora_gradients, lora_weights


def _example(rng, size):
    D, rank = int(rng.integers(2, 6)), int(rng.integers(1, 4))
    scale = float(rng.choice((0.1, 1.0, 5.0)))
    W = rng.standard_normal((size, D))
    return {
        "W": W,
        "A": rng.standard_normal((rank, D)),
        "B": scale * rng.standard_normal((size, rank)),
        "d_W": W[::-1] - 0.5,
    }


def _edge(A, B):
    W = xp.array([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])
    return {"W": W, "A": xp.array(A), "B": xp.array(B), "d_W": 1 - W**2}


ADAPTER = Interface(
    "adapter",
    example=_example,
    edges={
        "before training": lambda: _edge([[1.0, 2.0, -1.0]], [[0.0], [0.0]]),
        "more ranks than outputs": lambda: _edge(
            [[1.0, 2.0, -1.0], [0.5, 0.0, 3.0], [1.0, 1.0, 1.0], [0.0, -2.0, 0.25]],
            [[1.0, 0.0, -1.0, 2.0], [3.0, -0.5, 0.0, 1.0]],
        ),
        "factors that cancel": lambda: _edge(
            [[1.0, 2.0, -1.0], [1.0, 2.0, -1.0]], [[1.0, -1.0], [3.0, -3.0]]
        ),
    },
)


def _entry_by_entry(W, A, B, *, alpha=1.0, strength=1.0):
    scale = strength * alpha / len(A)
    out = xp.array(W)
    for i in range(W.shape[0]):
        for j in range(W.shape[1]):
            out[i, j] += scale * sum(B[i, r] * A[r, j] for r in range(len(A)))
    return out


def _sum_by_sum(d_W, A, B, *, alpha=1.0, strength=1.0):
    scale = strength * alpha / len(A)
    d_A, d_B = xp.zeros_like(A), xp.zeros_like(B)
    for i in range(d_W.shape[0]):
        for j in range(d_W.shape[1]):
            for r in range(len(A)):
                d_A[r, j] += scale * B[i, r] * d_W[i, j]
                d_B[i, r] += scale * d_W[i, j] * A[r, j]
    return AdapterGradients(d_A, d_B)


def _jvp(W, A, B, tangent, *, alpha=1.0, strength=1.0):
    """Linear in B: the change alone."""
    zero = xp.zeros_like(W)
    return lora_weights(zero, A, tangent, alpha=alpha, strength=strength)


def _vjp(W, A, B, cotangent, **hyper):
    return lora_gradients(cotangent, A, B, **hyper).B


def _by_the_root(f):
    def deviation(W, A, B, *, alpha=1.0, strength=1.0):
        return f(W, A, B, alpha=alpha * len(A) ** 0.5, strength=strength)

    def gradients(d_W, A, B, *, alpha=1.0, strength=1.0):
        return f(d_W, A, B, alpha=alpha * len(A) ** 0.5, strength=strength)

    return Deviation(
        "divided by the root of the rank",
        deviation if f is lora_weights else gradients,
        seen_in="huggingface/peft, tuners/lora with use_rslora=True",
        computes="a change that is larger by the root of the rank",
        documented=True,
    )


SETTINGS = {
    "default": {},
    "half way back": {"strength": 0.5},
    "the trained matrix": {"strength": 0.0},
    "probe": {"alpha": 8.0, "strength": 0.7},
}

METHOD = Method(
    key="hu2021lora",
    provenance="confirmed",
    functions=(
        Transform(
            f=lora_weights,
            interface=ADAPTER,
            wrt="B",
            jvp=_jvp,
            vjp=_vjp,
            settings=SETTINGS,
            deviations=(_by_the_root(lora_weights),),
        ),
        Estimator(
            f=lora_gradients,
            interface=ADAPTER,
            settings=SETTINGS,
            brute_force=_sum_by_sum,
            deviations=(_by_the_root(lora_gradients),),
        ),
    ),
)
