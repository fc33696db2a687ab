"""What is known of `trref.tokens.troll_sparse`."""

from trref.backend import xp
from trref.catalog import Estimator, Interface, Limit, Method, Objective, call
from trref.catalog.tokens.interfaces import FULL_DISTRIBUTION
from trref.nn.heads import log_softmax, one_hot
from trref.tokens.troll_sparse import sparse_projection, support, troll_sparse


def _support_by_counting(logits, old_logits, actions, *, K=64, mass=1 - 1e-5):
    keep = one_hot(actions, logits.shape[-1], logits.dtype)
    for z in (logits, old_logits):
        p = xp.exp(log_softmax(z))
        for b in range(p.shape[0]):
            for t in range(p.shape[1]):
                total = 0.0
                for k in sorted(range(p.shape[2]), key=lambda k: -z[b, t, k])[:K]:
                    if total < mass:
                        keep[b, t, k] = 1.0
                    total += float(p[b, t, k])
    return keep


def _with_support(batch):
    """Three tokens of either policy at most, so that some are left out."""
    return {**batch, "keep": call(support, batch, {"K": 3, "mass": 0.8})}


def _every_token_kept(inputs):
    """every token is kept"""
    return {**inputs, "keep": xp.ones_like(inputs["keep"])}


SPARSE = Interface(
    "full_distribution with keep",
    example=lambda rng, size: _with_support(FULL_DISTRIBUTION.example(rng, size)),
    edges={
        name: lambda make=make: _with_support(make())
        for name, make in FULL_DISTRIBUTION.edges.items()
    },
    fit=FULL_DISTRIBUTION.fit,
)


METHOD = Method(
    key="becker2025troll",
    provenance={"partly": ("support", "rows"), "reconstructed": ("gradient",)},
    functions=(
        Estimator(
            f=support,
            interface=FULL_DISTRIBUTION,
            settings={"default": {}, "probe": {"K": 3, "mass": 0.8}},
            brute_force=_support_by_counting,
            refused={
                "an action that there is not": {"actions": 99},
            },
        ),
        Objective(
            f=troll_sparse,
            interface=SPARSE,
            wrt="logits",
            stopped={"projection": sparse_projection},
            settings={
                "default": {},
                "probe": {"radius": 0.3, "kl_weight": 0.4, "floor": 1e-3},
            },
            limits=(Limit("troll.troll", {}, where=_every_token_kept),),
            refused={
                "an action that there is not": {"actions": 99},
                "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
                "a sampled token that is not kept": {"keep": 0, "mask": 1},
            },
        ),
    ),
)
