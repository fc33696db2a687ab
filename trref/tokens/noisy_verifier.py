r"""An imperfect verifier: a noisy binary channel, and how to measure it.

What differs from a reward that is taken at its word: the verifier accepts a wrong answer with probability
:math:`\rho_0` and rejects a right one with :math:`\rho_1`; of the true reward :math:`r` it shows :math:`\tilde r`,

.. math::
    :label: noisy-verifier-channel

    P(\tilde r = 1 \mid r = 0) = \rho_0, \qquad P(\tilde r = 0 \mid r = 1) = \rho_1

.. math::
    :label: noisy-verifier-mean

    \mathbb E[\tilde r \mid r] = \rho_0 + \mathcal J\, r, \qquad \mathcal J = 1 - \rho_0 - \rho_1 > 0

What training makes of it is in :mod:`trref.tokens.noisy_rlvr`. Appeals measure the rates: a better verifier checks some
answers anew, a share :math:`f` of the rejected and :math:`g` of the accepted ones turns out right, and with :math:`N_-`
rejected and :math:`N_+` accepted

.. math::
    :label: noisy-verifier-appeals

    \hat\rho_1 = \frac{f N_-}{g N_+ + f N_-}, \qquad \hat\rho_0 = \frac{(1-g) N_+}{(1-g) N_+ + (1-f) N_-}

Only the rejected need be checked where false positives can be neglected: then :math:`g = 1`. The estimates are smoothed
over batches, with momentum :math:`\mu`, and kept away from 1:

.. math::
    :label: noisy-verifier-average

    \hat\rho \leftarrow \mu\,\hat\rho_{before} + (1 - \mu)\,\min\{\hat\rho, 0.99\}

If accepted answers are not audited though there are false positives, :math:`\hat\rho_1` comes out too small.

**Where implementations differ.** No public code was found.

**Provenance.** Partly: the channel and the appeals by the abstract of the paper; the formulas of the counts are Bayes'
rule, the moving average and its bound are customary choices.

Cai et al., *Reinforcement Learning with Verifiable yet Noisy Rewards under Imperfect Verifiers*, 2025,
arXiv:2510.00915.
"""

from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Interface, Method, Sampler
from trref.tokens.interfaces import token_objective

__all__ = ["Rates", "channel_mean", "check", "estimate_rates", "noisy_verifier", "with_rates"]


class Rates(NamedTuple):
    """Estimated rates of the verifier's errors, numbers in [0, 0.99]."""

    false_positive: Any
    false_negative: Any


def with_rates(base, extra=("rho0", "rho1")):
    """Return an interface with the rates of each answer's verifier as further inputs."""

    def example(rng, B):
        high = float(rng.choice((0.05, 0.3, 0.45)))
        return base.example(rng, B) | {name: high * rng.random(B) for name in extra}

    def edge(make, rho0, rho1):
        batch = make()
        rates = {"rho0": rho0, "rho1": rho1}
        return batch | {
            name: rates[name] + 0.02 * (rates[name] > 0) * xp.arange(len(batch["reward"])) for name in extra
        }

    edges = {name: lambda make=make: edge(make, 0.25, 0.125) for name, make in base.edges.items()}
    edges["no noise"] = lambda: edge(base.edges["on-policy"], 0.0, 0.0)
    edges["hardly better than chance"] = lambda: edge(base.edges["on-policy"], 0.5, 0.375)
    inputs = {**base.inputs, **{name: Input("B", "prob") for name in extra}}
    return Interface(f"{base.name}, {' and '.join(extra)}", inputs, example, edges)


NOISY = with_rates(token_objective("reward", without=("log_prob", "old_log_prob", "advantage", "mask")))
APPEALS = {"reward": Input("B", "mask"), "truth": Input("B", "mask"), "checked": Input("B", "mask")}


def _informative(rho0, rho1):
    """For `validate.require`: the verifier is better than chance."""
    return lambda: (rho0 + rho1 < 1).all(), "rho0 and rho1 must sum to less than 1"


def check(interface, *values):
    """Building block: check the inputs of an interface whose last two are the rates."""
    _, flags = validate.deferred(interface.inputs, *values)
    validate.require(*flags, _informative(*values[-2:]))


def noisy_verifier(rng, reward, rho0, rho1):
    """Observe true rewards through the channel.

    Parameters
    ----------
    rng : numpy.random.Generator
    reward : array (B,), 0 or 1
        The true rewards.
    rho0, rho1 : array (B,)
        Probability that a wrong answer is accepted, and that a right one is rejected.

    Returns
    -------
    array (B,), 0 or 1

    Raises
    ------
    ValueError
        Shapes that differ, rewards other than 0 and 1, rates that sum to 1 or more.
    """
    check(NOISY, reward, rho0, rho1)
    u = xp.asarray(rng.random(len(reward))).astype(reward.dtype)
    return (u < xp.where(reward == 1, 1 - rho1, rho0)).astype(reward.dtype)  # eq. noisy-verifier-channel


def channel_mean(reward, rho0, rho1):
    """Probability that an answer is accepted, given its true reward.

    Parameters
    ----------
    reward : array (B,), 0 or 1
    rho0, rho1 : array (B,)

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        As `noisy_verifier`.
    """
    check(NOISY, reward, rho0, rho1)
    return rho0 + (1 - rho0 - rho1) * reward  # eq. noisy-verifier-mean


def estimate_rates(reward, truth, checked, *, audit_accepted=False, previous=None, momentum=0.9):
    """Rates of a verifier's errors from answers that a better verifier has checked anew.

    Parameters
    ----------
    reward : array (B,), 0 or 1
        What the verifier said.
    truth : array (B,), 0 or 1
        What the better one says; looked at only where `checked` is 1.
    checked : array (B,), 0 or 1
        A random part of the answers.
    audit_accepted : bool
        Whether accepted answers are checked, too; otherwise false positives count as none.
    previous : Rates, optional
        The estimate so far; without it there is no averaging.
    momentum : float
        Its weight, in [0, 1).

    Returns
    -------
    Rates
        Fields false_positive, false_negative, clipped to [0, 0.99]; 0 where nothing was checked.

    Raises
    ------
    ValueError
        Shapes that differ, entries other than 0 and 1, `momentum` or `previous` out of range.
    TypeError
        `previous` is no pair.
    """
    validate.inputs(APPEALS, reward, truth, checked)
    validate.interval("[0, 1)", momentum=momentum)
    if previous is not None:
        if not isinstance(previous, tuple) or len(previous) != 2:
            raise TypeError("previous must be a pair of rates")
        for rate in previous:
            if isinstance(rate, int | float):
                validate.interval("[0, 1]", previous=rate)
    f = _share(truth, (1 - reward) * checked, 0.0)
    g = _share(truth, reward * checked, 1.0) if audit_accepted else 1.0
    accepted, rejected = reward.sum(), (1 - reward).sum()
    # eq. noisy-verifier-appeals
    false_negative = _fraction(f * rejected, g * accepted)
    false_positive = _fraction((1 - g) * accepted, (1 - f) * rejected)

    # eq. noisy-verifier-average
    rates = Rates(xp.minimum(false_positive, 0.99), xp.minimum(false_negative, 0.99))
    if previous is None:
        return rates
    return Rates(*(momentum * old + (1 - momentum) * new for old, new in zip(previous, rates, strict=True)))


def _share(truth, among, without):
    """Share of right ones `among` the answers; `without` where there are none."""
    count = among.sum()
    return xp.where(count > 0, (truth * among).sum() / xp.maximum(count, 1), without).astype(truth.dtype)


def _fraction(part, rest):
    whole = part + rest
    return part / xp.where(whole > 0, whole, 1)


def _by_cases(reward, rho0, rho1):
    cases = zip(reward.tolist(), rho0.tolist(), rho1.tolist(), strict=True)
    return [1 - fn if r else fp for r, fp, fn in cases]


def _by_counting(reward, truth, checked, *, audit_accepted=False, previous=None, momentum=0.9):
    """Give every answer that was not checked the shares of its kind, and count."""
    rows = list(zip(reward.tolist(), truth.tolist(), checked.tolist(), strict=True))
    right = {}
    for shown, unchecked in ((0, 0.0), (1, 1.0)):
        known = [t for r, t, c in rows if r == shown and c and (shown == 0 or audit_accepted)]
        right[shown] = sum(known) / len(known) if known else unchecked
    wrong_in, right_in = (sum(x for r, _, _ in rows if r == 1) for x in (1 - right[1], right[1]))
    wrong_out, right_out = (sum(x for r, _, _ in rows if r == 0) for x in (1 - right[0], right[0]))
    found = [
        min(part / (part + rest), 0.99) if part + rest else 0.0
        for part, rest in ((wrong_in, wrong_out), (right_out, right_in))
    ]
    return [momentum * o + (1 - momentum) * n for o, n in zip(previous, found, strict=True)] if previous else found


def _appeals_example(rng, B):
    truth = (rng.random(B) < 0.6).astype(float)
    flipped = rng.random(B) < xp.where(truth == 1, 0.3, 0.15)
    return {
        "reward": xp.where(flipped, 1 - truth, truth),
        "truth": truth,
        "checked": (rng.random(B) < rng.choice((0.3, 0.8))).astype(float),
    }


def _appeals(reward, truth, checked):
    return {n: xp.array(x, dtype=float) for n, x in (("reward", reward), ("truth", truth), ("checked", checked))}


def _shares(draws, reward, rho0, rho1):
    """Of 64 answers, the number accepted among the right and among the wrong ones, within five standard errors."""
    chance = xp.where(reward == 1, 1 - rho1, rho0)
    return {
        name: (
            float((draws * kind).sum()),
            float((chance * kind).sum()),
            5 * float((chance * (1 - chance) * kind).sum()) ** 0.5 + 1e-12,
        )
        for name, kind in (("right", reward), ("wrong", 1 - reward))
    }


METHOD = Method(
    key="cai2025reinforcement",
    provenance={"partly": ("channel", "mean", "appeals"), "reconstructed": ("average",)},
    functions=(
        Sampler(f=noisy_verifier, interface=NOISY, moments=_shares),
        Estimator(f=channel_mean, interface=NOISY, brute_force=_by_cases),
        Estimator(
            f=estimate_rates,
            inputs=APPEALS,
            example=_appeals_example,
            edges={
                "all rejected": lambda: _appeals([0, 0, 0], [1, 0, 0], [1, 1, 0]),
                "all accepted": lambda: _appeals([1, 1, 1], [1, 0, 1], [1, 1, 0]),
                "all rejected, all right": lambda: _appeals([0, 0], [1, 1], [1, 1]),
                "nothing checked": lambda: _appeals([1, 0, 1], [1, 1, 0], [0, 0, 0]),
            },
            settings={
                "default": {},
                "audited": {"audit_accepted": True},
                "averaged": {"previous": (0.1, 0.4)},
                "probe": {"audit_accepted": True, "previous": (0.2, 0.3), "momentum": 0.7},
            },
            brute_force=_by_counting,
        ),
    ),
)
