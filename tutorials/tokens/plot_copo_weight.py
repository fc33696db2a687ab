"""
When does a group have something to teach itself?
=================================================

COPO counts the final answers of a group. If they differ, the group is compared with itself; if they agree, with the
other prompts of the batch. The paper's two constants make that nearly a switch. Where does it stand?
"""

# %%
# Every way in which a group can agree
# ------------------------------------
# A group of G answers falls into classes of equal answers: a partition of G. We draw the weight of all of them.

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.tokens.copo import consistency_entropy, local_weight


def partitions(n, largest=None):
    """All ways to write n as a sum of positive numbers, largest first."""
    if n == 0:
        yield ()
    for first in range(min(n, largest or n), 0, -1):
        for rest in partitions(n - first, first):
            yield (first, *rest)


plt = use_style()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
switch = {}
for axis, unit, threshold in ((axes[0], "nats", 1.5), (axes[1], "log_group", 1.5 / np.log(6))):
    for G, colour in zip((4, 6, 8, 16), COLOURS, strict=False):
        answers = [np.repeat(np.arange(len(p)), p) for p in partitions(G)]
        group = np.zeros(G, int)
        H = np.array([consistency_entropy(group, a)[0] for a in answers])
        w = np.array([local_weight(group, a, threshold=threshold, unit=unit)[0] for a in answers])
        axis.plot(H / np.log(G), w, "o", color=colour, alpha=0.6, label=f"G = {G}")
        switch[unit, G] = float(w.max()), float(((w > 0.05) & (w < 0.95)).mean())
    axis.set(xlabel="entropy, as a share of log G", title=f"threshold {threshold:.2f} in {unit.replace('_', ' ')}")
axes[0].set(ylabel="weight of the group's own advantage")
axes[1].legend()
for (unit, G), (largest, between) in switch.items():
    print(f"{unit:10s} G = {G:2d}: largest weight {largest:.3f}, partitions with a weight in between {between:.2f}")

# %%
# With the constants of the paper a group of four never gets to teach itself, however much its answers differ, and one
# of sixteen does at once. In units of log G the switch stands at the same relative entropy for all.

assert switch["nats", 4][0] < 0.1, "a group of four never teaches itself"
assert switch["nats", 6][0] > 0.99, "one of six does where all its answers differ"
assert all(switch["log_group", G][0] > 0.98 for G in (4, 6, 8, 16)), "in units of log G all do"
assert all(between < 0.35 for _, between in switch.values()), "nearly a switch"

# %%
# .. claim:: An entropy of the final answers decides softly between local and global advantages.
#     :experiment: all partitions of groups of 4, 6, 8 and 16 answers
#     :controls: the threshold in nats and in units of log G
#     :shown: in part: with the published constants it is nearly a switch, and never closes for groups of four
