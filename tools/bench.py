"""Measure speed as ratios to public packages: .venv/bin/python tools/bench.py [ROW …] [--threads 1 2] [--json FILE].

Each row times trref and its peer in one process, alternately, and prints the median of each and their ratio (peer over
trref: above 1 trref is faster). Every number of threads gets a process of its own. The extra `peers` is needed.
"""

import argparse
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
import warnings

import _environment

ROWS = {}


def row(name, target):
    """Register a row: a function that returns (trref's callable, the peer's callable, the peer's name)."""

    def register(make):
        ROWS[name] = (make, target)
        return make

    return register


def compare(ours, theirs, *, seconds=4.0, repeats=5):
    """Return the median times of both, measured alternately; each sample runs for at least 20 ms."""
    inner = []
    for f in (ours, theirs):
        f()
        start = time.perf_counter()
        f()
        once = max(time.perf_counter() - start, 1e-7)
        inner.append(max(1, round(0.02 / once)))
        seconds = max(seconds, 3 * once)
    samples, start = ([], []), time.perf_counter()
    while len(samples[0]) < repeats or (time.perf_counter() - start < seconds and len(samples[0]) < 50):
        for f, n, found in zip((ours, theirs), inner, samples, strict=True):
            begin = time.perf_counter()
            for _ in range(n):
                f()
            found.append((time.perf_counter() - begin) / n)
        if time.perf_counter() - start > 10 * seconds:
            break
    return statistics.median(samples[0]), statistics.median(samples[1])


# ------------------------------------------------------------------------------------------------------- transport


def _transport(n):
    import numpy as np
    import ot

    from trref.transport.sinkhorn_newton_sparse import sinkhorn_newton_sparse

    cost, a, reg = np.random.default_rng(0).random((n, n)), np.full(n, 1 / n), 1 / 1200

    def reached(plan):
        return float(abs(plan.sum(1) - a).sum() + abs(plan.sum(0) - a).sum()) <= 1e-9

    def ours():
        result = sinkhorn_newton_sparse(cost, a, a, reg=reg, tol=1e-9)
        assert result.converged and reached(result.plan)

    # the stabilised variant takes the same steps, each dearer: it is asked only where the plain one underflows. POT's
    # other solvers are out of reach here: sinkhorn_log needs minutes, greenkhorn and epsilon scaling do not get to 1e-9
    # at all. POT's threshold is on another norm: the loosest that gives the error asked for counts
    for method, threshold in itertools.product(("sinkhorn", "sinkhorn_stabilized"), (3e-10, 1e-10, 3e-11, 1e-11)):

        def theirs(method=method, threshold=threshold):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ot.sinkhorn(a, a, cost, reg, method=method, numItermax=200_000, stopThr=threshold)

        if reached(theirs()):
            return ours, theirs, f"POT {ot.__version__} {method}"
    raise RuntimeError("no solver of POT reaches the marginal error 1e-9")


@row("transport, random cost, n = 500", ">= 10")
def transport_500():
    return _transport(500)


@row("transport, random cost, n = 1000", ">= 10")
def transport_1000():
    return _transport(1000)


# ---------------------------------------------------------------------------------------------------------- krylov


@row("conjugate gradients, Poisson 512 x 512, 50 iterations", ">= 0.87")
def poisson():
    import numpy as np
    import scipy
    from scipy.sparse.linalg import LinearOperator
    from scipy.sparse.linalg import cg as scipy_cg

    from trref.krylov.cg import cg
    from trref.problems.convex import PoissonOperator

    operator = PoissonOperator(512)
    b = np.random.default_rng(0).standard_normal(512 * 512)
    linear = LinearOperator((b.size, b.size), matvec=operator, dtype=b.dtype)

    def ours():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cg(operator, b, rtol=1e-14, max_iter=50)

    return ours, lambda: scipy_cg(linear, b, rtol=1e-14, atol=0, maxiter=50), f"SciPy {scipy.__version__} cg"


# -------------------------------------------------------------------------------------------------------- networks


def _network(width, batch, dtype):
    import numpy as np
    import torch

    from trref.nn import mlp
    from trref.problems.networks import ClassifierLoss

    rng, sizes = np.random.default_rng(0), (64, width, width, 10)
    loss = ClassifierLoss(rng.standard_normal((batch, 64)).astype(dtype), rng.integers(0, 10, batch), sizes, "tanh")
    theta = mlp.init(rng, sizes, dtype=dtype)
    net = torch.nn.Sequential(
        torch.nn.Linear(64, width),
        torch.nn.Tanh(),
        torch.nn.Linear(width, width),
        torch.nn.Tanh(),
        torch.nn.Linear(width, 10),
    ).to(getattr(torch, dtype))
    X, y = torch.tensor(loss.X), torch.tensor(loss.labels)

    def theirs():
        net.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(X), y).backward()

    return lambda: loss(theta), theirs, f"torch {torch.__version__}"


for _width in (64, 256):
    for _batch in (32, 256):
        for _dtype in ("float64", "float32"):
            _target = ">= 2.5" if (_width, _batch) == (64, 32) else ">= 1 (one thread)"
            row(f"network loss and gradient, width {_width}, batch {_batch}, {_dtype}", _target)(
                lambda w=_width, b=_batch, d=_dtype: _network(w, b, d)
            )


@row("Fisher-vector product, 2048 states, 64 x 64", ">= 3")
def fisher():
    import numpy as np
    import torch

    from trref.policy.natural_gradient import fisher_vector_product
    from trref.problems.policies import CategoricalPolicy

    rng, sizes = np.random.default_rng(0), (8, 64, 64, 4)
    policy = CategoricalPolicy(sizes)
    theta, states = policy.init(rng), rng.standard_normal((2048, 8))
    v = rng.standard_normal(theta.size)
    net = torch.nn.Sequential(
        torch.nn.Linear(8, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, 4)
    ).double()
    parameters, X, w = list(net.parameters()), torch.tensor(states), torch.tensor(v)

    def theirs():
        log_p = torch.log_softmax(net(X), 1)
        fixed = log_p.detach()
        kl = (fixed.exp() * (fixed - log_p)).sum(1).mean()
        gradient = torch.autograd.grad(kl, parameters, create_graph=True)
        flat = torch.cat([g.reshape(-1) for g in gradient])
        torch.autograd.grad((flat * w).sum(), parameters)

    return lambda: fisher_vector_product(policy, theta, v, states), theirs, f"torch {torch.__version__} double backward"


# --------------------------------------------------------------------------------------------------- policies, tokens


@row("advantage estimation, 2048 x 64", ">= 3")
def advantages():
    import numpy as np
    import torch

    from trref.policy.gae import gae

    rng, shape = np.random.default_rng(0), (2048, 64)
    arrays = [rng.standard_normal(shape) for _ in range(3)]
    flags = [(rng.random(shape) < 0.01).astype(float), np.zeros(shape)]
    reward, value, following, terminated, truncated = (torch.tensor(a) for a in (*arrays, *flags))

    def theirs():
        with torch.no_grad():
            delta = reward + 0.99 * (1 - terminated) * following - value
            decay = 0.99 * 0.95 * (1 - torch.maximum(terminated, truncated))
            advantage, carry = torch.zeros_like(delta), torch.zeros(64, dtype=delta.dtype)
            for t in range(2047, -1, -1):
                carry = delta[t] + decay[t] * carry
                advantage[t] = carry

    return lambda: gae(*arrays, *flags), theirs, f"torch {torch.__version__}"


@row("GRPO loss and gradient, 64 x 512", ">= 3")
def grpo_loss():
    import numpy as np
    import torch

    from trref.tokens.grpo import grpo

    rng, shape = np.random.default_rng(0), (64, 512)
    old = -rng.exponential(1.0, shape)
    log_prob, advantage = old + 0.2 * rng.standard_normal(shape), rng.standard_normal(64)
    mask = (np.arange(512) < rng.integers(100, 513, (64, 1))).astype(float)
    o, A, m = (torch.tensor(a) for a in (old, advantage, mask))

    def theirs():
        x = torch.tensor(log_prob, requires_grad=True)
        ratio = torch.exp(x - o)
        term = torch.min(ratio * A[:, None], torch.clamp(ratio, 0.8, 1.2) * A[:, None])
        (-((term * m).sum(1) / m.sum(1)).mean()).backward()

    return lambda: grpo(log_prob, old, advantage, mask), theirs, f"torch {torch.__version__}"


# ------------------------------------------------------------------------------------------------------- manifolds


@row("Stiefel conjugate gradients, 200 x 5, 50 iterations", "time per iteration")
def stiefel():
    import numpy as np
    import pymanopt

    from trref.manifolds.riemannian_cg import riemannian_cg
    from trref.problems.frames import Brockett

    rng, n, p = np.random.default_rng(0), 200, 5
    A = rng.standard_normal((n, n))
    A, weights = A + A.T, np.arange(p, 0.0, -1)
    x0 = np.linalg.qr(rng.standard_normal((n, p)))[0]
    manifold = pymanopt.manifolds.Stiefel(n, p)

    @pymanopt.function.numpy(manifold)
    def cost(x):
        return -0.5 * np.sum(x * (A @ x * weights))

    @pymanopt.function.numpy(manifold)
    def gradient(x):
        return -A @ x * weights

    problem = pymanopt.Problem(manifold, cost, euclidean_gradient=gradient)
    loss, done = Brockett(A, weights), {}

    def ours():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done["ours"] = riemannian_cg(loss, x0, gtol=1e-12, max_iter=50).iterations

    def theirs():
        optimizer = pymanopt.optimizers.ConjugateGradient(max_iterations=50, min_gradient_norm=1e-12, verbosity=0)
        done["theirs"] = optimizer.run(problem, initial_point=x0).iterations

    return ours, theirs, f"pymanopt {pymanopt.__version__ if hasattr(pymanopt, '__version__') else ''}".strip()


# ------------------------------------------------------------------------------------------------------- diffusion


def _plane():
    """A mixture in the plane, and 512 points of noise."""
    import numpy as np

    from trref.problems.mixtures import ring

    return ring(), np.random.default_rng(0).standard_normal((512, 2))


def _torch_noise(mixture):
    """The model of the noise in torch: minus sigma times the score of the mixture."""
    import torch

    weights, means, covariances = (torch.tensor(a) for a in (mixture.weights, mixture.means, mixture.covariances))
    eye = torch.eye(2, dtype=means.dtype)

    def noise(x, alpha, sigma):
        noisy = alpha**2 * covariances + sigma**2 * eye
        away = x[:, None] - alpha * means
        scores = -torch.einsum("kij,nkj->nki", torch.linalg.inv(noisy), away)
        log_terms = torch.log(weights) + ((away * scores).sum(2) - torch.logdet(noisy)) / 2
        return -sigma * (torch.softmax(log_terms, 1)[:, :, None] * scores).sum(1)

    return noise


def _torch_ddim(noise, x, alpha, sigma):
    for k in range(len(alpha) - 1):
        e = noise(x, alpha[k], sigma[k])
        x = alpha[k + 1] * (x - sigma[k] * e) / alpha[k] + sigma[k + 1] * e
    return x


def _ddim_levels():
    """Times of 50 steps, and the levels at each, for trref and for torch."""
    import numpy as np

    from trref.problems.mixtures import vp_schedule

    times = np.linspace(1.0, 0.03, 51) ** 2
    alpha, sigma = vp_schedule(times)
    return times, alpha, alpha.tolist(), sigma.tolist()


@row("DDIM, 50 steps, 512 points of a ring", ">= 0.4")
def ddim():
    import numpy as np
    import torch

    from trref.diffusion.score_models import ddim_from_noise
    from trref.problems.mixtures import MixtureNoise

    mixture, x = _plane()
    times, alpha, *levels = _ddim_levels()
    model, noise, still = MixtureNoise(mixture), _torch_noise(mixture), np.zeros((50, *x.shape))

    def ours():
        return ddim_from_noise(model, x, still, times, alpha**2)

    def theirs():
        with torch.no_grad():
            return _torch_ddim(noise, torch.tensor(x), *levels)

    assert np.allclose(ours(), theirs().numpy(), rtol=1e-7, atol=1e-9)
    return ours, theirs, f"torch {torch.__version__}"


@row("Heun sampler, 18 steps, 512 points of a ring", ">= 0.4")
def heun():
    import numpy as np
    import torch

    from trref.diffusion.edm_heun import churned_path, karras_levels
    from trref.problems.mixtures import MixtureDenoiser

    mixture, x = _plane()
    levels = np.append(karras_levels(np.linspace(0, 1, 18), smallest=0.02, largest=10.0), 0.0)
    model, noise, start = MixtureDenoiser(mixture, "ve"), _torch_noise(mixture), 10 * x
    still = np.zeros((18, *x.shape))

    def ours():
        return churned_path(model, start, still, levels)

    def theirs():
        with torch.no_grad():
            point, grid = torch.tensor(start), levels.tolist()
            for now, then in itertools.pairwise(grid):
                slope = noise(point, 1.0, now)
                end = point + (then - now) * slope
                if then > 0:
                    end = point + (then - now) * (slope + noise(end, 1.0, then)) / 2
                point = end
            return point

    assert np.allclose(ours(), theirs().numpy(), rtol=1e-7, atol=1e-9)
    return ours, theirs, f"torch {torch.__version__}"


@row("gradient through 50 steps of DDIM, 512 points of a ring", ">= 0.25")
def adjoint():
    import numpy as np
    import torch

    from trref.diffusion.symplectic_adjoint import symplectic_adjoint
    from trref.problems.mixtures import MixtureNoise

    mixture, x = _plane()
    _, alpha, *levels = _ddim_levels()
    model, noise, ratios = MixtureNoise(mixture), _torch_noise(mixture), np.sqrt(1 - alpha**2) / alpha
    cotangent = np.ones_like(x)

    def ours():
        return symplectic_adjoint(model, x, ratios, cotangent)

    def theirs():
        start = torch.tensor(x, requires_grad=True)
        _torch_ddim(noise, start, *levels).sum().backward()
        return start.grad

    assert np.allclose(ours(), theirs().numpy(), rtol=1e-6, atol=1e-9)
    return ours, theirs, f"torch {torch.__version__}, backward"


# ------------------------------------------------------------------------------------------------------ optimizers


def _arrays(shapes, dtype):
    """Parameters and gradients, and the same for torch."""
    import numpy as np
    import torch

    rng = np.random.default_rng(0)
    params, grads = ([rng.standard_normal(shape).astype(dtype) for shape in shapes] for _ in range(2))
    theirs = [torch.nn.Parameter(torch.tensor(p)) for p in params]
    for weight, g in zip(theirs, grads, strict=True):
        weight.grad = torch.tensor(g)
    return params, grads, theirs


def _muon(shape):
    import torch

    from trref.optimizers import muon

    params, grads, weights = _arrays([shape], "float32")
    state, optimizer = muon.init(params), torch.optim.Muon(weights, lr=0.02, weight_decay=0.0)
    return lambda: muon.update(params, grads, state), optimizer.step, f"torch {torch.__version__}, bfloat16"


def _adam(shape):
    import torch

    from trref.optimizers import adam

    params, grads, weights = _arrays([shape] * 40, "float32")
    state, optimizer = adam.init(params), torch.optim.Adam(weights, foreach=True)
    return lambda: adam.update(params, grads, state), optimizer.step, f"torch {torch.__version__}, foreach"


def _checks(module):
    """The bare function in the place of the peer: a ratio of 0.5 means that checks cost what the arithmetic does."""
    import importlib

    rule = importlib.import_module(f"trref.optimizers.{module}")
    params, grads, _ = _arrays([(100, 100)], "float64")
    state = rule.init(params)
    bare = lambda: rule.update.unchecked(params, grads, state)  # noqa: E731
    return lambda: rule.update(params, grads, state), bare, "trref without checks"


def _polar(method, n):
    import numpy as np
    import scipy

    from trref.optimizers import polar_decomposition

    x = np.random.default_rng(0).standard_normal((n, n))
    ours = lambda: getattr(polar_decomposition, method)(x)  # noqa: E731
    assert np.allclose(ours().U, scipy.linalg.polar(x)[0], rtol=1e-6, atol=1e-9)
    return ours, lambda: scipy.linalg.polar(x), f"scipy {scipy.__version__}, polar"


for _shape, _target in (((64, 256), ">= 1"), ((512, 512), ">= 0.83")):
    row(f"Muon step, {_shape[0]} x {_shape[1]}, float32", _target)(lambda s=_shape: _muon(s))
for _shape, _target in (((32,), ">= 1"), ((256, 256), ">= 0.83")):
    _size = " x ".join(map(str, _shape))
    row(f"Adam step, 40 tensors of {_size}, float32", _target)(lambda s=_shape: _adam(s))
for _rule in ("adam", "adamp", "diffgrad"):
    row(f"checks of {_rule}, 10,000 parameters", ">= 0.5")(lambda r=_rule: _checks(r))
for _method in ("qdwh", "zolopd"):
    row(f"polar factor of 128 x 128, {_method}", "reported")(lambda m=_method: _polar(m, 128))


# ---------------------------------------------------------------------------------------------------------- import


def import_time(repeats=15):
    """Return the median seconds that ``import trref`` adds to ``import numpy``."""
    code = "import numpy, time; t = time.perf_counter(); import trref; print(time.perf_counter() - t)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(repeats)
    ]
    return statistics.median(float(r.stdout) for r in runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help="only rows whose name contains one of these")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--json", metavar="FILE", help="write the figures, for machines")
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [n for n in ROWS if not options.rows or any(text in n for text in options.rows)]
    if not names:
        sys.exit(f"no row contains {' or '.join(options.rows)}; there are:\n" + "\n".join(ROWS))
    if options.inside:
        return _inside(names, options.inside)
    results = []
    print(f"{'row':58} {'threads':>7} {'trref':>11} {'peer':>11} {'ratio':>7}  target, peer")
    for threads in options.threads:
        limits = dict.fromkeys(_environment.ONE_THREAD, str(threads))
        command = [sys.executable, __file__, "--inside", str(threads), *names]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **limits}) as process:
            for line in process.stdout:
                result = json.loads(line)
                results.append(result)
                print(_line(result), flush=True)
    if not options.rows:
        seconds = import_time()
        results.append({"row": "import trref after numpy", "ours": seconds, "target": "<= 10 ms"})
        print(f"{'import trref after numpy':58} {'':7} {seconds * 1e3:8.2f} ms {'':19}  <= 10 ms")
    if options.json:
        machine = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
        pathlib.Path(options.json).write_text(json.dumps({"machine": machine, "rows": results}, indent=1) + "\n")
    return 0


def _processor():
    """The processor's name where the system tells it, else the architecture."""
    known = pathlib.Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _line(r):
    if "error" in r:
        return f"{r['row']:58} {r['threads']:7} {r['error']}"
    times = f"{r['ours'] * 1e3:8.3f} ms {r['theirs'] * 1e3:8.3f} ms"
    return f"{r['row']:58} {r['threads']:7} {times} {r['ratio']:7.2f}  {r['target']}, {r['peer']}"


def _inside(names, threads):
    try:
        import torch

        torch.set_num_threads(threads)
    except ImportError:
        pass
    for name in names:
        make, target = ROWS[name]
        result = {"row": name, "threads": threads, "target": target}
        try:
            ours, theirs, peer = make()
            mine, other = compare(ours, theirs)
            result |= {"ours": mine, "theirs": other, "ratio": other / mine, "peer": peer}
        except Exception as error:
            result["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
