"""What is known of `trref.tokens.remax`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method
from trref.tokens.remax import remax_advantage


def _example(rng, B):
    T = int(rng.integers(3, 8))
    mask = (xp.arange(T) < rng.integers(1, T + 1, (B, 1))).astype(float)
    charge = -float(rng.choice((0.0, 0.05, 1.0))) * rng.random((B, T))
    last = mask * (xp.cumsum(mask[:, ::-1], 1)[:, ::-1] == 1)
    return {
        "token_reward": charge + last * (rng.random((B, 1)) < 0.5),
        "greedy_reward": (rng.random(B) < 0.5).astype(float),
        "mask": mask,
    }


def _edge(token_reward, greedy_reward, mask):
    return {
        "token_reward": xp.array(token_reward, dtype=float),
        "greedy_reward": xp.array(greedy_reward, dtype=float),
        "mask": xp.array(mask, dtype=float),
    }


GREEDY = Interface(
    "greedy_baseline",
    example=_example,
    edges={
        "a reward at the end": lambda: _edge([[0.0, 0.0, 1.0]], [0.25], [[1, 1, 1]]),
        "rewards everywhere": lambda: _edge([[0.5, -1.0, 2.0]], [1.0], [[1, 1, 1]]),
        "gaps in the mask": lambda: _edge([[0.5, 7.0, 2.0]], [1.0], [[1, 0, 1]]),
        "an answer without tokens": lambda: _edge(
            [[1.0, 2.0], [3.0, 4.0]], [0.5, 0.5], [[0, 0], [1, 1]]
        ),
        "one token": lambda: _edge([[1.0]], [0.75], [[1]]),
    },
)


def _by_loops(token_reward, greedy_reward, mask):
    found = xp.zeros(mask.shape)
    for i in range(mask.shape[0]):
        for t in range(mask.shape[1]):
            if mask[i, t]:
                later = [
                    token_reward[i, s] for s in range(t, mask.shape[1]) if mask[i, s]
                ]
                found[i, t] = sum(later) - greedy_reward[i]
    return found


def own_charge(token_reward, greedy_reward, mask):
    after = mask.sum(1, keepdims=True) - xp.cumsum(mask, 1)
    last = mask * (after == 0)
    end = (last * token_reward).sum(1, keepdims=True)
    each = (mask - last) * token_reward
    return mask * (end + each - greedy_reward[:, None])


OWN_CHARGE = Deviation(
    "each token's own charge alone",
    own_charge,
    seen_in="liziniu/ReMax step3_rlhf_finetuning/remax_trainer.py (it also clips the difference)",
    computes="the reward of the last token, less the greedy one, plus the token's own reward: no sum of later ones",
)
METHOD = Method(
    key="li2023remax",
    provenance="confirmed",
    functions=(
        Estimator(
            f=remax_advantage,
            interface=GREEDY,
            deviations=(OWN_CHARGE,),
            brute_force=_by_loops,
        ),
    ),
)
