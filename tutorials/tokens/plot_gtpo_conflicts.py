"""
Which tokens do right and wrong answers share?
==============================================

GTPO weights the tokens that right and wrong answers of a group have in common at their ends. We look at the weights of
three answers, and at how much of random groups they cover.
"""

# %%
# Three answers
# -------------
# The first is right. The third is wrong, but a beginning and an end of the first and the second: it is not penalised.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.tokens.gtpo_conflicts import conflict_weights

plt = use_style()
ROWS, A = [[7, 7, 1, 2, 9, 8], [7, 7, 3, 9, 8], [7, 7, 1, 9, 8]], np.array([1.0, -1.0, -1.0])
actions, mask = np.zeros((3, 6), int), np.zeros((3, 6))
for i, row in enumerate(ROWS):
    actions[i, : len(row)], mask[i, : len(row)] = row, 1
weights = conflict_weights(A, mask, actions, np.zeros(3, int))
figure, axis = plt.subplots(figsize=(6, 2.6))
picture = axis.imshow(np.where(mask == 1, weights, np.nan), vmin=0, vmax=2)
for i, row in enumerate(ROWS):
    for t, token in enumerate(row):
        axis.text(t, i, token, ha="center", va="center", color="black" if weights[i, t] == 2 else "white")
axis.set(xlabel="place", title="tokens, and their weights as colour")
axis.set_yticks(range(3), ["right", "wrong", "wrong"])
axis.grid(visible=False)
figure.colorbar(picture, ax=axis, label="weight", ticks=[0, 1, 2])

assert weights[0].tolist() == [2, 2, 2, 1, 2, 2], "the right answer: all but its own token are doubled"
assert weights[1, :5].tolist() == [0, 0, 1, 0, 0], "the second: only its own token is penalised"
assert not weights[2, :5].any(), "the third: nothing is"

# %%
# Which share of the penalties is dropped?
# ----------------------------------------
# Groups of random answers of 6 tokens, half of the answers right. The fewer tokens a policy chooses from, the more of
# the wrong answers' tokens are protected; larger groups protect more as well, for one right answer with the token
# suffices.

figure, axis = plt.subplots()
SYMBOLS, SEEDS, T = (2, 3, 4, 6, 8, 12, 16), range(6), 6
shares = {}
for G in (4, 8, 16):
    runs = []
    for seed in SEEDS:
        rng, run = np.random.default_rng(seed), []
        for n in SYMBOLS:
            group, advantage = np.repeat(np.arange(8), G), np.tile([1.0, -1.0], 4 * G)
            tokens = rng.integers(0, n, (8 * G, T))
            w = conflict_weights(advantage, np.ones((8 * G, T)), tokens, group)
            run.append((w[advantage < 0] == 0).mean())
        runs.append(run)
    shares[G] = np.array(runs)
    spread(axis, SYMBOLS, runs, f"groups of {G}")
axis.set(xlabel="tokens to choose from", ylabel="protected share of wrong answers' tokens", title="random answers")
axis.legend()
print({G: s.mean(0).round(2).tolist() for G, s in shares.items()})
assert (shares[16][:, 0] > 0.9).all(), "of two tokens and sixteen answers, next to all is protected"
assert (shares[16].mean(0) > shares[4].mean(0)).all(), "larger groups protect more"
assert (shares[4][:, -1] < 0.3).all(), "with many tokens and small groups chance protects little"

# %%
# .. claim:: Tokens in conflict are format tags and common openings, which right and wrong answers share.
#     :experiment: an example by hand, and random answers in groups of 4 to 16, 6 seeds
#     :controls: random answers, which have no format
#     :shown: in part: shared ends are found, but among few tokens or in large groups chance agreement is, too
