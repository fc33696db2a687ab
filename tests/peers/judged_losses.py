"""Losses and advantages of further trainers (OpenRLHF, SkyRL, oat), and more of verl, AReaL and TRL."""

import types

from tests.peers import trainers
from tests.peers.judged import TORCH, Judged, _trl, signature
from tests.peers.judged_trainers import TOKENS, _core, _fixed, _of_tokens, _verl_loss

__all__ = ["JUDGED"]

# ------------------------------------------------------------------------------------------------------------ OpenRLHF


def _openrlhf(level="token", keywords=("clip_low", "clip_high"), sizes=True, **fixed):
    """`PolicyLoss`, with the sizes of the batch that its trainer hands it, or without."""

    def make():
        module = trainers.load("openrlhf.models.loss")

        def f(log_prob, old_log_prob, advantage, mask, **hyper):
            more = {"dual_clip": hyper["bound"]} if "bound" in hyper else {}
            low, high = (hyper[k] for k in keywords)
            loss = module.PolicyLoss(low, high, token_level_loss=level == "token", **more, **fixed)
            given = {"batch_num_tokens": mask.sum().clamp(min=1), "global_batch_size": len(mask)} if sizes else {}
            return loss(log_prob, old_log_prob, _of_tokens(advantage, mask), mask, **given)[0]

        bounded = ["bound"] if fixed.pop("bounded", False) else []
        return signature(f, TOKENS, [*dict.fromkeys(keywords), *bounded])

    return make


def _openrlhf_dual():
    return _openrlhf("sample", ("clip", "clip"), bounded=True)()


def _openrlhf_kl():
    utils = trainers.load("openrlhf.models.utils")

    def f(log_prob, mask, ref_log_prob, estimator="k3"):
        return utils.masked_mean(utils.compute_approx_kl(log_prob, ref_log_prob, kl_estimator=estimator), mask)

    return f


def _openrlhf_value(level):
    def make():
        module = trainers.load("openrlhf.models.loss")

        def f(value, old_value, value_target, mask, clip=0.2):
            loss = module.ValueLoss(clip, token_level_loss=level == "token")
            sizes = {"batch_num_tokens": mask.sum().clamp(min=1), "global_batch_size": len(mask)}
            return loss(value, old_value, value_target, mask, **sizes)

        return f

    return make


PAIR = ["chosen_log_prob", "rejected_log_prob", "ref_chosen_log_prob", "ref_rejected_log_prob"]


def _openrlhf_pairs(keywords, **fixed):
    """`DPOLoss`; `keywords` are the catalogue's names of its own."""

    def make():
        module = trainers.load("openrlhf.models.loss")

        def f(**given):
            named = {theirs: given[ours] for ours, theirs in keywords.items()}
            return module.DPOLoss(**named, **fixed)(*(given[n] for n in PAIR))[0]

        return signature(f, PAIR, list(keywords))

    return make


# --------------------------------------------------------------------------------------------------------------- SkyRL


def _skyrl():
    return trainers.load("skyrl.backends.skyrl_train.utils.ppo_utils")


def _skyrl_loss(name, reduction, fields, **fixed):
    """A policy loss of SkyRL, after the advantages are scaled so that its sum is the mean over tokens or answers.

    `fields` are those of its configuration, by the catalogue's names of the constants.
    """

    def make():
        utils = _skyrl()

        def f(log_prob, old_log_prob, advantage, mask, **hyper):
            config = types.SimpleNamespace(loss_reduction=reduction, off_policy_correction=None, **fixed)
            for constant, places in fields.items():
                for place in places:
                    owner, _, field = place.rpartition(".")
                    if owner and not hasattr(config, owner):
                        setattr(config, owner, types.SimpleNamespace(cispo_anchor="old"))
                    setattr(getattr(config, owner) if owner else config, field, hyper[constant])
            A = _of_tokens(advantage, mask)
            longest = hyper.get("max_length", mask.shape[1])
            A = utils.apply_loss_reduction_to_advantages_minibatch(A, mask, reduction, len(mask), longest)
            return getattr(utils, name)(log_prob, old_log_prob, A, config, mask)[0]

        return signature(f, TOKENS, list(fields))

    return make


CLIPPED = {"clip": ("eps_clip_low", "eps_clip_high")}
BOUNDS = {"clip_low": ("eps_clip_low",), "clip_high": ("eps_clip_high",)}
ANCHORED = {"clip_low": ("cispo.cispo_eps_clip_low",), "clip_high": ("cispo.cispo_eps_clip_high",)}
GATES = {"tau_pos": ("sapo.tau_pos",), "tau_neg": ("sapo.tau_neg",)}


def _skyrl_kl(kind=None):
    utils = _skyrl()

    def f(log_prob, mask, ref_log_prob, estimator="k3"):
        return utils.masked_mean(utils.compute_approx_kl(log_prob, ref_log_prob, mask, kind or estimator), mask)

    return f


def _skyrl_value():
    utils = _skyrl()

    def f(value, old_value, value_target, mask, clip=0.2):
        return utils.ppo_critic_loss(value, old_value, value_target, types.SimpleNamespace(value_clip=clip), mask)[0]

    return f


def _skyrl_advantage(name, **fixed):
    """An estimator of outcomes: one token an answer, whose reward is the answer's."""

    def make():
        utils = _skyrl()

        def f(reward, group, eps=None):
            import torch

            more = {"epsilon": eps} if eps is not None else {}
            mask = torch.ones(len(reward), 1, dtype=reward.dtype)
            with trainers.within("skyrl"):  # its logger is imported when it is called
                estimate = getattr(utils, name)
                return estimate(reward[:, None].clone(), mask, index=group.numpy(), **more, **fixed)[0][:, 0]

        return f

    return make


def _skyrl_controller():
    utils = _skyrl()

    def adapt(kl_weight, kl, target=0.01):
        controller = utils.AdaptiveKLController(init_kl_coef=kl_weight, target=target, horizon=1)
        controller.update(kl, n_steps=1)
        return controller.value

    return adapt


# ----------------------------------------------------------------------------------------------------------------- oat


def _oat(algorithm, keywords, **fixed):
    def make():
        module = trainers.load("oat.learners.loss")

        def f(**given):
            import torch

            named = {theirs: given[ours] for ours, theirs in keywords.items()}
            loss = module.DPOLoss(dap_algo=getattr(module.DAPAlgo, algorithm), **named, **fixed)
            return loss(*(given[n] for n in PAIR), torch.ones(len(given[PAIR[0]])), None)[0]

        return signature(f, PAIR, list(keywords))

    return make


def _oat_simpo(kind="sigmoid"):
    """It gets means over tokens, and the margin over beta."""

    def make():
        module = trainers.load("oat.learners.loss")

        def f(chosen_log_prob, rejected_log_prob, chosen_length, rejected_length, **hyper):
            import torch

            loss = module.SimPOLoss(hyper["beta"], hyper["gamma"] / hyper["beta"], hyper["label_smoothing"], kind)
            chosen, rejected = chosen_log_prob / chosen_length, rejected_log_prob / rejected_length
            return loss(chosen, rejected, torch.ones(len(chosen), dtype=chosen.dtype))[0]

        return signature(f, [*PAIR[:2], "chosen_length", "rejected_length"], ["beta", "gamma", "label_smoothing"])

    return make


# --------------------------------------------------------------------------------------------- more of verl and AReaL


def _verl_value(mode, sizes=True):
    def make():
        core = _core()

        def f(value, old_value, value_target, mask, clip=0.2):
            given = {"batch_num_tokens": max(int(mask.sum()), 1), "global_batch_size": len(mask)} if sizes else {}
            return core.compute_value_loss(value, value_target, old_value, mask, clip, mode, **given)[0]

        return f

    return make


def _verl_opo():
    core = _core()

    def f(reward, group, mask):
        import torch

        last = torch.nn.functional.one_hot((mask * torch.arange(1, mask.shape[1] + 1)).argmax(1), mask.shape[1])
        found = core.compute_opo_outcome_advantage(reward[:, None] * last, mask, group.numpy())[0]
        return torch.where(mask.sum(1) > 0, (found * last).sum(1), 0 * reward)

    return f


def _areal_sapo():
    functional = trainers.load("areal.utils.functional.functional")

    def f(log_prob, old_log_prob, advantage, mask, tau_pos=1.0, tau_neg=1.05):
        A = _of_tokens(advantage, mask)
        return functional.sapo_loss_fn(log_prob, old_log_prob, A, tau_pos, tau_neg, mask.bool())[0]

    return f


# -------------------------------------------------------------------------------------------- TRL's preference losses


def _trl_pairs(loss_type, keywords):
    def make():
        from tests.peers.trl_preferences import dpo_loss

        def f(**given):
            named = {theirs: given[ours] for ours, theirs in keywords.items()}
            if "label_smoothing" in named and loss_type == "sigmoid":
                named["label_smoothing"] = 0.0
            return dpo_loss(*(given[n] for n in PAIR), loss_type=loss_type, **named)

        return signature(f, PAIR, list(keywords))

    return make


def _trl_normalised(loss_type, name):
    def make():
        from tests.peers.trl_preferences import dpo_loss

        def f(chosen_length, rejected_length, **given):
            lengths = chosen_length, rejected_length
            return dpo_loss(*(given[n] for n in PAIR), loss_type=loss_type, beta=given[name], lengths=lengths)

        return signature(f, [*PAIR, "chosen_length", "rejected_length"], [name])

    return make


def _trl_simpo():
    from tests.peers.trl_preferences import cpo_loss

    def f(chosen_log_prob, rejected_log_prob, chosen_length, rejected_length, beta=2.0, gamma=0.5, label_smoothing=0.0):
        chosen, rejected = chosen_log_prob / chosen_length, rejected_log_prob / rejected_length
        keywords = {"beta": beta, "label_smoothing": label_smoothing, "simpo_gamma": gamma}
        return cpo_loss(chosen, rejected, loss_type="simpo", **keywords)

    return f


def _trl_orpo():
    from tests.peers.trl_preferences import orpo_loss

    def f(chosen_log_prob, rejected_log_prob, chosen_length, rejected_length):
        return orpo_loss(chosen_log_prob / chosen_length, rejected_log_prob / rejected_length, beta=1.0)

    return f


# ------------------------------------------------------------------------------------------ TRL's distillation losses


def _trl_opd(which, **fixed):
    """The divergence of student from teacher (beta = 1), as three of its trainers compute it."""

    def make():
        from trl.experimental.gkd.gkd_trainer import GKDTrainer
        from trl.experimental.iw_opd.iw_opd_trainer import IWOPDTrainer
        from trl.trainer.distillation_trainer import _chunked_divergence_loss

        def f(logits, teacher_logits, mask, top_k=None):
            import torch

            if which == "chunked":  # it takes hidden states and heads: here the logits, and the identity
                eye = torch.eye(logits.shape[-1], dtype=logits.dtype)
                return _chunked_divergence_loss(logits, teacher_logits, eye, eye, mask, 1.0)[0]
            labels = torch.where(mask.bool(), 0, -100)
            trainer = IWOPDTrainer if which == "list" else GKDTrainer
            more = {"top_k": top_k or 0, **fixed} if which == "list" else {}
            return trainer.generalized_jsd_loss(logits, teacher_logits, labels, beta=1, **more)

        return signature(f, ["logits", "teacher_logits", "mask"], ["top_k"] if which == "list" else [])

    return make


BETA, SMOOTHED = {"beta": "beta"}, {"beta": "beta", "label_smoothing": "label_smoothing"}
LOW_HIGH = {"clip_low": ("clip_ratio_low",), "clip_high": ("clip_ratio_high",)}
JUDGED = (
    Judged(
        "OpenRLHF PolicyLoss, token_level_loss=True (its default)",
        "openrlhf",
        "dapo.dapo_over_batch",
        _openrlhf(),
        False,
        "the published loss, but for tokens whose log-ratio is beyond ±20",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Judged(
        "OpenRLHF PolicyLoss, without the batch's sizes",
        "openrlhf",
        "dapo.dapo_over_batch",
        _openrlhf(sizes=False),
        False,
        "the same; a batch without tokens gives NaN",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Judged(
        "OpenRLHF PolicyLoss, token_level_loss=False",
        "openrlhf",
        "grpo.grpo",
        _openrlhf("sample", ("clip", "clip")),
        False,
        "the published loss, but for tokens whose log-ratio is beyond ±20; 1e-8 is added to each length",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Judged(
        "OpenRLHF PolicyLoss, token_level_loss=False, without the batch's sizes",
        "openrlhf",
        "grpo.grpo",
        _openrlhf("sample", ("clip", "clip"), sizes=False),
        False,
        "the same, and answers without tokens are not counted",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Judged(
        "OpenRLHF PolicyLoss, dual_clip, token_level_loss=False",
        "openrlhf",
        "dual_clip.dual_clip",
        _openrlhf_dual,
        False,
        "the published loss; 1e-8 is added to each length",
        TORCH,
        explained="a small number in a denominator",
    ),
    Judged(
        "OpenRLHF PolicyLoss, gspo",
        "openrlhf",
        "gspo.gspo",
        _openrlhf("sample", policy_loss_type="gspo"),
        False,
        "the published loss, one ratio an answer; 1e-8 is added to each length",
        TORCH,
        explained="a small number in a denominator",
    ),
    Judged(
        "OpenRLHF compute_approx_kl, k1",
        "openrlhf",
        "kl_estimators.kl_in_loss",
        _openrlhf_kl,
        False,
        "k1, in float32, at most ±10 a token",
        _fixed(estimator="k1"),
        explained="'every estimate clamped to ±10'",
    ),
    Judged(
        "OpenRLHF compute_approx_kl, k2",
        "openrlhf",
        "kl_estimators.kl_in_loss",
        _openrlhf_kl,
        False,
        "k2, in float32, at most 10 a token",
        _fixed(estimator="k2"),
        explained="'every estimate clamped to ±10'",
    ),
    Judged(
        "OpenRLHF compute_approx_kl, k3",
        "openrlhf",
        "kl_estimators.kl_in_loss",
        _openrlhf_kl,
        False,
        "k3, in float32, at most 10 a token",
        _fixed(estimator="k3"),
        explained="clamped to ±10'",
    ),
    Judged(
        "OpenRLHF ValueLoss, token_level_loss=True (its default)",
        "openrlhf",
        "value_loss.value_loss",
        _openrlhf_value("token"),
        True,
        "half the larger of the two squared errors, averaged over all tokens",
        TORCH,
    ),
    Judged(
        "OpenRLHF DPOLoss",
        "openrlhf",
        "dpo.dpo",
        _openrlhf_pairs(SMOOTHED),
        True,
        "the published loss of sums; its label_smoothing is the conservative form",
        TORCH,
    ),
    Judged(
        "OpenRLHF DPOLoss, ipo=True",
        "openrlhf",
        "ipo.ipo",
        _openrlhf_pairs({"tau": "beta"}, ipo=True),
        True,
        "the published loss, with beta for tau",
        TORCH,
    ),
    Judged(
        "SkyRL ppo_policy_loss, token_mean (its default)",
        "skyrl",
        "dapo.dapo_over_batch",
        _skyrl_loss("ppo_policy_loss", "token_mean", BOUNDS, policy_loss_type="regular"),
        False,
        "the ratio is computed in float32, of a log-ratio clamped to ±20",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Judged(
        "SkyRL ppo_policy_loss, sequence_mean",
        "skyrl",
        "grpo.grpo",
        _skyrl_loss("ppo_policy_loss", "sequence_mean", CLIPPED, policy_loss_type="regular"),
        False,
        "the ratio is computed in float32, of a log-ratio clamped to ±20",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Judged(
        "SkyRL ppo_policy_loss, seq_mean_token_sum_norm",
        "skyrl",
        "dr_grpo.dr_grpo",
        _skyrl_loss(
            "ppo_policy_loss", "seq_mean_token_sum_norm", {**CLIPPED, "max_length": ()}, policy_loss_type="regular"
        ),
        False,
        "the ratio is computed in float32, of a log-ratio clamped to ±20",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Judged(
        "SkyRL ppo_policy_loss, dual_clip, sequence_mean",
        "skyrl",
        "dual_clip.dual_clip",
        _skyrl_loss(
            "ppo_policy_loss", "sequence_mean", {**CLIPPED, "bound": ("clip_ratio_c",)}, policy_loss_type="dual_clip"
        ),
        False,
        "as published, the ratio in float32; the clamp of log-ratios is hidden by the dual clip",
        TORCH,
        explained="float32 inside",
    ),
    Judged(
        "SkyRL gspo_policy_loss, sequence_mean",
        "skyrl",
        "gspo_token.gspo_token",
        _skyrl_loss("gspo_policy_loss", "sequence_mean", BOUNDS),
        False,
        "GSPO-token, with the answer's log-ratio at most 10",
        TORCH,
        explained="'log-ratio of the answer clamped at 10'",
    ),
    Judged(
        "SkyRL sapo_policy_loss, sequence_mean",
        "skyrl",
        "sapo.sapo",
        _skyrl_loss("sapo_policy_loss", "sequence_mean", GATES),
        True,
        "the published loss; the gate hides that log-ratios are clamped to ±20",
        TORCH,
    ),
    Judged(
        "SkyRL compute_policy_loss_cispo, token_mean",
        "skyrl",
        "cispo.cispo",
        _skyrl_loss("compute_policy_loss_cispo", "token_mean", ANCHORED),
        False,
        "the published gradient, the weight in float32; the clamp of log-ratios is hidden by the bounds",
        TORCH,
        explained="float32 inside",
    ),
    Judged(
        "SkyRL compute_approx_kl, k2",
        "skyrl",
        "kl_estimators.kl_in_loss",
        _skyrl_kl,
        True,
        "k2",
        _fixed(estimator="k2"),
    ),
    Judged(
        "SkyRL compute_approx_kl, k3 (its default)",
        "skyrl",
        "kl_estimators.kl_in_loss",
        _skyrl_kl,
        False,
        "k3, at most 10 a token, without gradient beyond",
        _fixed(estimator="k3"),
        explained="'k3 clamped to ±10'",
    ),
    Judged(
        "SkyRL compute_approx_kl, abs",
        "skyrl",
        "kl_estimators.kl_in_loss",
        lambda: _skyrl_kl("abs"),
        False,
        "the absolute log-ratio: no estimate of the divergence",
        _fixed(estimator="k1"),
        explained="'absolute log-ratio'",
    ),
    Judged(
        "SkyRL ppo_critic_loss",
        "skyrl",
        "value_loss.value_loss",
        _skyrl_value,
        False,
        "half the larger of the two squared errors, averaged over the tokens of each answer, then over answers",
        TORCH,
        explained="'over answers'",
    ),
    Judged(
        "SkyRL compute_grpo_outcome_advantage",
        "skyrl",
        "grpo.group_advantage",
        _skyrl_advantage("compute_grpo_outcome_advantage"),
        False,
        "the sample deviation plus 1e-6; a group of one keeps its raw reward",
        _fixed(eps=1e-6),
        only="groups",
    ),
    Judged(
        "SkyRL compute_grpo_outcome_advantage, grpo_norm_by_std=False",
        "skyrl",
        "dr_grpo.centred_advantage",
        _skyrl_advantage("compute_grpo_outcome_advantage", grpo_norm_by_std=False),
        False,
        "the reward minus the mean of its group; a group of one keeps its raw reward",
        TORCH,
        explained="'a group of one keeps its raw reward'",
        only="groups",
    ),
    Judged(
        "SkyRL compute_rloo_outcome_advantage",
        "skyrl",
        "rloo.leave_one_out",
        _skyrl_advantage("compute_rloo_outcome_advantage"),
        True,
        "the reward minus the mean of the others, and 0 for a group of one",
        TORCH,
    ),
    Judged(
        "SkyRL compute_maxrl_advantage",
        "skyrl",
        "maxrl.maxrl_advantage",
        _skyrl_advantage("compute_maxrl_advantage"),
        False,
        "the published advantage, with 1e-6; a group of one keeps its raw reward",
        _fixed(eps=1e-6),
        explained="'a group of one keeps its raw reward'",
        only="groups",
    ),
    Judged(
        "SkyRL AdaptiveKLController",
        "skyrl",
        "ppo_penalty.adapt_kl_weight",
        _skyrl_controller,
        False,
        "a proportional controller, as documented",
        TORCH,
        explained="'proportional controller'",
    ),
    Judged(
        "oat DPOLoss",
        "oat",
        "dpo.dpo",
        _oat("DPO", SMOOTHED),
        True,
        "the published loss; its label_smoothing is the conservative form",
        TORCH,
    ),
    Judged("oat DPOLoss, SLiC", "oat", "dpo.hinge", _oat("SLiC", BETA), True, "the hinge of the same margin", TORCH),
    Judged(
        "oat DPOLoss, IPO",
        "oat",
        "ipo.ipo",
        _oat("IPO", {"tau": "beta"}),
        True,
        "the published loss, with beta for tau",
        TORCH,
    ),
    Judged(
        "oat SimPOLoss",
        "oat",
        "simpo.simpo",
        _oat_simpo(),
        True,
        "the published loss; the margin is given as gamma over beta",
        TORCH,
    ),
    Judged(
        "oat SimPOLoss, hinge",
        "oat",
        "simpo.simpo",
        _oat_simpo("hinge"),
        False,
        "the hinge of the same margin, as documented",
        TORCH,
        explained="'hinge'",
    ),
    Judged(
        "verl compute_policy_loss_sapo",
        "verl",
        "sapo.sapo",
        _verl_loss("sapo", "seq-mean-token-mean", {"tau_pos": ("tau_pos",), "tau_neg": ("tau_neg",)}),
        True,
        "the published loss; the gate hides that log-ratios are clamped to ±20",
        TORCH,
    ),
    Judged(
        "verl compute_policy_loss_cispo, token-mean",
        "verl",
        "cispo.cispo",
        _verl_loss("cispo", "token-mean", LOW_HIGH),
        False,
        "the published gradient, with PPO's fields for the bounds; log-ratios are clamped to ±20",
        TORCH,
        explained="right to",
    ),
    Judged(
        "verl compute_policy_loss_geo_mean",
        "verl",
        "gmpo.gmpo",
        _verl_loss("geo_mean", "seq-mean-token-mean", LOW_HIGH),
        True,
        "the published loss; the 1e-8 that it adds to each length is below what is compared",
        TORCH,
    ),
    Judged(
        "verl compute_value_loss, token-mean",
        "verl",
        "value_loss.value_loss",
        _verl_value("token-mean"),
        False,
        "half the larger of the two squared errors, averaged over all tokens; at ties autograd halves the gradient",
        TORCH,
        only="ties",
    ),
    Judged(
        "verl compute_opo_outcome_advantage",
        "verl",
        "opo.opo_advantage",
        _verl_opo,
        False,
        "the reward minus the mean of its group by length; a group of one keeps its raw reward",
        TORCH,
        only="groups, nonempty",
    ),
    Judged(
        "AReaL sapo_loss_fn",
        "areal",
        "sapo.sapo",
        _areal_sapo,
        False,
        "the published terms, averaged over all tokens",
        TORCH,
        explained="'mean over all tokens'",
    ),
    Judged(
        "TRL GRPOTrainer, loss_type='cispo'",
        "trl",
        "cispo.cispo",
        _trl("cispo", clip_names=("clip_low", "clip_high")),
        False,
        "the weight is capped at epsilon_high itself, not at 1 more",
        TORCH,
        explained="'the weight is capped at clip_high itself'",
    ),
    Judged(
        "TRL GRPOTrainer, loss_type='luspo', sequence level",
        "trl",
        "luspo.luspo",
        _trl("luspo", level="sequence", clip_names=("clip_low", "clip_high")),
        True,
        "the published loss",
        TORCH,
    ),
    Judged(
        "TRL GRPOTrainer, loss_type='vespo'",
        "trl",
        "vespo.vespo",
        _trl("vespo"),
        False,
        "the published loss, with log-ratios of tokens clamped to ±20 before they are added",
        TORCH,
        explained="'log-ratios of tokens clamped to ±20'",
    ),
    Judged(
        "TRL DPOTrainer, loss_type='sigmoid'",
        "trl",
        "dpo.dpo",
        _trl_pairs("sigmoid", BETA),
        True,
        "the published loss of sums",
        TORCH,
    ),
    Judged(
        "TRL DPOTrainer, loss_type='robust'",
        "trl",
        "dpo.robust",
        _trl_pairs("robust", SMOOTHED),
        True,
        "the loss corrected for flipped labels",
        TORCH,
    ),
    Judged(
        "TRL DPOTrainer, loss_type='hinge'",
        "trl",
        "dpo.hinge",
        _trl_pairs("hinge", BETA),
        True,
        "the hinge of the same margin",
        TORCH,
    ),
    Judged(
        "TRL DPOTrainer, loss_type='apo_zero', taken for DPO",
        "trl",
        "dpo.dpo",
        _trl_pairs("apo_zero", BETA),
        False,
        "another loss, as documented",
        TORCH,
        explained="'apo_zero'",
    ),
    Judged(
        "TRL DPOTrainer, loss_type='ipo'",
        "trl",
        "ipo.length_normalised",
        _trl_normalised("ipo", "tau"),
        True,
        "the published loss of means over tokens, with beta for tau",
        TORCH,
    ),
    Judged(
        "TRL DPOTrainer, loss_type='sigmoid_norm'",
        "trl",
        "dpo.length_normalised",
        _trl_normalised("sigmoid_norm", "beta"),
        True,
        "the loss of means over tokens",
        TORCH,
    ),
    Judged(
        "TRL CPOTrainer, loss_type='simpo', cpo_alpha=0",
        "trl",
        "simpo.simpo",
        _trl_simpo,
        True,
        "the published loss, with gamma itself for the margin",
        TORCH,
    ),
    Judged(
        "TRL ORPOTrainer.odds_ratio_loss",
        "trl",
        "orpo.odds_ratio_loss",
        _trl_orpo,
        False,
        "the published term, in float32",
        TORCH,
        explained="float32 inside",
    ),
    Judged(
        "TRL GKDTrainer.generalized_jsd_loss, beta=1",
        "trl",
        "trb.opd",
        _trl_opd("whole"),
        True,
        "the divergence of student from teacher, a mean over all tokens",
        TORCH,
    ),
    Judged(
        "TRL DistillationTrainer, _chunked_divergence_loss, beta=1",
        "trl",
        "trb.opd",
        _trl_opd("chunked"),
        False,
        "the same, computed in float32",
        TORCH,
        explained="computed in float32 inside",
    ),
    Judged(
        "TRL IWOPDTrainer.generalized_jsd_loss, beta=1, top_k",
        "trl",
        "trb.opd",
        _trl_opd("list"),
        False,
        "what is not on the student's list is one token more, as documented",
        TORCH,
        explained="'the rest of the vocabulary as one token more'",
    ),
    Judged(
        "TRL IWOPDTrainer.generalized_jsd_loss, beta=1, top_k, add_tail=False",
        "trl",
        "trb.opd",
        _trl_opd("list", add_tail=False),
        False,
        "both distributions are renormalised on the student's list, as documented",
        TORCH,
        explained="'renormalised on the list'",
    ),
)
