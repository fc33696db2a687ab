"""What is known of `trref.trustworthiness.trustgeogen`."""

from trref.backend import xp
from trref.catalog import Estimator, Interface, Method
from trref.catalog.trustworthiness.horn import PROGRAM, given, proof_of
from trref.trustworthiness.trustgeogen import (
    Backtracking,
    Companions,
    Problems,
    alternative_solutions,
    backtracking_trace,
    bootstrap_premises,
    companions,
    sampled_problems,
)

PROGRAMS = Interface(
    "programs of problems",
    example=PROGRAM.example,
    edges={
        **PROGRAM.edges,
        "three ways": lambda: given(
            [[0, 1], [0, 0], [2, 2], [3, 3], [1, 0], [6, 0]], [2, 3, 5, 5, 6, 5], (0, 1)
        ),
        "a chain of five, and all premises": lambda: given(
            [[0, 1], [2, 2], [3, 3], [4, 4], [6, 6]], [2, 3, 4, 6, 5], (0, 1)
        ),
        "a detour that begins below": lambda: given(
            [[0, 0], [2, 2], [3, 3], [1, 1], [3, 4]], [2, 3, 5, 4, 6], (0, 1)
        ),
        "one line": lambda: given([[0, 0]], [5], (0, 1)),
        "which lines to retract": lambda: given(
            [[0, 0], [2, 2], [2, 1], [3, 0], [6, 1], [2, 0]],
            [2, 5, 3, 6, 7, 4],
            (0, 1),
        ),
    },
)


def _row(numbers, length):
    return xp.array([float(n in numbers) for n in range(length)])


def _one_by_one(bodies, heads, premises, *, min_steps=5, min_share=0.5):
    proofs = [proof_of(n, bodies, heads, premises) for n in range(len(premises))]
    all_given = {n for n, p in enumerate(premises) if p}
    steps = [len(used) for _, used in proofs]
    share = [len(facts & all_given) / len(all_given) for facts, _ in proofs]
    kept = [
        float(0 < s >= min_steps and q >= min_share)
        for s, q in zip(steps, share, strict=True)
    ]
    return Problems(xp.array(kept), xp.array(steps, dtype=float), xp.array(share))


def _without(rule, bodies, heads, premises, target):
    """The proof from the other rules, in their own numbers."""
    rest = [r for r in range(len(heads)) if r != rule]
    if not rest:
        return frozenset()
    return frozenset(
        rest[r] for r in proof_of(target, bodies[rest], heads[rest], premises)[1]
    )


def _by_removal(bodies, heads, premises, *, target, count=3):
    first = frozenset(proof_of(target, bodies, heads, premises)[1])
    found = [first]
    for rule in sorted(first):
        other = _without(rule, bodies, heads, premises, target)
        if other and other not in found:
            found.append(other)
    found = [*found[:count], *[()] * (count - len(found))]
    return xp.stack([_row(rules, len(heads)) for rules in found])


def _by_merit(bodies, heads, premises, *, target):
    proofs = [proof_of(n, bodies, heads, premises)[1] for n in range(len(premises))]
    proof = proofs[target]
    apart = [w for w in proofs if w & proof and w - proof and proof - w]
    wrong = max(apart, key=lambda w: (len(w & proof), -len(w - proof)), default=proof)
    text, known = [], {n for n, p in enumerate(premises) if p}
    for part in (wrong & proof, wrong - proof, proof - wrong):
        text += sorted(part, key=lambda r: (_tree(r, bodies, heads, premises), r))
    for rule in text:
        assert set(bodies[rule].tolist()) <= known, "a line stands too early"
        known.add(int(heads[rule]))
    place = [text.index(r) + 1.0 if r in text else 0.0 for r in range(len(heads))]
    return Backtracking(xp.array(place), _row(wrong - proof, len(heads)))


def _tree(rule, bodies, heads, premises):
    """Rule applications in the tree below a fact, with repetition."""
    best = {int(heads[r]): r for r in proof_of(heads[rule], bodies, heads, premises)[1]}

    def size(fact):
        if premises[fact]:
            return 0
        return 1 + sum(size(b) for b in set(bodies[best[fact]].tolist()))

    return size(int(heads[rule]))


def _left_over(bodies, heads, premises, *, target):
    facts, used = proof_of(target, bodies, heads, premises)
    all_given = {n for n, p in enumerate(premises) if p}
    last = {b for r in used if heads[r] == target for b in bodies[r].tolist()}
    return Companions(
        _row(all_given - facts, len(premises)),
        _row(last - all_given, len(premises)),
        _row(set(range(len(heads))) - used, len(heads)),
    )


def _with_longest(bodies, heads, premises):
    proofs = [proof_of(n, bodies, heads, premises) for n in range(len(premises))]
    longest = max(proofs, key=lambda proof: len(proof[1]))[0]
    return _row(longest | {n for n, p in enumerate(premises) if p}, len(premises))


TARGETS = {"default": {"target": 5}, "probe": {"target": 6}}
BEYOND = {
    "a target beyond": lambda: (
        {
            "bodies": xp.array([[0]]),
            "heads": xp.array([1]),
            "premises": xp.array([1.0, 0.0]),
        },
        {"target": 2},
    )
}

METHOD = Method(
    key="fu2025trustgeogen",
    provenance={
        "partly": ("length", "share"),
        "reconstructed": (
            "alternatives",
            "backtracking",
            "companions",
            "bootstrap",
        ),
    },
    functions=(
        Estimator(
            f=sampled_problems,
            interface=PROGRAMS,
            settings={
                "default": {},
                "every derived fact": {"min_steps": 0, "min_share": 0.0},
                "all premises": {"min_steps": 0, "min_share": 1.0},
                "probe": {"min_steps": 2, "min_share": 0.75},
            },
            brute_force=_one_by_one,
            refused={
                "no premise": lambda: (
                    {
                        "bodies": xp.array([[0]]),
                        "heads": xp.array([1]),
                        "premises": xp.zeros(2),
                    },
                    {},
                )
            },
        ),
        Estimator(
            f=alternative_solutions,
            interface=PROGRAMS,
            settings={
                "default": {"target": 5},
                "one": {"target": 5, "count": 1},
                "probe": {"target": 4, "count": 2},
            },
            brute_force=_by_removal,
            refused=BEYOND,
        ),
        Estimator(
            f=backtracking_trace,
            interface=PROGRAMS,
            settings=TARGETS,
            brute_force=_by_merit,
            refused=BEYOND,
        ),
        Estimator(
            f=companions,
            interface=PROGRAMS,
            settings=TARGETS,
            brute_force=_left_over,
            refused=BEYOND,
        ),
        Estimator(
            f=bootstrap_premises,
            interface=PROGRAMS,
            brute_force=_with_longest,
            refused={
                "a body that is no fact": {"bodies": 99},
                "a head that is no fact": {"heads": 99},
            },
        ),
    ),
)
