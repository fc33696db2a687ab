r"""Gradients through time: products of Jacobians that vanish or explode, a clip and a penalty against either.

A recurrent network keeps the state before its nonlinearity,

.. math::
    :label: rnn-gradients-state

    x_t = W \sigma(x_{t-1}) + W_{in} u_t + b, \qquad t = 1, \dots, T

and has a loss :math:`E = \sum_t E_t(x_t)`. One step changes perturbations by

.. math::
    :label: rnn-gradients-jacobian

    \frac{\partial x_t}{\partial x_{t-1}} = W\, \mathrm{diag}\big(\sigma'(x_{t-1})\big),

and where :math:`|\sigma'| \le \gamma` (1 for tanh, ¼ for the logistic function) t - k steps by at most

.. math::
    :label: rnn-gradients-bound

    \Big\| \frac{\partial x_t}{\partial x_k} \Big\| \le (\gamma\, \|W\|_2)^{t-k}

So gradients vanish if the largest singular value is below :math:`1/\gamma`, and can explode only if it is above.
Through time the derivatives :math:`\delta_t = \partial E / \partial x_t` run backwards,

.. math::
    :label: rnn-gradients-backward

    \delta_t = \frac{\partial E_t}{\partial x_t} + \sigma'(x_t) \odot \big( W^\top \delta_{t+1} \big), \qquad
    \delta_{T+1} = 0

.. math::
    :label: rnn-gradients-gradient

    \nabla_W = \sum_t \delta_t\, \sigma(x_{t-1})^\top, \quad \nabla_{W_{in}} = \sum_t \delta_t u_t^\top, \quad
    \nabla_b = \sum_t \delta_t, \quad \nabla_{x_0} = \sigma'(x_0) \odot (W^\top \delta_1)

Against explosion: a gradient that is too long, all parameters taken together, is cut to a threshold, which
:mod:`trref.optimizers.gradient_clipping` does.

Against vanishing: a penalty on each step that changes the length of the error,

.. math::
    :label: rnn-gradients-penalty

    \Omega = \sum_{t=1}^{T-1} (q_t - 1)^2, \qquad q_t = \frac{\|v_t\|}{\|\delta_{t+1}\|}, \quad
    v_t = \sigma'(x_t) \odot \big( W^\top \delta_{t+1} \big)

of which only the explicit W is differentiated, states and errors held constant:

.. math::
    :label: rnn-gradients-penalty-gradient

    \frac{\partial^+ \Omega}{\partial W} = \sum_t \frac{2 (q_t - 1)}{\|\delta_{t+1}\|\, \|v_t\|}\; \delta_{t+1}
    \big( \sigma'(x_t) \odot v_t \big)^\top

The first author's code squares the ratio and takes the mean over the steps,

.. math::
    :label: rnn-gradients-squared

    \Omega' = \frac1n \sum_t (q_t^2 - 1)^2, \qquad \frac{\partial^+ \Omega'}{\partial W} = \frac1n \sum_t
    \frac{4 (q_t^2 - 1)}{\|\delta_{t+1}\|^2}\; \delta_{t+1} \big( \sigma'(x_t) \odot v_t \big)^\top

about four times as much near q = 1, and growing faster. A step whose error is below :math:`10^{-10}` does not count;
where v is 0 the ratio is 0 and the penalty has a kink, with the gradient 0.

==========================  ===================================
:math:`W, W_{in}`           ``W_rec``, ``W_in``
:math:`x_t`                 rows of ``states``
:math:`\delta_t`            rows of ``errors``
==========================  ===================================

**Where implementations differ.** Most code keeps the state *after* the nonlinearity, :math:`h_t = \tanh(W h_{t-1} +
\dots)`, as :mod:`trref.nn.recurrent` does: the factor :math:`\sigma'` then belongs to the next step, and the penalty is
another one. The first author's code computes :eq:`rnn-gradients-squared`, so that the penalty's weight does not carry
over.

**Provenance.** The squared penalty is confirmed by the first author's code (pascanur/trainingRNNs); model, bounds and
the penalty itself follow memory of the paper, and all gradients are checked.

Pascanu, Mikolov and Bengio, *On the difficulty of training Recurrent Neural Networks*, 2013, arXiv:1211.5063.
"""

from typing import Literal, NamedTuple

from trref.backend import linalg, special, xp
from trref.signature import (
    T1,
    D,
    H,
    Real,
    Scalar,
    T,
    checked,
)


def _sigma(x, activation):
    """The nonlinearity and its derivative."""
    if activation == "tanh":
        y = xp.tanh(x)
        return y, 1 - y * y
    y = special.expit(x)
    return y, y * special.expit(-x)


class RecurrentGradient(NamedTuple):
    """Derivatives with respect to the matrices, the bias and the first state."""

    W_rec: Real[H, H]
    W_in: Real[H, D]
    bias: Real[H]
    start: Real[H]


@checked
def states(
    W_rec: Real[H, H],
    W_in: Real[H, D],
    bias: Real[H],
    start: Real[H],
    u: Real[T, D],
    *,
    activation: Literal["tanh", "logistic"] = "tanh",
) -> Real[T1, H]:
    """States before the nonlinearity, the start first.

    Parameters
    ----------
    W_rec
        From one state to the next.
    W_in
        From the inputs.
    start
        The first state.
    u
        Inputs, one a row.
    bias
        Of each unit.
    """
    x = [start]
    for row in u:
        # eq. rnn-gradients-state
        x.append(W_rec @ _sigma(x[-1], activation)[0] + W_in @ row + bias)
    return xp.stack(x)


@checked
def errors(
    W_rec: Real[H, H],
    states: Real[T1, H],
    slopes: Real[T, H],
    *,
    activation: Literal["tanh", "logistic"] = "tanh",
) -> Real[T, H]:
    """Derivatives of the whole loss by each state but the first.

    Parameters
    ----------
    states
        As by `states`.
    slopes
        Derivatives of each step's own loss by its state.
    """
    first = _sigma(states, activation)[1]
    delta, backward = xp.zeros_like(slopes[0]), []
    for t in reversed(range(len(slopes))):
        delta = slopes[t] + first[t + 1] * (
            W_rec.T @ delta
        )  # eq. rnn-gradients-backward
        backward.append(delta)
    return xp.stack(backward[::-1])


@checked
def squared_loss(
    W_rec: Real[H, H],
    W_in: Real[H, D],
    bias: Real[H],
    start: Real[H],
    u: Real[T, D],
    target: Real[T, H],
    *,
    activation: Literal["tanh", "logistic"] = "tanh",
) -> tuple[Scalar, RecurrentGradient]:
    """Half the squared distance of the states from targets, back-propagated through time.

    Parameters
    ----------
    target
        For each state but the first.
    """
    x = states.unchecked(W_rec, W_in, bias, start, u, activation=activation)
    apart = x[1:] - target
    delta = errors.unchecked(W_rec, x, apart, activation=activation)
    y, first = _sigma(x, activation)
    # eq. rnn-gradients-gradient
    gradient = RecurrentGradient(
        W_rec=delta.T @ y[:-1],
        W_in=delta.T @ u,
        bias=delta.sum(0),
        start=first[0] * (W_rec.T @ delta[0]),
    )
    return (apart * apart).sum() / 2, gradient


@checked
def jacobian_norms(
    W_rec: Real[H, H],
    states: Real[T1, H],
    *,
    activation: Literal["tanh", "logistic"] = "tanh",
) -> Real[T]:
    """Norms of the derivatives of the last state by those 1, 2, … steps before it.

    Parameters
    ----------
    states
        As by `states`.
    """
    if len(states) < 2:
        raise ValueError("states must hold two times at least")
    first = _sigma(states, activation)[1]
    product, norms = xp.eye(len(W_rec), dtype=W_rec.dtype), []
    for row in first[-2::-1]:
        product = (product @ W_rec) * row  # eq. rnn-gradients-jacobian
        norms.append(linalg.norm(product, 2))
    return xp.stack(norms)


@checked
def norm_bound(
    W_rec: Real[H, H],
    states: Real[T1, H],
    *,
    activation: Literal["tanh", "logistic"] = "tanh",
) -> Real[T]:
    """What `jacobian_norms` cannot exceed.

    Parameters
    ----------
    states
        As by `states`; only their number counts.
    """
    gamma = 1.0 if activation == "tanh" else 0.25
    steps = xp.arange(1, len(states), dtype=W_rec.dtype)
    return (gamma * linalg.norm(W_rec, 2)) ** steps  # eq. rnn-gradients-bound


@checked
def vanishing_penalty(
    W_rec: Real[H, H],
    states: Real[T1, H],
    errors: Real[T, H],
    *,
    form: Literal["ratio", "squared"] = "ratio",
    activation: Literal["tanh", "logistic"] = "tanh",
) -> tuple[Scalar, Real[H, H]]:
    """How far the back-propagated error is from keeping its length, and the gradient with states and errors constant.

    Parameters
    ----------
    states
        As by `states`.
    errors
        As by `errors`.
    form
        The paper's sum, or the mean of squares of the first author's code.
    """
    first, delta = _sigma(states, activation)[1][1:-1], errors[1:]
    v = first * (delta @ W_rec)
    length = xp.sqrt((delta * delta).sum(1))
    counted = length > 1e-10
    length = xp.where(counted, length, 1)
    size = xp.sqrt((v * v).sum(1))
    q = size / length
    if form == "ratio":
        # eq. rnn-gradients-penalty
        value = xp.where(counted, (q - 1) ** 2, 0).sum()
        # eq. rnn-gradients-penalty-gradient
        scale = 2 * (q - 1) / (length * xp.where(size > 0, size, 1))
    else:
        # eq. rnn-gradients-squared
        n = xp.maximum(counted.sum(), 1).astype(q.dtype)
        value = xp.where(counted, (q * q - 1) ** 2, 0).sum() / n
        scale = 4 * (q * q - 1) / length**2 / n
    scale = xp.where(counted, scale, 0)
    return value, (delta * scale[:, None]).T @ (first * v)
