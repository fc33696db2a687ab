r"""AdjointDPM: gradients through a diffusion sampler from a second equation, with memory for one state.

Sampling solves an ordinary differential equation, and the gradient of a loss on its end is the solution of another one
that runs backwards: nothing is stored on the way. The probability flow of the schedule "vp" from noise time T,

.. math::

    \frac{\mathrm dx}{\mathrm dt} = f(t)\, x + \frac{g^2(t)}{2\sigma_t}\, \hat\varepsilon_\theta(x, t),

loses its stiff linear part in the variables

.. math::
    :label: adjoint-dpm-variables

    y = \frac{\alpha_T}{\alpha_t}\, x, \qquad \rho = \alpha_T \frac{\sigma_t}{\alpha_t} - \sigma_T,

where :math:`\rho` is 0 at the start and falls to nearly :math:`-\sigma_T` at the data, and few steps are enough:

.. math::
    :label: adjoint-dpm-flow

    \frac{\mathrm dy}{\mathrm d\rho} = \hat\varepsilon_\theta\Big( \frac{\alpha_t}{\alpha_T}\, y,\; t(\rho) \Big)

(Euler steps are DDIM's). The adjoint :math:`a = \partial L/\partial y(\rho)` starts at the end and is solved together
with :math:`y`, back to :math:`\rho = 0`, on the same grid by the same method:

.. math::
    :label: adjoint-dpm-adjoint

    \frac{\mathrm da}{\mathrm d\rho} = -\frac{\alpha_t}{\alpha_T}
    \Big( \frac{\partial\hat\varepsilon_\theta}{\partial x} \Big)^{\!\top} a, \qquad
    \frac{\mathrm da_\theta}{\mathrm d\rho} = -\Big( \frac{\partial\hat\varepsilon_\theta}{\partial\theta}
    \Big)^{\!\top} a, \qquad a(\rho_0) = \frac{\alpha_{t_0}}{\alpha_T} \nabla L(x_{t_0}), \quad a_\theta(\rho_0) = 0.

At :math:`\rho = 0` they are the gradients by the noise and by the parameters, to which conditions such as embeddings
belong. They are those of the *solution*: at a finite step they differ from the gradient of the steps
(:mod:`trref.diffusion.symplectic_adjoint`) by the error of the method, and so does the start that is reached from the
start that was left, which tells how far to trust them. Where the flow contracts, near the data, the way back expands:
end before it. A guided noise is a model like others (`trref.problems.mixtures.GuidedModel`), and bounded changes of the
noise are the steps of :mod:`trref.adversarial.pgd`.

**Where implementations differ.** The authors' code for latent images snaps every stage to the nearest level of its grid
in time and in scale, which leaves no method of higher order than one; its code for pixels does not. Backpropagation
through the sampler, as AlignProp has it, is the gradient of the steps.

**Provenance.** The change of variables, its integration variable and the solvers confirmed by the authors' code
(HanshuYAN/AdjointDPM, bf707af), whose scale leaves out the constant :math:`\alpha_T`; the adjoint is the standard one,
checked here against fine solutions, differences and the gradient of the steps. Of its solvers the multistep one
(implicit Adams) is not here.

Pan, Liew, Tan, Feng and Yan, *AdjointDPM: Adjoint Sensitivity Method for Gradient Backpropagation of Diffusion
Probabilistic Models*, 2023, arXiv:2307.10711.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

from trref import validate
from trref.backend import xp
from trref.diffusion.noise_schedules import time_at
from trref.diffusion.symplectic_adjoint import TABLEAUX, Rule
from trref.diffusion.terms import a_step
from trref.problems.denoisers import AskedNetwork
from trref.problems.mixtures import vp_schedule
from trref.problems.protocols import DenoisingNetwork
from trref.signature import K1, D, N, P, Prob, Real, Scalar, checked

Time = Annotated[float, "[1e-6, 1]"]


class AdjointGradient(NamedTuple):
    """A loss at the end of the flow, its gradients by parameters and noise, and the noise that the way back found."""

    loss: Scalar
    theta: Real[P]
    x: Real[N, D]
    start: Real[N, D]


def _time(rho, alpha_T, sigma_T):
    """The noise time that belongs to rho: sigma/alpha = (rho + sigma_T)/alpha_T."""
    return time_at.unchecked(-2 * xp.log((rho + sigma_T) / alpha_T))


@checked
def to_rho(t: Prob[N], *, t_max: Time = 1.0) -> Real[N]:
    """Return the variable that the flow is integrated in.

    Parameters
    ----------
    t
        Noise times.
    t_max
        The noise time T at which sampling starts, where it is 0.
    """
    alpha, sigma = vp_schedule(t)
    alpha_T, sigma_T = vp_schedule(xp.full_like(t, t_max))
    # eq. adjoint-dpm-variables
    return alpha_T * sigma / alpha - sigma_T


def _from_the_data(rho, t_max, **_):
    """Values below that of the data."""
    sigma_T = vp_schedule(xp.full_like(rho, t_max))[1]
    return [(lambda: (rho > -sigma_T).all(), "rho must be above -sigma at t_max")]


@checked(also=_from_the_data)
def t_of_rho(rho: Real[N], *, t_max: Time = 1.0) -> Real[N]:
    """Return the noise times of values of the variable of integration.

    Parameters
    ----------
    rho
        0 at t_max, and above minus its noise level.
    """
    # eq. adjoint-dpm-variables
    return _time(rho, *vp_schedule(xp.full_like(rho, t_max)))


def _falling(times, **_):
    """Times that rise, that end at the data, or fewer than two."""
    a_step(times=times)
    return [
        (lambda: (times[1:] <= times[:-1]).all(), "times must not rise"),
        (lambda: times[-1] >= 1e-6, "times must end at 1e-6 or above"),
    ]


@checked(also=_falling)
def adjoint_gradient(
    network: DenoisingNetwork,
    theta: Real[P],
    x: Real[N, D],
    times: Prob[K1],
    loss: Callable,
    *,
    rule: Rule = "rk4",
) -> AdjointGradient:
    """Solve the flow from noise to data, and the adjoint equation back.

    Parameters
    ----------
    network
        The noise, such as `trref.problems.denoisers.TimeNetwork`, at times of the schedule "vp".
    x
        Noise at the first time.
    times
        Noise times, from large to small.
    loss
        ``loss(x (N, D)) -> (values (N), gradients (N, D))``, of each row by itself; values are summed.
    rule
        The Runge-Kutta method of both equations.
    """
    asked = AskedNetwork("network", network)
    alpha, sigma = vp_schedule(times)
    rho = alpha[0] * sigma / alpha - sigma[0]

    def at(rho):
        """The scale and the time that belong to rho."""
        ratio = (rho + sigma[0]) / alpha[0]
        scale = 1 / xp.sqrt(1 + ratio**2) / alpha[0]
        return scale, _time(rho, alpha[0], sigma[0])

    def flow(state, rho):
        scale, t = at(rho)
        return (asked.forward(theta, scale * state[0], t)[0],)  # eq. adjoint-dpm-flow

    def both(state, rho):
        y, a, _ = state
        scale, t = at(rho)
        noise, cache = asked.forward(theta, scale * y, t)
        by_theta, by_x = asked.vjp(cache, a)
        return noise, -scale * by_x, -by_theta  # eq. adjoint-dpm-adjoint

    y = (x,)
    for k in range(len(times) - 1):
        y = _step(flow, y, rho[k], rho[k + 1], rule)
    last = alpha[-1] / alpha[0]
    values, gradients = validate.rows(loss, last * y[0], "loss")
    state = (*y, last * gradients, xp.zeros_like(theta))
    for k in reversed(range(len(times) - 1)):
        state = _step(both, state, rho[k + 1], rho[k], rule)
    start, by_x, by_theta = state
    return AdjointGradient(values.sum(), by_theta, by_x, start)


def _step(slope, state, here, there, rule):
    """One Runge-Kutta step of a tuple of arrays."""
    a, b, c = TABLEAUX[rule]
    h, slopes = there - here, []

    def moved(weights):
        return tuple(
            part + h * sum(w * s[i] for w, s in zip(weights, slopes, strict=True))
            for i, part in enumerate(state)
        )

    for row, node in zip(a, c, strict=True):
        slopes.append(slope(moved(row), here + node * h))
    return moved(b)
