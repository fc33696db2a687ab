"""
Who looks trustworthy depends on who counts refusals
====================================================

Eight scores of trust, each with its own denominator. Can a model become more trustworthy by saying nothing?
"""

# %%
# Three models
# ------------
# Three simulated models answer. One is *honest*: a fair skill, few refusals. One is *shy*: the same skill, and it
# refuses every second question. One is *biased*: more skilful, but it decides by the attribute of a person where the
# demonstrations that it was shown are unbalanced, and it follows a trigger as often as it saw one. *Predict before you
# run*: on which of the scores does the shy one win, and on which does it lose?

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.trustworthiness.decoding_trust import (
    accuracy,
    agreement_matrix,
    attack_success,
    demonstration_score,
    dominated,
    ethics_score,
    knowledge_score,
    ood_score,
    privacy_score,
    robustness_score,
    shares,
    stereotype_score,
)
from trref.trustworthiness.fairness import demographic_parity, equalized_odds, fairness_score
from trref.trustworthiness.toxicity import maximum_toxicity, toxicity_score

plt = use_style()
ITEMS, SEEDS = 300, 8
SIDES = ("toxicity", "stereotypes", "robustness", "out of distr.", "demonstr.", "privacy", "ethics", "fairness")
MODELS = {  # skill, refusals, bias, obedience to a trigger
    "honest": (0.75, 0.02, 0.1, 0.1),
    "shy": (0.75, 0.5, 0.1, 0.1),
    "biased": (0.85, 0.02, 0.8, 0.8),
}


def answers(rng, labels, skill, refusing):
    """Right with the chance of the skill, else another of three classes; refused at random."""
    wrong = (labels + rng.integers(1, 3, len(labels))) % 3
    predicted = np.where(rng.random(len(labels)) < skill, labels, wrong)
    return predicted, labels, (rng.random(len(labels)) < refusing).astype(float)


def fairness_of(rng, bias, refusing, shift):
    """Parity, odds and accuracy where demonstrations are unbalanced by `shift`: their attribute replaces the answer."""
    attribute, labels = rng.integers(0, 2, ITEMS).astype(float), rng.integers(0, 2, ITEMS).astype(float)
    skilled = np.where(rng.random(ITEMS) < 0.85, labels, 1 - labels)
    predicted = np.where(rng.random(ITEMS) < bias * shift, attribute, skilled)
    answered = (rng.random(ITEMS) >= refusing).astype(float)
    right = shares((predicted == labels).astype(float), 1 - answered).of_answered
    return (
        demographic_parity(predicted, attribute, answered),
        equalized_odds(predicted, labels, attribute, answered),
        right,
    )


def backdoor(rng, skill, refusing, obedience, poison):
    """Accuracy without, and attack success with the trigger, after a share of poisoned demonstrations."""
    labels = rng.integers(0, 3, ITEMS)
    predicted, _, refused = answers(rng, labels, skill, refusing)
    obeys = rng.random(ITEMS) < obedience * poison
    return accuracy(predicted, labels, refused).of_all, attack_success(np.where(obeys, 0, predicted), labels, refused)


def profile(rng, skill, refusing, bias, obedience):
    """The eight scores of one model on one draw of all items."""

    def draw(level=skill):
        return answers(rng, rng.integers(0, 3, ITEMS), level, refusing)

    def right(level=skill):
        return np.array([accuracy(*draw(level)).of_all])

    def right_of_answered():
        return np.array([accuracy(*draw()).of_answered])

    def happens(chance):
        return shares((rng.random(ITEMS) < chance).astype(float), (rng.random(ITEMS) < refusing).astype(float))

    toxicity = rng.random((40, 25)) ** 6 * (rng.random((40, 25)) >= refusing)
    agrees = (rng.random((3, 6, 4, 25)) < 0.1 + 0.2 * bias) * (rng.random((3, 6, 4, 25)) >= refusing)
    tables = np.stack([agreement_matrix(agrees.astype(float))] * 3)
    parities, odds, _ = zip(*(fairness_of(rng, bias, refusing, shift) for shift in (0, 0.5, 1)), strict=True)
    knows = np.array([knowledge_score(*draw())])
    success = np.array([backdoor(rng, skill, refusing, obedience, poison)[1] for poison in (0.0, 0.5, 1.0)])
    leaks = [np.array([happens(0.3).of_all]) for _ in range(3)]
    wrongs = [np.array([happens(0.3).of_answered]) for _ in range(2)]
    return (
        toxicity_score(np.array([maximum_toxicity(toxicity).expected])),
        stereotype_score(tables),
        robustness_score(right(skill - 0.2)[None]),
        ood_score(right(), knows, right(), right()),
        demonstration_score(right(), right(), success),
        privacy_score(*leaks),
        ethics_score(right_of_answered(), right_of_answered(), *wrongs),
        fairness_score(np.array(parities), np.array(odds)),
    )


scores = np.array(
    [
        [profile(np.random.default_rng([seed, m]), *MODELS[name]) for seed in range(SEEDS)]
        for m, name in enumerate(MODELS)
    ]
)
shifts = np.linspace(0, 1, 5)
by_shift = np.array(
    [[fairness_of(np.random.default_rng([seed, 7]), 0.8, 0.0, s) for s in shifts] for seed in range(SEEDS)]
)
by_poison = np.array(
    [[backdoor(np.random.default_rng([seed, 8]), 0.85, 0.0, 0.8, s) for s in shifts] for seed in range(SEEDS)]
)

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), width_ratios=(1.7, 1))
for m, name in enumerate(MODELS):
    axes[0].bar(np.arange(8) + 0.27 * (m - 1), scores[m].mean(0), 0.25, color=COLOURS[m], label=name)
axes[0].set_xticks(range(8), SIDES, rotation=35, ha="right")
axes[0].set(ylabel="score", ylim=(0, 118), title=f"Means of {SEEDS} draws")
axes[0].legend(ncols=3, loc="upper right")
spread(axes[1], shifts, by_shift[:, :, 2], "accuracy, biased")
spread(axes[1], shifts, 1 - by_shift[:, :, 0], "1 - parity difference")
spread(axes[1], shifts, by_poison[:, :, 0], "accuracy, clean")
spread(axes[1], shifts, by_poison[:, :, 1], "attack success")
axes[1].set(xlabel="imbalance, or share of poison", ylabel="rate", ylim=(-0.05, 1.05), title="The biased model")
axes[1].legend(fontsize=8)
for m, name in enumerate(MODELS):
    print(
        f"{name:7s}",
        *(f"{s} {v:.0f}±{d:.0f};" for s, v, d in zip(SIDES, scores[m].mean(0), scores[m].std(0), strict=True)),
    )

# %%
# The shy model gains where a refusal is nothing that happened (toxicity, stereotypes, privacy), loses where it counts
# as wrong (robustness, demonstrations), and neither where it is left out (ethics). Out of distribution two ways of
# counting meet: knowledge without examples is higher, the three other parts are lower. Nothing about what it knows
# has changed. Of the three none dominates another, in any draw: the order is in the weights of an average that nobody
# has justified.

honest, shy, biased = scores
gain = (shy - honest).mean(0)
error = np.sqrt(((shy - honest).var(0, ddof=1)) / SEEDS)
assert (gain[[0, 1, 5]] > 4 * error[[0, 1, 5]]).all(), "toxicity, stereotypes and privacy look better"
assert (gain[[2, 4]] < -4 * error[[2, 4]]).all(), "robustness and demonstrations look worse"
assert abs(gain[6]) < 4 * error[6], "ethics, of the answered, does not change"
draws = [np.random.default_rng([seed, 9]) for seed in range(SEEDS)]
knows = [
    [knowledge_score(*answers(rng, rng.integers(0, 3, ITEMS), 0.75, refusing)) for refusing in (0.02, 0.5)]
    for rng in draws
]
assert all(refusing > answering + 0.05 for answering, refusing in knows), "knowledge rises with silence"
assert not any(dominated(scores[:, seed]).any() for seed in range(SEEDS)), "and nobody dominates"
assert (by_shift[:, -1, 0] > by_shift[:, 0, 0] + 0.5).all(), "parity falls with imbalance"
assert (by_poison[:, -1, 1] > by_poison[:, 0, 1] + 0.5).all(), "attacks succeed with poison"
assert abs(by_poison[:, -1, 0] - by_poison[:, 0, 0]).mean() < 0.05, "while the clean accuracy stays"

# %%
# .. claim:: Trust has many sides, and a model can look better on one because of how refusals are counted.
#     :experiment: three simulated models, eight draws of all items, the authors' scores
#     :controls: one model that differs from the first in refusals alone, one that differs in all else
#     :shown: yes: silence alone gains on some scores and loses on others, and no model dominates
#
# Which refusal rate is best for the mean of the eight? And for the minimum? Replace ``of_all`` by ``of_answered`` in
# all scores: what is left of the shy model's gains?
