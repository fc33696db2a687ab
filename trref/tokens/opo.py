r"""OPO: the baseline of least variance, if the squared gradient of an answer grows like its length.

The constant baseline that minimises the variance of REINFORCE weighs each answer's reward by its squared score,

.. math::

    b^* = \frac{\mathbb E[\,r\,\|S\|^2\,]}{\mathbb E[\,\|S\|^2\,]}, \qquad S = \nabla\log\pi(y)

OPO estimates it over the answers to a prompt, with the length in the place of :math:`\|S\|^2`:

.. math::
    :label: opo-advantage

    \hat A_i = r_i - b_g, \qquad b_g = \frac{\sum_{j \in g} |y_j|\, r_j}{\sum_{j \in g} |y_j|}
    \qquad\Longleftrightarrow\qquad
    \hat A_i = \frac{\sum_{j \in g} |y_j|\,(r_i - r_j)}{\sum_{j \in g} |y_j|}

so that :math:`\sum_{i\in g} |y_i| \hat A_i = 0`. The answer itself is among them, which shrinks the expected gradient,
and turns it where lengths go with rewards. Without it the estimator is unbiased, which is our variant, not the paper's:

.. math::
    :label: opo-leave-one-out

    \hat A_i = \frac{\sum_{j \in g} |y_j|\,(r_i - r_j)}{\sum_{j \in g,\, j \ne i} |y_j|}

For answers of one length these are the reward less the group's mean, and RLOO. Equal rewards give exactly 0; so do a
group of one, and one in which the others have no tokens. The paper takes exact on-policy steps of REINFORCE.

===============  ===========
:math:`|y_i|`    from `mask`
===============  ===========

**Where implementations differ.** verl gives a group of one its raw reward, and averages as configured.

**Provenance.** Confirmed: by verl's code, which the authors wrote, and the paper's abstract. The variant without the
answer itself, and the bias, are ours and checked by enumeration.

Hao et al., *On-Policy RL with Optimal Reward Baseline*, 2025, arXiv:2505.23585.
"""

from typing import Literal

from trref.backend import xp
from trref.signature import B, Index, Mask, Real, T, checked


@checked
def opo_advantage(
    reward: Real[B],
    group: Index[B],
    mask: Mask[B, T],
    *,
    baseline: Literal["all", "leave_one_out"] = "all",
) -> Real[B]:
    """Reward minus the length-weighted mean reward of the group.

    Parameters
    ----------
    baseline
        Over all answers of the group, or over the others.
    """
    same = (group[:, None] == group[None, :]).astype(reward.dtype)
    length = mask.sum(1).astype(reward.dtype)
    total = same @ length
    if baseline == "leave_one_out":
        total = total - length  # eq. opo-leave-one-out
    gaps = (same * (reward[:, None] - reward[None, :])) @ length
    return gaps / xp.where(total > 0, total, 1)  # eq. opo-advantage
