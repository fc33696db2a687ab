r"""REINFORCE: the policy gradient itself, which clipped and gated objectives become on-policy.

How does the mean reward of a policy change with its parameters? As :math:`\nabla \pi(y) = \pi(y)\, \nabla\log\pi(y)`,
the answer is a mean over the policy's own answers, and any baseline b that does not depend on the answer may be taken
off, because :math:`\mathbb E_\pi[\nabla \log \pi(y)] = 0`:
:math:`\nabla\, \mathbb E_\pi[r(y)] = \mathbb E_\pi[(r(y) - b)\, \nabla \log\pi(y)]`. The log-probability of an answer
is the sum of those of its tokens. So, with advantages :math:`\hat A = r - b`, constants of the batch, and the weights w
of :mod:`trref.tokens.grpo`,

.. math::
    :label: reinforce-objective

    J = \sum_{i,t} w_{i,t}\, \hat A_{i,t} \log\pi_{i,t}, \qquad
    w_{i,t} = \frac{m_{i,t}}{B L} \ (L = 1),\quad \frac{m_{i,t}}{B\,|y_i|},\quad \frac{m_{i,t}}{\sum_j |y_j|}

.. math::
    :label: reinforce-gradient

    \frac{\partial J}{\partial \log\pi_{i,t}} = w_{i,t}\, \hat A_{i,t}

Only the gradient has a meaning, and only on the policy's own answers: there is no ratio that would say how far it has
moved. The sum over the tokens of an answer (``constant``, L = 1) is unbiased. The means are so up to a factor where
all answers are equally long; else ``seq_mean`` is the gradient of the mean of :math:`r(y)/|y|`.

The baseline leaves the mean as it is and changes the variance. The best constant is
:math:`\mathbb E[r\, \|\nabla\log\pi\|^2] / \mathbb E[\|\nabla\log\pi\|^2]`. Usual is the mean reward of the *other*
answers to the prompt, which is unbiased (RLOO: ``group_advantage(…, std="none", baseline="leave_one_out")`` of
:mod:`trref.tokens.grpo`). The mean of all G answers counts the answer itself, and scales the gradient by
:math:`1 - 1/G`. Where successes are rare the noise of such a mean can cost more than it saves.

**Where implementations differ.** verl's REINFORCE loss sums over the tokens of an answer by default, as here, and may
multiply by a truncated ratio, held constant. Spinning Up's VPG takes the mean over all steps of the batch. TRL's RLOO
trainer clips the ratio of the whole answer, and REINFORCE++ that of each token, with advantages standardised over the
batch: at the first step on fresh samples both are this. An advantage that was computed from the current
log-probabilities, as a penalty in the reward is, has to be detached.

**Provenance.** Confirmed: the estimator is Williams's (1992), with the loss code of verl and the documentation of TRL
for the sums. The remarks on bias and variance are derived and checked by enumeration.

Williams, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning*, Machine Learning
8, 1992. RLOO: Ahmadian et al., 2024, arXiv:2402.14740. REINFORCE++: Hu et al., 2025, arXiv:2501.03262.
"""

from typing import Literal

from trref.backend import xp
from trref.signature import (
    B,
    LogProb,
    Mask,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)
from trref.tokens.terms import per_token, token_weights


@checked
def reinforce(
    log_prob: LogProb[B, T],
    advantage: Real[B] | Real[B, T],
    mask: Mask[B, T],
    *,
    aggregation: Literal["constant", "seq_mean", "token_mean"] = "constant",
    max_length: PositiveFloat = 1.0,
) -> tuple[Scalar, Real[B, T]]:
    """REINFORCE loss: minus the mean of advantage times log-probability.

    Parameters
    ----------
    log_prob
        That policy is the one that sampled.
    advantage
        Reward less a baseline; a constant.
    aggregation
        ``"constant"`` is the mean over answers of the sum over tokens, divided by `max_length`.

    Returns
    -------
    loss
        Its gradient matters, not its value.
    gradient
    """
    w = token_weights(mask, aggregation, max_length=max_length)
    dJ = w * per_token(advantage)  # eq. reinforce-gradient
    J = xp.vdot(dJ, log_prob)  # eq. reinforce-objective
    return -J, -dJ
