r"""TrustGeoGen: problems of geometry out of a deduction engine, whose solutions are right by construction.

A scene gives premises :math:`S_0`; rules derive what follows (:mod:`trref.trustworthiness.horn`), and a fact far away
becomes the question. With its proof P and the premises :math:`S_P` that this reaches, a fact is **a problem** if

.. math::
    :label: trustgeogen-length

    |P| \ge \tau_l = 5

rules are applied and the share of premises that are really needed is

.. math::
    :label: trustgeogen-share

    \frac{|S_P|}{|S_0|} \ge \tau_r = \tfrac12 ;

the others stay in the text to distract. **More solutions** of one problem differ in one rule application at least:
ban one rule of the first proof at a time, and prove again,

.. math::
    :label: trustgeogen-alternatives

    P_r = \text{proof with the rules } R \setminus \{r\}, \qquad r \in P .

**A trace that goes back** first follows the proof of another fact, which shares lines with that of the target, returns
to the last shared line, and goes on to the target,

.. math::
    :label: trustgeogen-backtracking

    (P_{wrong} \cap P,\ \ P_{wrong} \setminus P,\ \ P \setminus P_{wrong}) ;

the lines in the middle are the ones to be retracted. All lines are valid, retracted ones, too: they lead elsewhere.
The wrong end is the fact with the most shared lines, and among these with the fewest lines to retract; its proof must
not contain the target's. **Companion questions** ask for

.. math::
    :label: trustgeogen-companions

    S_0 \setminus S_P, \qquad S_r \setminus S_0, \qquad R \setminus P,

premises that idle, facts that the last step takes from before, and rules that the proof does not use. **Harder
problems** start from the facts of the longest proof,

.. math::
    :label: trustgeogen-bootstrap

    S_0 \leftarrow S_0 \cup \{s : s \in P_{longest}\},

together with a new construction (`trref.problems.geometry.extended`). ``min_steps`` is :math:`\tau_l`, ``min_share``
:math:`\tau_r`. With both 0 every derived fact is a problem. A share of 1 says that *this* proof needs all premises,
not that every proof does. Where no other proof branches off, the trace is the proof itself; what does not
follow has no proof.

**What is outside.** Sentences and pictures, thinking that connects problems, the data set, the training of models.

**Where implementations differ.** The authors publish data and no engine. Here a fact has one spelling; with symmetric
spellings as facts of their own, lengths would count rewriting, too.

**Provenance.** The two filters and their thresholds are quoted in public from the paper, bootstrapping and traces that
go back described; how a wrong end, a second proof and the facts of a new start are chosen is reconstructed.

Fu et al., *TrustGeoGen: Scalable and Formal-Verified Data Engine for Trustworthy Multi-modal Geometric
Problem Solving*, 2025, arXiv:2504.15780.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.signature import (
    B,
    Fraction,
    Index,
    K,
    Mask,
    N,
    NonNegative,
    NonNegativeInt,
    PositiveInt,
    Prob,
    R,
    checked,
)
from trref.trustworthiness.horn import cheapest, program_flags, trace


class Problems(NamedTuple):
    """Which facts are problems; steps of each fact's proof, and the share of premises in it."""

    kept: Mask[N]
    steps: NonNegative[N]
    share: Prob[N]


class Backtracking(NamedTuple):
    """The place of each rule in the text, from 1, or 0; and which lines are retracted."""

    place: NonNegative[R]
    retracted: Mask[R]


class Companions(NamedTuple):
    """Premises that idle, derived facts that the last step takes, rules that the proof does not use."""

    idle: Mask[N]
    intermediate: Mask[N]
    unused: Mask[R]


def _premised(premises, **program):
    """No premise, of which there is no share."""
    some = (lambda: premises.max() > 0, "premises must have some fact")
    return [some, *program_flags(premises=premises, **program)]


@checked(also=_premised)
def sampled_problems(
    bodies: Index[R, B],
    heads: Index[R],
    premises: Mask[N],
    *,
    min_steps: NonNegativeInt = 5,
    min_share: Fraction = 0.5,
) -> Problems:
    """Facts whose proof is long and needs most of the premises.

    Parameters
    ----------
    bodies
        The facts that each rule asks for.
    heads
        The fact that each rule derives.
    premises
        1 for the facts that are given.
    min_steps
        Rule applications, at least.
    min_share
        Share of the premises that the proof reaches, at least.
    """
    proofs = _proofs(bodies, heads, premises)
    steps = proofs.rules.sum(1)
    share = proofs.facts @ premises / premises.sum()
    long = steps >= min_steps  # eq. trustgeogen-length
    needy = share >= min_share  # eq. trustgeogen-share
    kept = (steps > 0) & long & needy
    return Problems(kept.astype(premises.dtype), steps, share)


def _proofs(bodies, heads, premises):
    """Of all facts."""
    return trace.unchecked(bodies, heads, premises, xp.arange(len(premises)))


def _targeted(premises, target, **program):
    """A target, or another fact, beyond the last one."""
    if target >= len(premises):
        raise ValueError(
            f"target must be less than the {len(premises)} facts, not {target}"
        )
    hypers = ("bodies", "heads")
    return program_flags(premises=premises, **{k: program[k] for k in hypers})


@checked(also=_targeted)
def alternative_solutions(
    bodies: Index[R, B],
    heads: Index[R],
    premises: Mask[N],
    *,
    target: NonNegativeInt,
    count: PositiveInt = 3,
) -> Mask[K, R]:
    """Different proofs of a target, a row each; rows of 0 where there are fewer.

    Parameters
    ----------
    target
        The fact to prove.
    count
        How many proofs.

    Returns
    -------
    solutions
        Rules of each proof: the first is of cheapest derivations, further ones lack its first rule, its second, …
    """
    goal = xp.asarray([target])
    first = trace.unchecked(bodies, heads, premises, goal).rules[0]
    solutions = [first]
    for rule in range(len(heads)):
        if len(solutions) == count:
            break
        if not bool(first[rule] > 0):
            continue
        # a rule that asks for its own head derives nothing
        banned = (xp.arange(len(heads)) == rule)[:, None]
        others = xp.where(banned, heads[:, None], bodies)
        # eq. trustgeogen-alternatives
        proof = trace.unchecked(others, heads, premises, goal).rules[0]
        known = (xp.stack(solutions) == proof).all(1).any()
        if bool((proof.max() > 0) & ~known):
            solutions.append(proof)
    missing = [xp.zeros_like(first)] * (count - len(solutions))
    return xp.stack(solutions + missing)


@checked(also=_targeted)
def backtracking_trace(
    bodies: Index[R, B],
    heads: Index[R],
    premises: Mask[N],
    *,
    target: NonNegativeInt,
) -> Backtracking:
    """A text that runs into another fact, returns, and proves the target."""
    every = _proofs(bodies, heads, premises).rules
    proof = every[target]
    shared, extra = every @ proof, every @ (1 - proof)
    apart = (shared > 0) & (extra > 0) & (shared < proof.sum())
    # most shared lines first, then the fewest to retract
    merit = xp.where(apart, shared - extra / len(heads), 0)
    wrong = xp.where(merit.max() > 0, every[merit.argmax()], proof)
    # eq. trustgeogen-backtracking
    part = xp.where(proof > 0, xp.where(wrong > 0, 0, 2), xp.where(wrong > 0, 1, 3))
    cost = cheapest.unchecked(bodies, heads, premises).cost[heads]
    keys = [xp.arange(len(heads)).astype(cost.dtype), cost, part.astype(cost.dtype)]
    order = xp.lexsort(xp.stack(keys))
    place = xp.argsort(order) + 1
    return Backtracking(
        xp.where(part < 3, place, 0).astype(premises.dtype), wrong * (1 - proof)
    )


@checked(also=_targeted)
def companions(
    bodies: Index[R, B],
    heads: Index[R],
    premises: Mask[N],
    *,
    target: NonNegativeInt,
) -> Companions:
    """What the companion questions ask for."""
    proof = trace.unchecked(bodies, heads, premises, xp.asarray([target]))
    facts, rules = proof.facts[0], proof.rules[0]
    last = (rules > 0) & (heads == target)
    asked = (bodies[:, :, None] == xp.arange(len(premises))).any(1)
    intermediate = (asked & last[:, None]).any(0).astype(premises.dtype)
    # eq. trustgeogen-companions
    return Companions(premises * (1 - facts), intermediate * (1 - premises), 1 - rules)


@checked(also=program_flags)
def bootstrap_premises(
    bodies: Index[R, B], heads: Index[R], premises: Mask[N]
) -> Mask[N]:
    """Premises, and all facts of the longest proof."""
    proofs = _proofs(bodies, heads, premises)
    longest = proofs.rules.sum(1).argmax()
    return xp.maximum(premises, proofs.facts[longest])  # eq. trustgeogen-bootstrap
