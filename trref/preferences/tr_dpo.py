r"""TR-DPO: the reference follows the policy, so that each stretch of training is a step within a trust region.

DPO (:mod:`trref.preferences.dpo`) ties the policy to its start for ever. TR-DPO moves the tie: after every
:math:`\tau` steps the parameters of the reference are mixed with those of the policy,

.. math::
    :label: tr-dpo-update

    \theta_{ref} \leftarrow \alpha\, \theta + (1 - \alpha)\, \theta_{ref}

softly, or replaced by them (:math:`\alpha = 1`, the hard update). The loss between updates is DPO's, its reference
constant; the optimiser's state is kept. Log-probabilities of the reference that were computed before an update are
worth nothing after it.

Right after a hard update every margin is 0, the loss log 2 and the weight of each pair one half; after a soft one of a
table of logits each margin is :math:`1 - \alpha` times what it was. If each stretch is trained to its end, in a table,
with preferences of Bradley and Terry by a reward r, the reference after k updates is

.. math::
    :label: tr-dpo-path

    \pi_{ref}^{(k)} \propto \pi_0\; e^{k \alpha r / \beta}

(the average of logits is the geometric average of probabilities): moving the reference is like dividing :math:`\beta`.
There is no fixed point but the best answers, and what bounds over-optimisation is the number of updates alone. With
:math:`\alpha = 0`, or no update at all, it is DPO.

**Where implementations differ.** The weight :math:`\alpha` is the *new* policy's here and in TRL; helpers for moving
averages, such as PyTorch's, weigh the old parameters by theirs. TRL's callback updates after each optimiser step whose
number is a multiple of :math:`\tau`.

**Provenance.** The update confirmed by TRL (trl/trainer/callbacks.py, SyncRefModelCallback; defaults there
:math:`\alpha = 0.6`, :math:`\tau = 512`) and by the authors' group's turbo-alignment; the path and what follows from it
are derived.

Gorbatovski, Shaposhnikov, Malakhov, Surnachev, Aksenov, Maksimov, Balagansky and Gavrilov, *Learn Your Reference Model
for Real Good Alignment*, 2024, arXiv:2404.09656.
"""

from trref.nn.heads import log_softmax
from trref.signature import (
    Fraction,
    K,
    NonNegativeInt,
    P,
    PositiveFloat,
    Real,
    checked,
)


@checked
def soft_update(
    ref_theta: Real[P], theta: Real[P], *, alpha: Fraction = 0.6
) -> Real[P]:
    """Parameters of the new reference.

    Parameters
    ----------
    ref_theta
        The parameters of the reference, flat.
    alpha
        Weight of the policy's parameters; 1 is the hard update.
    """
    return alpha * theta + (1 - alpha) * ref_theta  # eq. tr-dpo-update


@checked
def reference_path(
    ref_logits: Real[K],
    reward: Real[K],
    *,
    beta: PositiveFloat = 0.05,
    alpha: Fraction = 0.6,
    updates: NonNegativeInt = 3,
) -> Real[K]:
    """Log-probabilities of the reference after updates, each stretch between them trained to its end.

    Parameters
    ----------
    ref_logits
        Of the first reference.
    reward
        Of each answer.
    beta
        Weight of the divergence from the reference.
    updates
        How many took place.
    """
    gained = updates * alpha / beta
    return log_softmax(log_softmax(ref_logits) + gained * reward)  # eq. tr-dpo-path
