"""What is known of `trref.optimizers.sgd`."""

from trref.catalog import Deviation, Method, UpdateRule
from trref.catalog.optimizers.interfaces import UPDATE
from trref.optimizers.sgd import init, update


def _first_gradient_undamped(
    params,
    grads,
    state,
    *,
    lr=0.1,
    momentum=0.0,
    nesterov=False,
    averaging="heavy_ball",
    weight_decay=0.0,
    decoupled_weight_decay=True,
):
    """The buffer begins at the first gradient: as if it had been there before, too."""
    if state.step == 0 and averaging == "ema":
        start = grads
        if not decoupled_weight_decay:
            start = [g + weight_decay * p for p, g in zip(params, grads, strict=True)]
        state = state._replace(m=start)
    return update(
        params,
        grads,
        state,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        averaging=averaging,
        weight_decay=weight_decay,
        decoupled_weight_decay=decoupled_weight_decay,
    )


SGD_FIRST_GRADIENT_UNDAMPED = Deviation(
    "first gradient undamped",
    _first_gradient_undamped,
    seen_in="PyTorch 2.13, torch/optim/sgd.py, with dampening = momentum",
    computes="an average that begins at the first gradient, not at zero",
)


METHOD = Method(
    key="polyak1964some",
    provenance="confirmed",
    functions=(
        UpdateRule(
            f=update,
            interface=UPDATE,
            init=init,
            settings={
                "default": {},
                "heavy ball": {"lr": 0.05, "momentum": 0.9},
                "Nesterov": {"lr": 0.05, "momentum": 0.9, "nesterov": True},
                "average": {"lr": 0.05, "momentum": 0.8, "averaging": "ema"},
                "Nesterov, debiased": {
                    "lr": 0.05,
                    "momentum": 0.8,
                    "nesterov": True,
                    "averaging": "debiased_ema",
                },
                "decoupled decay": {
                    "lr": 0.05,
                    "momentum": 0.8,
                    "weight_decay": 0.2,
                    "decoupled_weight_decay": True,
                },
                "coupled decay": {
                    "lr": 0.05,
                    "momentum": 0.8,
                    "weight_decay": 0.2,
                    "decoupled_weight_decay": False,
                },
                "probe": {
                    "lr": 0.03,
                    "momentum": 0.6,
                    "nesterov": True,
                    "averaging": "ema",
                    "weight_decay": 0.3,
                    "decoupled_weight_decay": False,
                },
            },
            deviations=(SGD_FIRST_GRADIENT_UNDAMPED,),
        ),
    ),
)
