"""Brute force, and the place of a limit, for `trref.tokens.grpo`."""

from trref.backend import xp
from trref.tokens._places import of_one_token

__all__ = ["actions", "advantage_by_loops", "weights_by_loops"]


def advantage_by_loops(reward, group, *, std="sample", baseline="mean", eps=0.0):
    result = xp.zeros(len(reward))
    for i in range(len(reward)):
        r = [float(x) for x, g in zip(reward, group, strict=True) if g == group[i]]
        if len(set(r)) == 1:
            continue
        others = (sum(r) - float(reward[i])) / (len(r) - 1)
        b = others if baseline == "leave_one_out" else sum(r) / len(r)
        among = [float(x) for x in reward] if std == "batch" else r
        squares = sum((x - sum(among) / len(among)) ** 2 for x in among)
        s = 1 if std == "none" else (squares / (len(among) - (std != "population"))) ** 0.5 + eps
        result[i] = (float(reward[i]) - b) / s
    return result


def weights_by_loops(mask, group, *, aggregation="seq_mean", max_length=None):
    length = {i: sum(row) for i, row in enumerate(mask.tolist())}
    prompt = {g: sum(n for i, n in length.items() if group[i] == g) for g in set(group.tolist())}
    divisor = {
        "seq_mean": lambda i: len(mask) * length[i],
        "token_mean": lambda i: sum(length.values()),
        "group_token_mean": lambda i: len(prompt) * prompt[int(group[i])],
        "constant": lambda i: len(mask) * max_length,
    }[aggregation]
    return [[m / divisor(i) if m else 0.0 for m in row] for i, row in enumerate(mask.tolist())]


def actions(inputs):
    """answers have one token"""
    one = of_one_token(inputs)
    return one, {name: array.reshape(-1) for name, array in one.items()}
