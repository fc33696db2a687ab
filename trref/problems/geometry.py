"""Scenes of plane geometry with exact coordinates, facts about them, and rules that derive facts (host).

A fact is a tuple of a predicate and points, in one spelling: ``("para", 0, 1, 2, 3)`` says that lines 01 and 23 have
one direction, ``perp`` that they are perpendicular, ``cong`` that the segments are equally long, ``midp`` that the
first point is the middle of the others, ``coll`` and ``cyclic`` that points lie on a line or a circle, ``eqangle`` that
the full angle (modulo 180°) from the first line to the second is that from the third to the fourth. Coordinates are
fractions or floats: all constructions are rational, all predicates polynomial, so that facts can be checked exactly.

Rules are Horn clauses over points. Some hold for true triangles only, or ask which way round two triangles lie; what
decides that is constant over all redraws but special ones, and is read off the coordinates. Not in the rules, though
true: transitivity of equal angles, similar triangles, concurrence of altitudes, Pappus, and whatever needs a new point.
"""

import dataclasses
import functools
import itertools
from fractions import Fraction

import numpy as np

__all__ = [
    "RULES",
    "Program",
    "Rule",
    "Scene",
    "extended",
    "ground",
    "holds",
    "random_scene",
    "spellings",
]


@dataclasses.dataclass(frozen=True)
class Rule:
    """``name: body -> head`` with letters for points; `guard` is none, "triangle", "alike" or "mirrored"."""

    name: str
    body: tuple
    head: tuple
    guard: str = ""


def _rule(name, text, guard=""):
    body, head = text.split(" -> ")
    atoms = [tuple(atom.split()) for atom in body.split(", ")]
    return Rule(name, tuple(atoms), tuple(head.split()), guard)


RULES = (
    _rule("parallel to one line", "para A B C D, para C D E F -> para A B E F"),
    _rule("perpendicular to one line", "perp A B C D, perp C D E F -> para A B E F"),
    _rule("perpendicular to a parallel", "perp A B C D, para C D E F -> perp A B E F"),
    _rule("equal to one segment", "cong A B C D, cong C D E F -> cong A B E F"),
    _rule("halves", "midp M A B -> cong A M M B"),
    _rule("on the segment", "midp M A B -> coll M A B"),
    _rule("one line, one direction", "coll A B C -> para A B A C"),
    _rule("one direction, one line", "para A B A C -> coll A B C"),
    _rule("mid-segment", "midp M A B, midp N A C -> para M N B C", "triangle A B C"),
    _rule(
        "parallelogram", "para A B C D, para A D B C -> cong A B C D", "triangle A B C"
    ),
    _rule("isosceles", "cong O A O B -> eqangle O A A B A B O B", "triangle O A B"),
    _rule(
        "equal base angles", "eqangle O A A B A B O B -> cong O A O B", "triangle O A B"
    ),
    _rule("bisector", "midp M A B, perp O M A B -> cong O A O B"),
    _rule("axis", "midp M A B, cong O A O B -> perp O M A B"),
    _rule("right angle", "midp M A B, perp C A C B -> cong M A M C"),
    _rule("one centre", "cong O A O B, cong O A O C, cong O A O D -> cyclic A B C D"),
    _rule("inscribed angles", "cyclic A B C D -> eqangle A C C B A D D B"),
    _rule(
        "equal subtended angles",
        "eqangle A C C B A D D B -> cyclic A B C D",
        "triangle A B C",
    ),
    _rule(
        "alternate angles", "para A B C D -> eqangle A B A C C D A C", "triangle A B C"
    ),
    _rule("equal alternate angles", "eqangle A B A C C D A C -> para A B C D"),
    _rule(
        "three sides",
        "cong A B D E, cong B C E F, cong A C D F -> eqangle A B B C D E E F",
        "alike A B C D E F",
    ),
    _rule(
        "three sides, mirrored",
        "cong A B D E, cong B C E F, cong A C D F -> eqangle A B B C E F D E",
        "mirrored A B C D E F",
    ),
)


# ------------------------------------------------------------------------------------------------------------- facts


def _lines(points):
    return [tuple(sorted(points[i : i + 2])) for i in range(0, len(points), 2)]


@functools.lru_cache(100_000)
def spellings(fact):
    """All ways to write a fact; none if it says nothing (a segment without length, a line with itself)."""
    name, *p = fact
    if name in ("coll", "cyclic"):
        return (
            {(name, *q) for q in itertools.permutations(p)}
            if len(set(p)) == len(p)
            else set()
        )
    if name == "midp":
        return {(name, *p), (name, p[0], p[2], p[1])} if len(set(p)) == 3 else set()
    lines = _lines(p)
    if any(a == b for a, b in lines):
        return set()
    if name == "eqangle":
        a, b, c, d = lines
        if (a, c) == (b, d) or (a, b) == (c, d):  # of lines with themselves
            return set()
        orders = [(a, b, c, d), (c, d, a, b), (b, a, d, c), (d, c, b, a)]
        orders += [(a, c, b, d), (b, d, a, c), (c, a, d, b), (d, b, c, a)]
    else:
        if lines[0] == lines[1]:
            return set()
        orders = [tuple(lines), tuple(lines[::-1])]
    return {
        (name, *itertools.chain(*turned))
        for order in orders
        for turned in itertools.product(*[(line, line[::-1]) for line in order])
    }


@functools.lru_cache(100_000)
def _canonical(fact):
    """The first spelling; None if the fact says nothing."""
    return min(spellings(fact), default=None)


def holds(fact, coordinates, tolerance=0):
    """Whether a fact is true of coordinates: exactly if these are fractions, else up to a relative tolerance."""
    name, *p = fact
    at = [coordinates[i] for i in p]
    if name == "midp":
        m, a, b = at
        pairs = [(2 * m[i], a[i] + b[i]) for i in (0, 1)]
    elif name == "coll":
        u, v = _minus(at[1], at[0]), _minus(at[2], at[0])
        pairs = [(u[0] * v[1], u[1] * v[0])]
    elif name == "cyclic":
        a, b, c, d = at
        return holds(("eqangle", 0, 2, 2, 1, 0, 3, 3, 1), (a, b, c, d), tolerance)
    else:
        v = [_minus(at[i + 1], at[i]) for i in range(0, len(at), 2)]
        if name == "eqangle":
            pairs = [
                (
                    _cross(v[0], v[1]) * _dot(v[2], v[3]),
                    _cross(v[2], v[3]) * _dot(v[0], v[1]),
                )
            ]
        elif name == "cong":
            pairs = [(_dot(v[0], v[0]), _dot(v[1], v[1]))]
        elif name == "para":
            pairs = [(v[0][0] * v[1][1], v[0][1] * v[1][0])]
        else:
            pairs = [(v[0][0] * v[1][0], -v[0][1] * v[1][1])]
    scale = max(abs(x) for point in at for x in point) ** {"eqangle": 4, "midp": 1}.get(
        name, 2
    )
    return all(abs(a - b) <= tolerance * scale for a, b in pairs)


def _minus(a, b):
    return a[0] - b[0], a[1] - b[1]


def _cross(u, v):
    return u[0] * v[1] - u[1] * v[0]


def _dot(u, v):
    return u[0] * v[0] + u[1] * v[1]


# ------------------------------------------------------------------------------------------------------------ scenes


@dataclasses.dataclass(frozen=True)
class Scene:
    """Steps ``(construction, points…)``, what they give, and coordinates of one drawing."""

    steps: tuple
    premises: tuple
    coordinates: tuple

    def redrawn(self, rng):
        """The same steps from other free points."""
        return _built(self.steps, rng)


def _foot(p, a, b):
    u = _minus(b, a)
    t = _dot(_minus(p, a), u) / _dot(u, u)
    return a[0] + t * u[0], a[1] + t * u[1]


def _mirrored(p, m):
    return 2 * m[0] - p[0], 2 * m[1] - p[1]


def _fraction(rng):
    return Fraction(int(rng.integers(-40, 41)), int(rng.integers(1, 8)))


def _step(kind, p, new, at, rng):
    """The new point of a construction, and the facts that it gives."""
    if kind == "free":
        return (_fraction(rng), _fraction(rng)), []
    a, b = at[p[0]], at[p[1]]
    if kind == "midpoint":
        return ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2), [("midp", new, *p)]
    if kind == "reflected":  # in a point
        return _mirrored(a, b), [("midp", p[1], p[0], new)]
    c = at[p[2]]
    if kind == "foot":  # of the first point on the line of the others
        return _foot(a, b, c), [
            ("perp", p[0], new, p[1], p[2]),
            ("coll", new, p[1], p[2]),
        ]
    if kind == "parallelogram":
        return (a[0] + c[0] - b[0], a[1] + c[1] - b[1]), [
            ("para", p[0], p[1], p[2], new),
            ("para", p[0], new, p[1], p[2]),
        ]
    if kind == "mirrored":  # in the line of the others
        return _mirrored(a, _foot(a, b, c)), [
            ("cong", p[1], p[0], p[1], new),
            ("cong", p[2], p[0], p[2], new),
            ("perp", p[0], new, p[1], p[2]),
        ]
    # on the circle about the first point through the second, on the line from there to the third
    return _mirrored(b, _foot(a, b, c)), [
        ("cong", p[0], p[1], p[0], new),
        ("coll", p[1], p[2], new),
    ]


ARGUMENTS = {
    "midpoint": 2,
    "reflected": 2,
    "foot": 3,
    "parallelogram": 3,
    "mirrored": 3,
    "circle": 3,
}


def _built(steps, rng, tries=200):
    """Draw the free points until no two points coincide and each construction's points are a triangle."""
    for _ in range(tries):
        at, premises = [], []
        for kind, *p in steps:
            if kind != "free" and not _proper([at[i] for i in p]):
                break
            point, facts = _step(kind, p, len(at), at, rng)
            if point in at:
                break
            at.append(point)
            premises += [_canonical(fact) for fact in facts]
        else:
            return Scene(tuple(steps), tuple(dict.fromkeys(premises)), tuple(at))
    raise ValueError(f"steps {steps} gave no proper drawing in {tries} tries")


def _proper(points):
    return (
        len(points) < 3
        or _cross(_minus(points[1], points[0]), _minus(points[2], points[0])) != 0
    )


def random_scene(rng, points=6):
    """Three free points and random constructions from them, up to a number of points."""
    scene = _built([("free",)] * 3, rng)
    while len(scene.coordinates) < points:
        scene = extended(scene, rng)
    return scene


def extended(scene, rng, tries=50):
    """The scene with one more construction from random points of it, whose preconditions hold."""
    for _ in range(tries):
        kind = str(rng.choice(list(ARGUMENTS)))
        p = rng.permutation(len(scene.coordinates))[: ARGUMENTS[kind]].tolist()
        try:
            return _built([*scene.steps, (kind, *p)], rng, tries=5)
        except ValueError:
            continue
    raise ValueError(
        f"scene of {len(scene.coordinates)} points could not be extended in {tries} tries"
    )


# --------------------------------------------------------------------------------------------------------- grounding


@dataclasses.dataclass(frozen=True)
class Program:
    """Facts, ground rules as `trref.trustworthiness.horn` takes them, and the name of each."""

    facts: tuple
    bodies: np.ndarray
    heads: np.ndarray
    premises: np.ndarray
    names: tuple


def ground(premises, coordinates, rules=RULES):
    """All rule applications from premises: semi-naive, each round matches bodies with one new fact at least."""
    facts = dict.fromkeys(_canonical(fact) for fact in premises)
    given, new, found = len(facts), list(facts), {}
    written = _Spelled()
    while new:
        latest = _Spelled()
        for fact in new:
            written.add(fact)
            latest.add(fact)
        heads = {}
        for rule in rules:
            for fresh in range(len(rule.body)):
                for points in _matches(rule.body, fresh, written, latest):
                    head = _canonical(_put(rule.head, points))
                    if head is None or not _guarded(rule.guard, points, coordinates):
                        continue
                    body = frozenset(
                        _canonical(_put(atom, points)) for atom in rule.body
                    )
                    if head not in body:
                        found.setdefault((body, head), rule.name)
                        heads[head] = None
        new = [head for head in heads if head not in facts]
        facts |= dict.fromkeys(new)
    number = {fact: i for i, fact in enumerate(facts)}
    widest = max([len(body) for body, _ in found], default=1)
    bodies = [sorted(number[fact] for fact in body) for body, _ in found]
    return Program(
        tuple(facts),
        np.array([b + [b[0]] * (widest - len(b)) for b in bodies], dtype=int).reshape(
            len(bodies), widest
        ),
        np.array([number[head] for _, head in found], dtype=int),
        (np.arange(len(facts)) < given).astype(float),
        tuple(found.values()),
    )


class _Spelled:
    """Facts in all spellings, looked up by predicate and the points at some places."""

    def __init__(self):
        self.all, self.tables = {}, {}

    def add(self, fact):
        name = fact[0]
        # sorted, so that the order of rules is the same in every run
        self.all.setdefault(name, []).extend(s[1:] for s in sorted(spellings(fact)))
        for key in [key for key in self.tables if key[0] == name]:
            del self.tables[key]

    def find(self, name, places, values):
        if (name, places) not in self.tables:
            table = self.tables[name, places] = {}
            for spelled in self.all.get(name, []):
                table.setdefault(tuple(spelled[i] for i in places), []).append(spelled)
        return self.tables[name, places].get(values, [])


def _matches(body, fresh, written, latest):
    """Points for the letters of a body, where the atom `fresh` is among the latest facts."""
    order = [fresh, *(i for i in range(len(body)) if i != fresh)]
    found = [{}]
    for i in order:
        name, *letters = body[i]
        bound = [k for k, x in enumerate(letters) if found and x in found[0]]
        pool = latest if i == fresh else written
        grown = []
        for points in found:
            values = tuple(points[letters[k]] for k in bound)
            for spelled in pool.find(name, tuple(bound), values):
                put = dict(points)
                if all(
                    put.setdefault(x, p) == p
                    for x, p in zip(letters, spelled, strict=True)
                ):
                    grown.append(put)
        found = grown
    return found


def _put(atom, points):
    return (atom[0], *(points[x] for x in atom[1:]))


def _guarded(guard, points, coordinates):
    """Whether triangles are no segments, and lie as the guard says."""
    if not guard:
        return True
    kind, *letters = guard.split()
    at = [coordinates[points[x]] for x in letters]
    area = [
        _cross(_minus(b, a), _minus(c, a))
        for a, b, c in zip(at[::3], at[1::3], at[2::3], strict=True)
    ]
    if kind == "triangle":
        return area[0] != 0
    return area[0] * area[1] > 0 if kind == "alike" else area[0] * area[1] < 0
