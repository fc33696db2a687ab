r"""Trust region policy optimisation: the surrogate's best step within a bound on the mean KL divergence.

A lower bound on the return of a new policy is its first-order surrogate minus a penalty on the largest divergence from
the old one (:mod:`trref.policy.policy_improvement`). The constant of that penalty is far too pessimistic in practice;
so the surrogate, estimated on a batch drawn by the old policy,

.. math::
    :label: trpo-surrogate

    \hat L(\theta) = \sum_n w_n\, \frac{\pi_\theta(a_n|s_n)}{\pi_{old}(a_n|s_n)}\, \hat A_n,

is maximised under a hard bound on the *mean* divergence,

.. math::
    :label: trpo-constraint

    \bar D(\theta) = \sum_n w_n\, D_{KL}\big(\pi_{old}(\cdot|s_n) \,\|\, \pi_\theta(\cdot|s_n)\big) \le \delta.

The weights :math:`w_n` are :math:`1/N` for a batch of samples; a table of all states and actions with its true
probabilities as weights makes both exact. One step solves the problem approximately: linear in the objective, quadratic
in the constraint (:mod:`trref.policy.natural_gradient`),

.. math::
    :label: trpo-direction

    s \approx F^{-1} g, \qquad \beta = \sqrt{2\delta / s^\top F s},

and backtracks from :math:`\theta_{old} + \beta s` until the surrogate is not worse and the constraint holds. If no
trial does both, the parameters stay as they are.

The paper's *vine* procedure tries K actions in the same state. Their Q-values need no baseline; the estimate of a state
is a sum over all actions, or self-normalised over the sampled ones:

.. math::
    :label: trpo-vine-all

    L_n(\theta) = \sum_k \pi_\theta(a_{nk}|s_n)\, \hat Q_{nk}

.. math::
    :label: trpo-vine-normalised

    L_n(\theta) = \frac{\sum_k r_{nk} \hat Q_{nk}}{\sum_k r_{nk}}, \qquad
    r_{nk} = \frac{\pi_\theta(a_{nk}|s_n)}{q(a_{nk}|s_n)}

**Where implementations differ.** modular_rl, the authors' own code, never tests the divergence in its line search, and
asks for a tenth of the predicted gain. baselines accepts up to 1.5 times the bound, and takes every fifth state for
:math:`F`. SB3-contrib constrains KL(new‖old), Spinning Up does for Gaussian but not for categorical policies. All use
generalised advantages rather than Q-values, and none the vine procedure.

**Provenance.** Confirmed in the paper's text and in the code named above. The damping is not in the paper.

Schulman, Levine, Moritz, Jordan and Abbeel, *Trust Region Policy Optimization*, 2015, arXiv:1502.05477.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Input, Method, Objective, Solver
from trref.policy import _trpo_cases as cases
from trref.policy import _trust_region_deviations as deviations
from trref.policy.natural_gradient import backtracking_line_search, natural_step

__all__ = ["trpo_step", "vine_surrogate"]


def trpo_step(
    policy,
    theta,
    states,
    actions,
    advantage,
    weight=None,
    *,
    delta=0.01,
    damping=0.1,
    iterations=10,
    subsample=1,
    shrink=0.5,
    trials=10,
):
    """Take one step of trust region policy optimisation on a batch.

    Parameters
    ----------
    policy : callable
        Such as `trref.problems.policies.CategoricalPolicy`.
    theta : array (P,)
        Parameters of the policy that drew the batch.
    states : array (N, D)
    actions : integer array (N,), or array (N, d) for a Gaussian policy
    advantage : array (N,)
    weight : array (N,), optional
        Non-negative; 1/N by default. `delta` bounds the sum of weight times divergence, whatever they sum to.
    delta : float
        Bound of the mean divergence KL(old‖new), in (0, inf); 0.01 in the paper.
    damping : float
        Added to the Fisher matrix, in [0, inf); 0.1 in SB3-contrib and in baselines for MuJoCo, 1e-3 in modular_rl.
        With 0 and a coarse `subsample` the matrix may be singular; conjugate gradients then end early.
    iterations : int
        Steps of conjugate gradients; 10 in the paper.
    subsample : int
        Every so many states make the Fisher matrix; 10 in the paper. The line search uses all of them.
    shrink, trials
        As in `trref.policy.natural_gradient.backtracking_line_search`.

    Returns
    -------
    TrustRegionStep
        With a copy of `theta` and ``converged=False`` if no trial was accepted. ``iterations`` counts steps of
        conjugate gradients and trials of the line search.

    Raises
    ------
    ValueError
        Shapes that do not fit, values that are not finite or out of range, unknown actions; without damping, a
        direction of no curvature.
    """
    inputs = cases.BATCH.inputs if getattr(policy, "discrete", True) else cases.CONTINUOUS
    sizes, flags = validate.deferred(inputs, policy, theta, states, actions, advantage, weight)
    validate.require(*flags, *policy.requirements(theta, actions))
    validate.interval("(0, inf)", delta=delta)
    validate.interval("[0, inf)", damping=damping)
    validate.integer("[1, inf)", subsample=subsample)
    weight = xp.full_like(advantage, 1 / sizes["N"]) if weight is None else weight

    z_old, cache = policy.forward(theta, states)
    log_prob_old, d_log_prob = policy.log_prob(z_old, actions)

    def surrogate_and_divergence(trial):
        z = policy(trial, states)
        # a full step may go far outside the trust region, where ratios would overflow
        log_ratio = xp.minimum(policy.log_prob(z, actions)[0] - log_prob_old, validate.LOG_RATIO_BOUND)
        L = (weight * xp.exp(log_ratio) * advantage).sum()  # eq. trpo-surrogate
        return L, (weight * policy.kl(z_old, z)[0]).sum()  # eq. trpo-constraint

    gradient = policy.vjp(cache, (weight * advantage)[:, None] * d_log_prob)
    some = weight[::subsample]
    share = weight.sum() / xp.maximum(some.sum(), xp.finfo(some.dtype).tiny)  # the subset stands for the whole
    fisher = _fisher_operator(policy, theta, states[::subsample], share * some, damping)
    direction = natural_step(fisher, gradient, delta=delta, iterations=iterations)  # eq. trpo-direction
    search = backtracking_line_search(
        surrogate_and_divergence, theta, direction.step, gradient, delta=delta, shrink=shrink, trials=trials
    )
    return search._replace(iterations=direction.iterations + search.iterations)


def _fisher_operator(policy, theta, states, weight, damping):
    """Return ``v -> (F + damping) v``, with one forward pass for all products."""
    z, cache = policy.forward(theta, states)
    return lambda v: policy.vjp(cache, weight[:, None] * policy.fisher(z, policy.jvp(cache, v))) + damping * v


VINE = {"log_prob": Input("N K", "log_prob"), "behavior_log_prob": Input("N K", "log_prob"), "q_value": Input("N K")}


def vine_surrogate(log_prob, behavior_log_prob, q_value, *, estimator="normalised"):
    """Surrogate loss of the vine procedure: K actions tried in each of N states.

    Parameters
    ----------
    log_prob : array (N, K)
        Log-probabilities of the actions under the current policy.
    behavior_log_prob : array (N, K)
        Under the distribution q that they were drawn from; not used by the sum over all actions.
    q_value : array (N, K)
        Estimates of their Q-values.
    estimator : {"normalised", "all actions"}
        Self-normalised importance weights, or the sum over all actions of a finite set.

    Returns
    -------
    loss : scalar array
        To minimise, a mean over states.
    gradient : array (N, K)
        With respect to `log_prob`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities above 30 or more than 30 apart.
    """
    sizes, flags = validate.deferred(VINE, log_prob, behavior_log_prob, q_value)
    validate.require(*flags, (lambda: (log_prob <= validate.LOG_RATIO_BOUND).all(), "log_prob must be at most 30"))
    validate.choice(("normalised", "all actions"), estimator=estimator)
    N = sizes["N"]
    if estimator == "all actions":
        term = xp.exp(log_prob) * q_value
        return -term.sum() / N, -term / N  # eq. trpo-vine-all
    # eq. trpo-vine-normalised
    ratio = xp.exp(log_prob - behavior_log_prob)
    share = ratio / ratio.sum(1, keepdims=True)
    L = (share * q_value).sum(1, keepdims=True)
    return -L.sum() / N, -share * (q_value - L) / N


def _vine_example(rng, size):
    behavior = -rng.exponential(1.0, (size, 4))
    spread = rng.choice((0.05, 0.4, 1.5))
    log_prob = behavior + spread * rng.standard_normal((size, 4))
    return {"log_prob": log_prob, "behavior_log_prob": behavior, "q_value": rng.standard_normal((size, 4))}


def _vine_edge(log_prob, behavior, q):
    arrays = [xp.array(x, dtype=float) for x in (log_prob, behavior, q)]
    return dict(zip(VINE, arrays, strict=True))


METHOD = Method(
    title="Trust Region Policy Optimization",
    key="schulman2015trust",
    arxiv="1502.05477",
    provenance="confirmed",
    functions=(
        Solver(
            f=trpo_step,
            interface=cases.BATCH,
            settings={
                "default": {},
                "paper": {"subsample": 10},
                "Spinning Up": {"shrink": 0.8},
                "a wide region": {"delta": 2.0},
                "probe": {
                    "delta": 0.03,
                    "damping": 0.02,
                    "iterations": 6,
                    "subsample": 2,
                    "shrink": 0.6,
                    "trials": 15,
                },
            },
            deviations=(deviations.TRPO_UNBOUNDED, deviations.TRPO_SLACK, deviations.TRPO_REVERSED_KL),
            certificate=cases.within_the_trust_region,
            tolerances=cases.TOLERANCES,
            agreement=1e-4,
        ),
        Objective(
            f=vine_surrogate,
            inputs=VINE,
            example=_vine_example,
            edges={
                "one action": lambda: _vine_edge([[-0.5]], [[-0.1]], [[2.0]]),
                "equal values": lambda: _vine_edge([[-1, -2], [-3, 0]], [[-1, -1], [-2, -1]], [[1, 1], [2, 2]]),
                "all but impossible": lambda: _vine_edge([[-5, 0]], [[-0.75, -0.75]], [[1, -1]]),
            },
            wrt="log_prob",
            settings={"default": {}, "probe": {"estimator": "all actions"}},
        ),
    ),
)
