"""What is known of `trref.gradients.gcond`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method
from trref.gradients.gcond import (
    Momentum,
    Pair,
    Resolved,
    accumulated,
    conflict_angle,
    momentum,
    resolve,
    resolve_pair,
    signed_step,
)


def _batches(rng, size):
    M = int(rng.integers(1, 4))
    K, P = M * int(rng.integers(1, 4)), size
    return {"gradients": rng.standard_normal((K, M, P)) + rng.standard_normal((M, P))}


def _share(gradients, *, stochastic=False):
    K, M, _ = gradients.shape
    rows = []
    for i in range(M):
        seen = [gradients[k, i] for k in range(K) if not stochastic or k % M == i]
        rows.append(sum(seen) / len(seen))
    return xp.stack(rows)


def _angle(c, weak=0.0, main=-0.5, crit=-0.8, power=2.0):
    if c >= weak:
        return 0.0
    if c >= main:
        return math.pi / 2 * (weak - c) / (weak - main)
    if c >= crit:
        return math.pi / 2 + math.pi / 2 * ((main - c) / (main - crit)) ** power
    return math.pi


def _cosine(a, b):
    lengths = math.hypot(*a) * math.hypot(*b)
    return (
        math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths
        if lengths
        else 0.0
    )


def _two(winner, loser, **thresholds):
    a, b = winner.tolist(), loser.tolist()
    alpha = _angle(_cosine(a, b), **thresholds)
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    squares = [math.fsum(x * x for x in v) or 1.0 for v in (a, b)]
    s_w, s_l = math.sin(alpha), math.sin(min(alpha, math.pi / 2))
    return Pair(
        winner - s_w * dot / squares[1] * loser, loser - s_l * dot / squares[0] * winner
    )


def _conflicting(rng, size):
    """Two gradients of any lengths, with a cosine on either side of each threshold."""
    a, b = xp.linalg.qr(rng.standard_normal((max(size, 2), 2)))[0].T[:, :size]
    c = rng.choice((-0.93, -0.7, -0.6, -0.3, -0.1, 0.4))
    lengths = xp.exp(rng.uniform(-2, 2, 2))
    return {
        "winner": lengths[0] * a,
        "loser": lengths[1] * (c * a + (1 - c * c) ** 0.5 * b),
    }


def _vectors(winner, loser):
    return lambda: {"winner": xp.array(winner), "loser": xp.array(loser)}


def _state(gradients, previous=None, average=None, wins=None):
    G = xp.array(gradients)
    M = len(G)
    return {
        "gradients": G,
        "previous": xp.zeros_like(G) if previous is None else xp.array(previous),
        "norm_average": xp.ones(M) if average is None else xp.array(average),
        "wins": xp.zeros((M, M)) if wins is None else xp.array(wins),
    }


def _tasks(rng, size):
    """One to four tasks with conflicts, and a history that is at odds with their order."""
    M, P = int(rng.integers(1, 5)), size
    share = rng.choice((-1.0, 1.0, 0.6), (M, 1))
    G = share * rng.standard_normal(P) + 0.8 * rng.standard_normal((M, P))
    G = G * xp.exp(rng.uniform(-1, 1, (M, 1)))
    previous = rng.choice((-1.0, 0.0, 1.0), (M, 1)) * G + rng.standard_normal((M, P))
    streak = rng.integers(0, 4, (M, M))
    average = xp.exp(rng.uniform(-1, 1, M))
    return _state(G, previous, average, xp.triu(streak, 1).astype(float))


STATE = Interface(
    "tasks_with_history",
    example=_tasks,
    edges={
        "one task": lambda: _state([[1.0, -2.0, 0.5]]),
        "no conflict": lambda: _state([[1.0, 0.0], [0.5, 2.0]]),
        "orthogonal": lambda: _state([[0.7, 0.0, 0.0], [0.0, 0.1, -0.3]]),
        "one is 0": lambda: _state([[1.0, 2.0], [0.0, 0.0], [-2.0, 1.5]]),
        "a conflict at the first step": lambda: _state([[3.0, 1.0], [-1.0, 1.0]]),
        "equal scores": lambda: _state([[1.0, 0.0], [-0.6, 0.8]]),
        "the winner has won too often": lambda: _state(
            [[1.0, 0.0], [-0.8, 0.7]],
            [[1.0, 0.1], [0.3, 1.0]],
            wins=[[0.0, 3.0], [0.0, 0.0]],
        ),
        "it has won twice": lambda: _state(
            [[1.0, 0.0], [-0.8, 0.7]],
            [[1.0, 0.1], [0.3, 1.0]],
            wins=[[0.0, 2.0], [0.0, 0.0]],
        ),
        "it turned round": lambda: _state(
            [[1.0, 0.0], [-0.8, 0.7]], [[-1.0, 0.1], [-0.3, 1.0]], [0.2, 3.0]
        ),
        "short, with zeros": lambda: _state([[0.0, 0.1], [0.05, -0.2]]),
        "the mean of the norms is short": lambda: _state(
            [[1.0, 0.0], [-2.4, 3.2]], average=[0.0, 0.25]
        ),
        "steady against long": lambda: _state(
            [[1.0, 0.0], [-0.8, 0.6]],
            [[0.4, 0.9165], [0.332, 0.943]],
            [1.0, 0.6491],
        ),
        "a correction changes who is steady": lambda: _state(
            [[2.0, -2.0], [-2.0, -3.0], [0.0, 2.0]],
            [[3.0, 3.0], [-3.0, 2.0], [-2.0, -1.0]],
        ),
        "three at odds": lambda: _state(
            [[1.0, 0.1, 0.0], [-0.6, 0.9, 0.2], [-0.5, -1.0, 0.3]],
            average=[1.0, 2.0, 0.1],
        ),
    },
)


def _loop(gradients, previous, norm_average, wins, thresholds, how, again):
    """Resolve pairs, with scores of the gradients as they were, or again of what is left of them."""
    stability_weight, beta, window, eps = how
    rows, before = gradients.tolist(), previous.tolist()
    sizes = [math.hypot(*g) for g in rows]
    average = [
        beta * n + (1 - beta) * s
        for n, s in zip(norm_average.tolist(), sizes, strict=True)
    ]
    stable = [max(0.0, _cosine(g, h)) for g, h in zip(rows, before, strict=True)]
    streak, M = (
        {(i, j): wins[i, j] for i in range(len(rows)) for j in range(len(rows))},
        len(rows),
    )
    for _ in range(2 * M):
        pairs = {
            (i, j): _cosine(rows[i], rows[j])
            for i in range(M)
            for j in range(i + 1, M)
            if any(rows[i]) and any(rows[j])
        }
        if not pairs or min(pairs.values()) >= thresholds["weak"] - 1e-6:
            break
        pair = min(pairs, key=pairs.get)
        if again:
            sizes = [math.hypot(*g) for g in rows]
            stable = [
                max(0.0, _cosine(g, h)) for g, h in zip(rows, before, strict=True)
            ]
        a = {k: sizes[k] / (average[k] + eps) for k in pair}
        score = {
            k: stability_weight * stable[k]
            + (1 - stability_weight) * a[k] / sum(a.values())
            for k in pair
        }
        w = max(pair, key=score.get)
        l = sum(pair) - w
        if streak[w, l] >= window:
            w, l = l, w
        streak[w, l] += 1
        streak[l, w] = 0.0
        new = _two(xp.array(rows[w]), xp.array(rows[l]), **thresholds)
        rows[w], rows[l] = new.winner.tolist(), new.loser.tolist()
    after = xp.array(rows)
    table = xp.array([[float(streak[i, j]) for j in range(M)] for i in range(M)])
    return Resolved(after.sum(0), after, gradients, xp.array(average), table)


def _by_lists(
    gradients,
    previous,
    norm_average,
    wins,
    *,
    weak=0.0,
    main=-0.5,
    crit=-0.8,
    power=2.0,
    stability_weight=0.8,
    beta=0.95,
    window=3,
    eps=1e-8,
):
    thresholds = {"weak": weak, "main": main, "crit": crit, "power": power}
    how = stability_weight, beta, window, eps
    return _loop(gradients, previous, norm_average, wins, thresholds, how, False)


def _scored_again(
    gradients,
    previous,
    norm_average,
    wins,
    *,
    weak=0.0,
    main=-0.5,
    crit=-0.8,
    power=2.0,
    stability_weight=0.8,
    beta=0.95,
    window=3,
    eps=1e-8,
):
    thresholds = {"weak": weak, "main": main, "crit": crit, "power": power}
    how = stability_weight, beta, window, eps
    return _loop(gradients, previous, norm_average, wins, thresholds, how, True)


def _keeps_the_corrected(
    gradients,
    previous,
    norm_average,
    wins,
    *,
    weak=0.0,
    main=-0.5,
    crit=-0.8,
    power=2.0,
    stability_weight=0.8,
    beta=0.95,
    window=3,
    eps=1e-8,
):
    told = resolve(
        gradients,
        previous,
        norm_average,
        wins,
        weak=weak,
        main=main,
        crit=crit,
        power=power,
        stability_weight=stability_weight,
        beta=beta,
        window=window,
        eps=eps,
    )
    return told._replace(previous=told.gradients.copy())


def _zones(winner, loser, *, weak=0.0, main=-0.5, crit=-0.8, power=2.0):
    lengths = xp.sqrt((winner * winner).sum() * (loser * loser).sum())
    c = (winner * loser).sum() / xp.where(lengths > 0, lengths, 1)
    squares = (xp.where((v * v).sum() > 0, (v * v).sum(), 1) for v in (winner, loser))
    other, own = (lengths * c / square for square in squares)
    projected = xp.where(c < crit, 0, loser - other * winner)
    return Pair(
        winner - xp.where((c >= main) & (c < weak), own, 0) * loser,
        xp.where(c < weak, projected, loser),
    )


def _as_a_list(pair):
    return {"gradients": xp.stack(list(pair)), "order": xp.array([[1, 0], [0, 1]])}


def _at_main(inputs):
    """two tasks whose cosine is -1/2"""
    P = len(inputs["gradients"][0]) + 1
    a, b = xp.zeros(P), xp.zeros(P)
    a[0], b[0], b[1] = 2.0, -0.5, 0.75**0.5
    return _state([a.tolist(), b.tolist()]), _as_a_list((a, b))


THRESHOLDS = {"weak": -0.05, "main": -0.4, "crit": -0.7, "power": 1.5}

OUT_OF_ORDER = {
    "thresholds out of order": {"crit": -0.3},
}


METHOD = Method(
    key="alveslimarenko2025gcond",
    provenance="confirmed",
    functions=(
        Estimator(
            f=accumulated,
            example=_batches,
            edges={"one batch": lambda: {"gradients": xp.array([[[1.0, -2.0, 0.0]]])}},
            settings={
                "default": {},
                "in turn": {"stochastic": True},
                "probe": {"stochastic": True},
            },
            brute_force=_share,
            refused={
                "three batches for two tasks": lambda: (
                    {"gradients": xp.ones((3, 2, 2))},
                    {"stochastic": True},
                )
            },
        ),
        Estimator(
            f=conflict_angle,
            example=lambda rng, size: {"cosine": rng.uniform(-1, 1, size)},
            edges={
                "on the thresholds": lambda: {
                    "cosine": xp.array([0.0, -0.5, -0.8, -1.0])
                }
            },
            settings={"default": {}, "probe": THRESHOLDS},
            brute_force=lambda cosine, **how: xp.array(
                [_angle(c, **how) for c in cosine]
            ),
            refused={
                "thresholds in another order": lambda: (
                    {"cosine": xp.array([0.0])},
                    {"main": -0.9},
                )
            },
        ),
        Estimator(
            f=resolve_pair,
            example=_conflicting,
            edges={
                "no conflict": _vectors([1.0, 0.0], [0.5, 2.0]),
                "nothing to lose": _vectors([1.0, 2.0], [0.0, 0.0]),
                "nothing to win": _vectors([0.0, 0.0], [1.0, 2.0]),
                "severe": _vectors([3.0, 0.0], [-2.0, 0.5]),
                "short, with zeros": _vectors([0.0, 0.1], [0.05, -0.2]),
            },
            settings={"default": {}, "probe": THRESHOLDS},
            brute_force=_two,
            deviations=(
                Deviation(
                    "zones",
                    _zones,
                    seen_in="AlevLab-dev/GCond grad_conductor.py (1b0518a), use_smooth_logic=False",
                    computes="0 in the place of a loser below crit, a full projection of it below main, and of both "
                    "in a milder conflict",
                ),
            ),
            refused=OUT_OF_ORDER,
        ),
        Estimator(
            f=resolve,
            interface=STATE,
            settings={
                "default": {},
                "no conflict counts": {"weak": -0.79, "main": -0.795},
                "by length alone": {"stability_weight": 0.0, "window": 1},
                "probe": {
                    **THRESHOLDS,
                    "stability_weight": 0.3,
                    "beta": 0.6,
                    "window": 2,
                    "eps": 0.1,
                },
            },
            brute_force=_by_lists,
            limits=(
                Limit(to="pcgrad.surgery", hyper={}, where=_at_main, part="direction"),
            ),
            deviations=(
                Deviation(
                    "keeps the corrected gradients",
                    _keeps_the_corrected,
                    seen_in="AlevLab-dev/GCond grad_conductor.py",
                    computes="as the previous gradients those that were corrected in place",
                ),
                Deviation(
                    "scored again",
                    _scored_again,
                    seen_in="AlevLab-dev/GCond grad_conductor.py (1b0518a), _run_arbitrator",
                    computes="scores of what earlier corrections have left of the gradients",
                ),
            ),
            refused=OUT_OF_ORDER,
        ),
        Estimator(
            f=momentum,
            example=lambda rng, size: {
                "average": rng.standard_normal(size),
                "direction": rng.standard_normal(size),
            },
            edges={
                "at first": lambda: {
                    "average": xp.zeros(2),
                    "direction": xp.array([1.0, -3.0]),
                }
            },
            settings={
                "default": {"step": 1},
                "later": {"step": 50},
                "probe": {"step": 3, "beta": 0.7},
            },
            brute_force=lambda average, direction, step, beta=0.9: Momentum(
                direction + beta * (average - direction),
                (direction + beta * (average - direction))
                / sum((1 - beta) * beta**k for k in range(step)),
            ),
        ),
        Estimator(
            f=signed_step,
            example=lambda rng, size: {
                "theta": rng.standard_normal(size),
                "corrected": rng.choice((1e-3, 1.0)) * rng.standard_normal(size),
            },
            edges={
                "nothing moved": lambda: {
                    "theta": xp.array([1.0, 2.0]),
                    "corrected": xp.zeros(2),
                },
                "some did not": lambda: {
                    "theta": xp.array([1.0, 2.0]),
                    "corrected": xp.array([0.0, -0.5]),
                },
            },
            settings={"default": {}, "probe": {"kappa": 0.03}},
            brute_force=lambda theta, corrected, kappa=1e-4: xp.array(
                [
                    kappa
                    * min(100.0, math.hypot(*theta) / (math.hypot(*corrected) or 1.0))
                    * ((m > 0) - (m < 0))
                    for m in corrected.tolist()
                ]
            ),
        ),
    ),
)
