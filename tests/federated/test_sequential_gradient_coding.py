"""Every pattern of stragglers decodes, both schemes on random bursty patterns, and loads in their limits."""

import itertools

import numpy as np
import pytest

from trref.federated.sequential_gradient_coding import (
    bursty,
    cyclic_code,
    decode,
    decoded,
    encode,
    loads,
    waited,
)
from trref.problems.samples import LinearSamples
from trref.problems.stragglers import gilbert_elliott


@pytest.mark.parametrize(("n", "s"), [(5, 1), (5, 3), (6, 2), (7, 4)])
def test_any_of_the_others_decode(n, s):
    rng = np.random.default_rng(n)
    code = cyclic_code(rng.standard_normal((s, n)))
    for i in range(n):
        outside = [j for j in range(n) if (j - i) % n > s]
        assert code[i, i] == 1 and not code[i, outside].any()
    g = rng.standard_normal((n, 3))
    results = encode(code, g)
    for lost in itertools.combinations(range(n), s):
        arrived = np.array([float(i not in lost) for i in range(n)])
        told = decode(code, np.where(arrived[:, None] > 0, results, 99.0), arrived)
        assert np.allclose(told.gradient, g.sum(0), atol=1e-8, rtol=1e-9) and told.complete == 1
    lost = np.array([float(i > s) for i in range(n)])
    assert decode(code, results, lost).complete == 0


def test_a_gradient_end_to_end():
    rng = np.random.default_rng(0)
    samples = LinearSamples(rng.standard_normal((30, 4)), rng.standard_normal(30))
    theta, chunks = rng.standard_normal(4), np.array_split(np.arange(30), 6)
    g = np.stack([samples.on(rows)(theta)[1] * len(rows) / 30 for rows in chunks])
    code = cyclic_code(rng.standard_normal((2, 6)))
    told = decode(code, encode(code, g), np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]))
    assert np.allclose(told.gradient, samples(theta)[1], atol=1e-10, rtol=1e-9)


def _conforming(rng, burst, window, stragglers, workers, rounds):
    """A pattern drawn round by round: what would break it does not happen."""
    rows = []
    for row in gilbert_elliott(rng, rounds, workers, enter=0.2, leave=0.4):
        for keep in (row, np.zeros(workers)):
            if bursty(np.array([*rows, keep]), burst=burst, window=window, stragglers=stragglers)[-1]:
                rows.append(keep)
                break
    return np.array(rows)


@pytest.mark.parametrize(
    ("scheme", "shape"),
    [
        ("multiplexed", {"burst": 2, "window": 4, "stragglers": 3}),
        ("multiplexed", {"burst": 1, "window": 2, "stragglers": 6}),
        ("multiplexed", {"burst": 3, "window": 5, "stragglers": 2}),
        ("repeat", {"burst": 2, "window": 5, "stragglers": 4}),
        ("repeat", {"burst": 1, "window": 3, "stragglers": 3}),
    ],
)
def test_every_bursty_pattern_is_decoded(scheme, shape):
    rng, some = np.random.default_rng(1), 0
    for _ in range(25):
        late = _conforming(rng, **shape, workers=6, rounds=20)
        some += late.sum()
        assert decoded(late, **shape, scheme=scheme).all()
    assert some > 100


def _by_definition(late, burst, window, stragglers):
    """In each window of so many rounds: few different stragglers, and each of them within a burst."""
    rounds = len(late)
    for start in range(max(rounds - window, 0) + 1):
        part = late[start : start + window] > 0
        when = [np.flatnonzero(column) for column in part.T if column.any()]
        if len(when) > stragglers or any(w[-1] - w[0] >= burst for w in when):
            return False
    return True


@pytest.mark.parametrize(
    ("workers", "rounds", "shape"),
    [
        (2, 5, {"burst": 2, "window": 3, "stragglers": 1}),
        (3, 3, {"burst": 1, "window": 2, "stragglers": 2}),
    ],
)
def test_all_patterns_of_few_workers(workers, rounds, shape):
    """Which are bursty, by definition; that these are decoded, by both schemes; and that some others are not."""
    lost = dict.fromkeys(("repeat", "multiplexed"), 0)
    for bits in itertools.product((0.0, 1.0), repeat=workers * rounds):
        late = np.array(bits).reshape(rounds, workers)
        fits = _by_definition(late, **shape)
        assert bursty.unchecked(late, **shape).all() == fits
        for scheme in lost:
            told = decoded.unchecked(late, **shape, scheme=scheme).all()
            assert told or not fits
            lost[scheme] += not told
    assert min(lost.values()) > 0


def test_and_others_may_not_be():
    late = np.zeros((6, 4))
    late[1:4, 0] = 1
    shape = {"burst": 2, "window": 3, "stragglers": 1}
    assert not bursty(late, **shape).all() and not decoded(late, **shape, scheme="multiplexed").all()
    assert decoded(late, **shape, scheme="coding").all(), "one straggler a round, whenever"
    late[2] = 1
    assert not decoded(late, **shape, scheme="coding")[2]


def test_patterns_by_hand():
    """A worker that straggles in rounds 0 and 1 may do so again W rounds after the last."""
    shape = {"burst": 2, "window": 4, "stragglers": 2}
    for gap, fits in ((3, 0.0), (4, 1.0)):
        late = np.zeros((7, 3))
        late[[0, 1, 1 + gap], 0] = 1
        assert bursty(late, **shape)[1 + gap] == fits
    late = np.zeros((4, 3))
    late[[0, 1, 2], [0, 1, 2]] = 1
    assert np.array_equal(bursty(late, **shape), [1, 1, 0, 0])


def test_loads():
    shape = {"burst": 2, "window": 3, "stragglers": 4}
    told = {
        scheme: loads(np.array([20]), **shape, scheme=scheme)[0]
        for scheme in ("multiplexed", "repeat", "coding", "bound")
    }
    assert told["multiplexed"] == pytest.approx(1 / 12) and told["repeat"] == pytest.approx(0.15)
    assert told["coding"] == pytest.approx(0.25) and told["bound"] == pytest.approx(4 / 72)
    for n, B, W in itertools.product((4, 9), (1, 2, 3), (2, 4, 7)):
        for most in range(1, n + 1):
            how = {"burst": B, "window": W, "stragglers": most}
            ours, least = (loads(np.array([n]), **how, scheme=s)[0] for s in ("multiplexed", "bound"))
            assert least <= ours * (1 + 1e-12) and ours <= 1 + 1e-12
            if most >= n - 1:
                assert ours == pytest.approx(least)
    far = loads(np.array([10]), burst=2, window=4000, stragglers=3, scheme="multiplexed")[0]
    assert far == pytest.approx(0.1, rel=1e-3)


def test_waiting_by_hand():
    times = np.array([[1.0, 1.5, 9.0], [8.0, 7.0, 1.0], [1.0, 1.0, 1.0]])
    shape = {"burst": 1, "window": 2, "stragglers": 1}
    told = waited(times, **shape, scheme="multiplexed")
    assert np.array_equal(told.times, [2, 8, 1]) and np.array_equal(told.stragglers, [[0, 0, 1], [0] * 3, [0] * 3])
    late = np.array([[1.0, 1.0, 9.0], [1.0, 9.0, 1.0]])
    assert np.array_equal(waited(late, **shape, scheme="repeat").times, [2, 2]), "few enough each time"
    assert np.array_equal(waited(late, **shape, scheme="multiplexed").times, [2, 9])


def test_bad_input():
    with pytest.raises(ValueError, match="fewer rows"):
        cyclic_code(np.ones((3, 3)))
    with pytest.raises(ValueError, match="workers must be more"):
        loads(np.array([3]), burst=1, window=2, stragglers=3, scheme="coding")
