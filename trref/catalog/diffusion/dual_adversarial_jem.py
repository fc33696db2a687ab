"""What is known of `trref.diffusion.dual_adversarial_jem`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.catalog.adversarial.interfaces import ROWS
from trref.diffusion.dual_adversarial_jem import (
    attack,
    contrast,
    dual_adversarial_loss,
    energy,
    generate,
    separation,
    step_schedule,
)
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss, random_classifier

# ---- logits


def _logits_example(rng, size):
    K, M = int(rng.integers(2, 5)), size + int(rng.integers(0, 3))
    scale = float(rng.choice((0.3, 2.0, 10.0)))
    return {
        "real": scale * rng.standard_normal((size, K)),
        "contrastive": scale * rng.standard_normal((M, K)) - 1,
        "labels": rng.integers(0, K, size),
        "targets": rng.integers(0, K, M),
    }


def _logits_edge(real, contrastive, labels, targets):
    return {
        "real": xp.array(real),
        "contrastive": xp.array(contrastive),
        "labels": xp.array(labels),
        "targets": xp.array(targets),
    }


LOGITS = Interface(
    "contrast",
    example=_logits_example,
    edges={
        "ties": lambda: _logits_edge(
            [[1.0, 0.0], [0.0, 1.0]],
            [[0.0, 1.0], [3.0, 0.0], [-2.0, 1.0]],
            [0, 0],
            [1, 0, 1],
        ),
        "told apart": lambda: _logits_edge(
            [[90.0, 80.0, 0.0]], [[-700.0, -800.0, -700.0]], [2], [0]
        ),
        "the wrong way round": lambda: _logits_edge(
            [[-60.0, -61.0]], [[50.0, 40.0]], [0], [0]
        ),
    },
)


def _pairs(real, contrastive, labels, targets, *, by="density"):
    score = lambda row, label: (  # noqa: E731
        math.log(sum(math.exp(v - max(row)) for v in row)) + max(row)
        if by == "density"
        else row[label]
    )
    a = [score(list(map(float, r)), int(i)) for r, i in zip(real, labels, strict=True)]
    b = [
        score(list(map(float, r)), int(i))
        for r, i in zip(contrastive, targets, strict=True)
    ]
    wins = sum((x > y) + 0.5 * (x == y) for x in a for y in b)
    return wins / (len(a) * len(b))


def _schedule_by_a_list(share, *, threshold=0.8, window=8, most=40):
    """Brute force: the last shares in a list, which is emptied after each increase."""
    steps, recent, schedule = 0, [], []
    for seen in share.tolist():
        recent = [*recent, seen][-window:]
        if (
            steps < most
            and len(recent) == window
            and math.fsum(recent) / window >= threshold
        ):
            steps, recent = steps + 1, []
        schedule.append(steps)
    return xp.array(schedule)


# ---- attacks


def _row_by_row(
    score_and_grad, x, *, steps=40, lr=0.1, low=0.0, high=1.0, radius=math.inf
):
    """Brute force: each row of the slope for itself, by numbers of the host."""
    point = xp.array(x)
    for _ in range(steps):
        slope = score_and_grad(point)[1]
        after = xp.array(point)
        for i in range(len(x)):
            norm = math.sqrt(sum(float(v) ** 2 for v in slope[i]))
            wish = [
                float(point[i, j]) + lr * float(slope[i, j]) / (norm + 1e-10)
                for j in range(x.shape[1])
            ]
            moved = [w - float(x[i, j]) for j, w in enumerate(wish)]
            length = math.sqrt(sum(v * v for v in moved))
            share = 1.0 if length <= radius else radius / length
            for j, v in enumerate(moved):
                after[i, j] = min(max(float(x[i, j]) + share * v, low), high)
        point = after
    return point


def _attack_row_by_row(score_and_grad, x, *, radius=0.5, steps=10, **how):
    return _row_by_row(score_and_grad, x, radius=radius, steps=steps, **how)


def _renorm(score_and_grad, x, *, radius=0.5, steps=10, lr=0.1, low=0.0, high=1.0):
    point = xp.array(x)
    for _ in range(steps):
        how = {"radius": 1e9, "steps": 1, "lr": lr, "low": -1e9, "high": 1e9}
        moved = attack(score_and_grad, point, **how) - x
        length = xp.sqrt((moved * moved).sum(1))[:, None]
        shrunk = xp.where(length > radius, radius / (length + 1e-7), 1.0)
        point = xp.clip(x + moved * shrunk, low, high)
    return point


RENORM = Deviation(
    "renorm",
    _renorm,
    seen_in="xuwangyin/DAT (fb2ffc7), rebm/attacks/attack_steps.py, L2Step, by PyTorch's renorm",
    computes="a projection that divides by the length plus 1e-7, and so ends inside of the ball",
)


# ---- the whole loss


def _loss_example(rng, size):
    problem = random_classifier(
        rng, points=size, dims=int(rng.integers(2, 5)), classes=int(rng.integers(2, 5))
    )
    D = problem.X.shape[1]
    return {
        "problem": problem,
        "theta": float(rng.choice((0.5, 2.0))) * mlp.init(rng, problem.sizes),
        "contrastive": 2 * rng.standard_normal((size + int(rng.integers(0, 3)), D)),
        "attacked": problem.X + 0.3 * rng.standard_normal(problem.X.shape),
    }


def _same_samples(rows):
    def make():
        X = xp.cos(xp.arange(2.0 * rows)).reshape(rows, 2)
        sizes = (2, 3, 2)
        problem = ClassifierLoss(X, xp.arange(rows) % 2, sizes)
        theta = xp.sin(xp.arange(float(mlp.size(sizes))))
        return {"problem": problem, "theta": theta, "contrastive": X, "attacked": X}

    return make


BOX = {"low": -0.1, "high": 1.1}

REFUSED = {
    "an empty box": {"low": 1.0, "high": 0.0},
    "a point outside the box": {"x": 2.0},
}


METHOD = Method(
    key="yin2025joint",
    provenance="partly",
    functions=(
        Objective(
            f=energy,
            example=lambda rng, size: {"logits": _logits_example(rng, size)["real"]},
            edges={
                "large logits": lambda: {"logits": xp.array([[700.0, -700.0, 699.0]])},
                "one class": lambda: {"logits": xp.array([[0.5], [-2.0]])},
            },
            wrt="logits",
        ),
        Objective(f=contrast, interface=LOGITS, wrt=("real", "contrastive")),
        Estimator(
            f=separation,
            interface=LOGITS,
            settings={"default": {}, "probe": {"by": "label"}},
            brute_force=_pairs,
            refused={
                "a label that is no class": {"labels": 99},
                "a target that is no class": {"targets": 99},
            },
        ),
        Estimator(
            f=step_schedule,
            example=lambda rng, size: {"share": rng.beta(6.0, 1.0, 4 * size)},
            edges={
                "at the threshold": lambda: {"share": xp.full(20, 0.75)},
                "less than a window": lambda: {"share": xp.ones(1)},
                "told apart": lambda: {"share": xp.ones(10)},
                "up and down": lambda: {"share": xp.array([1.0, 0.5, 0.0] * 8)},
            },
            settings={
                "default": {},
                "each round": {"window": 1, "most": 3},
                "no steps": {"most": 0, "window": 2},
                "probe": {"threshold": 0.75, "window": 3, "most": 5},
            },
            brute_force=_schedule_by_a_list,
        ),
        Estimator(
            f=generate,
            interface=ROWS,
            settings={
                "default": {},
                "no step": {"steps": 0},
                "probe": {"steps": 7, "lr": 0.07, **BOX},
            },
            brute_force=_row_by_row,
            sizes=(4, 8),
            refused=REFUSED,
        ),
        Estimator(
            f=attack,
            interface=ROWS,
            settings={
                "default": {},
                "no ball": {"radius": 0.0},
                "small ball": {"radius": 0.15, "steps": 4},
                "probe": {"radius": 0.2, "steps": 7, "lr": 0.07, **BOX},
            },
            brute_force=_attack_row_by_row,
            limits=(
                Limit(
                    "dual_adversarial_jem.generate",
                    {"radius": 1e3, "steps": 6},
                    {"steps": 6},
                ),
                Limit(
                    "dual_adversarial_jem.generate",
                    {"radius": 0.0},
                    {"steps": 0},
                ),
            ),
            deviations=(RENORM,),
            sizes=(4, 8),
            refused=REFUSED,
        ),
        Objective(
            f=dual_adversarial_loss,
            example=_loss_example,
            edges={
                "the same samples": _same_samples(4),
                "one sample": _same_samples(1),
            },
            wrt="theta",
            refused={
                "attacked data that are fewer": {
                    "attacked": lambda attacked: attacked[:-1]
                },
            },
        ),
    ),
)
