"""Functions of trainers that are checked out: see `tests.peers.checkouts`. The wrappers rename arguments and call."""

import dataclasses
import types

from tests.peers import checkouts
from tests.peers.judged import TORCH, Judged, signature
from tests.peers.judged_losses import PAIR
from tests.peers.judged_trainers import NO_DUAL_CLIP, TOKENS, _of_tokens, episodes
from trref.conformance import Options

__all__ = ["JUDGED", "Checkout"]

OVER_ANSWERS, OVER_TOKENS = (Options(framework="torch", reduce=name) for name in ("seq_mean", "token_mean"))
BOUNDS = {"clip_low": "clip_low", "clip_high": "clip_high"}
ONE_CLIP = {"clip_low": "clip", "clip_high": "clip"}


@dataclasses.dataclass(frozen=True)
class Checkout(Judged):
    """One public implementation; `package` is the name of its checkout."""

    @property
    def missing(self):
        """Without its checkout, a row of the ledger stays as it is."""
        return checkouts.absent(self.package)

    @property
    def version(self):
        return checkouts.COMMITS[self.package][:12]


def _constants(names, bounded):
    """The catalogue's constants that a policy loss takes."""
    return [*dict.fromkeys(names.values()), *(["bound"] if bounded else [])]


# --------------------------------------------------------------------------------------------------------------- slime


def _slime():
    return checkouts.load("slime", "slime.utils.ppo_utils")


def _slime_loss(names, bounded=False):
    """Of each token; `names` are the catalogue's constants for the two bounds."""

    def make():
        utils = _slime()

        def f(log_prob, old_log_prob, advantage, mask, **hyper):
            A = _of_tokens(advantage, mask)
            bounds = [hyper[name] for name in names.values()]
            return utils.compute_policy_loss(old_log_prob - log_prob, A, *bounds, hyper.get("bound"))[0]

        return signature(f, TOKENS, _constants(names, bounded))

    return make


def _slime_gspo():
    utils = _slime()

    def f(log_prob, old_log_prob, advantage, mask, clip_low=3e-4, clip_high=4e-4):
        ratio = utils.compute_gspo_kl(log_prob, old_log_prob, log_prob, mask).reshape(mask.shape)
        return utils.compute_policy_loss(ratio, _of_tokens(advantage, mask), clip_low, clip_high)[0]

    return f


def _slime_cispo():
    utils = _slime()

    def f(log_prob, old_log_prob, advantage, mask, clip_low=1.0, clip_high=4.0):
        A = _of_tokens(advantage, mask)
        return utils.compute_cispo_loss(old_log_prob - log_prob, log_prob, A, clip_low, clip_high)[0]

    return f


def _slime_kl(kind=None):
    def make():
        utils = _slime()

        def f(log_prob, mask, ref_log_prob, estimator="k3"):
            return utils.compute_approx_kl(log_prob, ref_log_prob, kind or estimator)

        return f

    return make


# -------------------------------------------------------------------------------------------------------------- EasyR1


def _easyr1():
    return checkouts.load("EasyR1", "verl.trainer.core_algos")


def _easyr1_loss(kind, mode, names, dual=NO_DUAL_CLIP, bounded=False):
    """`names` are the catalogue's constants by the function's; without a dual clip, one that nothing reaches."""

    def make():
        core = _easyr1()

        def f(log_prob, old_log_prob, advantage, mask, **hyper):
            given = {"tau_positive": 1.0, "tau_negative": 1.05, "clip_ratio_low": 0.2, "clip_ratio_high": 0.2}
            given |= {theirs: hyper[ours] for theirs, ours in names.items()}
            given["clip_ratio_dual"] = hyper["bound"] if bounded else dual
            A = _of_tokens(advantage, mask)
            return core.compute_policy_loss(
                old_log_prob, log_prob, A, mask, loss_type=kind, loss_avg_mode=mode, **given
            )[0]

        return signature(f, TOKENS, _constants(names, bounded))

    return make


EASY_BOUNDS = {"clip_ratio_low": "clip_low", "clip_ratio_high": "clip_high"}
EASY_CLIP = dict.fromkeys(EASY_BOUNDS, "clip")
EASY_GATES = {"tau_positive": "tau_pos", "tau_negative": "tau_neg"}


def _easyr1_kl(kind):
    def make():
        core = _easyr1()

        def f(log_prob, mask, ref_log_prob, estimator="k3"):
            return core.average_loss(core.compute_kl(log_prob, ref_log_prob, kind), mask, "token")

        return f

    return make


def _easyr1_value():
    core = _easyr1()

    def f(value, old_value, value_target, mask, clip=0.2):
        return core.compute_value_loss(value, value_target, old_value, mask, clip, "token")[0]

    return f


def _easyr1_advantage(name):
    """An estimator of outcomes: one token an answer, whose reward is the answer's."""

    def make():
        core = _easyr1()

        def f(reward, group, eps=None):
            import torch

            more = {"eps": eps} if eps is not None else {}
            mask = torch.ones(len(reward), 1, dtype=reward.dtype)
            return getattr(core, name)(reward[:, None], mask, group.numpy(), **more)[0][:, 0]

        return f

    return make


# ------------------------------------------------------------------------------------------------------------- NeMo-RL


def _nemo(names, bounded=False, **fixed):
    """`ClippedPGLossFn`, without its penalty; its tensors begin with a token that it drops."""

    def make():
        module = checkouts.load("NeMo-RL", "nemo_rl.algorithms.loss.loss_functions")

        def f(log_prob, old_log_prob, advantage, mask, **hyper):
            import torch

            given = {"ratio_clip_min": 0.2, "ratio_clip_max": 0.2, "reference_policy_kl_penalty": 0.0, **fixed}
            given |= {theirs: hyper[ours] for theirs, ours in names.items()}
            if bounded:
                given["ratio_clip_c"] = hyper["bound"]
            loss = module.ClippedPGLossFn(module.ClippedPGLossConfig(**given))
            pad = torch.nn.functional.pad
            data = {
                "token_mask": pad(mask, (1, 0)),
                "sample_mask": torch.ones(len(mask), dtype=mask.dtype),
                "advantages": pad(_of_tokens(advantage, mask), (1, 0)),
                "prev_logprobs": pad(old_log_prob, (1, 0)),
                "generation_logprobs": pad(old_log_prob, (1, 0)),
            }
            return loss(log_prob, data, torch.tensor(float(len(mask))), mask.sum())[0]

        return signature(f, TOKENS, _constants(names, bounded))

    return make


NEMO_BOUNDS = {"ratio_clip_min": "clip_low", "ratio_clip_max": "clip_high"}
NEMO_CLIP = dict.fromkeys(NEMO_BOUNDS, "clip")


# ------------------------------------------------------------------------------------------ prime-rl and open-instruct


def _prime():
    module = checkouts.load("prime-rl", "prime_rl.trainer.rl.loss")

    def f(log_prob, old_log_prob, advantage, mask, max_length, radius_low=0.15, radius_high=0.15):
        config = types.SimpleNamespace(dppo_mask_low=radius_low, dppo_mask_high=radius_high, adv_tau=1.0, kl_tau=0.0)
        inputs = types.SimpleNamespace(
            trainer_logprobs=log_prob,
            inference_logprobs=old_log_prob,
            advantages=_of_tokens(advantage, mask),
            loss_mask=mask.bool(),
            loss_weights=None,
        )
        return module.default_loss_fn(inputs, config).loss / (max_length * max(len(mask), 1))

    return f


def _open_instruct(kind, names):
    """Of each token; `names` are the catalogue's constants by the function's."""

    def make():
        module = checkouts.load("open-instruct", "open_instruct.grpo_utils")

        def f(log_prob, old_log_prob, advantage, mask, **hyper):
            import torch

            given = {"clip_lower": 0.2, "clip_higher": 0.2} | {theirs: hyper[ours] for theirs, ours in names.items()}
            config = types.SimpleNamespace(loss_fn=module.GRPOLossType[kind], **given)
            ratio, A = torch.exp(log_prob - old_log_prob), _of_tokens(advantage, mask)
            return module.compute_grpo_loss(log_prob, ratio, A, None, config, torch.ones_like(ratio))[0]

        return signature(f, TOKENS, list(dict.fromkeys(names.values())))

    return make


def _open_instruct_kl(number):
    def make():
        module = checkouts.load("open-instruct", "open_instruct.grpo_utils")

        def f(log_prob, mask, ref_log_prob, estimator="k3"):
            import torch

            difference = (log_prob - ref_log_prob).clamp(-40.0, 40.0)
            return module.model_utils.estimate_kl(difference, torch.ones_like(log_prob))[number]

        return f

    return make


# ---------------------------------------------------------------------------------------------------------------- ROLL


def _roll():
    return checkouts.load("ROLL", "roll.utils.functionals")


def _roll_kl(kind):
    def make():
        functionals = _roll()

        def f(log_prob, mask, ref_log_prob, estimator="k3"):
            k = functionals.compute_approx_kl(log_prob, ref_log_prob, mask, kind)
            return functionals.agg_loss(k, mask, "token-mean")

        return f

    return make


# ------------------------------------------------------------------------------------------------------------ gae, sam


def _rows_of_one_episode(estimate):
    """An estimator of whole rows for `gae.gae`: each episode is a row."""

    def gae(reward, value, next_value, terminated, truncated, gamma=0.99, lam=0.95):
        found = 0 * reward.reshape(len(reward), -1)
        for j, place, rewards, values in episodes(reward, value, next_value, terminated, truncated, gamma):
            found[place, j] = estimate(rewards[None], values[None], gamma, lam)[0][0]
        return found.reshape(reward.shape)

    return gae


# ------------------------------------------------------------------------------------------- pairs, and Spinning Up


def _pairs(module, name, keywords, means=False, free=False, **fixed):
    """A loss of each pair; `keywords` are the catalogue's names of its own. With `means` it gets means over tokens."""

    def make():
        loss = getattr(checkouts.load(*module), name)

        def f(chosen_log_prob, rejected_log_prob, chosen_length=1.0, rejected_length=1.0, **given):
            named = {theirs: given[ours] for ours, theirs in keywords.items()}
            if "gamma" in given:
                named["gamma_beta_ratio"] = given["gamma"] / given["beta"]
            lengths = (chosen_length, rejected_length) if means else (1.0, 1.0)
            answers = [x / n for x, n in zip((chosen_log_prob, rejected_log_prob), lengths, strict=True)]
            if name != "simpo_loss":
                ref = [given.get(n, 0 * chosen_log_prob) for n in PAIR[2:]]
                answers += [x / n for x, n in zip(ref, lengths, strict=True)]
            return loss(*answers, **named, **fixed)[0].mean()

        names = PAIR[:2] if free or name == "simpo_loss" else PAIR
        more = ["gamma"] if name == "simpo_loss" else []
        return signature(f, [*names, *(LENGTHS if means else [])], [*keywords, *more])

    return make


LENGTHS = ["chosen_length", "rejected_length"]
AUTHORS = "direct-preference-optimization", "trainers"
DPO_UTILS = "open-instruct", "open_instruct.dpo_utils"
SMOOTHED = {"beta": "beta", "label_smoothing": "label_smoothing"}


def _spinning_up():
    """Its buffer, filled with one episode: what follows a cut is the last value."""
    module = checkouts.load("spinningup", "spinup.algos.pytorch.ppo.ppo")

    def estimate(rewards, values, gamma, lam):
        import torch

        buffer = module.PPOBuffer((1,), (), rewards.shape[1], gamma, lam)
        for reward, value in zip(rewards[0].numpy(), values[0].numpy(), strict=True):
            buffer.store(0.0, 0.0, reward, value, 0.0)
        buffer.finish_path()
        return torch.tensor(buffer.adv_buf, dtype=rewards.dtype)[None], None

    return _rows_of_one_episode(estimate)


def _sam():
    """Around plain gradient descent: the gradient that its second step hands on."""
    import torch

    module = checkouts.load("sam", "sam")

    def perturbed_gradient(loss_and_grad, theta, rho=0.05):
        weight = torch.tensor(theta, requires_grad=True)
        optimizer = module.SAM([weight], torch.optim.SGD, rho=rho, lr=1.0)
        weight.grad = torch.tensor(loss_and_grad(theta)[1])
        optimizer.first_step(zero_grad=True)
        return loss_and_grad(weight.detach().numpy())

    return perturbed_gradient


SMALL = "a small number in a denominator"
UNBOUNDED = 1e15
EPSILON = "1e-8 is added to the number of tokens"


def _estimated(kind, reduce=None):
    """Options of an estimator that the function fixes."""
    return Options(framework="torch", reference={"estimator": kind}, reduce=reduce)


JUDGED = (
    Checkout(
        "slime compute_policy_loss, over answers",
        "slime",
        "grpo.grpo",
        _slime_loss(ONE_CLIP),
        True,
        "the published loss, without limits on the log-ratio",
        OVER_ANSWERS,
    ),
    Checkout(
        "slime compute_policy_loss, over tokens",
        "slime",
        "dapo.dapo_over_batch",
        _slime_loss(BOUNDS),
        True,
        "the same with two bounds",
        OVER_TOKENS,
    ),
    Checkout(
        "slime compute_policy_loss, eps_clip_c",
        "slime",
        "dual_clip.dual_clip",
        _slime_loss(ONE_CLIP, bounded=True),
        True,
        "the dual clip",
        OVER_ANSWERS,
    ),
    Checkout(
        "slime compute_gspo_kl with compute_policy_loss",
        "slime",
        "gspo.gspo",
        _slime_gspo,
        True,
        "the ratio of the answer, which is differentiated as a whole",
        OVER_ANSWERS,
    ),
    Checkout(
        "slime compute_cispo_loss",
        "slime",
        "cispo.cispo",
        _slime_cispo,
        True,
        "both bounds as distances from one",
        OVER_TOKENS,
    ),
    *(
        Checkout(
            f"slime compute_approx_kl '{kind}'",
            "slime",
            "kl_estimators.kl_in_loss",
            _slime_kl(kind),
            False,
            f"{kind}, in float32 whatever it is given",
            _estimated(kind, "token_mean"),
            explained="float32",
        )
        for kind in ("k1", "k2", "k3")
    ),
    Checkout(
        "slime compute_approx_kl 'low_var_kl'",
        "slime",
        "kl_estimators.kl_in_loss",
        _slime_kl("low_var_kl"),
        False,
        "k3, at most 10 a token, without gradient beyond; in float32",
        _estimated("k3", "token_mean"),
        explained="'k3 clamped to ±10'",
    ),
    *(
        Checkout(
            f"slime {name}",
            "slime",
            "gae.gae",
            lambda name=name: _rows_of_one_episode(getattr(_slime(), name)),
            True,
            "the published estimates, not standardised",
            TORCH,
        )
        for name in ("vanilla_gae", "chunked_gae")
    ),
    Checkout(
        "EasyR1 compute_policy_loss, token, clip_ratio_dual=1e30",
        "EasyR1",
        "dapo.dapo_over_batch",
        _easyr1_loss("default", "token", EASY_BOUNDS),
        False,
        f"the published loss, but for tokens whose log-ratio is beyond ±20; {EPSILON}",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Checkout(
        "EasyR1 compute_policy_loss, token, clip_ratio_dual=3 (its defaults)",
        "EasyR1",
        "dapo.dapo_over_batch",
        _easyr1_loss("default", "token", EASY_BOUNDS, dual=3.0),
        False,
        f"always has the dual clip; log-ratios are clamped to ±20; {EPSILON}",
        TORCH,
        explained="'dual clip at 3 and log-ratios clamped to ±20'",
    ),
    Checkout(
        "EasyR1 compute_policy_loss, seq, clip_ratio_dual=1e30",
        "EasyR1",
        "grpo.grpo",
        _easyr1_loss("default", "seq", EASY_CLIP),
        False,
        f"the published loss, but for tokens whose log-ratio is beyond ±20; {EPSILON}",
        TORCH,
        explained="'log-ratios clamped to ±20'",
    ),
    Checkout(
        "EasyR1 compute_policy_loss, seq, taken for dual clip",
        "EasyR1",
        "dual_clip.dual_clip",
        _easyr1_loss("default", "seq", EASY_CLIP, bounded=True),
        False,
        f"the dual clip; {EPSILON}",
        TORCH,
        explained=SMALL,
    ),
    Checkout(
        "EasyR1 compute_policy_loss, gspo",
        "EasyR1",
        "gspo.gspo",
        _easyr1_loss("gspo", "seq", EASY_BOUNDS),
        False,
        f"the ratio of the answer, which is differentiated as a whole; {EPSILON}",
        TORCH,
        explained=SMALL,
    ),
    Checkout(
        "EasyR1 compute_policy_loss, gspo_token",
        "EasyR1",
        "gspo_token.gspo_token",
        _easyr1_loss("gspo_token", "seq", EASY_BOUNDS),
        False,
        f"the answer's ratio, for each token its own gradient; {EPSILON}",
        TORCH,
        explained=SMALL,
    ),
    Checkout(
        "EasyR1 compute_policy_loss, cispo",
        "EasyR1",
        "cispo.cispo",
        _easyr1_loss("cispo", "token", EASY_BOUNDS),
        False,
        f"both bounds as distances from one; {EPSILON}",
        TORCH,
        explained=SMALL,
    ),
    Checkout(
        "EasyR1 compute_policy_loss, sapo",
        "EasyR1",
        "sapo.sapo",
        _easyr1_loss("sapo", "seq", EASY_GATES),
        False,
        f"the published gates; {EPSILON}",
        TORCH,
        explained=SMALL,
    ),
    *(
        Checkout(
            f"EasyR1 compute_kl '{theirs}'",
            "EasyR1",
            "kl_estimators.kl_in_loss",
            _easyr1_kl(theirs),
            False,
            f"{kind}, in float32 whatever it is given",
            _estimated(kind),
            explained="float32",
        )
        for theirs, kind in (("kl", "k1"), ("mse", "k2"))
    ),
    Checkout(
        "EasyR1 compute_kl 'low_var_kl'",
        "EasyR1",
        "kl_estimators.kl_in_loss",
        _easyr1_kl("low_var_kl"),
        False,
        "k3, at most 10 a token, without gradient beyond; in float32",
        _estimated("k3"),
        explained="'k3 clamped to ±10'",
    ),
    Checkout(
        "EasyR1 compute_value_loss, token",
        "EasyR1",
        "value_loss.value_loss",
        _easyr1_value,
        False,
        f"the larger of both errors; {EPSILON}",
        TORCH,
        explained=SMALL,
    ),
    Checkout(
        "EasyR1 compute_grpo_outcome_advantage",
        "EasyR1",
        "grpo.group_advantage",
        _easyr1_advantage("compute_grpo_outcome_advantage"),
        False,
        "the published advantage with 1e-6 added to the standard deviation; a group of one raises",
        Options(framework="torch", constants={"eps": 1e-6}),
        only="groups",
    ),
    Checkout(
        "EasyR1 compute_rloo_outcome_advantage",
        "EasyR1",
        "rloo.leave_one_out",
        _easyr1_advantage("compute_rloo_outcome_advantage"),
        False,
        "the published advantage; a group of one raises",
        TORCH,
        only="groups",
    ),
    Checkout(
        "NeMo-RL ClippedPGLossFn, token_level_loss=True (its default)",
        "NeMo-RL",
        "dapo.dapo_over_batch",
        _nemo(NEMO_BOUNDS),
        False,
        f"the published loss, without limits on the log-ratio; {EPSILON}",
        TORCH,
        explained=SMALL,
    ),
    Checkout(
        "NeMo-RL ClippedPGLossFn, token_level_loss=False",
        "NeMo-RL",
        "grpo.grpo",
        _nemo(NEMO_CLIP, token_level_loss=False),
        False,
        f"the published loss; {EPSILON}, and to that of answers",
        TORCH,
        explained=SMALL,
    ),
    Checkout(
        "NeMo-RL ClippedPGLossFn, ratio_clip_c",
        "NeMo-RL",
        "dual_clip.dual_clip",
        _nemo(NEMO_CLIP, bounded=True, token_level_loss=False),
        False,
        f"the dual clip; {EPSILON}",
        TORCH,
        explained=SMALL,
    ),
    Checkout(
        "NeMo-RL ClippedPGLossFn, sequence_level_importance_ratios",
        "NeMo-RL",
        "gspo.gspo",
        _nemo(NEMO_BOUNDS, token_level_loss=False, sequence_level_importance_ratios=True),
        False,
        f"the ratio of the answer, which is differentiated as a whole; {EPSILON}",
        TORCH,
        explained=SMALL,
    ),
    Checkout(
        "NeMo-RL ClippedPGLossFn, use_cispo",
        "NeMo-RL",
        "cispo.cispo",
        _nemo(NEMO_BOUNDS, use_cispo=True),
        False,
        f"both bounds as distances from one; {EPSILON}",
        TORCH,
        explained=SMALL,
    ),
    Checkout(
        "prime-rl default_loss_fn, adv_tau=1, kl_tau=0, over a constant",
        "prime-rl",
        "drpo.dppo",
        _prime,
        True,
        "DPPO by total variation, value and gradient, without a bound on the ratio",
        Options(
            framework="torch", constants={"max_length": 6}, reference={"kind": "total_variation", "bound": UNBOUNDED}
        ),
    ),
    Checkout(
        "open-instruct compute_grpo_loss, dapo",
        "open-instruct",
        "dapo.dapo_over_batch",
        _open_instruct("dapo", {"clip_lower": "clip_low", "clip_higher": "clip_high"}),
        True,
        "the published loss, without limits on the log-ratio",
        OVER_TOKENS,
    ),
    Checkout(
        "open-instruct compute_grpo_loss, cispo",
        "open-instruct",
        "cispo.cispo",
        _open_instruct("cispo", {"clip_higher": "clip_high"}),
        True,
        "without a lower bound, as published",
        OVER_TOKENS,
    ),
    *(
        Checkout(
            f"open-instruct estimate_kl, kl_estimator={number}",
            "open-instruct",
            "kl_estimators.kl_in_loss",
            _open_instruct_kl(number),
            True,
            f"{kind}, of log-ratios that its loss clamps to ±40",
            _estimated(kind, "token_mean"),
        )
        for number, kind in enumerate(("k1", "k2", "k3"))
    ),
    Checkout(
        "ROLL compute_approx_kl 'k3', token-mean",
        "ROLL",
        "kl_estimators.kl_in_loss",
        _roll_kl("k3"),
        False,
        "k3, at most 10 a token, without gradient beyond; a batch without tokens gives NaN",
        _estimated("k3"),
        explained="'k3 clamped to ±10'",
    ),
    Checkout(
        "ROLL compute_approx_kl 'kl', token-mean",
        "ROLL",
        "kl_estimators.kl_in_loss",
        _roll_kl("kl"),
        False,
        "k1; a batch without tokens gives NaN",
        _estimated("k1"),
        only="nonempty",
    ),
    Checkout(
        "ROLL compute_gae_advantage_return",
        "ROLL",
        "gae.gae",
        lambda: _rows_of_one_episode(_roll().compute_gae_advantage_return),
        True,
        "the published estimates, not standardised",
        TORCH,
    ),
    Checkout(
        "direct-preference-optimization (the authors') preference_loss",
        "direct-preference-optimization",
        "dpo.dpo",
        _pairs(AUTHORS, "preference_loss", SMOOTHED),
        True,
        "the published loss of sums; its label_smoothing is the conservative form",
        TORCH,
    ),
    Checkout(
        "direct-preference-optimization (the authors') preference_loss, reference_free=True",
        "direct-preference-optimization",
        "dpo.reference_free",
        _pairs(AUTHORS, "preference_loss", SMOOTHED, free=True, reference_free=True),
        True,
        "the reference gives both answers the same probability",
        TORCH,
    ),
    Checkout(
        "direct-preference-optimization preference_loss, ipo=True",
        "direct-preference-optimization",
        "ipo.ipo",
        _pairs(AUTHORS, "preference_loss", {"tau": "beta"}, ipo=True),
        True,
        "the squared distance, of sums",
        TORCH,
    ),
    Checkout(
        "open-instruct dpo_loss",
        "open-instruct",
        "dpo.dpo",
        _pairs(DPO_UTILS, "dpo_loss", SMOOTHED),
        True,
        "the published loss; its label_smoothing is the conservative form",
        TORCH,
    ),
    Checkout(
        "open-instruct dpo_loss, of means (dpo_norm)",
        "open-instruct",
        "dpo.length_normalised",
        _pairs(DPO_UTILS, "dpo_loss", SMOOTHED, means=True),
        True,
        "the loss of means over tokens",
        TORCH,
    ),
    Checkout(
        "open-instruct simpo_loss",
        "open-instruct",
        "simpo.simpo",
        _pairs(DPO_UTILS, "simpo_loss", SMOOTHED, means=True),
        True,
        "the published loss, with gamma over beta for the margin",
        TORCH,
    ),
    Checkout(
        "Spinning Up PPOBuffer",
        "spinningup",
        "gae.gae",
        _spinning_up,
        False,
        "the published estimates, kept in float32",
        TORCH,
        explained="float32",
    ),
    Checkout(
        "davda54/sam SAM",
        "sam",
        "sam.perturbed_gradient",
        _sam,
        True,
        "the published gradient; 1e-12 is added to the norm",
    ),
)
