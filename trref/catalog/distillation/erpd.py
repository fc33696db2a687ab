"""What is known of `trref.distillation.erpd`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Interface, Limit, Method, Objective
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.catalog.tokens.places import OVER_TOKENS
from trref.distillation.erpd import Tilt, stage_one, stage_two, tilt, token_signal


def _with_a_signal(make):
    """A number a token beside what a token objective takes."""

    def batch(*arguments):
        tokens = make(*arguments)
        B, T = tokens["mask"].shape
        wave = xp.cos(1.3 * xp.arange(B)[:, None] + 0.7 * xp.arange(T)[None, :] ** 2)
        return tokens | {"signal": wave}

    return batch


def _no_signal():
    tokens = TOKEN_OBJECTIVE.edges["gaps in the mask"]()
    return tokens | {"signal": 0 * tokens["mask"]}


SIGNALLED = Interface(
    "token_objective with a signal",
    example=_with_a_signal(TOKEN_OBJECTIVE.example),
    edges={
        **{n: _with_a_signal(make) for n, make in TOKEN_OBJECTIVE.edges.items()},
        "no signal": _no_signal,
    },
)


def _teachers_example(rng, size):
    K, T = int(rng.integers(1, 4)), int(rng.integers(2, 6))
    ref = -rng.exponential(1.5, (size, T))
    away = float(rng.choice((0.3, 1.0, 3.0)))
    return {
        "teacher_log_prob": -abs(ref + away * rng.standard_normal((K, size, T))),
        "ref_log_prob": ref,
    }


def _signal_by_loops(teacher_log_prob, ref_log_prob, *, bound=1.0):
    teachers, ref = teacher_log_prob.tolist(), ref_log_prob.tolist()
    return [
        [
            sum(max(-bound, min(bound, each[i][t] - r)) for each in teachers)
            / len(teachers)
            for t, r in enumerate(row)
        ]
        for i, row in enumerate(ref)
    ]


def _rows_example(rng, size):
    V = int(rng.integers(3, 8))
    return {
        "logits": float(rng.choice((0.5, 2.0))) * rng.standard_normal((size, V)),
        "signal": float(rng.choice((0.1, 1.0, 4.0))) * rng.standard_normal((size, V)),
    }


def _rows(logits, signal):
    return {"logits": xp.array(logits), "signal": xp.array(signal)}


def _tilted(logits, signal, beta):
    """One row, by weights."""
    largest = max(z + beta * d for z, d in zip(logits, signal, strict=True))
    e = [math.exp(z + beta * d - largest) for z, d in zip(logits, signal, strict=True)]
    return [x / sum(e) for x in e]


def _tilt_by_halving(logits, signal, *, radius=0.1, cap=1.0):
    log_probs, betas = [], []
    for z, d in zip(logits.tolist(), signal.tolist(), strict=True):
        base = _tilted(z, d, 0.0)

        def inside(beta, z=z, d=d, base=base):
            p = _tilted(z, d, beta)
            used = [x * math.log(x / y) for x, y in zip(p, base, strict=True) if x]
            return radius > 0 and sum(used) <= radius

        low, high = 0.0, cap
        while radius and not inside(cap) and (low + high) / 2 not in (low, high):
            middle = (low + high) / 2
            low, high = (middle, high) if inside(middle) else (low, middle)
        betas.append(cap if inside(cap) else low)
        log_probs.append([math.log(x) for x in _tilted(z, d, betas[-1])])
    return Tilt(xp.array(log_probs), xp.array(betas))


def _every_signal_an_advantage(inputs):
    """the signal is the advantage"""
    return inputs, {**inputs, "advantage": inputs["signal"]}


def _towards_a_teacher(inputs):
    """the signal is the log-ratio of a teacher to the base"""
    teacher = inputs["logits"] + inputs["signal"]
    return inputs, {"logits": inputs["logits"], "teacher_logits": teacher}


METHOD = Method(
    key="chen2026extreme",
    provenance="reconstructed",
    functions=(
        Objective(
            f=stage_one,
            interface=TOKEN_OBJECTIVE,
            wrt="log_prob",
            settings={
                "default": {},
                "ce": {"kind": "ce"},
                "probe": {"kind": "mse", "tau": 2.5},
            },
            limits=(
                Limit("reinforce.reinforce", {"kind": "ce"}, OVER_TOKENS),
                Limit(
                    "dapo.dapo_over_batch", {}, {"clip_low": 1e14, "clip_high": 1e14}
                ),
            ),
        ),
        Estimator(
            f=token_signal,
            example=_teachers_example,
            edges={
                "a token absurd to one of two": lambda: {
                    "teacher_log_prob": xp.array([[[-1.0, -1.0]], [[-24.0, -1.5]]]),
                    "ref_log_prob": xp.array([[-1.0, -1.25]]),
                },
                "on the bounds": lambda: {
                    "teacher_log_prob": xp.array([[[-1.0, -3.0]]]),
                    "ref_log_prob": xp.array([[-2.0, -2.0]]),
                },
            },
            settings={"default": {}, "probe": {"bound": 0.4}},
            brute_force=_signal_by_loops,
        ),
        Objective(
            f=stage_two,
            interface=SIGNALLED,
            wrt="log_prob",
            settings={"default": {}, "probe": {"clip": 0.35}},
            limits=(
                Limit(
                    "dapo.dapo_over_batch",
                    {},
                    {"clip_low": 0.2, "clip_high": 0.2},
                    where=_every_signal_an_advantage,
                ),
            ),
        ),
        Estimator(
            f=tilt,
            example=_rows_example,
            edges={
                "no signal": lambda: _rows([[0.5, -1.0, 2.0]], [[0.0, 0.0, 0.0]]),
                "one row with a signal": lambda: _rows(
                    [[0.5, -1.0], [1.0, 0.0]], [[0.0, 0.0], [-2.0, 1.0]]
                ),
                "one token to choose from": lambda: _rows(
                    [[0.5], [2.0]], [[-1.0], [2.0]]
                ),
                "a token to forbid": lambda: _rows(
                    [[0.0, 0.0, 0.0]], [[0.0, 0.0, -25.0]]
                ),
            },
            settings={
                "default": {},
                "the base": {"radius": 0.0},
                "no ball": {"radius": 200.0},
                "no cap": {"radius": 0.02, "cap": 50.0},
                "probe": {"radius": 0.3, "cap": 1.7},
            },
            brute_force=_tilt_by_halving,
            limits=(
                Limit(
                    "trb.trust_region_blend",
                    {},
                    {"radius": 0.1},
                    where=_towards_a_teacher,
                ),
            ),
        ),
    ),
)
