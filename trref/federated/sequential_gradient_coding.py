r"""Sequential gradient coding: late workers are forgiven if they are late in bursts.

N workers compute the gradients of one job after the other, each a sum over chunks of the data. Some straggle in a
round, and their results are lost. *Gradient coding* (GC) sends sums of chunks in which up to s losses do not matter:
worker i has the chunks :math:`i, \dots, i + s` (modulo n) and returns

.. math::
    :label: sequential-gradient-coding-encode

    \ell_i = \sum_j B_{ij}\, g_j,

with a matrix of which any :math:`n - s` rows have the vector of ones in their span. One takes any H (s, n) with
:math:`H 1 = 0`, sets :math:`B_{ii} = 1`, and solves for the s other entries of each row,

.. math::
    :label: sequential-gradient-coding-code

    H_{[:,\, i+1 \dots i+s]}\, b = -H_{:,\, i}, \qquad \text{so that} \quad H B^\top = 0.

From the results A that arrived the whole gradient is

.. math::
    :label: sequential-gradient-coding-decode

    \sum_j g_j = \sum_{i \in A} a_i\, \ell_i, \qquad a^\top B_A = 1^\top.

Every worker does :math:`(s+1)/n` of the work then, in each round, for the sake of the worst one. If a job may be
finished some rounds late, less will do, as long as stragglers come in bursts: in each window of W rounds at most
:math:`\lambda` different workers straggle, and each of them within B consecutive rounds:

.. math::
    :label: sequential-gradient-coding-bursty

    \Big| \bigcup_{r \in \text{window}} \text{stragglers}(r) \Big| \le \lambda, \qquad
    \text{last} - \text{first} < B \text{ for each worker in a window.}

*Selective repetition* (SR, where B divides W - 1) codes with

.. math::
    :label: sequential-gradient-coding-repeat

    s = \Big\lceil \frac{B\lambda}{W - 1 + B} \Big\rceil, \qquad \text{load } \frac{s+1}{n}, \qquad \text{delay } B:

in round t, if more than s workers, v of them, did not return job t - B when it was new, the first v - s of these do it
again, and all others do job t. A job is decoded from :math:`n - s` results of its two rounds. In a round with at most s
stragglers nothing is asked of the pattern.

*Multiplexing* (M) cuts a job into n (W - 1) chunks that are not coded, W - 1 for each worker, and nB small ones that
are, in B groups of a :math:`(n, \lambda)` code. A worker does a mini-task for each of the last W - 1 + B jobs in every
round: for the m-th round of a job, its m-th uncoded chunk, for m < W - 1; then one that is still missing, or else its
coded result of group m - (W - 1). A job is decoded, with a delay of W - 2 + B, if all uncoded chunks and at least
:math:`n - \lambda` results of each group have arrived. All mini-tasks are of one size, and the load is

.. math::
    :label: sequential-gradient-coding-load

    L = \frac{(\lambda + 1)(W - 1 + B)}{n\, (B + (W - 1)(\lambda + 1))}, \qquad
    \frac{W - 1 + B}{n\, (W - 1)} \text{ for } \lambda = n,

close to

.. math::
    :label: sequential-gradient-coding-bound

    L \ge \frac{W - 1 + B}{n (W - 1) + B (n - \lambda)},

which no scheme can beat (:math:`\lambda` workers that straggle in B of every W - 1 + B rounds lose that much), and met
for :math:`\lambda \ge n - 1`. As jobs end late, a job must not need the result of the one before: run as many problems
in turn as jobs are open at once.

In a real run nobody knows who straggles: one waits for :math:`1 + \mu` times the time of the fastest,

.. math::
    :label: sequential-gradient-coding-wait

    T_r = \begin{cases} \min(\max_i T_{ri},\, (1 + \mu) \min_i T_{ri}) & \text{if the pattern may go on like this} \\
    \max_i T_{ri} & \text{else, and nobody straggles.} \end{cases}

**Where implementations differ.** A simulation of SR without the exemption of rounds with few stragglers waits for
everybody far more often.

**Provenance.** Loads, delays, tasks and decodability are confirmed in public class files of the schemes; the cyclic
code is from memory (Tandon et al. 2017); the bound is derived and agrees with the paper's form as remembered. Both
schemes are checked on random patterns here.

Krishnan et al., *Sequential Gradient Coding For Straggler Mitigation*, 2022, arXiv:2211.13802.
"""

import math
from typing import Annotated, Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.krylov.terms import floats
from trref.signature import (
    A,
    Index,
    Mask,
    N,
    P,
    Positive,
    PositiveFloat,
    PositiveInt,
    R,
    Real,
    S,
    Scalar,
    checked,
)

Scheme = Literal["coding", "repeat", "multiplexed"]
Window = Annotated[int, "[2, inf)"]


class Decoded(NamedTuple):
    """The sum of all chunks' gradients, and whether the results were enough."""

    gradient: Real[P]
    complete: Scalar
    """1 if the results were enough, else 0, and the gradient is not whole."""


class Rounds(NamedTuple):
    """How long each round took, and who was taken for a straggler."""

    times: Positive[R]
    stragglers: Mask[R, N]


def _fewer_than_workers(H, **_):
    """As many stragglers as workers, or rows of which some columns depend on each other."""
    S, N = H.shape
    if S >= N:
        raise ValueError(f"H must have fewer rows than its {N} columns, not {S}")
    known = xp.where(abs(H) <= validate.LARGEST[H.dtype.itemsize], H, 0)
    blocks = xp.stack(_blocks(known))
    s = xp.linalg.svd(blocks, compute_uv=False)
    return [
        (
            lambda: (s[:, -1] > 1e-9 * s[:, 0]).all(),
            "H must have independent neighbouring columns",
        )
    ]


def _blocks(H):
    """For each worker, the columns of H, centred, at its further chunks."""
    H, (S, N) = H - H.mean(1, keepdims=True), H.shape
    doubled = xp.concatenate([H, H], axis=1)
    return [doubled[:, i + 1 : i + 1 + S] for i in range(N)]


@checked(also=_fewer_than_workers)
def cyclic_code(H: Real[S, N]) -> Real[N, N]:
    """A code for N workers that survives S stragglers.

    Parameters
    ----------
    H
        Any numbers, such as normal ones; each row's mean is taken off.
    """
    S = len(H)
    first = -(H - H.mean(1, keepdims=True)).T[..., None]
    # eq. sequential-gradient-coding-code
    b = xp.linalg.solve(xp.stack(_blocks(H)), first)[..., 0]
    rows = [
        xp.roll(
            xp.concatenate([xp.ones_like(x[:1]), x, xp.zeros_like(H[0, S + 1 :])]), i
        )
        for i, x in enumerate(b)
    ]
    return xp.stack(rows)


@checked
def encode(code: Real[N, N], partial: Real[N, P]) -> Real[N, P]:
    """What each worker returns.

    Parameters
    ----------
    code
        A row a worker.
    partial
        The gradient of each chunk.
    """
    return code @ partial  # eq. sequential-gradient-coding-encode


@checked
def decode(code: Real[N, N], results: Real[N, P], arrived: Mask[N]) -> Decoded:
    """The whole gradient, from the results that arrived.

    Parameters
    ----------
    results
        Of each worker; any numbers where they did not arrive.
    arrived
        1 for those that did.
    """
    # eq. sequential-gradient-coding-decode
    rows, one = arrived[:, None] * code, xp.ones_like(arrived)
    a = xp.linalg.lstsq(rows.T, one, rcond=None)[0] * arrived
    off = a @ rows - one
    return Decoded(a @ results, (abs(off).max() < 1e-3).astype(code.dtype))


def _enough_workers(workers, *, stragglers, scheme, **_):
    """More stragglers than workers, or a code of nothing else."""
    if scheme == "multiplexed" or scheme == "bound":
        return [(lambda: workers.min() >= stragglers, "workers must not be fewer")]
    return [
        (lambda: workers.min() > stragglers, "workers must be more than stragglers")
    ]


def _repeats(burst, window, stragglers):
    # eq. sequential-gradient-coding-repeat
    return math.ceil(burst * stragglers / (window - 1 + burst))


@checked(also=_enough_workers)
def loads(
    workers: Index[A],
    *,
    burst: PositiveInt,
    window: Window,
    stragglers: PositiveInt,
    scheme: Literal["coding", "repeat", "multiplexed", "bound"],
    dtype: Literal["float64", "float32"] = "float64",
) -> Positive[A]:
    """Each worker's share of the work of a whole gradient, per round.

    Parameters
    ----------
    workers
        Numbers of workers.
    burst
        B: rounds within which a worker's straggling lies, in each window.
    window
        W, rounds.
    stragglers
        The most that straggle in a window, or in a round for plain coding.
    scheme
        Or the bound for all of those with such stragglers.
    """
    n = workers.astype(dtype)
    B, V, most = burst, window - 1, stragglers
    if scheme == "coding":
        return (most + 1) / n
    if scheme == "repeat":
        return (_repeats(burst, window, stragglers) + 1) / n
    if scheme == "bound":
        return (V + B) / (
            n * V + B * (n - most)
        )  # eq. sequential-gradient-coding-bound
    # eq. sequential-gradient-coding-load
    coded = (most + 1) * (V + B) / (n * (B + V * (most + 1)))
    return xp.where(n == most, (V + B) / (n * V), coded)


@checked
def bursty(
    late: Mask[R, N], *, burst: PositiveInt, window: Window, stragglers: PositiveInt
) -> Mask[R]:
    """Whether each round keeps the pattern bursty, with the window that it ends.

    Parameters
    ----------
    late
        1 where a worker straggled in a round.
    """
    rows = [floats(*row) for row in late]
    told = [
        _goes_on(rows[: r + 1], burst, window, stragglers) for r in range(len(rows))
    ]
    return xp.asarray(told, dtype=late.dtype)


def _goes_on(rows, burst, window, stragglers):
    """Whether the last of the rounds may be as it is."""
    # eq. sequential-gradient-coding-bursty
    seen, now = rows[-window:], rows[-1]
    union = [max(column) for column in zip(*seen, strict=True)]
    early = seen[: max(len(seen) - burst, 0)]
    again = any(now[i] and any(row[i] for row in early) for i in range(len(now)))
    return float(sum(union) <= stragglers and not again)


@checked
def decoded(
    late: Mask[R, N],
    *,
    burst: PositiveInt,
    window: Window,
    stragglers: PositiveInt,
    scheme: Scheme,
) -> Mask[R]:
    """Which jobs are decoded in time, one a round; after the last round nobody is late.

    Parameters
    ----------
    scheme
        Plain coding for so many stragglers a round, or one of the two schemes.
    """
    rows, n = [floats(*row) for row in late], late.shape[1]
    delay = {"coding": 0, "repeat": burst, "multiplexed": window - 2 + burst}[scheme]
    on_time = [[not x for x in row] for row in rows] + [[True] * n] * delay
    if scheme == "coding":
        told = [sum(row) >= n - stragglers for row in on_time]
    elif scheme == "repeat":
        told = _repeated(on_time, burst, _repeats(burst, window, stragglers))
    else:
        told = [
            _multiplexed(on_time[t : t + delay + 1], window, n - stragglers)
            for t in range(len(rows))
        ]
    return xp.asarray([float(x) for x in told[: len(rows)]], dtype=late.dtype)


def _repeated(on_time, burst, s):
    """Play the rounds: who does which job, and how many results each has."""
    n, missing, results = len(on_time[0]), [], [0] * len(on_time)
    for t, row in enumerate(on_time):
        again = missing[t - burst] if t >= burst else []
        again = again[: max(len(again) - s, 0)]
        back = [i for i in range(n) if row[i]]
        results[t] += sum(i not in again for i in back)
        if again:
            results[t - burst] += sum(i in again for i in back)
        missing.append([i for i in range(n) if i not in back or i in again])
    return [count >= n - s for count in results]


def _multiplexed(on_time, window, enough):
    """Whether a job is decoded whose rounds these are."""
    uncoded, n = window - 1, len(on_time[0])
    done, groups = [0] * n, [0] * (len(on_time) - uncoded)
    for m, row in enumerate(on_time):
        for i in range(n):
            if not row[i]:
                continue
            if m < uncoded or done[i] < uncoded:
                done[i] += 1
            else:
                groups[m - uncoded] += 1
    # a group's results may be late as chunks, which then are not missing
    return min(done) >= uncoded and min(groups, default=n) >= enough


@checked
def waited(
    times: Positive[R, N],
    *,
    burst: PositiveInt,
    window: Window,
    stragglers: PositiveInt,
    scheme: Scheme,
    mu: PositiveFloat = 1.0,
) -> Rounds:
    """How long a run takes, if each round waits for the fastest and a bit.

    Parameters
    ----------
    times
        Of each worker in each round.
    mu
        How much longer than the fastest worker, relative to its time.
    """
    s = _repeats(burst, window, stragglers)
    few = {"coding": stragglers, "repeat": s, "multiplexed": 0}[scheme]
    limit = (1 + mu) * times.min(1)
    slow = [floats(*row) for row in (times > limit[:, None]).astype(times.dtype)]
    rows, go = [], []
    for row in slow:
        fits = sum(row) <= few
        if not fits and scheme != "coding":
            fits = _goes_on([*rows, row], burst, window, stragglers)
        go.append(float(fits))
        rows.append(row if fits else [0.0] * len(row))
    # eq. sequential-gradient-coding-wait
    most, go = times.max(1), xp.asarray(go, dtype=times.dtype)
    spent = xp.where(go > 0, xp.minimum(most, limit), most)
    return Rounds(spent, xp.asarray(rows, dtype=times.dtype))
