"""What is known of `trref.preferences.dpo`."""

import math

from trref.backend import special, xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective
from trref.catalog.preferences.interfaces import (
    COMPARISON_TABLE,
    PREFERENCE_PAIR,
    WITHOUT_TOKENS,
)
from trref.catalog.preferences.places import (
    of_one_token,
    reference_of_probability_one,
)
from trref.preferences.dpo import (
    dpo,
    hinge,
    implicit_reward,
    length_normalised,
    optimal_policy,
    population_loss,
    reference_free,
    robust,
    sequence_log_prob,
)
from trref.preferences.terms import (
    PairGradient,
    logistic_loss,
    of_pairs,
    softplus,
)

# ---- examples and brute force


def _tokens(rng, size):
    width = int(rng.integers(2, 9))
    lengths = rng.integers(0, width + 1, size)
    return {
        "log_prob": -rng.exponential(1.5, (size, width)),
        "mask": (xp.arange(width) < lengths[:, None]).astype(float),
    }


TOKEN_EDGES = {
    "an answer without tokens": lambda: {
        "log_prob": xp.array([[-1.0, -2.0], [-0.5, -3.0]]),
        "mask": xp.array([[0.0, 0.0], [1.0, 1.0]]),
    },
    "holes in the mask": lambda: {
        "log_prob": xp.array([[-1.0, -2.0, -4.0]]),
        "mask": xp.array([[1.0, 0.0, 1.0]]),
    },
}


def _token_by_token(log_prob, mask, *, average=False):
    sums = []
    for row, keep in zip(log_prob, mask, strict=True):
        own = [x for x, m in zip(row, keep, strict=True) if m]
        sums.append(sum(own) / max(len(own), 1) if average else sum(own))
    return xp.array(sums, dtype=float)


def _tilted(ref_logits, reward, *, beta=0.1):
    top = max(r / beta + z for r, z in zip(reward, ref_logits, strict=True))
    mass = [
        math.exp(z + r / beta - top) for z, r in zip(ref_logits, reward, strict=True)
    ]
    whole = math.log(math.fsum(mass)) + top
    return xp.array(
        [z + r / beta - whole for z, r in zip(ref_logits, reward, strict=True)]
    )


def _answers(rng, size):
    ref_log_prob = -rng.exponential(20.0, size)
    return {
        "log_prob": ref_log_prob + rng.standard_normal(size),
        "ref_log_prob": ref_log_prob,
    }


# ---- other losses behind the same option of a trainer


def _of_log_ratios(chosen_term, rejected_term):
    """A mean over pairs of one term (value, slope) of each answer's log-ratio."""
    (value, d_chosen), (other, d_rejected) = chosen_term, rejected_term
    B = len(value)
    return (value + other).sum() / B, PairGradient(d_chosen / B, d_rejected / B)


def _log_ratios(pairs):
    return (
        pairs["chosen_log_prob"] - pairs["ref_chosen_log_prob"],
        pairs["rejected_log_prob"] - pairs["ref_rejected_log_prob"],
    )


def nca_pair(*, beta=0.1, **inputs):
    u, v = (beta * x for x in _log_ratios(inputs))
    chosen = (
        softplus(-u) + softplus(u) / 2,
        beta * (special.expit(u) / 2 - special.expit(-u)),
    )
    return _of_log_ratios(chosen, (softplus(v) / 2, beta * special.expit(v) / 2))


def bco_pair(*, beta=0.1, **inputs):
    u, v = (beta * x for x in _log_ratios(inputs))
    return _of_log_ratios(
        (softplus(-u), -beta * special.expit(-u)),
        (softplus(v), beta * special.expit(v)),
    )


def sppo_hard(*, beta=0.1, **inputs):
    u, v = _log_ratios(inputs)
    u, v = u - 0.5 / beta, v + 0.5 / beta
    return _of_log_ratios((u**2, 2 * u), (v**2, 2 * v))


def _bump(x):
    return special.expit(x) * special.expit(-x)


def apo_zero(*, beta=0.1, **inputs):
    u, v = (beta * x for x in _log_ratios(inputs))
    return _of_log_ratios(
        (special.expit(-u), -beta * _bump(u)), (special.expit(v), beta * _bump(v))
    )


def apo_down(*, beta=0.1, **inputs):
    u, v = (beta * x for x in _log_ratios(inputs))
    slope = beta * _bump(u - v)
    return _of_log_ratios(
        (special.expit(u), beta * _bump(u) - slope), (special.expit(v - u), slope)
    )


def kto_pair(*, beta=0.1, **inputs):
    u, v = (beta * x for x in _log_ratios(inputs))
    B = len(u)
    chosen_kl, rejected_kl = (xp.maximum(x.sum() / B, 0) for x in (u, v))
    over, under = u - rejected_kl, chosen_kl - v
    d_chosen = -_bump(over) - (chosen_kl > 0) * _bump(under).sum() / B
    d_rejected = _bump(under) + (rejected_kl > 0) * _bump(over).sum() / B
    loss = (special.expit(-over) + special.expit(-under)).sum() / (2 * B)
    return loss, PairGradient(beta * d_chosen / (2 * B), beta * d_rejected / (2 * B))


def exo_pair(*, beta=0.1, label_smoothing=0.0, **inputs):
    u, v = (beta * x for x in _log_ratios(inputs))
    h, s = u - v, label_smoothing or 1e-3
    prior = math.log1p(-s) - math.log(s)
    terms = special.expit(h) * (-softplus(-h) - math.log1p(-s))
    terms = terms + special.expit(-h) * (-softplus(h) - math.log(s))
    return of_pairs(terms, beta * _bump(h) * (h - prior))


def discopop(*, beta=0.1, label_smoothing=0.0, **inputs):
    u, v = (beta * x for x in _log_ratios(inputs))
    h = u - v
    tau = 0.05
    share, power, plain = special.expit(h / tau), xp.exp(-h), softplus(-h)
    slope = -special.expit(-h) * (1 - share) - power * share
    slope = slope + _bump(h / tau) / tau * (power - plain)
    return of_pairs(plain * (1 - share) + power * share, beta * slope)


def _in_order(u, v, beta, label_smoothing):
    """Losses of the sorted differences, and the slopes at their places."""
    order, other = (xp.argsort(x, kind="stable") for x in (u, v))
    loss, slope = logistic_loss(beta * (u[order] - v[other]), label_smoothing)
    return loss, *(beta * slope[xp.argsort(x, kind="stable")] for x in (order, other))


def aot(*, beta=0.1, label_smoothing=0.0, **inputs):
    u = inputs["chosen_log_prob"] - inputs["rejected_log_prob"]
    v = inputs["ref_chosen_log_prob"] - inputs["ref_rejected_log_prob"]
    loss, slope, _ = _in_order(u, v, beta, label_smoothing)
    return of_pairs(loss, slope)


def aot_unpaired(*, beta=0.1, label_smoothing=0.0, **inputs):
    loss, chosen, rejected = _in_order(*_log_ratios(inputs), beta, label_smoothing)
    B = len(loss)
    return loss.sum() / B, PairGradient(chosen / B, -rejected / B)


TRL = "TRL 1.16.0 trl/trainer/dpo_trainer.py, loss_type "
DPO = (
    Deviation(
        "exo_pair",
        exo_pair,
        seen_in=TRL + '"exo_pair"',
        computes="the divergence of the policy's preference from a label of 1 - s, s = 0.001 at least",
        documented=True,
    ),
    Deviation(
        "discopop",
        discopop,
        seen_in=TRL + '"discopop"',
        computes="a mixture of the logistic and the exponential loss, whose shares follow the margin over 0.05",
        documented=True,
    ),
    Deviation(
        "aot",
        aot,
        seen_in=TRL + '"aot"',
        computes="the policy's margins and the reference's, each sorted over the batch, before they are subtracted",
        documented=True,
    ),
    Deviation(
        "aot_unpaired",
        aot_unpaired,
        seen_in=TRL + '"aot_unpaired"',
        computes="log-ratios of chosen and of rejected answers, each sorted over the batch, before they are paired",
        documented=True,
    ),
    Deviation(
        "nca_pair",
        nca_pair,
        seen_in=TRL + '"nca_pair"',
        computes="noise-contrastive alignment: each answer's reward against 0, the chosen one's from both sides",
        documented=True,
    ),
    Deviation(
        "bco_pair",
        bco_pair,
        seen_in=TRL + '"bco_pair"',
        computes="two binary classifications: the chosen reward above 0, the rejected below",
        documented=True,
    ),
    Deviation(
        "sppo_hard",
        sppo_hard,
        seen_in=TRL + '"sppo_hard"',
        computes="squared distances of the chosen log-ratio from 1/(2 beta), and of the rejected one from -1/(2 beta)",
        documented=True,
    ),
    Deviation(
        "apo_zero",
        apo_zero,
        seen_in=TRL + '"apo_zero"',
        computes="the probabilities that the chosen reward is below 0 and the rejected above",
        documented=True,
    ),
    Deviation(
        "apo_down",
        apo_down,
        seen_in=TRL + '"apo_down"',
        computes="the chosen answer is pushed down, and the rejected one further",
        documented=True,
    ),
    Deviation(
        "kto_pair",
        kto_pair,
        seen_in="OpenRLHF openrlhf/models/loss.py, VanillaKTOLoss",
        computes="KTO on pairs: each side against the other's mean log-ratio, through which the gradient flows",
        documented=True,
    ),
)


def _pair(inputs, chosen_length, rejected_length):
    names = [n for n in inputs if n.endswith("log_prob")]
    return {
        **{n: inputs[n] for n in names},
        "chosen_length": chosen_length,
        "rejected_length": rejected_length,
    }


def padded_width(*, beta=2.0, label_smoothing=0.0, **inputs):
    lengths = inputs["chosen_length"], inputs["rejected_length"]
    width = xp.maximum(*lengths).max() * xp.ones_like(lengths[0])
    return length_normalised(
        **_pair(inputs, width, width), beta=beta, label_smoothing=label_smoothing
    )


def end_token_in_the_length_alone(*, beta=2.0, label_smoothing=0.0, **inputs):
    lengths = inputs["chosen_length"] + 1, inputs["rejected_length"] + 1
    return length_normalised(
        **_pair(inputs, *lengths), beta=beta, label_smoothing=label_smoothing
    )


LENGTH = (
    Deviation(
        "divided by the padded width",
        padded_width,
        seen_in="minimind trainer/train_dpo.py as of March 2025 (issue 298)",
        computes="sums divided by the width of the batch: DPO with a beta that depends on the longest answer",
    ),
    Deviation(
        "the end token counts in the length alone",
        end_token_in_the_length_alone,
        seen_in="PaddleFormers nn/criterion/dpo_loss.py with ignore_eos_token (pull request 4909)",
        computes="sums without the end-of-sequence token divided by lengths with it",
    ),
)

SMOOTHED = {
    "default": {},
    "conservative": {"label_smoothing": 0.1},
    "ties": {"label_smoothing": 0.5},
    "probe": {"beta": 0.35, "label_smoothing": 0.2},
}
PAIR = ("chosen_log_prob", "rejected_log_prob")

METHOD = Method(
    key="rafailov2023direct",
    provenance={
        "confirmed": (
            "optimum",
            "reward",
            "sequence",
            "margin",
            "loss",
            "gradient",
            "conservative",
            "robust",
            "reference-free",
            "length-normalised",
            "hinge",
        ),
        "partly": ("population",),
    },
    functions=(
        Estimator(
            f=sequence_log_prob,
            example=_tokens,
            edges=TOKEN_EDGES,
            settings={"default": {}, "probe": {"average": True}},
            brute_force=_token_by_token,
        ),
        Objective(
            f=dpo,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings=SMOOTHED,
            deviations=DPO,
        ),
        Objective(
            f=robust,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings={"default": {}, "probe": {"beta": 0.35, "label_smoothing": 0.3}},
            limits=(Limit("dpo.dpo", {"label_smoothing": 0.0}),),
        ),
        Objective(
            f=reference_free,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings=SMOOTHED,
            limits=(Limit("dpo.dpo", {}, where=reference_of_probability_one),),
        ),
        Objective(
            f=length_normalised,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings={**SMOOTHED, "probe": {"beta": 3.5, "label_smoothing": 0.2}},
            limits=(Limit("dpo.dpo", {"beta": 0.1}, where=of_one_token),),
            deviations=LENGTH,
            refused=WITHOUT_TOKENS,
        ),
        Objective(
            f=hinge,
            interface=PREFERENCE_PAIR,
            wrt=PAIR,
            settings={"default": {}, "probe": {"beta": 0.35}},
        ),
        Objective(
            f=population_loss,
            interface=COMPARISON_TABLE,
            wrt="logits",
            settings={"default": {}, "probe": {"beta": 0.35}},
        ),
        Estimator(
            f=optimal_policy,
            interface=COMPARISON_TABLE,
            settings={"default": {}, "probe": {"beta": 0.35}},
            brute_force=_tilted,
        ),
        Estimator(
            f=implicit_reward,
            example=_answers,
            edges={
                "the policy is the reference": lambda: {
                    "log_prob": xp.array([-3.0, -7.0]),
                    "ref_log_prob": xp.array([-3.0, -7.0]),
                },
                "one answer": lambda: {
                    "log_prob": xp.array([-3.0]),
                    "ref_log_prob": xp.array([-2.0]),
                },
            },
            settings={"default": {}, "probe": {"beta": 0.35}},
            brute_force=lambda log_prob, ref_log_prob, *, beta=0.1: xp.array(
                [beta * (p - q) for p, q in zip(log_prob, ref_log_prob, strict=True)]
            ),
        ),
    ),
)
