r"""Target-based surrogates: many steps of the model for one gradient of the loss.

The loss is a function :math:`l(z)` of a model's outputs, the *targets* :math:`z(\theta)`, and its gradient
:math:`g_t = \nabla_z l(z_t)` may be what costs most: a simulator, a judge. Ask for it once, at
:math:`z_t = z(\theta_t)`, and minimise a quadratic in the outputs, for which the model alone is needed:

.. math::
    :label: target-surrogates-surrogate

    h_t(\theta) = \langle g_t, z(\theta) - z_t \rangle + \frac1{2\eta} \| z(\theta) - z_t \|^2 .

Its gradient, with J the Jacobian of the outputs, is

.. math::
    :label: target-surrogates-gradient

    \nabla h_t(\theta) = J(\theta)^\top \Big( g_t + \frac{z(\theta) - z_t}\eta \Big) .

If :math:`\nabla l` has the Lipschitz constant L and :math:`\eta \le 1/L`, then :math:`l(z_t) + h_t` is above
:math:`l(z(\theta))` everywhere and touches it at :math:`\theta_t`: whatever lowers :math:`h_t` below 0 lowers the
loss. One gradient step on :math:`h_t` is one on the loss. Its minimum, for outputs :math:`X\theta` that are linear, is

.. math::
    :label: target-surrogates-linear

    \theta_{t+1} = \theta_t - \eta\, X^+ g_t, \qquad z_{t+1} = P_X (z_t - \eta\, g_t),

a gradient step on the outputs, projected on the range of X. For squared errors that is Newton's step at
:math:`\eta = 1` if they are summed, at :math:`\eta = N` if l is their mean over N rows. In between, m steps:

.. math::
    :label: target-surrogates-inner

    \theta \leftarrow \theta - a\, H\, \nabla h_t(\theta),

with H the identity and a fixed step a, or one that is halved until :math:`h_t` falls by
:math:`10^{-4} a\, \nabla h_t^\top H \nabla h_t` (and starts at twice the last one), or with H from the last changes of
the gradient (L-BFGS) and a from 1 down. They stop when the gradient's norm is below 1e-6. The algorithm repeats that,
on all rows or on a batch, of which only the batch's outputs are held near :math:`z_t`:

.. math::
    :label: target-surrogates-rounds

    \theta_{t+1} \approx \arg\min_\theta h_t(\theta) .

In the geometry of distributions the targets are the probabilities :math:`p = \mathrm{softmax}(z)` of rows, and a
divergence takes the place of the square:

.. math::
    :label: target-surrogates-mirror

    \langle g_t, p(\theta) - p_t \rangle + \frac1\eta \sum_i \mathrm{KL}(p_i(\theta) \,\|\, p_{t,i}),

whose minimum over all distributions is :math:`p \propto p_t e^{-\eta g_t}`: a step of mirror descent on a policy, if g
is minus its advantages.

**How long.** Constant :math:`\eta`, or falling with the round :math:`t = 1, 2, \dots`,

.. math::
    :label: target-surrogates-decay

    \eta_t = \frac{\eta}{\sqrt t} \quad\text{or}\quad \eta_t = \eta\, T^{-t/T},

or by the gradients seen so far, as Adagrad has it,

.. math::
    :label: target-surrogates-adagrad

    \eta_t = \frac{\eta}{\sqrt{\sum_{s \le t} \|g_s\|^2}},

or by a search in the space of targets, which costs values of the loss: from an expanded one down to

.. math::
    :label: target-surrogates-armijo

    l(z_t - \eta\, g_t) \le l(z_t) - c\, \eta\, \|g_t\|^2 .

At c = 1/2 every :math:`\eta \le 1/L` passes.

====================  ==============
:math:`m`             `steps`
:math:`a`             `lr`
:math:`T`             `horizon`
====================  ==============

**Where implementations differ.** The authors' code minimises the mean over all entries of
:math:`g \odot z / \eta_c + (z - z_t)^2`: their :math:`\eta_c` is :math:`1 / 2\eta`, so that a large one means a short
way, and the mean over N K entries divides gradients. Their search looks at :math:`z_t - g_t / \eta_c`, twice as far
as the surrogate then goes.

**Provenance.** Surrogate, schedules, search and Adagrad are confirmed in the authors' code (up to that convention),
majorisation, the linear case and the geometry of distributions in slides of a co-author. The method of the inner steps
is left to the user in the paper; these are the usual ones.

Lavington, Vaswani, Babanezhad, Schmidt and Le Roux, *Target-based Surrogates for Stochastic Optimization*, 2023,
arXiv:2302.02607.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from trref import validate
from trref.backend import linalg, xp
from trref.krylov.terms import floats
from trref.nn.heads import log_softmax
from trref.problems.protocols import LogitNetwork
from trref.signature import (
    T1,
    B,
    D,
    Index,
    K,
    N,
    NonNegative,
    OpenFraction,
    P,
    Positive,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    T,
    checked,
)

GTOL = 1e-6


def _outputs(network, theta, shape):
    return validate.returned(
        "network.logits", network.logits(theta), shape, finite=True
    )


def _pulled(network, theta, cotangent):
    pulled = network.logits_vjp(theta, cotangent)
    return validate.returned("network.logits_vjp", pulled, theta.shape)


@checked
def surrogate(
    network: LogitNetwork,
    theta: Real[P],
    targets: Real[N, K],
    gradient: Real[N, K],
    *,
    eta: PositiveFloat = 1.0,
) -> tuple[Scalar, Real[P]]:
    """A bound of the change of the loss, by the outputs.

    Parameters
    ----------
    network
        On fixed inputs, such as `trref.problems.networks.ClassifierLoss`.
    targets
        Outputs at which the gradient of the loss was asked for.
    gradient
        Of the loss by the outputs, there.
    eta
        Step length in the space of outputs.

    Returns
    -------
    bound
    slope
        With respect to `theta`.
    """
    change = _outputs(network, theta, targets.shape) - targets
    # eq. target-surrogates-surrogate
    value = (gradient * change).sum() + (change * change).sum() / (2 * eta)
    # eq. target-surrogates-gradient
    return value, _pulled(network, theta, gradient + change / eta)


@checked
def mirror_surrogate(
    network: LogitNetwork,
    theta: Real[P],
    old_logits: Real[N, K],
    gradient: Real[N, K],
    *,
    eta: PositiveFloat = 1.0,
) -> tuple[Scalar, Real[P]]:
    """The surrogate whose targets are probabilities.

    Parameters
    ----------
    old_logits
        Outputs at which the gradient was asked for.
    gradient
        Of the loss by the probabilities, there.

    Returns
    -------
    bound
    slope
        With respect to `theta`.
    """
    log_p = log_softmax(_outputs(network, theta, old_logits.shape))
    log_q = log_softmax(old_logits)
    p = xp.exp(log_p)
    # eq. target-surrogates-mirror
    each = gradient + (log_p - log_q) / eta
    value = (p * each).sum() - (xp.exp(log_q) * gradient).sum()
    # the derivative of Σ p is 0, so the 1/η of that of p log p drops out
    slope = p * (each - (p * each).sum(-1, keepdims=True))
    return value, _pulled(network, theta, slope)


@checked
def linear_minimiser(
    X: Real[N, D], theta: Real[D, K], gradient: Real[N, K], *, eta: PositiveFloat = 1.0
) -> Real[D, K]:
    """The minimum of the surrogate where the outputs are linear, the one nearest to where it starts.

    Parameters
    ----------
    X
        Outputs are ``X @ theta``.
    theta
        The parameters, a column an output.
    """
    return theta - eta * (linalg.pinv(X) @ gradient)  # eq. target-surrogates-linear


@checked
def inner_minimize(
    network: LogitNetwork,
    theta: Real[P],
    targets: Real[N, K],
    gradient: Real[N, K],
    *,
    eta: PositiveFloat = 1.0,
    steps: PositiveInt = 10,
    lr: PositiveFloat = 1.0,
    method: Literal["gradient", "armijo", "lbfgs"] = "armijo",
    memory: PositiveInt = 10,
) -> Real[P]:
    """The parameters after some steps on the surrogate.

    Parameters
    ----------
    lr
        The step of "gradient", the first one tried of "armijo".
    method
        How steps are made.
    memory
        Changes that "lbfgs" remembers.
    """
    how, pairs = {"eta": eta}, []
    value, slope = surrogate.unchecked(network, theta, targets, gradient, **how)
    for _ in range(steps):
        square, start = floats(slope @ slope, value)
        if square <= GTOL**2:
            break
        direction, fall, size = -slope, square, lr
        if method == "lbfgs":
            direction, size = -_bent(slope, pairs), 1.0
            (fall,) = floats(-(direction @ slope))

        # eq. target-surrogates-inner
        for _ in range(1 if method == "gradient" else 50):
            new = theta + size * direction
            value, after = surrogate.unchecked(network, new, targets, gradient, **how)
            if float(value) <= start - 1e-4 * size * fall:
                break
            size = size / 2

        if method == "armijo":
            lr = 2 * size
        pairs = [*pairs, (new - theta, after - slope)][-memory:]
        theta, slope = new, after
    return theta.copy()


def _bent(slope, pairs):
    """The inverse Hessian that the last changes of point and gradient suggest, times the slope: two loops."""
    pairs = [(s, y) for s, y in pairs if float(s @ y) > 0]
    if not pairs:
        return slope
    shares = []
    for s, y in reversed(pairs):
        shares.append((s @ slope) / (s @ y))
        slope = slope - shares[-1] * y
    s, y = pairs[-1]
    slope = (s @ y) / (y @ y) * slope
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        slope = slope + (share - (y @ slope) / (s @ y)) * s
    return slope


def _on(whole, rows):
    return whole.on(rows)


def _rows_there_are(network, theta, target_loss, batches, **_):
    """Batches of rows that there are not."""
    if batches is None:
        return []
    validate.provides("network", network, "on")
    validate.provides("target_loss", target_loss, "on")
    return [validate.labels(batches, len(network.logits(theta)), "batches")]


@checked(also=_rows_there_are)
def sso(
    network: LogitNetwork,
    target_loss: Callable,
    theta: Real[P],
    etas: Positive[T],
    batches: Index[T, B] | None = None,
    *,
    steps: PositiveInt = 10,
    lr: PositiveFloat = 1.0,
    method: Literal["gradient", "armijo", "lbfgs"] = "armijo",
    memory: PositiveInt = 10,
) -> Real[T1, P]:
    """The parameters after each round, the start first.

    Parameters
    ----------
    target_loss
        ``target_loss(z) -> (loss, gradient)``, such as those of `trref.problems.target_losses`; called once a round.
    etas
        Step length of each round in the space of outputs.
    batches
        Rows of each round, for which network and loss have ``on(rows)``; all rows if None.
    """
    how = {"steps": steps, "lr": lr, "method": method, "memory": memory}
    points = [theta]
    for t, eta in enumerate(etas.tolist()):
        model, loss = network, target_loss
        if batches is not None:
            model, loss = _on(network, batches[t]), _on(target_loss, batches[t])
        z = model.logits(points[-1])
        _, g = validate.loss_and_grad(loss, z, "target_loss", finite=True)
        # eq. target-surrogates-rounds
        points.append(inner_minimize.unchecked(model, points[-1], z, g, eta=eta, **how))
    return xp.stack(points)


@checked
def decaying_eta(
    rounds: Positive[N],
    *,
    eta: PositiveFloat = 1.0,
    horizon: PositiveInt = 100,
    kind: Literal["root", "exponential"] = "root",
) -> Positive[N]:
    """Step lengths that fall with the round.

    Parameters
    ----------
    rounds
        Their numbers, from 1 on.
    eta
        The first one, or that of round 0.
    horizon
        The round in which "exponential" has fallen by its own number.
    kind
        How they fall.
    """
    # eq. target-surrogates-decay
    if kind == "root":
        return eta / xp.sqrt(rounds)
    return eta * float(horizon) ** (-rounds / horizon)


@checked
def adagrad_eta(squares: NonNegative[N], *, eta: PositiveFloat = 1.0) -> NonNegative[N]:
    """Step lengths that fall as gradients are seen; 0 as long as all of them were 0.

    Parameters
    ----------
    squares
        Squared norm of each round's gradient by the outputs.
    eta
        The step for gradients whose squares sum up to 1.
    """
    total = xp.cumsum(squares)
    # eq. target-surrogates-adagrad
    return xp.where(total > 0, eta / xp.sqrt(xp.where(total > 0, total, 1)), 0)


@checked
def armijo_eta(
    target_loss: Callable,
    targets: Real[N, K],
    *,
    eta: PositiveFloat = 1.0,
    expand: Annotated[float, "[1, inf)"] = 1.8,
    shrink: OpenFraction = 0.9,
    share: OpenFraction = 0.5,
    max_iter: PositiveInt = 100,
) -> Scalar:
    """A step length for which the loss of the outputs falls enough.

    Parameters
    ----------
    eta
        That of the round before.
    expand
        The search begins at this multiple.
    shrink
        By which it goes on.
    share
        Of the decrease that the slope promises: c.
    """
    value, g = validate.loss_and_grad(target_loss, targets, "target_loss", finite=True)
    start, square = floats(value, (g * g).sum())
    eta = eta * expand
    for _ in range(max_iter):
        after, _ = validate.loss_and_grad(
            target_loss, targets - eta * g, "target_loss", finite=True
        )
        # eq. target-surrogates-armijo
        if float(after) <= start - share * eta * square:
            break
        eta = eta * shrink
    return xp.asarray(eta, dtype=targets.dtype)
