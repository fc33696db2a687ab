"""Confidence, difficulty, reward and advantage of `trref.tokens.lens`, group by group."""

from trref.backend import xp

__all__ = ["advantage_by_loops", "confidence_by_loops", "difficulty_by_loops", "reward_by_loops"]


def _by_loops(old_log_prob, mask, group, reward, alpha=0.25, std="sample"):
    """Confidence, difficulty, reward and advantage of each answer, group by group."""
    result = xp.zeros((4, len(group)))
    for b, (row, m) in enumerate(zip(old_log_prob.tolist(), mask.tolist(), strict=True)):
        tokens = [x for x, kept in zip(row, m, strict=True) if kept]
        result[0, b] = xp.exp(sum(tokens) / max(len(tokens), 1))
    for g in set(group.tolist()):
        rows = [i for i, h in enumerate(group.tolist()) if h == g]
        p, r, G = result[0, rows], reward[rows], len(rows)
        D = max(2 * float(p.max()), 1 / float((r / p).mean()) if r.any() else 0.0)
        rewards = r - (1 - r) / G * p / (D - p)
        centred = rewards - rewards.mean()
        if r.any():
            A = 0 * r if r.all() else centred / (xp.sqrt((centred**2).sum() / (G - (std == "sample"))))
        else:
            A = alpha * centred * (abs(centred) > 1e-14)
        result[1, rows], result[2, rows], result[3, rows] = D, rewards, A
    return result


def confidence_by_loops(old_log_prob, mask):
    return _by_loops(old_log_prob, mask, xp.arange(len(mask)), xp.zeros(len(mask)))[0]


def difficulty_by_loops(old_log_prob, mask, group, reward):
    return _by_loops(old_log_prob, mask, group, reward)[1]


def reward_by_loops(old_log_prob, mask, group, reward):
    return _by_loops(old_log_prob, mask, group, reward)[2]


def advantage_by_loops(old_log_prob, mask, group, reward, *, alpha=0.25, std="sample"):
    return _by_loops(old_log_prob, mask, group, reward, alpha, std)[3]
