"""Training the small autoregressive policy on the verifiable token task, with any token objective."""

import inspect
from typing import Any, NamedTuple

import numpy as np

from trref.backend import xp
from trref.catalog import call
from trref.nn.heads import categorical_entropy, categorical_kl, log_softmax
from trref.optimizers import adam
from trref.problems.tokens import TokenTask
from trref.tokens.grpo import group_advantage
from trref.tokens.terms import logit_gradient

__all__ = ["BanditTraining", "Training", "tempting_prompts", "train", "train_bandit"]


class Training(NamedTuple):
    """Parameters, then one number an iteration, or every so many.

    Parameters
    ----------
    theta : array (P,)
    success : list of float
        Exact probability of a right response, mean over prompts.
    pass_at_k : list of float
        Exact probability of at least one right response among k, mean over prompts.
    entropy : list of float
        Mean entropy of the policy, in nats, before the sampled tokens.
    kl : list of float
        Mean KL(policy ‖ start), in nats, before the sampled tokens.
    clip_fraction : list of float
        Share of the sampled tokens whose ratio to the old policy ends further than 0.2 from 1.
    length : list of float
        Mean number of tokens of a sampled response.
    """

    theta: Any
    success: list[float]
    pass_at_k: list[float]
    entropy: list[float]
    kl: list[float]
    clip_fraction: list[float]
    length: list[float]


def train(
    objective,
    *,
    seed,
    task=None,
    start=None,
    hyper=None,
    advantage=group_advantage,
    observe=None,
    change_gradient=None,
    answers=8,
    iterations=60,
    epochs=2,
    minibatches=2,
    lag=0,
    lr=0.05,
    k=8,
    every=1,
):
    """Train with Adam; a run takes a fraction of a second.

    In each iteration every prompt is answered several times, and a few epochs of minibatches (whole groups each)
    follow, so that ratios move. The objective gets those of these values that its arguments name: ``log_prob``,
    ``old_log_prob``, ``behavior_log_prob``, ``ref_log_prob`` (the start), ``logits``, ``old_logits``, ``ref_logits``,
    ``actions``, ``advantage``, ``mask``, ``group``, ``reward``, ``answer``, ``domain`` (the prompt's level),
    ``version`` (the iteration whose policy sampled), ``current_version``, ``entropy`` and ``divergence`` (KL from the
    old policy).

    Parameters
    ----------
    objective : callable
        A token objective, or one of the whole distribution (it names ``logits``).
    seed : int
    task : TokenTask, optional
    start : array (P,), optional
        First parameters; zeros, the uniform policy, if not given.
    hyper : mapping, optional
        Hyper-parameters of the objective.
    advantage : callable
        Of those of the values above that its arguments name, at the start of an iteration, for the whole batch.
    observe : callable, optional
        ``observe(rng, reward) -> reward``: what a noisy verifier says.
    change_gradient : callable, optional
        ``change_gradient(gradient) -> gradient`` before each step.
    answers, iterations, epochs, minibatches : int
    lag : int
        How many iterations the sampling policy is behind.
    lr : float
    k : int
        Of pass@k.
    every : int
        The numbers of every so many iterations are returned.

    Returns
    -------
    Training
    """
    rng, task = np.random.default_rng(seed), task or TokenTask()
    start = xp.zeros(task.size) if start is None else start
    theta, state, past = start, adam.init([start]), []
    full = "logits" in inspect.signature(objective).parameters
    wanted = set(inspect.signature(objective).parameters) | set(
        inspect.signature(advantage).parameters
    )
    prompts = len(task.levels)
    group = xp.repeat(xp.arange(prompts), answers)
    level = xp.asarray(np.array(task.levels))[group]
    result = Training(None, [], [], [], [], [], [])
    for iteration in range(iterations):
        past = [*past, theta][-lag - 1 :]
        responses = task.sample(rng, past[0], group)
        reward = task.reward(responses)
        reward = observe(rng, reward) if observe else reward
        data = {
            "mask": responses.mask,
            "group": group,
            "reward": reward,
            "actions": responses.tokens,
            "domain": level,
        }
        data["behavior_log_prob"] = responses.log_prob
        data["old_logits"] = task.logits(theta, group, responses.tokens)
        data["old_log_prob"] = _taken(data["old_logits"], responses.tokens)
        data["ref_logits"] = task.logits(start, group, responses.tokens)
        if "ref_log_prob" in wanted:
            data["ref_log_prob"] = _taken(data["ref_logits"], responses.tokens)
        if "version" in wanted:
            data["version"] = xp.full(responses.tokens.shape, iteration + 1 - len(past))
        if "answer" in wanted:
            data["answer"] = (
                responses.tokens * (1 + task.vocabulary) ** xp.arange(task.length)
            ).sum(1)
        at_start = {**data, **_of(data["old_logits"], data, wanted)}
        data["advantage"] = call(advantage, at_start)

        for _ in range(epochs):
            order = rng.permutation(prompts)
            for chosen in np.array_split(order, minibatches):
                rows = xp.asarray(
                    (chosen[:, None] * answers + np.arange(answers)).ravel()
                )
                batch = {name: value[rows] for name, value in data.items()}
                logits = task.logits(theta, batch["group"], batch["actions"])
                batch |= _of(logits, batch, wanted)
                _, gradient = call(
                    objective, batch, {"current_version": iteration}, hyper or {}
                )
                if full:
                    gradient = task.logits_vjp(
                        batch["group"], batch["actions"], gradient
                    )
                else:
                    gradient = task.log_prob_vjp(
                        theta, batch["group"], batch["actions"], gradient
                    )
                gradient = change_gradient(gradient) if change_gradient else gradient
                (theta,), state = adam.update([theta], [gradient], state, lr=lr)
        if (iteration + 1) % every == 0:
            _record(result, task, theta, group, data, k)
    return result._replace(theta=theta)


def _taken(logits, tokens):
    return xp.take_along_axis(log_softmax(logits), tokens[..., None], 2)[..., 0]


def _of(logits, data, wanted):
    """What an objective may want to know of the current policy."""
    values = {"logits": logits, "log_prob": _taken(logits, data["actions"])}
    if "entropy" in wanted:
        values["entropy"] = xp.maximum(categorical_entropy(logits)[0], 0)
    if "divergence" in wanted:
        values["divergence"] = xp.maximum(
            categorical_kl(logits, data["old_logits"])[0], 0
        )
    return values


def _record(result, task, theta, group, data, k):
    logits, mask = task.logits(theta, group, data["actions"]), data["mask"]
    p = task.success_probability(theta)
    ratio = xp.exp(_taken(logits, data["actions"]) - data["old_log_prob"])

    def over_tokens(x):
        return float((mask * x).sum() / mask.sum())

    result.success.append(float(p.mean()))
    result.pass_at_k.append(float((1 - (1 - p) ** k).mean()))
    result.entropy.append(over_tokens(categorical_entropy(logits)[0]))
    result.kl.append(over_tokens(categorical_kl(logits, data["ref_logits"])[0]))
    result.clip_fraction.append(over_tokens((abs(ratio - 1) > 0.2).astype(mask.dtype)))
    result.length.append(float(mask.sum(1).mean()))


class BanditTraining(NamedTuple):
    """What the table has become, and how.

    Parameters
    ----------
    logits : array (P, V)
    probabilities : array (iterations + 1, P, V)
        Of all answers to all prompts, at the start and after each iteration.
    """

    logits: Any
    probabilities: Any


def train_bandit(
    objective,
    start,
    right,
    *,
    seed,
    hyper=None,
    advantage=group_advantage,
    answers=8,
    iterations=100,
    epochs=1,
    lr=1.0,
):
    """Train a table of logits, one row a prompt, where an answer is one token; a run takes a fraction of a second.

    In each iteration every prompt is answered several times, and a few steps of plain gradient descent follow, with the
    loss times the number of prompts. The objective gets those of these values that its arguments name: ``log_prob``,
    ``old_log_prob``, ``ref_log_prob`` (the start), ``logits``, ``old_logits``, ``ref_logits``, ``actions``,
    ``advantage``, ``mask``, ``group`` and ``reward``.

    Parameters
    ----------
    objective : callable
        A token objective, or one of the whole distribution (it names ``logits``).
    start : array (P, V)
        First logits, and those of the reference.
    right : array (P, V), 0 or 1
        Which answers are right; or else the probability that a verifier says so.
    seed : int
    hyper : mapping, optional
        Hyper-parameters of the objective.
    advantage : callable
        Of those of the values above that its arguments name, at the start of an iteration.
    answers, iterations, epochs : int
    lr : float

    Returns
    -------
    BanditTraining
    """
    rng, (P, V) = np.random.default_rng(seed), start.shape
    group, logits = xp.repeat(xp.arange(P), answers), start
    probabilities = [xp.exp(log_softmax(start))]
    for _ in range(iterations):
        below = xp.cumsum(probabilities[-1], axis=1)[group][:, :-1] < xp.asarray(
            rng.random((len(group), 1))
        )
        actions = below.sum(1)[:, None]
        chance = xp.asarray(rng.random(len(group)))
        batch = {"actions": actions, "mask": xp.ones((len(group), 1)), "group": group}
        batch["reward"] = (chance < right[group, actions[:, 0]]).astype(float)
        for name, table in {"old": logits, "ref": start}.items():
            batch[f"{name}_logits"] = table[group][:, None]
            batch[f"{name}_log_prob"] = _taken(batch[f"{name}_logits"], actions)
        batch["advantage"] = call(advantage, batch)
        for _ in range(epochs):
            z = logits[group][:, None]
            batch |= {"logits": z, "log_prob": _taken(z, actions)}
            _, gradient = call(objective, batch, hyper or {})
            if "logits" not in inspect.signature(objective).parameters:
                gradient = logit_gradient(z, actions, gradient)
            logits = logits - lr * P * gradient.reshape(P, answers, V).sum(1)
        probabilities.append(xp.exp(log_softmax(logits)))
    return BanditTraining(logits, xp.stack(probabilities))


def tempting_prompts(seed, *, prompts=16, answers=64):
    """Prompts for `train_bandit` with one right answer and a tempting wrong one, which starts at 0.3.

    The right answer starts at 0.15 on the first half of the prompts, and at 0.01 on the other, hard half.

    Parameters
    ----------
    seed, prompts, answers : int

    Returns
    -------
    start, right, tempting : array (P, V)
        The first logits; 1 on the right answers; 1 on the tempting ones.
    """
    rng, rows = np.random.default_rng([seed, 7]), np.arange(prompts)
    p = rng.dirichlet(np.ones(answers), prompts) + 1e-4
    right, tempting = np.array([rng.choice(answers, 2, replace=False) for _ in rows]).T
    share = np.where(rows < prompts // 2, 0.15, 0.01)
    p[rows, right] = p[rows, tempting] = 0
    p *= ((0.7 - share) / p.sum(1))[:, None]
    p[rows, right], p[rows, tempting] = share, 0.3
    return tuple(
        xp.asarray(table)
        for table in (np.log(p), np.eye(answers)[right], np.eye(answers)[tempting])
    )
