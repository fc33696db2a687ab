"""Public implementations, each with the few lines that fit it to a catalogued function, and the expected verdict.

``tests/peers/test_public_code.py`` runs `trref.conformance.verify` on all of them and asserts the verdicts;
``tools/ledger.py`` prints them, with the versions installed, into ``docs/ledger``, a file a method. The wrappers rename
arguments and call; they compute nothing of their own. The trainers that do not install are in
`tests.peers.judged_trainers`.
"""

import collections
import dataclasses
import importlib
import importlib.metadata
import types
from collections.abc import Callable

import numpy as np

from tests.peers import trainers
from trref.conformance import Options

__all__ = ["JUDGED", "Judged", "signature"]


@dataclasses.dataclass(frozen=True)
class Judged:
    """One public implementation.

    Parameters
    ----------
    what : str
        The implementation, as its users know it.
    package : str
        The distribution on the package index.
    function : str
        The catalogued function that it is compared with.
    make : callable
        Imports the package and returns the implementation.
    conforms : bool
        Whether no difference is expected.
    finding : str
        What it computes; for a deviation, and whether its makers document it.
    options : Options
    explained : str
        Text that one of `verify`'s explanations must contain.
    only : str
        The one circumstance, such as "groups", in which it differs.
    """

    what: str
    package: str
    function: str
    make: Callable
    conforms: bool
    finding: str
    options: Options = dataclasses.field(default_factory=Options)
    explained: str = ""
    only: str = ""

    @property
    def verdict(self):
        """The status expected."""
        if self.conforms:
            return "conforms"
        return "conforms except" if self.only else "deviates"

    def expects(self, verdict):
        """Whether a verdict is the expected one."""
        return verdict.status == self.verdict and self.only == ", ".join(e.name for e in verdict.exemptions)

    @property
    def trainer(self):
        """Whether the package is one of those that `tests.peers.trainers` imports in parts."""
        return self.package in trainers.ABSENT

    @property
    def missing(self):
        """Whether it cannot be judged here, and need not be."""
        return False

    @property
    def version(self):
        return trainers.version(self.package) if self.trainer else importlib.metadata.version(self.package)


def _in(module, name):
    return lambda: getattr(importlib.import_module(module), name)


TORCH = Options(framework="torch")
BETAS = Options(names={"beta1": "betas[0]", "beta2": "betas[1]"})


def _with(make, **fixed):
    """A torch optimizer with some of its keywords fixed."""

    def build():
        optimizer = make()
        return type(optimizer.__name__, (optimizer,), {"__init__": _constructor(optimizer, fixed)})

    return build


def _constructor(optimizer, fixed):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        optimizer.__init__(self, params, lr=lr, betas=betas, eps=eps, **fixed)

    return __init__


# ------------------------------------------------------------------------------------------------------- solvers


def _linear_operator(matvec, n, dtype):
    from scipy.sparse.linalg import LinearOperator

    return LinearOperator((n, n), matvec=matvec, dtype=dtype)


def _scipy_krylov(name):
    def make():
        solve = getattr(importlib.import_module("scipy.sparse.linalg"), name)

        def solver(matvec, b, x0=None, preconditioner=None, rtol=1e-8, max_iter=None):
            # SciPy stops on the recurred residual; half the target leaves room for its drift
            few = max_iter is not None and max_iter <= 5
            M = _linear_operator(preconditioner, len(b), b.dtype) if preconditioner else None
            more = {} if name == "minres" else {"atol": 0.0}
            tolerance = 1e-300 if few else rtol / 2
            A = _linear_operator(matvec, len(b), b.dtype)
            return solve(A, b, x0=x0, rtol=tolerance, maxiter=max_iter, M=M, **more)[0]

        return solver

    return make


# ------------------------------------------------------------------------------------------------------ manifolds


def _pymanopt(method, **options):
    def make():
        manifolds = importlib.import_module("pymanopt.manifolds")

        def call(x, z):
            if x.ndim == 2:
                return getattr(manifolds.Stiefel(*x.shape, **options), method)(x, z)
            return np.stack([call(a, b) for a, b in zip(x, z, strict=True)])

        return call

    return make


# ------------------------------------------------------------------------------------------------------- advantages


def _sb3_gae():
    """Stable-Baselines3's rollout buffer, filled as its collector does: truncated rewards get the bootstrap."""
    import torch
    from gymnasium import spaces
    from stable_baselines3.common.buffers import RolloutBuffer

    def gae(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
        columns = reward.reshape(len(reward), -1).shape[1]
        r, v, nv, d, c = (
            np.asarray(a).reshape(-1, columns) for a in (reward, value, next_value, terminated, truncated)
        )
        space = spaces.Box(-1, 1, (1,))
        buffer = RolloutBuffer(len(r), space, space, device="cpu", gae_lambda=lam, gamma=gamma, n_envs=columns)
        ended = np.maximum(d, c)
        buffer.rewards = (r + gamma * (1 - d) * c * nv).astype(reward.dtype)
        buffer.values = v.astype(reward.dtype)
        buffer.episode_starts = np.vstack([np.zeros(columns), ended[:-1]]).astype(reward.dtype)
        buffer.advantages = np.zeros_like(buffer.rewards)
        buffer.compute_returns_and_advantage(torch.tensor(nv[-1]), ended[-1])
        return buffer.advantages.reshape(reward.shape)

    return gae


def _torchrl_gae():
    import torch
    from torchrl.objectives.value.functional import generalized_advantage_estimate

    def gae(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
        columns = reward.reshape(len(reward), -1).T[..., None]
        v, nv = (a.reshape(len(reward), -1).T[..., None] for a in (value, next_value))
        d, c = (a.reshape(len(reward), -1).T[..., None] > 0 for a in (terminated, truncated))
        done = d | c
        advantage, _ = generalized_advantage_estimate(gamma, lam, v, nv, columns, done=done, terminated=d)
        return torch.as_tensor(advantage)[..., 0].T.reshape(reward.shape)

    return gae


# ------------------------------------------------------------------------------------------------------ token losses


KERNEL = ("k_pos", "lambda_pos", "k_neg", "lambda_neg")  # of VESPO


def _trl(loss_type, *, level="token", delta=None, beta=0.0, clip_names=("clip", "clip"), max_length=1):
    """TRL's own loss method, run on a stand-in for the trainer that hands it the given log-probabilities."""

    def make():
        import torch
        from trl.trainer.grpo_trainer import GRPOTrainer

        def loss(log_prob, old_log_prob, advantage, mask, ref_log_prob=None, max_length=max_length, **hyper):
            accelerator = types.SimpleNamespace(
                num_processes=1,
                gather=lambda x: x,
                gather_for_metrics=lambda x: x,
                reduce=lambda x, reduction: x,
            )
            entropy = torch.zeros_like(log_prob)
            trainer = types.SimpleNamespace(
                _get_per_token_logps_and_entropies=lambda *a, **k: (log_prob, entropy, None),
                _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
                _entropy_bonus_enabled=False,
                accelerator=accelerator,
                args=types.SimpleNamespace(
                    delta=hyper.get("bound", delta),
                    use_bias_correction_kl=False,
                    steps_per_generation=1,
                    **{f"vespo_{name}": hyper.get(name) for name in KERNEL},
                ),
                aux_loss_enabled=False,
                beta=hyper.get("kl_weight", beta),
                current_gradient_accumulation_steps=1,
                epsilon_low=hyper.get(clip_names[0]),
                epsilon_high=hyper.get(clip_names[1]),
                get_gamma_weights=getattr(GRPOTrainer, "get_gamma_weights", None),
                importance_sampling_level=level,
                loss_type=loss_type,
                max_completion_length=max_length,
                model=types.SimpleNamespace(training=False),
                off_policy_mask_threshold=None,
                top_entropy_quantile=1.0,
                use_vllm=False,
                vllm_importance_sampling_correction=False,
            )
            ids = torch.zeros(log_prob.shape, dtype=torch.long)
            inputs = {
                "prompt_ids": ids,
                "prompt_mask": ids,
                "completion_ids": ids,
                "completion_mask": mask,
                "advantages": advantage,
                "old_per_token_logps": old_log_prob,
                "ref_per_token_logps": ref_log_prob,
                "num_items_in_batch": mask.sum(),
            }
            return GRPOTrainer._compute_loss(trainer, None, inputs)

        names = ["log_prob", "old_log_prob", "advantage", "mask", *(["ref_log_prob"] if beta else [])]
        keywords = [*dict.fromkeys(clip_names), *(["bound"] if delta else []), *(["kl_weight"] if beta else [])]
        keywords += ["max_length"] if loss_type == "dr_grpo" else []
        keywords = KERNEL if loss_type == "vespo" else keywords
        return signature(loss, names, keywords)

    return make


def signature(function, names, keywords):
    """Give a function a signature that names what it takes, for `verify` to read."""
    import inspect

    kinds = inspect.Parameter
    parameters = [kinds(n, kinds.POSITIONAL_OR_KEYWORD) for n in names]
    parameters += [kinds(k, kinds.KEYWORD_ONLY, default=None) for k in keywords]
    function.__signature__ = inspect.Signature(parameters)
    return function


# --------------------------------------------------------------------------------------------------------- divergences


def _torch_categorical():
    import torch
    from torch.distributions import Categorical, kl_divergence

    def mean_kl(old_logits, logits):
        return torch.mean(kl_divergence(Categorical(logits=old_logits), Categorical(logits=logits)))

    return mean_kl


def _torch_gaussian():
    import torch
    from torch.distributions import Independent, Normal, kl_divergence

    def mean_kl(old_mean, old_log_std, mean, log_std):
        old, new = (Independent(Normal(m, s.exp()), 1) for m, s in ((old_mean, old_log_std), (mean, log_std)))
        return torch.mean(kl_divergence(old, new))

    return mean_kl


def _sb3_gaussian():
    import torch
    from stable_baselines3.common.distributions import DiagGaussianDistribution, kl_divergence

    def mean_kl(old_mean, old_log_std, mean, log_std):
        old, new = (
            DiagGaussianDistribution(m.shape[1]).proba_distribution(m, s)
            for m, s in ((old_mean, old_log_std), (mean, log_std))
        )
        return torch.mean(kl_divergence(old, new).sum(1))

    return mean_kl


def _pytorch_optimizer_sam():
    """pytorch_optimizer's SAM around plain gradient descent: the gradient that its second step hands on."""
    import torch
    from pytorch_optimizer import SAM

    def perturbed_gradient(loss_and_grad, theta, rho=0.05):
        weight = torch.tensor(theta, requires_grad=True)
        optimizer = SAM([weight], torch.optim.SGD, rho=rho, lr=1.0)
        weight.grad = torch.tensor(loss_and_grad(theta)[1])
        optimizer.first_step(zero_grad=True)
        value, gradient = loss_and_grad(weight.detach().numpy())
        return value, gradient

    return perturbed_gradient


JUDGED = (
    Judged("torch.optim.Adam", "torch", "adam.update", _in("torch.optim", "Adam"), True, "the published rule", BETAS),
    Judged(
        "torch.optim.AdamW, weight_decay=0",
        "torch",
        "adam.update",
        _with(_in("torch.optim", "AdamW"), weight_decay=0.0),
        True,
        "without decay AdamW is Adam",
        BETAS,
    ),
    Judged(
        "torch.optim.AdamW, default weight_decay",
        "torch",
        "adam.update",
        _with(_in("torch.optim", "AdamW"), weight_decay=0.01),
        False,
        "decoupled weight decay: another method, as documented",
        BETAS,
    ),
    Judged(
        "torch.optim.Adam, amsgrad=True",
        "torch",
        "adam.update",
        _with(_in("torch.optim", "Adam"), amsgrad=True),
        False,
        "the largest second moment so far: another method, as documented",
        BETAS,
    ),
    Judged(
        "torch.optim.NAdam",
        "torch",
        "adam.update",
        _with(_in("torch.optim", "NAdam")),
        False,
        "Nesterov momentum: another method, as documented",
        BETAS,
    ),
    Judged(
        "torch.distributions.kl_divergence, Categorical",
        "torch",
        "natural_gradient.mean_kl_categorical",
        _torch_categorical,
        False,
        "right on moderate logits; infinite where a probability underflows, and less exact in float32",
        TORCH,
    ),
    Judged(
        "torch.distributions.kl_divergence, Normal",
        "torch",
        "natural_gradient.mean_kl_diag_gaussian",
        _torch_gaussian,
        True,
        "KL(old‖new), value and gradient",
        TORCH,
    ),
    Judged("scipy.sparse.linalg.cg", "scipy", "cg.cg", _scipy_krylov("cg"), True, "the same iterates"),
    Judged(
        "pymanopt Stiefel.projection",
        "pymanopt",
        "stiefel.project",
        _pymanopt("projection"),
        True,
        "the tangent projection",
    ),
    Judged(
        "pymanopt Stiefel.retraction, qr",
        "pymanopt",
        "stiefel.retract_qr",
        _pymanopt("retraction", retraction="qr"),
        True,
        "the QR retraction with a positive diagonal",
    ),
    Judged(
        "pymanopt Stiefel.retraction, polar",
        "pymanopt",
        "stiefel_retraction.retract_polar",
        _pymanopt("retraction", retraction="polar"),
        True,
        "the polar retraction",
    ),
    Judged(
        "pymanopt Stiefel.retraction, polar, taken for QR",
        "pymanopt",
        "stiefel.retract_qr",
        _pymanopt("retraction", retraction="polar"),
        False,
        "another retraction, as documented",
        explained="stiefel_retraction.retract_polar",
    ),
    Judged(
        "Stable-Baselines3 RolloutBuffer",
        "stable_baselines3",
        "gae.gae",
        _sb3_gae,
        True,
        "termination and truncation kept apart: the collector adds the bootstrap to the reward",
    ),
    Judged(
        "Stable-Baselines3 kl_divergence, diagonal Gaussian",
        "stable_baselines3",
        "natural_gradient.mean_kl_diag_gaussian",
        _sb3_gaussian,
        True,
        "KL(first‖second), value and gradient",
        TORCH,
    ),
    Judged(
        "torchrl generalized_advantage_estimate",
        "torchrl",
        "gae.gae",
        _torchrl_gae,
        False,
        "done cuts the recursion and terminated the bootstrap, as published; the decay is held in float32",
        TORCH,
        explained="float32 inside",
    ),
    Judged(
        "TRL GRPOTrainer, loss_type='grpo'",
        "trl",
        "grpo.grpo",
        _trl("grpo"),
        True,
        "the mean over answers of the mean over tokens",
        TORCH,
    ),
    Judged(
        "TRL GRPOTrainer, loss_type='dapo'",
        "trl",
        "dapo.dapo_over_batch",
        _trl("dapo", clip_names=("clip_low", "clip_high")),
        True,
        "the mean over all tokens of the batch, clip-higher",
        TORCH,
    ),
    Judged(
        "TRL GRPOTrainer, loss_type='dapo', taken for GRPO",
        "trl",
        "grpo.grpo",
        _trl("dapo"),
        False,
        "TRL's default loss is DAPO's token mean, as documented",
        TORCH,
        explained="mean over all tokens of the batch",
    ),
    Judged(
        "TRL GRPOTrainer, loss_type='bnpo'",
        "trl",
        "dapo.dapo_over_batch",
        _trl("bnpo", clip_names=("clip_low", "clip_high")),
        True,
        "the mean over all tokens of the local batch",
        TORCH,
    ),
    Judged(
        "TRL GRPOTrainer, loss_type='dr_grpo'",
        "trl",
        "dr_grpo.dr_grpo",
        _trl("dr_grpo"),
        True,
        "the sum over tokens divided by the number of answers and a constant length",
        TORCH,
    ),
    Judged(
        "TRL GRPOTrainer, sequence level (GSPO)",
        "trl",
        "gspo.gspo",
        _trl("grpo", level="sequence", clip_names=("clip_low", "clip_high")),
        True,
        "one ratio an answer, normalised by its length",
        TORCH,
    ),
    Judged(
        "TRL GRPOTrainer, delta (two-sided clip)",
        "trl",
        "dual_clip.two_sided_clip",
        _trl("grpo", delta=3.0),
        True,
        "the ratio bounded by delta before the minimum",
        TORCH,
    ),
    Judged(
        "TRL GRPOTrainer, beta > 0 (k3 in the loss)",
        "trl",
        "kl_estimators.grpo_with_kl",
        _trl("grpo", beta=0.04),
        True,
        "k3 inside the token mean, plain: the gradient of the forward KL",
        TORCH,
    ),
    Judged(
        "pytorch_optimizer SAM",
        "pytorch_optimizer",
        "sam.perturbed_gradient",
        _pytorch_optimizer_sam,
        False,
        "as published; the norm of the gradient is accumulated in float32",
        explained="float32 inside",
    ),
)
