"""What is known of `trref.optimizers.adabelief`."""

from trref.catalog import Deviation, Limit, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.adabelief import init, update


def _rectified(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-16,
    stored=True,
    rectified=False,
):
    hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
    return update(params, grads, state, **hyper, stored=stored, rectified=True)


def _repaired(
    params,
    grads,
    state,
    *,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-16,
    stored=True,
    rectified=False,
):
    hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
    return update(params, grads, state, **hyper, stored=False, rectified=rectified)


RECTIFIED = Deviation(
    "rectified by default",
    _rectified,
    seen_in="juntang-zhuang/Adabelief-Optimizer, adabelief_pytorch 0.2.1 (rectify=True)",
    computes="steps of momentum at first, and RAdam's factor afterwards",
    documented=True,
)
REPAIRED = Deviation(
    "epsilon not stored",
    _repaired,
    seen_in="labmlai/annotated_deep_learning_paper_implementations, optimizers/ada_belief.py",
    computes="an average of squared deviations that never holds epsilon",
)

RATES = {"lr": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3}

METHOD = Method(
    key="zhuang2020adabelief",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "a large epsilon": RATES,
                "not stored": {**RATES, "stored": False},
                "rectified": {**RATES, "beta2": 0.9, "rectified": True},
                "probe": {
                    "lr": 0.04,
                    "beta1": 0.7,
                    "beta2": 0.6,
                    "eps": 2e-3,
                    "stored": False,
                    "rectified": True,
                },
            },
            limits=(
                Limit(
                    "sgd.update",
                    {"lr": 0.051, "beta1": 0.0, "beta2": 0.96, "eps": 0.01},
                    {"lr": 0.1},
                ),
            ),
            deviations=(RECTIFIED, REPAIRED),
        ),
    ),
)
