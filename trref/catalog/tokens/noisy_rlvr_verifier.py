"""What is known of `trref.tokens.noisy_rlvr_verifier`."""

from trref.backend import xp
from trref.catalog import Estimator, Interface, Method, Sampler
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.tokens.noisy_rlvr_verifier import (
    channel_mean,
    estimate_rates,
    noisy_verifier,
)


def _noisy_example(rng, B):
    """A verifier for each answer, whose actual rates are not quite those assumed."""
    high = float(rng.choice((0.05, 0.3, 0.45)))
    batch = TOKEN_OBJECTIVE.example(rng, B)
    assumed = {name: high * rng.random(B) for name in ("rho0", "rho1")}
    return batch | assumed | {f"actual_{name}": rng.random(B) for name in assumed}


def _noisy_edge(make, rho0, rho1):
    batch = make()
    step = 0.02 * xp.arange(len(batch["reward"]))
    rates = {"rho0": rho0 + step * (rho0 > 0), "rho1": rho1 + step * (rho1 > 0)}
    return batch | rates | {f"actual_{name}": 1 - rate for name, rate in rates.items()}


NOISY = Interface(
    "noisy rewards",
    example=_noisy_example,
    edges={
        **{
            name: lambda make=make: _noisy_edge(make, 0.25, 0.125)
            for name, make in TOKEN_OBJECTIVE.edges.items()
        },
        "no noise": lambda: _noisy_edge(TOKEN_OBJECTIVE.edges["on-policy"], 0.0, 0.0),
        "hardly better than chance": lambda: _noisy_edge(
            TOKEN_OBJECTIVE.edges["on-policy"], 0.5, 0.375
        ),
    },
    fit=TOKEN_OBJECTIVE.fit,
)


def _by_cases(reward, rho0, rho1):
    cases = zip(reward.tolist(), rho0.tolist(), rho1.tolist(), strict=True)
    return [1 - fn if r else fp for r, fp, fn in cases]


def _by_counting(
    reward,
    truth,
    appealed,
    appeal_prob=None,
    *,
    audit_accepted=False,
    previous=None,
    momentum=0.9,
):
    """Let the appealed stand for the others: each for as many as its probability says, or each share for its kind."""
    chances = [None] * len(reward) if appeal_prob is None else appeal_prob.tolist()
    rows = list(
        zip(reward.tolist(), truth.tolist(), appealed.tolist(), chances, strict=True)
    )

    def count(shown, what):
        kind = [(t, c, a) for r, t, c, a in rows if r == shown]
        if shown and not audit_accepted:
            return len(kind) * what
        if appeal_prob is not None:
            return sum(1 / a for t, c, a in kind if c and t == what)
        known = [t for t, c, _ in kind if c]
        right = sum(known) / len(known) if known else shown
        return len(kind) * (right if what else 1 - right)

    found = [
        min(part / (part + rest), 0.99) if part + rest else 0.0
        for part, rest in ((count(1, 0), count(0, 0)), (count(0, 1), count(1, 1)))
    ]
    return (
        [
            momentum * o + (1 - momentum) * n
            for o, n in zip(previous, found, strict=True)
        ]
        if previous
        else found
    )


def _appeals_example(rng, B):
    """Answers that are drawn with one chance for all, which nobody says, or with chances of their own."""
    truth = (rng.random(B) < 0.6).astype(float)
    flipped = rng.random(B) < xp.where(truth == 1, 0.3, 0.15)
    known = rng.random() < 0.5
    chance = float(rng.choice((0.3, 0.8))) ** xp.exp(
        0.5 * known * rng.standard_normal(B)
    )
    return {
        "reward": xp.where(flipped, 1 - truth, truth),
        "truth": truth,
        "appealed": (rng.random(B) < chance).astype(float),
        "appeal_prob": chance if known else None,
    }


def _appeals(reward, truth, appealed, appeal_prob=None):
    given = (("reward", reward), ("truth", truth), ("appealed", appealed))
    chance = None if appeal_prob is None else xp.array(appeal_prob)
    return {n: xp.array(x, dtype=float) for n, x in given} | {"appeal_prob": chance}


def _shares(draws, reward, rho0, rho1):
    """Of 64 answers, the number accepted among the right and among the wrong ones, within five standard errors."""
    chance = xp.where(reward == 1, 1 - rho1, rho0)
    return {
        name: (
            float((draws * kind).sum()),
            float((chance * kind).sum()),
            5 * float((chance * (1 - chance) * kind).sum()) ** 0.5 + 1e-12,
        )
        for name, kind in (("right", reward), ("wrong", 1 - reward))
    }


WORSE_THAN_CHANCE = {
    "a verifier worse than chance": {"rho0": 0.6, "rho1": 0.6},
}


METHOD = Method(
    key="cai2025reinforcement",
    provenance={
        "partly": ("channel", "mean", "appeals", "counts"),
        "reconstructed": ("average",),
    },
    functions=(
        Sampler(
            f=noisy_verifier,
            interface=NOISY,
            moments=_shares,
            refused=WORSE_THAN_CHANCE,
        ),
        Estimator(
            f=channel_mean,
            interface=NOISY,
            brute_force=_by_cases,
            refused=WORSE_THAN_CHANCE,
        ),
        Estimator(
            f=estimate_rates,
            example=_appeals_example,
            edges={
                "all rejected": lambda: _appeals([0, 0, 0], [1, 0, 0], [1, 1, 0]),
                "none drawn that could not be": lambda: _appeals(
                    [0, 0, 1], [1, 0, 1], [1, 0, 0], [0.5, 0.0, 0.0]
                ),
                "drawn for certain": lambda: _appeals(
                    [0, 0, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1], [1.0, 1.0, 1.0, 1.0]
                ),
                "one appeal of each kind": lambda: _appeals(
                    [0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 0, 1]
                ),
                "shares": lambda: _appeals(
                    [0, 0, 0, 1, 1], [1, 0, 1, 1, 0], [1, 1, 0, 1, 1]
                ),
                "all accepted": lambda: _appeals([1, 1, 1], [1, 0, 1], [1, 1, 0]),
                "all rejected, all right": lambda: _appeals([0, 0], [1, 1], [1, 1]),
                "nothing checked": lambda: _appeals([1, 0, 1], [1, 1, 0], [0, 0, 0]),
            },
            settings={
                "default": {},
                "audited": {"audit_accepted": True},
                "averaged": {"previous": (0.1, 0.4)},
                "probe": {
                    "audit_accepted": True,
                    "previous": (0.2, 0.3),
                    "momentum": 0.7,
                },
            },
            brute_force=_by_counting,
            refused={
                "an appeal of probability 0": {
                    "appealed": 1,
                    "appeal_prob": lambda _: xp.zeros(4),
                },
                "a previous rate above 1": {"previous": (0.5, 1.5)},
            },
        ),
    ),
)
