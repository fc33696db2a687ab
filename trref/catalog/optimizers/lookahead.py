"""What is known of `trref.optimizers.lookahead`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.lookahead import adam_update, init, update, variance_share


def _slow_from_zero(
    params,
    grads,
    state,
    *,
    lr=0.1,
    momentum=0.0,
    k=5,
    alpha=0.5,
    moments="keep",
):
    if state.step == 0:
        state = state._replace(slow=[xp.zeros_like(p) for p in params])
    hyper = {"lr": lr, "momentum": momentum, "k": k, "alpha": alpha}
    return update(params, grads, state, **hyper, moments=moments)


def _always_kept(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    k=5,
    alpha=0.5,
    moments="keep",
):
    """Whatever was asked for."""
    hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
    return adam_update(params, grads, state, **hyper, k=k, alpha=alpha)


LOOKAHEAD_FROM_ZERO = Deviation(
    "slow weights from zero",
    _slow_from_zero,
    seen_in="PaddlePaddle before pull request 26516, LookaheadOptimizer",
    computes="slow weights that begin at zero and not at the parameters",
)

LOOKAHEAD_ALWAYS_KEPT = Deviation(
    "Adam's moments are kept",
    _always_kept,
    seen_in="pytorch_optimizer, optimizer/lookahead.py, with Adam inside",
    computes="reset and pullback of a buffer that Adam does not have: its moments are kept",
)


def _share_by_the_recursion(factors, *, k=5, alpha=0.5):
    """From the recursion of a cycle, φ' = r φ + α ε: noise over what the factor r loses."""
    found = []
    for a in factors.tolist():
        r = 1 - alpha + alpha * a**k
        lost = 1 - r * r
        found.append(alpha**2 * (1 - a ** (2 * k)) / lost if lost else alpha)
    return xp.asarray(found)


_SGD, _ADAM = {"lr": 0.05, "momentum": 0.8}, {"lr": 0.02, "beta1": 0.8, "beta2": 0.95}
_EACH = {
    moments: {"k": 2, "alpha": 0.4, "moments": moments}
    for moments in ("keep", "reset", "pullback")
}

METHOD = Method(
    key="zhang2019lookahead",
    provenance={
        "confirmed": ("fast", "slow", "pullback"),
        "reconstructed": ("variance",),
    },
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                **{moments: {**_SGD, **how} for moments, how in _EACH.items()},
                "never": {"alpha": 0.0, "k": 2},
                "probe": {
                    "lr": 0.07,
                    "momentum": 0.6,
                    "k": 3,
                    "alpha": 0.7,
                    "moments": "pullback",
                },
            },
            limits=(
                Limit("sgd.update", {**_SGD, "alpha": 1.0, "k": 3}, _SGD),
                Limit("sgd.update", {"lr": 0.1, "alpha": 0.4, "k": 1}, {"lr": 0.04}),
            ),
            deviations=(LOOKAHEAD_FROM_ZERO,),
        ),
        UpdateRule(
            f=adam_update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                **{moments: {**_ADAM, **how} for moments, how in _EACH.items()},
                "probe": {
                    "lr": 0.07,
                    "beta1": 0.6,
                    "beta2": 0.8,
                    "eps": 1e-3,
                    "k": 3,
                    "alpha": 0.7,
                    "moments": "pullback",
                },
            },
            limits=(Limit("adam.update", {**_ADAM, "alpha": 1.0, "k": 3}, _ADAM),),
            deviations=(LOOKAHEAD_ALWAYS_KEPT,),
        ),
        Estimator(
            f=variance_share,
            example=lambda rng, size: {"factors": rng.uniform(0, 0.99, size)},
            edges={
                "no memory": lambda: {"factors": xp.array([0.0])},
                "half": lambda: {"factors": xp.array([0.5, 0.9, 0.25])},
            },
            settings={
                "default": {},
                "all the way": {"alpha": 1.0},
                "probe": {"k": 3, "alpha": 0.7},
            },
            brute_force=_share_by_the_recursion,
        ),
    ),
)
