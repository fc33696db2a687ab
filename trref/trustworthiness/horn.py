r"""Horn programs: everything that rules make of premises, the cheapest way to a fact, and the proof of it.

Facts are numbers. A ground rule :math:`S_r \to s'` derives its head s' where all facts :math:`S_r` of its body are
known; from premises :math:`S_0` the rules R span the state graph

.. math::
    :label: horn-graph

    G = (S, S_0, R, \to), \qquad \to\ \subseteq \{(S_r, r, s') : S_r \subset S,\ r \in R,\ s' \in S\},

a directed hypergraph, whose facts are the smallest set with

.. math::
    :label: horn-closure

    S = S_0 \cup \{s' : S_r \subset S,\ S_r \xrightarrow{r} s'\} .

It is found in rounds: a fact's round is the first in which a body is complete. **A fact costs** as much as its
cheapest derivation, a tree of rule applications,

.. math::
    :label: horn-cost

    c(s) = 0 \text{ if } s \in S_0, \qquad c(s) = \min_{S_r \xrightarrow{r} s} 1 + \sum_{b \in S_r} c(b),

where a lemma that is used twice is paid twice. That is Knuth's generalisation of shortest paths to hypergraphs;
passes over all rules reach the fixed point, because a cheapest tree repeats no fact on a branch. **A proof** walks back
from its target with the rule that attains the minimum, and expands each fact once:

.. math::
    :label: horn-trace

    P = \{(S_{i-1}, r_s, s) \mid \forall s \in S_i,\ S_{i-1} \xrightarrow{r_s} s,\ i = n, \dots, 1\} .

Costs strictly increase along a rule, so that the walk cannot loop, and lines in the order of their costs are a valid
text. :math:`|P| \le c(s)`, since P says a lemma once; the *fewest* lines are NP-hard to find, and P does not claim
them. **A line is valid** if its body stands above it and what it claims is its rule's head,

.. math::
    :label: horn-verify

    v_l = [S_{r_l} \subset S_0 \cup \{s_k : k < l,\ v_k = 1\}]\, [s_l = \text{head}(r_l)] .

A shorter body repeats a fact, which counts once. What cannot be derived has a cost of 0 and no proof, never infinity;
of equally cheap rules the first is taken. In floating point, a cost must stay below the largest number.

**Where implementations differ.** Soufflé explains a fact by a tree of minimal height, 1 + max over the body: it may
take more rule applications. Walking back over *any* stored derivation, as the formula of the paper permits, may loop.

**Provenance.** Graph, closure and walk are quoted in public from the paper (arXiv:2504.15780). The cost, which makes
the walk well defined, and the check of a line are reconstructed; the cost is Knuth's (1977).

Fu et al., *TrustGeoGen: Scalable and Formal-Verified Data Engine for Trustworthy Multi-modal Geometric
Problem Solving*, 2025, arXiv:2504.15780.
"""

from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.signature import B, Binary, Index, L, Mask, N, NonNegative, R, T, checked


class Closure(NamedTuple):
    """What follows from the premises, and in which round; 0 for premises, and for what does not follow."""

    derivable: Mask[N]
    rounds: NonNegative[N]


class Cheapest(NamedTuple):
    """What follows, the cost of each fact's cheapest tree, and that tree's last rule; 0 where there is none."""

    derivable: Mask[N]
    cost: NonNegative[N]
    rule: Index[N]


class Trace(NamedTuple):
    """Facts and rules of each target's proof."""

    facts: Mask[T, N]
    rules: Mask[T, R]


def program_flags(bodies, heads, premises, **_):
    """Facts beyond the last one, for `also`."""
    N = len(premises)
    return [
        validate.labels(bodies, N, "bodies"),
        validate.labels(heads, N, "heads"),
    ]


@checked(also=program_flags)
def closure(bodies: Index[R, B], heads: Index[R], premises: Mask[N]) -> Closure:
    """All facts that follow.

    Parameters
    ----------
    bodies
        The facts that each rule asks for.
    heads
        The fact that each rule derives.
    premises
        1 for the facts that are given.
    """
    known, rounds = premises > 0, xp.zeros_like(premises)
    while True:
        # eq. horn-graph
        derived = (_concludes(heads, len(known)) & known[bodies].all(1)).any(1)
        new = derived & ~known
        if not bool(new.any()):
            return Closure(known.astype(premises.dtype), rounds)
        rounds = xp.where(new, rounds.max() + 1, rounds)
        known = known | new  # eq. horn-closure


def _concludes(heads, N):
    """Whether fact n is the head of rule r (N, R)."""
    return xp.arange(N)[:, None] == heads


@checked(also=program_flags)
def cheapest(bodies: Index[R, B], heads: Index[R], premises: Mask[N]) -> Cheapest:
    """Cost of the cheapest derivation of every fact; 0 for what does not follow."""
    concludes = _concludes(heads, len(premises))
    once = ~_repeated(bodies)
    given, cost = premises > 0, xp.full_like(premises, xp.inf)
    while True:
        tree = 1 + xp.where(once, cost[bodies], 0).sum(1)
        offers = xp.where(concludes, tree, xp.inf)
        lower = xp.where(given, 0, offers.min(1))  # eq. horn-cost
        if not bool((lower < cost).any()):
            break
        cost = lower
    derivable = cost < xp.inf
    return Cheapest(
        derivable.astype(premises.dtype),
        xp.where(derivable, cost, 0),
        xp.where(derivable & ~given, offers.argmin(1), 0),
    )


def _repeated(bodies):
    """Where a body names a fact again."""
    B = bodies.shape[1]
    earlier = xp.arange(B)[:, None] > xp.arange(B)
    return ((bodies[:, :, None] == bodies[:, None, :]) & earlier).any(2)


def _targets(targets, premises, **program):
    """Targets, and other facts, beyond the last one."""
    flag = validate.labels(targets, len(premises), "targets")
    return [flag, *program_flags(premises=premises, **program)]


@checked(also=_targets)
def trace(
    bodies: Index[R, B], heads: Index[R], premises: Mask[N], targets: Index[T]
) -> Trace:
    """Proofs by cheapest derivations; nothing for a target that does not follow.

    Parameters
    ----------
    targets
        The facts to prove.
    """
    best = cheapest.unchecked(bodies, heads, premises)
    facts = (xp.arange(len(premises)) == targets[:, None]) & (best.derivable > 0)
    derived = (best.derivable > 0) & (premises == 0)
    chosen = derived[heads] & (best.rule[heads] == xp.arange(len(heads)))
    # which facts stand in the body of the chosen rule
    asked = (bodies[:, :, None] == xp.arange(len(premises))).any(1)
    while True:
        rules = facts[:, heads] & chosen
        needed = rules.astype(premises.dtype) @ asked.astype(premises.dtype) > 0
        if not bool((needed & ~facts).any()):
            break
        facts = facts | needed  # eq. horn-trace
    return Trace(facts.astype(premises.dtype), rules.astype(premises.dtype))


def _lines(lines, heads, premises, claims, **program):
    """Rules and facts beyond the last one."""
    return [
        validate.labels(lines, len(heads), "lines"),
        validate.labels(claims, len(premises), "claims"),
        *program_flags(heads=heads, premises=premises, **program),
    ]


@checked(also=_lines)
def verify(
    bodies: Index[R, B],
    heads: Index[R],
    premises: Mask[N],
    lines: Index[L],
    claims: Index[L],
) -> Binary[L]:
    """Whether each line of a proof follows from what stands above it.

    Parameters
    ----------
    lines
        The rule that each line applies.
    claims
        The fact that each line says it derives.
    """
    known, facts = premises > 0, xp.arange(len(premises))
    right = heads[lines] == claims
    valid = []
    for line in range(len(lines)):
        valid.append(known[bodies[lines[line]]].all() & right[line])
        known = known | (valid[-1] & (facts == claims[line]))  # eq. horn-verify
    return xp.stack(valid).astype(premises.dtype)
