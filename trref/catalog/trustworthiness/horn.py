"""What is known of `trref.trustworthiness.horn`."""

import heapq

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method
from trref.trustworthiness.horn import (
    Cheapest,
    Closure,
    Trace,
    cheapest,
    closure,
    trace,
    verify,
)


def _program(rng, size):
    """Random rules; two in three lead from smaller numbers to a greater one."""
    N, R, B = size + 7, 3 * size + 9, int(rng.integers(2, 4))
    bodies, heads = rng.integers(0, N, (R, B)), rng.integers(0, N, R)
    up = rng.random(R) < 2 / 3
    low = rng.integers(0, xp.maximum(heads, 1)[:, None], (R, B))
    bodies = xp.where(up[:, None], low, bodies)
    return {
        "bodies": bodies,
        "heads": heads,
        "premises": (xp.arange(N) < 4).astype(float),
        "targets": rng.integers(0, N, int(rng.integers(2, 5))),
        "lines": (lines := rng.integers(0, R, int(rng.integers(4, 9)))),
        "claims": xp.where(rng.random(len(lines)) < 0.9, heads[lines], 0),
    }


def given(bodies, heads, premises):
    """A program of facts 0 to 7, with all facts as targets and every rule as a line."""
    heads = xp.array(heads)
    return {
        "bodies": xp.array(bodies),
        "heads": heads,
        "premises": xp.array([float(n in premises) for n in range(8)]),
        "targets": xp.arange(8),
        "lines": xp.arange(len(heads)),
        "claims": heads,
    }


PROGRAM = Interface(
    "programs",
    example=_program,
    edges={
        "a lemma used twice": lambda: given(
            [[0, 1], [2, 0], [2, 1], [3, 4]], [2, 3, 4, 5], (0, 1)
        ),
        "a circle": lambda: given(
            [[4, 4], [3, 3], [0, 0], [5, 4]], [3, 4, 5, 6], (0, 1)
        ),
        "two ways, equally long": lambda: given(
            [[0, 0], [1, 1], [2, 2], [3, 3], [0, 1]], [2, 3, 4, 4, 5], (0, 1)
        ),
        "a deep way is cheaper than a wide one": lambda: given(
            [
                [0, 0, 0],
                [2, 2, 2],
                [3, 3, 3],
                [2, 5, 6],
                [1, 1, 1],
                [1, 1, 1],
                [0, 1, 1],
            ],
            [2, 3, 4, 4, 5, 6, 7],
            (0, 1),
        ),
        "a premise is derived, too": lambda: given(
            [[0, 0], [1, 0], [4, 0]], [1, 4, 5], (0, 1)
        ),
        "what is far is said first": lambda: given(
            [[4, 4], [3, 3], [2, 2], [0, 1]], [5, 4, 3, 2], (0, 1)
        ),
        "another way ends elsewhere": lambda: given(
            [[0, 1], [2, 0], [2, 1], [3, 1], [4, 0]], [2, 3, 4, 5, 6], (0, 1, 7)
        ),
    },
)
"""``f(bodies (R B), heads (R), premises (N), …)`` with targets (T), lines and claims (L) where asked for."""


def _rules(bodies, heads):
    return [
        (frozenset(map(int, body)), int(head))
        for body, head in zip(bodies, heads, strict=True)
    ]


def _by_sets(bodies, heads, premises):
    """The naive fixed point."""
    known = {n: 0 for n, p in enumerate(premises) if p}
    while True:
        new = {h for body, h in _rules(bodies, heads) if body <= known.keys()}
        if new <= known.keys():
            break
        known |= dict.fromkeys(new - known.keys(), max(known.values()) + 1)
    N = range(len(premises))
    return Closure(
        xp.array([float(n in known) for n in N]),
        xp.array([float(known.get(n, 0)) for n in N]),
    )


def _by_heap(bodies, heads, premises, join=sum):
    """Knuth's algorithm: the cheapest fact of the queue is final."""
    rules, final = _rules(bodies, heads), {}
    queue = [(0.0, n) for n, p in enumerate(premises) if p]
    while queue:
        cost, fact = heapq.heappop(queue)
        if fact in final:
            continue
        final[fact] = cost
        for body, head in rules:
            if fact in body and body <= final.keys():
                heapq.heappush(queue, (1.0 + join(final[b] for b in body), head))
    chosen = [0] * len(premises)
    for r, (body, head) in reversed(list(enumerate(rules))):
        if body <= final.keys() and not premises[head]:
            tree = 1 + join(final[b] for b in body)
            chosen[head] = r if tree == final[head] else chosen[head]
    N = range(len(premises))
    return Cheapest(
        xp.array([float(n in final) for n in N]),
        xp.array([final.get(n, 0.0) for n in N]),
        xp.array(chosen),
    )


def _minimal_height(bodies, heads, premises):
    host = [part.tolist() for part in (bodies, heads, premises)]
    derivable, cost, rule = _by_heap(*host, join=max)
    return Cheapest(derivable, cost.astype(premises.dtype), rule)


def proof_of(target, bodies, heads, premises):
    """Facts and rules by recursion."""
    best, rules = _by_heap(bodies, heads, premises), _rules(bodies, heads)
    facts, used = set(), set()

    def prove(fact):
        if fact in facts:
            return
        facts.add(fact)
        if not premises[fact]:
            used.add(int(best.rule[fact]))
            for b in rules[int(best.rule[fact])][0]:
                prove(b)

    if best.derivable[target]:
        prove(int(target))
    return facts, used


def _by_recursion(bodies, heads, premises, targets):
    proofs = [proof_of(t, bodies, heads, premises) for t in targets]
    N, R = len(premises), len(heads)
    return Trace(
        xp.array([[float(n in facts) for n in range(N)] for facts, _ in proofs]),
        xp.array([[float(r in used) for r in range(R)] for _, used in proofs]),
    )


def _line_by_line(bodies, heads, premises, lines, claims):
    known = {n for n, p in enumerate(premises) if p}
    valid = []
    for line, claim in zip(lines.tolist(), claims.tolist(), strict=True):
        body, head = _rules(bodies, heads)[line]
        valid.append(float(body <= known and head == claim))
        if valid[-1]:
            known.add(claim)
    return xp.array(valid)


REFUSED = {
    "a body that is no fact": {"bodies": 99},
    "a head that is no fact": {"heads": 99},
}


METHOD = Method(
    key="fu2025trustgeogen",
    provenance={
        "partly": ("graph", "closure", "trace"),
        "reconstructed": ("cost", "verify"),
    },
    functions=(
        Estimator(
            f=closure,
            interface=PROGRAM,
            brute_force=_by_sets,
            refused=REFUSED,
        ),
        Estimator(
            f=cheapest,
            interface=PROGRAM,
            brute_force=_by_heap,
            deviations=(
                Deviation(
                    "minimal height",
                    _minimal_height,
                    seen_in="souffle-lang/souffle, provenance (-t explain)",
                    computes="the height of the lowest tree, 1 + max over the body",
                ),
            ),
            refused=REFUSED,
        ),
        Estimator(
            f=trace,
            interface=PROGRAM,
            brute_force=_by_recursion,
            refused={
                "a body that is no fact": {"bodies": 99},
                "a head that is no fact": {"heads": 99},
                "a target that is no fact": {"targets": 99},
            },
        ),
        Estimator(
            f=verify,
            interface=PROGRAM,
            brute_force=_line_by_line,
            refused={
                "a body that is no fact": {"bodies": 99},
                "a head that is no fact": {"heads": 99},
                "a line that is no rule": {"lines": 99},
                "a claim that is no fact": {"claims": 99},
            },
        ),
    ),
)
