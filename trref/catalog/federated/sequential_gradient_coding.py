"""What is known of `trref.federated.sequential_gradient_coding`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method
from trref.federated.sequential_gradient_coding import (
    Decoded,
    Rounds,
    bursty,
    cyclic_code,
    decode,
    decoded,
    encode,
    loads,
    waited,
)
from trref.problems.stragglers import gilbert_elliott


def _wave(s, n):
    """Numbers whose neighbouring columns are independent."""
    return xp.cos(xp.outer(1 + xp.arange(s), xp.arange(n) ** 1.5 + 1.0))


def _code(H):
    H, n = H - H.mean(1, keepdims=True), H.shape[1]
    B = xp.eye(n)
    for i in range(n):
        at = [(i + k) % n for k in range(1, len(H) + 1)]
        B[i, at] = xp.linalg.lstsq(H[:, at], -H[:, i], rcond=None)[0]
    return B


def _draw(rng, size):
    N = int(rng.integers(3, 6))
    S = int(rng.integers(1, N))
    B, P = _code(_wave(S, N)), size
    return {
        "code": B,
        "partial": rng.standard_normal((N, P)),
        "results": rng.standard_normal((N, P)),
        "arrived": (rng.permutation(N) >= S).astype(float),
    }


def _three(arrived):
    return {
        "code": xp.array([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0], [0.5, 0.0, 1.0]]),
        "partial": xp.array([[1.0], [2.0], [-4.0]]),
        "results": xp.array([[3.0], [1.0], [0.5]]),
        "arrived": xp.array(arrived),
    }


CODED = Interface(
    "coded gradients",
    example=_draw,
    edges={
        "all arrived": lambda: _three([1.0, 1.0, 1.0]),
        "too few": lambda: {**_three([1.0, 0.0, 0.0]), "code": xp.eye(3)},
        "nothing": lambda: _three([0.0, 0.0, 0.0]),
        "one worker": lambda: {
            "code": xp.array([[1.0]]),
            "partial": xp.array([[1.0, 2.0]]),
            "results": xp.array([[1.0, 2.0]]),
            "arrived": xp.array([1.0]),
        },
    },
)


def _subset(code, results, arrived):
    rows = code[arrived > 0]
    a = xp.linalg.pinv(rows.T) @ xp.ones(len(code)) if len(rows) else xp.zeros(0)
    off = a @ rows - 1
    enough = float(xp.linalg.norm(off) < 1e-4)
    return Decoded(a @ results[arrived > 0], xp.asarray(enough))


def _share(workers, *, burst, window, stragglers, scheme, dtype="float64"):
    """Counted: chunks of a job, their sizes, and what a worker does of them in a round."""
    result = []
    for n in workers.tolist():
        if scheme == "multiplexed":
            size = 1 if stragglers == n else stragglers + 1  # of an uncoded chunk
            total = n * (window - 1) * size + (n * burst if stragglers < n else 0)
            load = (window - 1 + burst) * size / total
        elif scheme == "bound":
            span = window - 1 + burst
            load = span / (span * (n - stragglers) + (window - 1) * stragglers)
        else:
            s = stragglers
            if scheme == "repeat":
                s = -(-burst * stragglers // (window - 1 + burst))
            load = (s + 1) / n
        result.append(load)
    return xp.array(result, dtype=dtype)


def _late(rng, size):
    p = float(rng.choice((0.05, 0.2)))
    return {
        "late": gilbert_elliott(rng, size, int(rng.integers(2, 7)), enter=p, leave=0.6)
    }


def _rows(*rows):
    return lambda: {"late": xp.array(rows, dtype=float)}


PATTERNS = Interface(
    "stragglers",
    example=_late,
    edges={
        "nobody": _rows([0, 0, 0], [0, 0, 0]),
        "everybody, always": _rows([1, 1], [1, 1], [1, 1], [1, 1]),
        "one round": _rows([0, 1, 0]),
        "one for two rounds, and again": _rows(
            [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]
        ),
        "two in turn": _rows([1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]),
        "a wave": _rows(*[[int(i == r % 4) for i in range(4)] for r in range(9)]),
    },
)


def _by_definition(late, *, burst, window, stragglers):
    told = []
    for r in range(len(late)):
        seen = late[max(r - window + 1, 0) : r + 1]
        who = [i for i in range(late.shape[1]) if seen[:, i].any()]
        spans = [r - xp.flatnonzero(late[: r + 1, i]) for i in who if late[r, i]]
        within = all(max(s[s < window]) < burst for s in spans)
        told.append(float(len(who) <= stragglers and within))
    return xp.array(told)


def _played(late, *, burst, window, stragglers, scheme):
    """Results kept as sets of who returned what of which job."""
    R, n = late.shape
    back = lambda t: {i for i in range(n) if t >= R or not late[t, i]}  # noqa: E731
    told = []
    if scheme == "coding":
        told = [len(back(t)) >= n - stragglers for t in range(R)]
    elif scheme == "repeat":
        s, owed = -(-burst * stragglers // (window - 1 + burst)), {}
        got = {t: set() for t in range(-burst, R + burst)}
        for t in range(R + burst):
            due = sorted(set(range(n)) - owed.get(t - burst, set(range(n))))
            redo = set(due[: max(len(due) - s, 0)])
            got[t - burst] |= redo & back(t)
            got[t] |= back(t) - redo
            owed[t] = back(t) - redo
        told = [len(got[t]) >= n - s for t in range(R)]
    else:
        for t in range(R):
            own = {i: set() for i in range(n)}
            coded = {g: set() for g in range(burst)}
            for m in range(window - 1 + burst):
                for i in back(t + m):
                    missing = sorted(set(range(window - 1)) - own[i])
                    if m < window - 1:
                        own[i].add(m)
                    elif missing:
                        own[i].add(missing[0])
                    else:
                        coded[m - window + 1].add(i)
            told.append(
                all(len(v) == window - 1 for v in own.values())
                and all(len(v) >= n - stragglers for v in coded.values())
            )
    return xp.array([float(x) for x in told])


def _times(rng, size):
    slow = _late(rng, size)["late"]
    return {"times": (1 + 5 * slow) * rng.uniform(1.0, 1.2, slow.shape)}


def _clock(times, *, burst, window, stragglers, scheme, mu=1.0):
    s = -(-burst * stragglers // (window - 1 + burst))
    few = {"coding": stragglers, "repeat": s, "multiplexed": 0}[scheme]
    spent, late = [], []
    for row in times.tolist():
        limit = (1 + mu) * min(row)
        slow = [float(x > limit) for x in row]
        fine = sum(slow) <= few
        if not fine and scheme != "coding":
            pattern = xp.array([*late, slow])
            how = {"burst": burst, "window": window, "stragglers": stragglers}
            fine = bool(_by_definition(pattern, **how)[-1])
        spent.append(min(limit, max(row)) if fine else max(row))
        late.append(slow if fine else [0.0] * len(row))
    return Rounds(xp.array(spent), xp.array(late))


def _no_exemption(times, *, burst, window, stragglers, scheme, mu=1.0):
    if scheme != "repeat":
        return waited(
            times,
            burst=burst,
            window=window,
            stragglers=stragglers,
            scheme=scheme,
            mu=mu,
        )
    how = {"burst": burst, "window": window, "stragglers": stragglers}
    told = waited(times, **how, scheme="multiplexed", mu=mu)
    return told


SHAPE = {"burst": 2, "window": 3, "stragglers": 2}
SCHEMES = {
    "default": {**SHAPE, "scheme": "multiplexed"},
    "selective repetition": {**SHAPE, "scheme": "repeat"},
    "more to repeat": {**SHAPE, "stragglers": 5, "scheme": "repeat"},
    "plain coding": {**SHAPE, "scheme": "coding"},
    "a long window": {
        "burst": 1,
        "window": 5,
        "stragglers": 1,
        "scheme": "multiplexed",
    },
    "single rounds": {"burst": 1, "window": 3, "stragglers": 3, "scheme": "repeat"},
    "probe": {"burst": 3, "window": 4, "stragglers": 2, "scheme": "repeat"},
}

METHOD = Method(
    key="krishnan2022sequential",
    provenance={
        "confirmed": ("bursty", "repeat", "load", "wait"),
        "partly": ("encode", "code", "decode"),
        "reconstructed": ("bound",),
    },
    functions=(
        Estimator(
            f=cyclic_code,
            example=lambda rng, size: {
                "H": _wave(int(rng.integers(1, 3)), max(size, 3))
            },
            edges={
                "one straggler of two": lambda: {"H": xp.array([[1.0, 3.0]])},
                "all but one": lambda: {"H": _wave(3, 4)},
            },
            brute_force=_code,
            refused={
                "as many stragglers as workers": lambda: ({"H": xp.ones((2, 2))}, {}),
                "equal columns": lambda: ({"H": xp.ones((1, 3))}, {}),
            },
        ),
        Estimator(
            f=encode,
            interface=CODED,
            brute_force=lambda code, partial: xp.stack(
                [sum(b * g for b, g in zip(row, partial, strict=True)) for row in code]
            ),
        ),
        Estimator(f=decode, interface=CODED, brute_force=_subset),
        Estimator(
            f=loads,
            example=lambda rng, size: {"workers": rng.integers(6, 40, size)},
            edges={"as many as stragglers": lambda: {"workers": xp.array([6, 7])}},
            settings={
                "default": {**SHAPE, "scheme": "multiplexed"},
                "all may straggle": {
                    "burst": 2,
                    "window": 4,
                    "stragglers": 6,
                    "scheme": "multiplexed",
                },
                "selective repetition": {**SHAPE, "stragglers": 5, "scheme": "repeat"},
                "plain coding": {**SHAPE, "scheme": "coding"},
                "no scheme beats": {**SHAPE, "scheme": "bound"},
                "probe": {
                    "burst": 3,
                    "window": 7,
                    "stragglers": 2,
                    "scheme": "repeat",
                    "dtype": "float32",
                },
            },
            brute_force=_share,
            refused={
                "more stragglers than workers": lambda: (
                    {"workers": xp.array([3])},
                    {"burst": 1, "window": 2, "stragglers": 4, "scheme": "bound"},
                ),
                "a code of nothing": lambda: (
                    {"workers": xp.array([3])},
                    {"burst": 1, "window": 2, "stragglers": 3, "scheme": "coding"},
                ),
            },
        ),
        Estimator(
            f=bursty,
            interface=PATTERNS,
            settings={
                "default": SHAPE,
                "single rounds": {"burst": 1, "window": 4, "stragglers": 1},
                "probe": {"burst": 3, "window": 5, "stragglers": 2},
            },
            brute_force=_by_definition,
        ),
        Estimator(f=decoded, interface=PATTERNS, settings=SCHEMES, brute_force=_played),
        Estimator(
            f=waited,
            example=_times,
            edges={
                "one round": lambda: {"times": xp.array([[1.0, 1.5, 9.0]])},
                "two slow ones": lambda: {
                    "times": xp.array(
                        [[1.0, 4.0, 5.0], [5.0, 1.0, 1.0], [1.0, 6.0, 1.0]]
                    )
                },
                "one worker": lambda: {"times": xp.array([[2.0], [1.0]])},
            },
            settings={
                **SCHEMES,
                "probe": {**SCHEMES["probe"], "mu": 0.7},
            },
            brute_force=_clock,
            deviations=(
                Deviation(
                    "no exemption",
                    _no_exemption,
                    seen_in="the paper's model of stragglers, read as a condition on every round",
                    computes="selective repetition that waits although few enough straggle",
                ),
            ),
        ),
    ),
)
