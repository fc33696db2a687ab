"""Training policies on comparisons, with any loss of pairs: tables of answers, and strings of letters.

For dpo, tr_dpo, rpo and trpa; for simpo, orpo and cpo, where answers have lengths.
"""

from trref.backend import xp
from trref.catalog import call
from trref.experiments.training import train
from trref.nn.heads import log_softmax

__all__ = ["train_letters", "train_pairs"]


def train_pairs(
    objective,
    policy,
    comparisons,
    theta,
    *,
    ref_theta=None,
    hyper=None,
    reference=None,
    batch=None,
    rng=None,
    **options,
):
    """Train on comparisons.

    Parameters
    ----------
    objective : callable
        Of those of ``chosen_log_prob``, ``rejected_log_prob``, ``ref_chosen_log_prob`` and ``ref_rejected_log_prob``,
        all (B,), that its arguments name. Returns the loss and its gradients by the first two.
    policy : trref.problems.preferences.AnswerPolicy
    comparisons : trref.problems.preferences.Comparisons
    theta : array (P,)
    ref_theta : array (P,), optional
        Of the reference; `theta` if not given.
    hyper : mapping, optional
        Hyper-parameters of the objective.
    reference : callable, optional
        ``reference(ref_theta, theta, step) -> ref_theta`` before each step (tr_dpo).
    batch : int, optional
        Comparisons drawn for each step; all of them if not given.
    rng : numpy.random.Generator, optional
        Draws the batches.
    **options
        Of `trref.experiments.training.train`: ``steps``, ``lr``, ``rule``, ``watch``, …

    Returns
    -------
    trref.experiments.training.Run
    """
    ref_theta, step = theta if ref_theta is None else ref_theta, 0

    def gradient(theta, rng):
        nonlocal ref_theta, step
        if reference:
            ref_theta, step = reference(ref_theta, theta, step), step + 1
        rows = (
            slice(None)
            if batch is None
            else xp.asarray(rng.integers(0, len(comparisons.prompt), batch))
        )
        prompt, chosen, rejected = (column[rows] for column in comparisons)
        log_prob, ref_log_prob = policy.log_prob(theta), policy.log_prob(ref_theta)
        pairs = {
            "chosen_log_prob": log_prob[prompt, chosen],
            "rejected_log_prob": log_prob[prompt, rejected],
        }
        pairs |= {
            f"ref_{name}": ref_log_prob[prompt, a]
            for name, a in zip(pairs, (chosen, rejected), strict=True)
        }
        loss, (d_chosen, d_rejected) = call(objective, pairs, hyper or {})
        at = xp.arange(log_prob.size)
        answers = log_prob.shape[1]
        cotangent = _sums(at, prompt * answers + chosen, d_chosen) + _sums(
            at, prompt * answers + rejected, d_rejected
        )
        return loss, policy.log_prob_vjp(theta, cotangent.reshape(log_prob.shape))

    return train(gradient, theta, rng, **options)


def _sums(places, at, values):
    """Return, for each of the places, the sum of the values that lie at it."""
    return (at == places[:, None]).astype(values.dtype) @ values


def train_letters(
    objective, chosen, rejected, theta, *, ref_theta=None, hyper=None, **options
):
    """Train one distribution over letters, from which all places of a string are drawn, on comparisons of strings.

    Parameters
    ----------
    objective : callable
        Of those of the arguments of `train_pairs`, and of ``chosen_length`` and ``rejected_length``, that it names.
    chosen, rejected : array (N, V)
        How often each letter occurs.
    theta : array (V,)
        Logits of the letters.
    ref_theta : array (V,), optional
        Of the reference; `theta` if not given.
    hyper : mapping, optional
        Hyper-parameters of the objective.
    **options
        Of `trref.experiments.training.train`: ``steps``, ``lr``, ``rule``, ``watch``, …

    Returns
    -------
    trref.experiments.training.Run
    """
    ref = log_softmax(theta if ref_theta is None else ref_theta)
    known = {
        "ref_chosen_log_prob": chosen @ ref,
        "ref_rejected_log_prob": rejected @ ref,
        "chosen_length": chosen.sum(1),
        "rejected_length": rejected.sum(1),
    }

    def gradient(theta, rng):
        log_p = log_softmax(theta)
        pairs = {
            "chosen_log_prob": chosen @ log_p,
            "rejected_log_prob": rejected @ log_p,
            **known,
        }
        loss, (d_chosen, d_rejected) = call(objective, pairs, hyper or {})
        slope = d_chosen @ chosen + d_rejected @ rejected
        return loss, slope - xp.exp(log_p) * slope.sum()

    return train(gradient, theta, None, **options)
