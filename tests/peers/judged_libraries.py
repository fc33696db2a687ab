"""Optimizers, manifolds, solvers and estimators of public libraries, with the few lines that fit them."""

import importlib
import types

import numpy as np

from tests.peers import trainers
from tests.peers.judged import BETAS, TORCH, Judged, signature
from trref.conformance import Options

__all__ = ["JUDGED"]

# ---------------------------------------------------------------------------------------------------------- optimizers


def _optimizer(module, name, keywords, **fixed):
    """A class with the protocol of torch.optim that takes these keywords alone; others are fixed, or left out."""

    def make():
        load = trainers.load if module.partition(".")[0] in trainers.ABSENT else importlib.import_module
        optimizer = getattr(load(module), name)

        def __init__(self, params, **given):
            optimizer.__init__(self, params, **fixed, **given)

        made = type(name, (optimizer,), {"__init__": __init__})
        return signature(made, ["params"], keywords)

    return make


def _optax(name):
    return lambda: getattr(importlib.import_module("optax"), name)


def _lookahead():
    """Over PyTorch's gradient descent with momentum."""
    public, torch = importlib.import_module("pytorch_optimizer"), importlib.import_module("torch")

    class Lookahead(public.Lookahead):
        def __init__(self, params, lr=0.1, momentum=0.0, k=5, alpha=0.5, pullback_momentum="none"):
            sgd = torch.optim.SGD(params, lr=lr, momentum=momentum)
            super().__init__(sgd, k=k, alpha=alpha, pullback_momentum=pullback_momentum)

    return signature(Lookahead, ["params"], ["lr", "momentum", "k", "alpha"])


RATES = {"lr": "learning_rate", "beta1": "b1", "beta2": "b2"}
IN_OPTAX = Options(names=RATES)
OF_ADAM = ["lr", "betas", "eps"]
OF_ADAMP = [*OF_ADAM, "weight_decay", "delta", "wd_ratio", "nesterov"]
PROJECTED = {"threshold": "delta", "decay_ratio": "wd_ratio"}
ANOTHER = "another method, as documented"


# ----------------------------------------------------------------------------------------------------------- manifolds


def _geoopt(name, method, arguments):
    """A method of geoopt's Stiefel manifold, under the catalogue's names of its arguments."""

    def make():
        manifold = getattr(importlib.import_module("geoopt"), name)()

        def call(**given):
            return getattr(manifold, method)(*(given[n] for n in arguments))

        return signature(call, list(dict.fromkeys(arguments)), [])

    return make


def _pymanopt(method, arguments, **options):
    """A method of pymanopt's Stiefel manifold, one matrix at a time."""

    def make():
        manifolds = importlib.import_module("pymanopt.manifolds")

        def call(**given):
            arrays = [given[n] for n in arguments]
            if arrays[0].ndim == 2:
                return getattr(manifolds.Stiefel(*arrays[0].shape, **options), method)(*arrays)
            return np.stack([call(**dict(zip(arguments, each, strict=True))) for each in zip(*arrays, strict=True)])

        return signature(call, arguments, [])

    return make


# ------------------------------------------------------------------------------------------------------------- solvers


def _scipy_minres():
    from scipy.sparse.linalg import LinearOperator, minres

    def solver(matvec, b, x0=None, preconditioner=None, rtol=1e-8):
        # it stops on the residual over the norms of matrix and solution; less leaves room for that
        A, M = (f and LinearOperator((len(b), len(b)), matvec=f, dtype=float) for f in (matvec, preconditioner))
        return minres(A, b, x0=x0, rtol=1e-3 * rtol, maxiter=50 * len(b), M=M)[0]

    return solver


def _scipy_gmres():
    from scipy.sparse.linalg import LinearOperator, gmres

    def solver(matvec, b, x0=None, preconditioner=None, rtol=1e-8):
        A, M = (f and LinearOperator((len(b), len(b)), matvec=f, dtype=float) for f in (matvec, preconditioner))
        return gmres(A, b, x0=x0, rtol=1e-3 * rtol, atol=0.0, restart=len(b), M=M)[0]

    return solver


def _pot(method):
    def make():
        import ot

        def solver(cost, a, b, reg, tol=1e-9):
            # it stops on the norm of one marginal's error; less leaves room for the other norm
            return ot.sinkhorn(a, b, cost, reg, method=method, stopThr=1e-2 * tol, numItermax=100_000)

        return solver

    return make


# ---------------------------------------------------------------------------------------------------------- estimators


def _episodes(estimate):
    """Run an estimator of one episode, which ends or is cut at its last step, on all in a batch.

    It gets rewards, values of all states with the last one's successor, which is 0 after an end, and constants.
    """

    def gae(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
        columns = [np.asarray(x).reshape(len(reward), -1) for x in (reward, value, next_value, terminated, truncated)]
        found = np.empty_like(columns[0])
        for j in range(found.shape[1]):
            r, v, n, d, c = (x[:, j] for x in columns)
            ends = [t + 1 for t in range(len(r)) if d[t] or c[t] or t == len(r) - 1]
            for start, end in zip([0, *ends], ends, strict=False):
                last = (1 - d[end - 1]) * n[end - 1]
                found[start:end, j] = estimate(r[start:end], np.append(v[start:end], last), gamma, lam)
        return found.reshape(np.shape(reward))

    return gae


def _rlax(name):
    def make():
        import jax

        jax.config.update("jax_enable_x64", True)
        multistep = trainers.load("rlax._src.multistep")

        def advantage(r, values, gamma, lam):
            discount = np.full(len(r), gamma, r.dtype)
            with jax.disable_jit():  # it would compile for every length
                if name == "lambda_returns":
                    return multistep.lambda_returns(r, discount, values[1:], lam)
                return multistep.truncated_generalized_advantage_estimation(r, discount, lam, values)

        return _episodes(advantage)

    return make


def _contrib_cg():
    """The solver of its TRPO; `max_iter` and the tolerance are what it is told."""
    solve = trainers.load("sb3_contrib.common.utils").conjugate_gradient_solver

    def solver(matvec, b, rtol=1e-8, max_iter=None):
        few = max_iter is not None and max_iter <= 5
        size = float(b.double().square().sum())
        tolerance = 0.0 if few else rtol**2 * size / 4  # of the squared residual
        return solve(matvec, b, max_iter or 10 * len(b), tolerance)

    return solver


def _rlax_surrogate():
    import jax.numpy as jnp

    gradients = trainers.load("rlax._src.policy_gradients")

    def loss(log_prob, old_log_prob, advantage, clip=0.2):
        return gradients.clipped_surrogate_pg_loss(jnp.exp(log_prob - old_log_prob), advantage, clip)

    return loss


def _labml_gae():
    gae = trainers.load("labml_nn.rl.ppo.gae")

    def advantage(r, values, gamma, lam):
        return gae.GAE(1, len(r), gamma, lam)(np.zeros((1, len(r))), r[None], values[None])[0]

    return _episodes(advantage)


def _labml_surrogate():
    module = trainers.load("labml_nn.rl.ppo").ClippedPPOLoss()

    def loss(log_prob, old_log_prob, advantage, clip=0.2):
        return module(log_prob, old_log_prob, advantage, clip)

    return loss


def _labml_value():
    module = trainers.load("labml_nn.rl.ppo").ClippedValueFunctionLoss()

    def loss(value, old_value, value_target, mask, clip=0.2):
        kept = mask > 0
        return module(value[kept], old_value[kept], value_target[kept], clip)

    return loss


def _tianshou_gae():
    base = trainers.load("tianshou.algorithm.algorithm_base")

    def gae(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
        r, v, n, d, c = (
            np.asarray(x).reshape(len(reward), -1) for x in (reward, value, next_value, terminated, truncated)
        )
        columns = zip(v.T, (n * (1 - d)).T, r.T, (np.maximum(d, c) > 0).T, strict=True)
        return np.stack([base._gae(*each, gamma, lam) for each in columns], 1).reshape(reward.shape)

    return gae


def _garage_gae():
    """It gets an episode a row, padded, in the float32 that its filter has."""
    functions = trainers.load("garage.torch._functions")

    def gae(reward, value, mask, gamma=0.99, lam=0.95):
        length = reward.shape[1]
        return functions.compute_advantages(gamma, lam, length, value.float(), reward.float()) * mask

    return gae


def _diffusers_ddim(**config):
    """The released step on a schedule of two times: the configuration is set by hand, its decorator is a stand-in."""

    def make():
        import torch

        module = trainers.load("diffusers.schedulers.scheduling_ddim")

        def step(x, noise, z, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
            scheduler = module.DDIMScheduler.__new__(module.DDIMScheduler)
            fixed = {"prediction_type": "epsilon", "thresholding": False, "clip_sample_range": 1.0, **config}
            scheduler.config = types.SimpleNamespace(num_train_timesteps=2, **fixed)
            scheduler.num_inference_steps = 2
            scheduler.alphas_cumprod = torch.tensor([next_alpha_bar, alpha_bar], dtype=x.dtype)
            scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=x.dtype)
            return scheduler.step(noise, 1, x, eta=eta, variance_noise=z, return_dict=False)[0]

        return step

    return make


def _torchrl(name):
    def make():
        functional = importlib.import_module("torchrl.objectives.value.functional")

        def estimate(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
            r, v, n = (a.reshape(len(reward), -1).T[..., None] for a in (reward, value, next_value))
            d, c = (a.reshape(len(reward), -1).T[..., None] > 0 for a in (terminated, truncated))
            values = (v, n) if "advantage" in name else (n,)
            found = getattr(functional, name)(gamma, lam, *values, r, done=d | c, terminated=d)
            found = found[0] if isinstance(found, tuple) else found
            return found[..., 0].T.reshape(reward.shape)

        return estimate

    return make


def _stiefel(what, method, function, arguments, conforms, finding, *, manifold="EuclideanStiefel", **more):
    options = more.pop("options", TORCH)
    make = _geoopt(manifold, method, arguments)
    return Judged(f"geoopt {what}", "geoopt", function, make, conforms, finding, options, **more)


JUDGED = (
    # ---- torch.optim
    Judged(
        "torch.optim.SGD",
        "torch",
        "sgd.update",
        _optimizer("torch.optim", "SGD", ["lr", "momentum", "nesterov"]),
        True,
        "the published rule, with the momentum as a sum; Nesterov's form, too",
    ),
    Judged(
        "torch.optim.Adam, amsgrad=True, taken for AMSGrad",
        "torch",
        "amsgrad.update",
        _optimizer("torch.optim", "Adam", OF_ADAM, amsgrad=True),
        False,
        "AMSGrad with Adam's correction of both moments, of the maximum, too",
        BETAS,
        explained="computes the setting 'PyTorch'",
    ),
    Judged(
        "torch.optim.Muon, weight_decay=0",
        "torch",
        "muon.update",
        _optimizer("torch.optim", "Muon", ["lr", "momentum", "nesterov"], weight_decay=0.0),
        False,
        "the iteration for the polar factor runs in bfloat16, whatever the parameters are; vectors are refused",
        explained="Muon only supports 2D parameters",
    ),
    Judged(
        "torch.optim.AdamW, taken for the paper's",
        "torch",
        "adamw.update",
        _optimizer("torch.optim", "AdamW", [*OF_ADAM, "weight_decay"]),
        False,
        "weights shrink by the rate times the decay, where the paper has the decay alone, as documented",
        BETAS,
        explained="'the rate in the decay'",
    ),
    Judged(
        "torch.optim.Adamax",
        "torch",
        "adamax.update",
        _optimizer("torch.optim", "Adamax", OF_ADAM),
        False,
        "epsilon is added to the gradient's size inside the maximum; the paper has none",
        BETAS,
        explained="'epsilon inside the maximum'",
    ),
    Judged(
        "torch.optim.NAdam, taken for the workshop's",
        "torch",
        "nadam.update",
        _optimizer("torch.optim", "NAdam", [*OF_ADAM, "momentum_decay"]),
        False,
        "the report's form: one decay of the average, corrected by the schedule's products",
        Options(names={**BETAS.names, "psi": "momentum_decay"}),
        explained="'the report's form'",
    ),
    Judged(
        "torch.optim.Adafactor",
        "torch",
        "adafactor.update",
        _optimizer("torch.optim", "Adafactor", ["lr", "d", "weight_decay"]),
        False,
        "moments are bounded by an epsilon, not added to one, and weights shrink by lr times the decay, as documented",
        Options(names={"clip": "d"}),
        explained="'PyTorch's decay and bounds'",
    ),
    # ---- pytorch_optimizer
    Judged(
        "pytorch_optimizer AdaMax",
        "pytorch_optimizer",
        "adamax.update",
        _optimizer("pytorch_optimizer", "AdaMax", OF_ADAM),
        False,
        "epsilon is added to the gradient's size inside the maximum, as in PyTorch",
        BETAS,
        explained="'epsilon inside the maximum'",
    ),
    Judged(
        "pytorch_optimizer AdaBelief",
        "pytorch_optimizer",
        "adabelief.update",
        _optimizer("pytorch_optimizer", "AdaBelief", OF_ADAM),
        True,
        "the published rule, without its rectified form, by default",
        BETAS,
    ),
    Judged(
        "pytorch_optimizer ScheduleFreeSGD",
        "pytorch_optimizer",
        "schedule_free.update",
        _optimizer("pytorch_optimizer", "ScheduleFreeSGD", ["lr", "weight_decay", "warmup_steps"]),
        True,
        "the published rule; a momentum of 0 or 1 is refused",
        Options(names={"warmup": "warmup_steps"}),
    ),
    Judged(
        "pytorch_optimizer Lookahead over SGD",
        "pytorch_optimizer",
        "lookahead.update",
        _lookahead,
        True,
        "the published rule; the momentum is kept by default",
    ),
    Judged(
        "pytorch_optimizer AdamP",
        "pytorch_optimizer",
        "adamp.update",
        _optimizer("pytorch_optimizer", "AdamP", OF_ADAMP),
        False,
        "epsilon is added to the root of the uncorrected second moment",
        Options(names={**BETAS.names, **PROJECTED}),
        explained="'epsilon hat'",
    ),
    Judged(
        "pytorch_optimizer SGDP",
        "pytorch_optimizer",
        "adamp.sgdp_update",
        _optimizer(
            "pytorch_optimizer", "SGDP", ["lr", "momentum", "eps", "weight_decay", "delta", "wd_ratio", "nesterov"]
        ),
        True,
        "the published rule",
        Options(names=PROJECTED),
    ),
    Judged(
        "pytorch_optimizer Lion",
        "pytorch_optimizer",
        "lion.update",
        _optimizer("pytorch_optimizer", "Lion", ["lr", "betas", "weight_decay"]),
        True,
        "the published rule",
        BETAS,
    ),
    Judged(
        "pytorch_optimizer DiffGrad, weight_decay=0",
        "pytorch_optimizer",
        "diffgrad.update",
        _optimizer("pytorch_optimizer", "DiffGrad", OF_ADAM),
        False,
        "the published rule, with epsilon inside the root of the uncorrected second moment",
        BETAS,
    ),
    Judged(
        "pytorch_optimizer Adan, weight_decay=0",
        "pytorch_optimizer",
        "adan.update",
        _optimizer("pytorch_optimizer", "Adan", OF_ADAM),
        True,
        "the published rule",
        Options(names={f"beta{i + 1}": f"betas[{i}]" for i in range(3)}),
    ),
    Judged(
        "pytorch_optimizer AdaBelief, taken for Adam",
        "pytorch_optimizer",
        "adam.update",
        _optimizer("pytorch_optimizer", "AdaBelief", OF_ADAM),
        False,
        ANOTHER,
        BETAS,
    ),
    # ---- labml
    Judged(
        "labml Adam",
        "labml_nn",
        "adam.update",
        _optimizer("labml_nn.optimizers.adam", "Adam", OF_ADAM),
        False,
        "epsilon is added to the root of the uncorrected second moment, as documented for optimized_update",
        BETAS,
        explained="'epsilon hat'",
    ),
    Judged(
        "labml Adam, optimized_update=False",
        "labml_nn",
        "adam.update",
        _optimizer("labml_nn.optimizers.adam", "Adam", OF_ADAM, optimized_update=False),
        True,
        "the published rule",
        BETAS,
    ),
    Judged(
        "labml AMSGrad",
        "labml_nn",
        "amsgrad.update",
        _optimizer("labml_nn.optimizers.amsgrad", "AMSGrad", OF_ADAM),
        False,
        "both corrections are one factor of the rate, and epsilon is added to the root of the uncorrected maximum",
        BETAS,
        explained="'epsilon hat'",
    ),
    # ---- optax
    Judged("optax.adam", "optax", "adam.update", _optax("adam"), True, "the published rule", IN_OPTAX),
    Judged("optax.adamw", "optax", "adam.update", _optax("adamw"), True, "at the decay that it is given", IN_OPTAX),
    Judged("optax.nadam", "optax", "adam.update", _optax("nadam"), False, ANOTHER, IN_OPTAX),
    Judged(
        "optax.amsgrad",
        "optax",
        "amsgrad.update",
        _optax("amsgrad"),
        False,
        "AMSGrad with Adam's correction of both moments before the maximum",
        IN_OPTAX,
        explained="computes the setting 'optax'",
    ),
    Judged(
        "optax.nadam, taken for the workshop's",
        "optax",
        "nadam.update",
        _optax("nadam"),
        False,
        "a constant weight in the place of the schedule, as documented",
        IN_OPTAX,
        explained="'no schedule'",
    ),
    Judged("optax.lion", "optax", "lion.update", _optax("lion"), True, "the published rule", IN_OPTAX),
    Judged(
        "optax.sgd",
        "optax",
        "sgd.update",
        _optax("sgd"),
        True,
        "the published rule, with the momentum as a sum; Nesterov's form, too",
        Options(names={"lr": "learning_rate"}),
    ),
    Judged(
        "optax.adan",
        "optax",
        "adan.update",
        _optax("adan"),
        False,
        "1 - b2 for the factor before the change of the gradient, where it is b2; eps_root stands in the root, too",
        Options(names={**RATES, "beta3": "b3"}),
        explained="'conventions mixed'",
    ),
    # ---- manifolds
    _stiefel("EuclideanStiefel.proju", "proju", "stiefel.project", ["x", "z"], True, "the tangent projection"),
    _stiefel(
        "EuclideanStiefel.retr",
        "retr",
        "stiefel.retract_qr",
        ["x", "z"],
        True,
        "the QR retraction; autograd cannot take it, because it writes over the factor",
        options=Options(framework="torch", gradient=False),
    ),
    _stiefel(
        "EuclideanStiefel.transp",
        "transp",
        "stiefel_transport.transport",
        ["x", "y", "z"],
        True,
        "the transport by projection",
    ),
    _stiefel(
        "EuclideanStiefel.expmap",
        "expmap",
        "stiefel_exponential.exponential",
        ["x", "z"],
        False,
        "the exponential of the embedded metric, for tangent directions alone",
        only="tangent",
    ),
    _stiefel(
        "EuclideanStiefel.egrad2rgrad",
        "egrad2rgrad",
        "stiefel_gradient.riemannian_gradient",
        ["x", "gradient"],
        True,
        "the gradient in the embedded metric",
    ),
    _stiefel(
        "Stiefel.projx",
        "projx",
        "stiefel_retraction.nearest_frame",
        ["y"],
        False,
        "the polar factor; its derivative by autograd, that of an SVD, is NaN where singular values agree",
        explained="vjp is NaN",
    ),
    _stiefel(
        "CanonicalStiefel.proju",
        "proju",
        "stiefel.project",
        ["x", "z"],
        False,
        "the gradient of the canonical metric: no projection, because it is not idempotent",
        manifold="CanonicalStiefel",
        explained="'the canonical gradient as projection'",
    ),
    _stiefel(
        "CanonicalStiefel.retr",
        "retr",
        "stiefel_retraction.retract_cayley",
        ["x", "z"],
        False,
        "rotations within the span go twice as fast: no retraction of first order",
        manifold="CanonicalStiefel",
        explained="'the Cayley transform of ξXᵀ - Xξᵀ'",
    ),
    Judged(
        "pymanopt Stiefel.transport",
        "pymanopt",
        "stiefel_transport.transport",
        _pymanopt("transport", ["x", "y", "z"]),
        True,
        "the transport by projection",
    ),
    Judged(
        "pymanopt Stiefel.exp",
        "pymanopt",
        "stiefel_exponential.exponential",
        _pymanopt("exp", ["x", "z"]),
        False,
        "the exponential of the embedded metric, for tangent directions alone",
        only="tangent",
    ),
    Judged(
        "pymanopt Stiefel.euclidean_to_riemannian_gradient",
        "pymanopt",
        "stiefel_gradient.riemannian_gradient",
        _pymanopt("euclidean_to_riemannian_gradient", ["x", "gradient"]),
        True,
        "the gradient in the embedded metric",
    ),
    # ---- solvers
    Judged(
        "scipy.sparse.linalg.minres",
        "scipy",
        "minres.minres",
        _scipy_minres,
        False,
        "stops on the residual over the norms of matrix and solution, as documented, and where there is no solution"
        " before the residual is smallest",
        explained="the certificate fails",
    ),
    Judged(
        "scipy.sparse.linalg.gmres",
        "scipy",
        "gmres.gmres",
        _scipy_gmres,
        False,
        "as published; where there is no solution, not the smallest residual",
        only="solvable",
    ),
    Judged(
        "POT ot.sinkhorn, method='sinkhorn_log'",
        "POT",
        "sinkhorn.sinkhorn_log",
        _pot("sinkhorn_log"),
        True,
        "the published plan",
    ),
    Judged(
        "POT ot.sinkhorn, method='sinkhorn'",
        "POT",
        "sinkhorn.sinkhorn_scaling",
        _pot("sinkhorn"),
        False,
        "the published plan, but where a constant is added to all costs: the kernel is not scaled, and vanishes",
        explained="the certificate fails",
    ),
    # ---- estimators and policy losses
    Judged(
        "rlax truncated_generalized_advantage_estimation",
        "rlax",
        "gae.gae",
        _rlax("gae"),
        True,
        "the published estimates, episode by episode",
    ),
    Judged(
        "rlax lambda_returns",
        "rlax",
        "gae.lambda_return",
        _rlax("lambda_returns"),
        True,
        "the published returns, episode by episode",
    ),
    Judged(
        "rlax clipped_surrogate_pg_loss",
        "rlax",
        "ppo.clipped_surrogate",
        _rlax_surrogate,
        False,
        "the published loss; at ratios on the bounds autograd halves the gradient where the loss has no kink",
        Options(framework="jax"),
        only="ties",
    ),
    Judged(
        "sb3-contrib conjugate_gradient_solver",
        "sb3_contrib",
        "cg.cg",
        _contrib_cg,
        False,
        "the published iteration from a small random vector, without a preconditioner; where b is 0 that vector is its "
        "answer",
        TORCH,
    ),
    Judged(
        "tianshou _gae",
        "tianshou",
        "gae.gae",
        _tianshou_gae,
        True,
        "termination and truncation kept apart: its caller masks the successor's value at an end",
    ),
    Judged(
        "garage compute_advantages",
        "garage",
        "gae.gae",
        _garage_gae,
        False,
        "the published estimates, by a convolution in float32",
        Options(framework="torch", rows=True),
        explained="float32 inside",
    ),
    Judged(
        "diffusers DDIMScheduler.step, clip_sample=False",
        "diffusers",
        "score_models.ddim_step",
        _diffusers_ddim(clip_sample=False),
        True,
        "the published step",
        TORCH,
    ),
    Judged(
        "diffusers DDIMScheduler.step",
        "diffusers",
        "score_models.ddim_step",
        _diffusers_ddim(clip_sample=True),
        False,
        "its default clips the estimate of the data to ±1, and leaves the noise as it is",
        TORCH,
        explained="'data clipped to ±1'",
    ),
    Judged(
        "labml GAE",
        "labml_nn",
        "gae.gae",
        _labml_gae,
        False,
        "the published estimates, kept in float32",
        explained="float32 inside",
    ),
    Judged(
        "labml ClippedPPOLoss",
        "labml_nn",
        "ppo.clipped_surrogate",
        _labml_surrogate,
        True,
        "the published loss, value and gradient",
        TORCH,
    ),
    Judged(
        "labml ClippedValueFunctionLoss",
        "labml_nn",
        "value_loss.value_loss",
        _labml_value,
        False,
        "the published loss, without a mask: padding is left out beforehand, and nothing left gives NaN",
        TORCH,
        only="nonempty",
    ),
    Judged(
        "torchrl vec_generalized_advantage_estimate",
        "torchrl",
        "gae.gae",
        _torchrl("vec_generalized_advantage_estimate"),
        False,
        "the published estimates, the decay held in float32; without decay, at lam = 0, it raises an IndexError",
        TORCH,
        explained="raised IndexError",
    ),
    Judged(
        "torchrl td_lambda_return_estimate",
        "torchrl",
        "gae.lambda_return",
        _torchrl("td_lambda_return_estimate"),
        True,
        "the published returns",
        TORCH,
    ),
)
