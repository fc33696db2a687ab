"""The losses and advantages of verl and AReaL, with the few lines that fit them to catalogued functions.

They are called with what the trainer hands them: a mask of booleans, an advantage for every token, and the sizes of the
batch. How their modules are imported without the rest of the trainer is explained in `tests.peers.trainers`.
"""

import types

from tests.peers import trainers
from tests.peers.judged import TORCH, Judged, signature
from trref.conformance import Options

__all__ = ["JUDGED"]

NO_DUAL_CLIP = 1e30
TOKENS = ["log_prob", "old_log_prob", "advantage", "mask"]


def _fixed(kind=None, **constants):
    """Constants of both; of the divergence, which the trainer fixes, the catalogue's function is told alone."""
    return Options(framework="torch", constants=constants, reference={"kind": kind} if kind else {})


def _of_tokens(advantage, mask):
    """An answer's advantage, handed to its tokens as the trainers' estimators do."""
    return advantage[:, None] * mask if advantage.ndim == 1 else advantage


# ---------------------------------------------------------------------------------------------------------------- verl


def _core():
    return trainers.load("verl.trainer.ppo.core_algos")


def _actor(core, mask=None, **fields):
    """verl's own configuration with its defaults; with a mask, the sizes that its trainer adds.

    They stand in ``verl/workers/utils/losses.py``; the number of tokens is that over all workers, so never 0.
    """
    config = core.ActorConfig(strategy="fsdp", rollout_n=1, use_dynamic_bsz=True, **fields)
    if mask is not None:
        sizes = {"dp_size": 1, "batch_num_tokens": max(int(mask.sum()), 1), "global_batch_size": len(mask)}
        config.global_batch_info.update(sizes, loss_scale_factor=config.loss_scale_factor)
    return config


def _verl_loss(loss, mode, keywords, *, alone=False, **fixed):
    """A policy loss of verl; `keywords` are the fields of the configuration by the catalogue's names."""

    def make():
        core = _core()

        def f(log_prob, old_log_prob, advantage, mask, **hyper):
            chosen = {field: hyper[name] for name, fields in keywords.items() for field in fields}
            config = _actor(core, None if alone else mask, **{**fixed, **chosen})
            compute, A = core.get_policy_loss_fn(loss), _of_tokens(advantage, mask)
            return compute(old_log_prob, log_prob, A, mask.bool(), loss_agg_mode=mode, config=config)[0]

        return signature(f, TOKENS, list(dict.fromkeys(keywords)))

    return make


CLIP = {"clip": ("clip_ratio", "clip_ratio_low", "clip_ratio_high")}
LOW_HIGH = {"clip_low": ("clip_ratio_low",), "clip_high": ("clip_ratio_high",)}
LENGTH = {"max_length": ("loss_scale_factor",)}
RADII = {"radius_low": ("clip_ratio_low",), "radius_high": ("clip_ratio_high",), "bound": ("clip_ratio_c",), **LENGTH}


def _verl_kl(kind=None):
    """The penalty in the loss as `ppo_loss` adds it; the kind is the estimator's name, or fixed."""

    def make():
        core = _core()

        def f(log_prob, mask, ref_log_prob, estimator):
            penalty = core.kl_penalty(log_prob, ref_log_prob, kind or estimator)
            return core.agg_loss(penalty, mask.bool(), "token-mean", batch_num_tokens=max(int(mask.sum()), 1))

        return f

    return make


def _verl_advantage(name):
    """An estimator of outcomes: one token an answer, whose reward is the answer's."""

    def make():
        core = _core()

        def f(reward, group, **hyper):
            import torch

            rewards, mask, labels = reward[:, None], torch.ones(len(reward), 1), group.numpy()
            keywords = {"epsilon": hyper["eps"]} if hyper.get("eps") else {}
            if "norm_adv_by_std_in_grpo" in hyper:
                keywords["norm_adv_by_std_in_grpo"] = hyper["norm_adv_by_std_in_grpo"]
            return getattr(core, name)(rewards, mask, labels, **keywords)[0][:, 0]

        return f

    return make


def episodes(reward, value, next_value, terminated, truncated, gamma):
    """Yield column, place, rewards and values of each episode; what follows a cut goes into the last reward."""
    import torch

    columns = [x.reshape(len(reward), -1) for x in (reward, value, next_value, terminated, truncated)]
    for j in range(columns[0].shape[1]):
        r, v, n, d, c = (x[:, j] for x in columns)
        ends = [t + 1 for t in range(len(r)) if d[t] or c[t] or t == len(r) - 1]
        for start, end in zip([0, *ends], ends, strict=False):
            last = gamma * (1 - d[end - 1]) * n[end - 1]
            yield j, slice(start, end), r[start:end] + torch.eye(end - start, dtype=r.dtype)[-1] * last, v[start:end]


def _verl_gae(result):
    """verl's rows are whole answers, so each episode is a row."""

    def make():
        core = _core()

        def gae(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
            import torch

            found = episodes(reward, value, next_value, terminated, truncated, gamma)
            answers = [(r, v) for _, _, r, v in found]
            pad = torch.nn.utils.rnn.pad_sequence
            rewards, values = (pad(list(x), batch_first=True) for x in zip(*answers, strict=True))
            mask = pad([torch.ones_like(r) for r, _ in answers], batch_first=True)
            advantages, returns = core.compute_gae_advantage_return(rewards, values, mask, gamma, lam)
            found = advantages if result == "advantages" else returns - values
            flat = torch.cat([row[: len(r)] for row, (r, _) in zip(found, answers, strict=True)])
            return flat.reshape(-1, len(reward)).T.reshape(reward.shape)

        return gae

    return make


def _verl_controller():
    core = _core()

    def adapt(kl_weight, kl, target=0.01):
        controller = core.AdaptiveKLController(init_kl_coef=kl_weight, target_kl=target, horizon=1)
        controller.update(kl, n_steps=1)
        return controller.value

    return adapt


# --------------------------------------------------------------------------------------------------------------- AReaL


def _areal_loss(level="token", keywords=("clip_low", "clip_high")):
    """`ppo_actor_loss_fn` where the proximal policy is the one that sampled."""

    def make():
        functional = trainers.load("areal.utils.functional.functional")

        def f(log_prob, old_log_prob, advantage, mask, **hyper):
            low, high = (hyper[name] for name in keywords)
            return functional.ppo_actor_loss_fn(
                log_prob,
                old_log_prob,
                old_log_prob,
                _of_tokens(advantage, mask),
                eps_clip=low,
                eps_clip_higher=high,
                loss_mask=mask.bool(),
                importance_sampling_level=level,
            )[0]

        return signature(f, TOKENS, list(dict.fromkeys(keywords)))

    return make


def _rejection(weight_cap, over_cap):
    """AReaL's settings for the weight of staleness; without a cap, one that nothing reaches."""
    return types.SimpleNamespace(
        level="token", action=over_cap, metric="ratio", agg="mean", upper=weight_cap or 1e30, lower=None
    )


def _areal_decoupled(weighted=True):
    def make():
        functional = trainers.load("areal.utils.functional.functional")

        def f(log_prob, old_log_prob, advantage, mask, behavior_log_prob, clip, weight_cap=None, over_cap="mask"):
            return functional.ppo_actor_loss_fn(
                log_prob,
                old_log_prob,
                behavior_log_prob,
                _of_tokens(advantage, mask),
                eps_clip=clip,
                loss_mask=mask.bool(),
                rejection_sampling=_rejection(weight_cap, over_cap) if weighted else None,
            )[0]

        return f

    return make


def _areal_anchor():
    actor = trainers.load("areal.trainer.ppo.actor")

    def f(log_prob, behavior_log_prob, version, current_version, interpolation):
        found = actor.compute_prox_logp_approximations(
            behavior_log_prob, log_prob, version, current_version, interpolation
        )
        return found[interpolation]

    return f


def _areal_a3po():
    actor = trainers.load("areal.trainer.ppo.actor")

    def f(
        log_prob, advantage, mask, behavior_log_prob, version, current_version, clip, weight_cap=None, over_cap="mask"
    ):
        anchor = actor._resolve_proximal_logp(
            None, "loglinear", behavior_log_prob, log_prob.detach(), version, current_version
        )
        return actor.ppo_actor_loss_fn(
            log_prob,
            anchor,
            behavior_log_prob,
            _of_tokens(advantage, mask),
            eps_clip=clip,
            loss_mask=mask.bool(),
            rejection_sampling=_rejection(weight_cap, over_cap),
        )[0]

    return f


VANILLA, ADVANTAGES = "verl compute_policy_loss_vanilla", "verl compute_grpo_outcome_advantage"
JUDGED = (
    Judged(
        f"{VANILLA}, seq-mean-token-mean, taken for dual clip",
        "verl",
        "dual_clip.dual_clip",
        _verl_loss("vanilla", "seq-mean-token-mean", {**CLIP, "bound": ("clip_ratio_c",)}),
        True,
        "GRPO's term with the dual clip, at 3 by default; log-ratios are clamped to ±20, which the dual clip hides",
        TORCH,
    ),
    Judged(
        f"{VANILLA}, seq-mean-token-mean",
        "verl",
        "grpo.grpo",
        _verl_loss("vanilla", "seq-mean-token-mean", CLIP),
        False,
        "always has the dual clip, as documented; log-ratios are clamped to ±20",
        TORCH,
        explained="'dual clip at 3 and log-ratios clamped to ±20'",
    ),
    Judged(
        f"{VANILLA}, seq-mean-token-mean, clip_ratio_c=1e30",
        "verl",
        "grpo.grpo",
        _verl_loss("vanilla", "seq-mean-token-mean", CLIP, clip_ratio_c=NO_DUAL_CLIP),
        False,
        "the published loss, but for tokens whose log-ratio is beyond ±20: there the ratio is e^±20, without gradient",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Judged(
        f"{VANILLA}, seq-mean-token-mean, clip_ratio_c=1e30, without the batch's sizes",
        "verl",
        "grpo.grpo",
        _verl_loss("vanilla", "seq-mean-token-mean", CLIP, alone=True, clip_ratio_c=NO_DUAL_CLIP),
        False,
        "the same; answers without tokens are not counted, as its comments say, and a batch without any gives NaN",
        TORCH,
        explained="answers without tokens are not counted",
    ),
    Judged(
        f"{VANILLA}, token-mean (its defaults)",
        "verl",
        "dapo.dapo_over_batch",
        _verl_loss("vanilla", "token-mean", LOW_HIGH),
        False,
        "always has the dual clip, as documented; log-ratios are clamped to ±20",
        TORCH,
        explained="'dual clip at 3 and log-ratios clamped to ±20'",
    ),
    Judged(
        f"{VANILLA}, token-mean, clip_ratio_c=1e30",
        "verl",
        "dapo.dapo_over_batch",
        _verl_loss("vanilla", "token-mean", LOW_HIGH, clip_ratio_c=NO_DUAL_CLIP),
        False,
        "the published loss, but for tokens whose log-ratio is beyond ±20",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Judged(
        f"{VANILLA}, seq-mean-token-sum-norm, clip_ratio_c=1e30",
        "verl",
        "dr_grpo.dr_grpo",
        _verl_loss("vanilla", "seq-mean-token-sum-norm", {**CLIP, **LENGTH}, clip_ratio_c=NO_DUAL_CLIP),
        False,
        "Dr. GRPO with loss_scale_factor as the constant, but for tokens whose log-ratio is beyond ±20",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Judged(
        f"{VANILLA}, seq-mean-token-sum-norm, clip_ratio_c=1e30, loss_scale_factor=None",
        "verl",
        "dr_grpo.dr_grpo",
        _verl_loss("vanilla", "seq-mean-token-sum-norm", CLIP, clip_ratio_c=NO_DUAL_CLIP),
        False,
        "its default divides by the width of the padded batch, as documented, which varies from batch to batch",
        TORCH,
        explained="a factor of 8 · 1/T",
    ),
    Judged(
        "verl compute_policy_loss_gspo, seq-mean-token-mean",
        "verl",
        "gspo.gspo",
        _verl_loss("gspo", "seq-mean-token-mean", LOW_HIGH),
        False,
        "GSPO where the tokens of an answer share an advantage and its log-ratio is below 10; else GSPO-token, which is"
        " no gradient of the objective",
        TORCH,
        explained="'log-ratio of the answer clamped at 10'",
    ),
    Judged(
        "verl compute_policy_loss_dppo_tv, seq-mean-token-sum-norm",
        "verl",
        "drpo.dppo",
        _verl_loss("dppo_tv", "seq-mean-token-sum-norm", RADII),
        False,
        "the right gradient; the value is that of a constant times the log-probability, as usual for policy gradients."
        " Its default bound is 3, not the 20 in its code, because ActorConfig sets clip_ratio_c",
        _fixed(kind="total_variation", max_length=6),
        explained="'the coefficient, held constant, times the log-probability'",
    ),
    Judged(
        "verl compute_policy_loss_dppo_kl, seq-mean-token-sum-norm",
        "verl",
        "drpo.dppo",
        _verl_loss("dppo_kl", "seq-mean-token-sum-norm", RADII),
        False,
        "the right gradient, with 1e-8 inside the logarithm of the divergence; the value as that of dppo_tv",
        _fixed(kind="forward_kl", max_length=6, radius_low=0.05, radius_high=0.05),
        explained="right in gradient, not in value",
    ),
    Judged(
        "verl kl_penalty 'k1', token-mean",
        "verl",
        "kl_estimators.kl_in_loss",
        _verl_kl("kl"),
        True,
        "k1, whose mean gradient is zero: fit for the reward, where verl uses it by default",
        _fixed(estimator="k1"),
    ),
    Judged(
        "verl kl_penalty 'mse', token-mean",
        "verl",
        "kl_estimators.kl_in_loss",
        _verl_kl("mse"),
        True,
        "k2",
        _fixed(estimator="k2"),
    ),
    Judged(
        "verl kl_penalty 'low_var_kl', token-mean",
        "verl",
        "kl_estimators.kl_in_loss",
        _verl_kl("low_var_kl"),
        False,
        "k3, at most 10 a token, without gradient beyond",
        _fixed(estimator="k3"),
        explained="'k3 clamped to ±10'",
    ),
    Judged(
        "verl kl_penalty 'k3+', token-mean",
        "verl",
        "kl_estimators.kl_in_loss",
        _verl_kl("k3+"),
        False,
        "the value of k3 and the gradient of k2, as documented",
        _fixed(estimator="k3"),
        explained="'value of k3, gradient of k2'",
    ),
    Judged(
        "verl kl_penalty 'abs', token-mean",
        "verl",
        "kl_estimators.kl_in_loss",
        _verl_kl("abs"),
        False,
        "the absolute log-ratio: no estimate of the divergence",
        _fixed(estimator="k1"),
        explained="'absolute log-ratio'",
    ),
    Judged(
        "verl compute_gae_advantage_return, returns minus values",
        "verl",
        "gae.gae",
        _verl_gae("returns"),
        False,
        "the published estimates; a batch of a single token raises, because it can't be standardised",
        TORCH,
        explained="raised ValueError: The sum of the mask is one",
    ),
    Judged(
        "verl compute_gae_advantage_return, advantages",
        "verl",
        "gae.gae",
        _verl_gae("advantages"),
        False,
        "the estimates, standardised over the tokens of the batch before they are returned",
        TORCH,
    ),
    Judged(
        ADVANTAGES,
        "verl",
        "grpo.group_advantage",
        _verl_advantage("compute_grpo_outcome_advantage"),
        False,
        "the published advantage with the sample deviation plus 1e-6; a group of one keeps its raw reward",
        _fixed(eps=1e-6),
        explained="only with groups of one",
        only="groups",
    ),
    Judged(
        f"{ADVANTAGES}, norm_adv_by_std_in_grpo=False",
        "verl",
        "dr_grpo.centred_advantage",
        _verl_advantage("compute_grpo_outcome_advantage"),
        False,
        "the reward minus the mean of its group; a group of one keeps its raw reward",
        _fixed(norm_adv_by_std_in_grpo=False),
        explained="'a group of one keeps its raw reward'",
        only="groups",
    ),
    Judged(
        "verl compute_grpo_vectorized_outcome_advantage",
        "verl",
        "grpo.group_advantage",
        _verl_advantage("compute_grpo_vectorized_outcome_advantage"),
        False,
        "the same, in float32",
        _fixed(eps=1e-6),
    ),
    Judged(
        "verl compute_rloo_outcome_advantage",
        "verl",
        "grpo.group_advantage",
        _verl_advantage("compute_rloo_outcome_advantage"),
        False,
        "the reward minus the mean of the others; a group of one keeps its raw reward",
        _fixed(std="none", baseline="leave_one_out"),
        explained="only with groups of one",
        only="groups",
    ),
    Judged(
        "verl compute_rloo_vectorized_outcome_advantage",
        "verl",
        "grpo.group_advantage",
        _verl_advantage("compute_rloo_vectorized_outcome_advantage"),
        True,
        "the reward minus the mean of the others, and 0 for a group of one: not what its unvectorised twin computes",
        _fixed(std="none", baseline="leave_one_out"),
    ),
    Judged(
        "verl AdaptiveKLController",
        "verl",
        "ppo_penalty.adapt_kl_weight",
        _verl_controller,
        False,
        "a proportional controller, as documented",
        TORCH,
        explained="'proportional controller'",
    ),
    Judged(
        "AReaL ppo_actor_loss_fn",
        "areal",
        "dapo.dapo_over_batch",
        _areal_loss(),
        True,
        "the mean over all tokens of the batch, clip-higher",
        TORCH,
    ),
    Judged(
        "AReaL ppo_actor_loss_fn, taken for GRPO",
        "areal",
        "grpo.grpo",
        _areal_loss(keywords=("clip", "clip")),
        False,
        "the mean is over tokens, not over answers",
        TORCH,
        explained="'mean over all tokens of the batch'",
    ),
    Judged(
        "AReaL ppo_actor_loss_fn, importance_sampling_level='sequence'",
        "areal",
        "gspo.gspo",
        _areal_loss("sequence"),
        False,
        "one ratio an answer, normalised by its length; the mean is over tokens, so that long answers count more",
        TORCH,
        explained="'answers weighted by their lengths'",
    ),
    Judged(
        "AReaL ppo_actor_loss_fn, rejection_sampling (decoupled PPO)",
        "areal",
        "a3po.decoupled",
        _areal_decoupled(),
        False,
        "as published, with both ways to treat a large weight; the weight is computed in float32, whatever the input",
        TORCH,
        explained="float32 inside",
    ),
    Judged(
        "AReaL ppo_actor_loss_fn, three policies without rejection_sampling",
        "areal",
        "a3po.decoupled",
        _areal_decoupled(weighted=False),
        False,
        "without its setting for rejection sampling the weight is missing",
        _fixed(clip=0.2),
        explained="'clipped around the proximal policy without the weight'",
    ),
    Judged(
        "AReaL compute_prox_logp_approximations, loglinear",
        "areal",
        "a3po.proximal_approximation",
        _areal_anchor,
        False,
        "as published; the weight of the interpolation is computed in float32, whatever the input",
        _fixed(current_version=6, interpolation="loglinear"),
        explained="float32 inside",
    ),
    Judged(
        "AReaL compute_prox_logp_approximations, linear",
        "areal",
        "a3po.proximal_approximation",
        _areal_anchor,
        False,
        "1e-10 is added to the probability inside the logarithm, and the weight is in float32, whatever the input",
        _fixed(current_version=6, interpolation="linear"),
    ),
    Judged(
        "AReaL grpo_loss_fn's two steps, prox_logp_method='loglinear' (A-3PO)",
        "areal",
        "a3po.a3po",
        _areal_a3po,
        False,
        "as published, the anchor held constant; both weights are computed in float32, whatever the input",
        TORCH,
        explained="float32 inside",
    ),
)
