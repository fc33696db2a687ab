"""What is known of `trref.tokens.apo`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.catalog.tokens.interfaces import FULL_DISTRIBUTION
from trref.catalog.tokens.pieces import clipped_terms
from trref.nn.heads import log_softmax, one_hot
from trref.tokens.apo import apo, support_coverage
from trref.tokens.terms import per_token, seq_mean


def _sampled_token_anchored(
    logits, old_logits, actions, advantage, mask, ref_logits, *, K=8
):
    log_p, log_old, log_ref = (
        log_softmax(logits),
        log_softmax(old_logits),
        log_softmax(ref_logits),
    )
    sampled, p = one_hot(actions, logits.shape[-1], logits.dtype), xp.exp(log_p)
    A = per_token(advantage) + 0 * mask
    term, derivative = clipped_terms(((log_p - log_old) * sampled).sum(-1), A, 0.2, 0.2)
    rank = xp.argsort(
        xp.argsort(-ref_logits, axis=-1, kind="stable"), axis=-1, kind="stable"
    )
    inside = (rank < K).astype(p.dtype)
    Z, M = (inside * xp.exp(log_ref)).sum(-1), (inside * p).sum(-1)
    scale = xp.where(A < 0, 1.05, 1)
    pull, w = -0.1 * xp.minimum(A, 0) / Z, seq_mean(mask)
    gradient = (scale * derivative)[..., None] * (sampled - p) + pull[..., None] * p * (
        inside - M[..., None]
    )
    return -(w * (scale * term + pull * M)).sum(), -w[..., None] * gradient


SAMPLED_TOKEN_ANCHORED = Deviation(
    "the sampled token among the anchors",
    _sampled_token_anchored,
    seen_in="a common slip in re-implementations; the paper anchors exclusively",
    computes="a pull on the very token that is pushed down, wherever the reference trusts it",
)


def _coverage_by_loops(logits, mask, ref_logits, *, K=8):
    covered = []
    for index, m in zip(xp.ndindex(mask.shape), mask.ravel(), strict=True):
        if m:
            p = xp.exp(log_softmax(logits[index]))
            order = sorted(
                range(len(p)), key=lambda k: (-float(ref_logits[index][k]), k)
            )
            covered.append(sum(float(p[k]) for k in order[:K]))
    return sum(covered) / max(len(covered), 1)


METHOD = Method(
    key="wang2026anchored",
    provenance={
        "partly": ("anchors", "anchor-ratio", "rectified", "gradient", "coverage"),
        "reconstructed": ("objective", "clip-all"),
    },
    functions=(
        Objective(
            f=apo,
            interface=FULL_DISTRIBUTION,
            wrt="logits",
            settings={
                "default": {},
                "two anchors": {"K": 2, "pull": 0.5},
                "the rectified ratio clipped": {"K": 3, "clipping": "all"},
                "probe": {
                    "K": 3,
                    "push": 1.4,
                    "pull": 0.3,
                    "clip_low": 0.15,
                    "clip_high": 0.35,
                    "clipping": "all",
                    "min_mass": 0.3,
                },
            },
            deviations=(SAMPLED_TOKEN_ANCHORED,),
            refused={
                "an action that there is not": {"actions": 99},
                "log-probabilities far apart": {"logits": lambda logits: 1e4 * logits},
            },
        ),
        Estimator(
            f=support_coverage,
            interface=FULL_DISTRIBUTION,
            settings={"default": {}, "probe": {"K": 2}},
            brute_force=_coverage_by_loops,
        ),
    ),
)
