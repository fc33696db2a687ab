"""The checks are themselves checked: wrong gradients are caught, right ones never."""

import dataclasses
import inspect
import math
import warnings
from collections import namedtuple

import numpy as np
import pytest

from trref import catalog, checks
from trref.checks import ContractError, check_gradient
from trref.nn import losses, mlp
from trref.problems.convex import Rosenbrock, logistic
from trref.problems.networks import ClassifierLoss, random_classifier
from trref.signature import Arrays, FiniteFloat, Scalar, checked

# ---- right gradients, kinks among them: no false alarm


def _network(rng, activation):
    loss = random_classifier(rng, points=int(rng.integers(1, 9)), hidden=4, activation=activation)
    theta = mlp.init(rng, loss.sizes, scale=rng.choice((0.3, 1.0, 3.0)))
    return lambda t: loss(t)[0], theta, loss(theta)[1]


def _clipped(rng):
    record = catalog.find("ppo.clipped_surrogate")
    inputs = record.example(rng, int(rng.integers(1, 30)))
    if rng.random() < 0.5:  # some entries exactly on a bound
        bound = rng.choice((math.log(1.2), math.log(0.8)), size=len(inputs["log_prob"]))
        on = rng.random(bound.size) < 0.3
        inputs["log_prob"] = np.where(on, inputs["old_log_prob"] + bound, inputs["log_prob"])
    value = lambda x: record({**inputs, "log_prob": x})[0]  # noqa: E731
    return value, inputs["log_prob"], record(inputs)[1]


def _piecewise(rng):
    """A sum of |x - c|, max(x, c), clip(x) and x²; some points lie exactly on a kink."""
    n = int(rng.integers(1, 12))
    c, w = rng.standard_normal(n), rng.standard_normal((4, n)) * 10 ** rng.uniform(-3, 3)
    x = np.where(rng.random(n) < 0.2, c, rng.standard_normal(n))
    value = lambda x: float(  # noqa: E731
        (w[0] * abs(x - c) + w[1] * np.maximum(x, c) + w[2] * np.clip(x, -0.5, 0.5) + w[3] * x**2).sum()
    )
    # at a kink: the mean of both sides, which lies between left and right derivative in every direction of one entry
    inside = (abs(x) < 0.5).astype(float)
    gradient = w[0] * np.sign(x - c) + w[1] * ((x > c) + 0.5 * (x == c)) + w[2] * inside + 2 * w[3] * x
    return value, x, gradient


def _smooth(rng):
    """exp, log, a quotient and a long sum, at scales from 1e-6 to 1e6."""
    n, scale = int(rng.integers(1, 40)), 10 ** rng.uniform(-6, 6)
    a, x = rng.standard_normal(n), rng.standard_normal(n) * rng.choice((0.1, 1.0, 3.0))
    s = lambda x: float(np.exp(a @ x / math.sqrt(n)))  # noqa: E731
    value = lambda x: scale * (s(x) / (1 + s(x)) + float(np.log1p(x * x).sum()))  # noqa: E731
    p = s(x) / (1 + s(x))
    return value, x, scale * (p * (1 - p) * a / math.sqrt(n) + 2 * x / (1 + x * x))


def _linear(rng):
    n = int(rng.integers(1, 50))
    a = rng.standard_normal(n) * 10 ** rng.uniform(-4, 4)
    return lambda x: float(a @ x), rng.standard_normal(n), a


def _rosenbrock(rng):
    x = rng.standard_normal(int(rng.integers(2, 12)))
    return lambda x: Rosenbrock()(x)[0], x, Rosenbrock()(x)[1]


def _logistic(rng):
    f = logistic(rng, points=12, dims=int(rng.integers(1, 8)))
    w = rng.standard_normal(f.X.shape[1]) * rng.choice((0.1, 1.0, 10.0))
    return lambda w: f(w)[0], w, f(w)[1]


KINDS = {
    "relu": lambda rng: _network(rng, "relu"),
    "tanh": lambda rng: _network(rng, "tanh"),
    "gelu": lambda rng: _network(rng, "gelu"),
    "clipped": _clipped,
    "piecewise": _piecewise,
    "smooth": _smooth,
    "linear": _linear,
    "rosenbrock": _rosenbrock,
    "logistic": _logistic,
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_false_alarm(kind):
    """9 kinds × 150 cases: 1,350 right gradients."""
    for seed in range(150):
        value, point, gradient = KINDS[kind](np.random.default_rng([seed, 99]))
        check_gradient(value, point, gradient, rng=np.random.default_rng(seed))


def test_no_false_alarm_where_kinks_of_both_signs_meet():
    """2|x₁| - 3|x₂| - |x₃|: along (1, 1, 1) the derivatives at 0 are 2 and -2, and a right gradient may give 6."""
    weights = np.array([2.0, -3.0, -1.0])
    value = lambda x: float(weights @ abs(x))  # noqa: E731
    for signs in ((1, -1, 0), (1, -1, -1), (0.5, 0, 1)):  # each within ±1 times its weight
        check_gradient(value, np.zeros(3), weights * signs, rng=_rng(0))
    for signs in ((1.1, -1, 0), (1, -1.1, -1), (0, 0, 1.1)):
        with pytest.raises(ContractError, match="at a kink"):
            check_gradient(value, np.zeros(3), weights * signs, rng=_rng(0))


def test_no_false_alarm_where_value_and_gradient_are_zero():
    """KL(p‖q) at p = q: exactly 0 at the point, rounding all around it."""

    point = np.log([0.2, 0.5, 0.3])

    def kl(z):
        log_p = z - np.log(np.exp(z).sum())
        return float((np.exp(log_p) * (log_p - point)).sum())

    for seed in range(20):
        check_gradient(kl, point, np.zeros(3), rng=np.random.default_rng(seed))


# ---- wrong gradients are caught


def _wrong(gradient, how, rng):
    wrong = np.array(gradient)
    if how == "sign":
        return -wrong
    if how == "factor 2":
        return 2 * wrong
    if how == "one missing term":
        wrong[np.argmax(abs(wrong))] = 0
    if how == "one sign":
        wrong[np.argmax(abs(wrong))] *= -1
    if how == "one part in ten thousand":
        wrong *= 1 + 1e-4
    return wrong


@pytest.mark.parametrize("how", ["sign", "factor 2", "one missing term", "one sign", "one part in ten thousand"])
@pytest.mark.parametrize("kind", ["tanh", "relu", "gelu", "smooth", "linear", "logistic", "rosenbrock", "clipped"])
def test_wrong_gradients_are_caught(kind, how):
    caught = 0
    for seed in range(10):
        value, point, gradient = KINDS[kind](np.random.default_rng([seed, 5]))
        if not abs(gradient).max() > 1e-8:
            caught += 1
            continue
        try:
            check_gradient(value, point, _wrong(gradient, how, np.random.default_rng(seed)), rng=_rng(seed))
        except ContractError:
            caught += 1
    assert caught == 10


def _rng(seed):
    return np.random.default_rng(seed)


def test_one_transposed_matrix_is_caught():
    """Backpropagation through a square layer with W in the place of its transpose."""
    rng = np.random.default_rng(3)
    loss = random_classifier(rng, points=6, dims=4, hidden=4)
    theta = mlp.init(rng, (4, 4, 4, 3))
    loss = dataclasses.replace(loss, sizes=(4, 4, 4, 3))
    logits, cache = mlp.forward(theta, loss.X, loss.sizes)
    (W1, b1), (W2, b2), (W3, b3) = cache.layers
    transposed = cache._replace(layers=[(W1, b1), (W2.T, b2), (W3, b3)])
    d_logits = losses.softmax_cross_entropy(logits, loss.labels)[1]
    value = lambda t: loss(t)[0]  # noqa: E731
    check_gradient(value, theta, mlp.vjp(cache, d_logits)[0], rng=_rng(0))
    with pytest.raises(ContractError, match="wrong gradient"):
        check_gradient(value, theta, mlp.vjp(transposed, d_logits)[0], rng=_rng(0))


def test_missing_stop_gradient_is_caught():
    """The full derivative of SAM's loss is not SAM's gradient, and the check says so; nor the other way round."""
    record = catalog.find("sam.perturbed_gradient")

    def full(loss_and_grad, theta, *, rho=0.05, perturbation=None):
        value, g_there = record.f(loss_and_grad, theta, rho=rho, perturbation=perturbation)
        if perturbation is not None:
            return value, g_there + 0.1  # not what is looked at here
        g = loss_and_grad(theta)[1]
        norm = np.linalg.norm(g)
        unit = g / norm
        direction = g_there - unit * (unit @ g_there)
        h = 1e-5
        Hv = (loss_and_grad(theta + h * direction)[1] - loss_and_grad(theta - h * direction)[1]) / (2 * h)
        return value, g_there + rho / norm * Hv

    wrong = dataclasses.replace(record, f=full, settings={"default": {"rho": 0.5}})
    with pytest.raises(ContractError, match="wrong gradient"):
        checks.gradient(wrong)
    no_stop = dataclasses.replace(record, stopped={"perturbation": lambda theta: np.zeros_like(theta)})
    with pytest.raises(ContractError):
        checks.gradient(no_stop)


def test_a_keyword_that_stops_nothing_is_no_stop_gradient():
    record = catalog.find("ppo.clipped_surrogate")

    def f(log_prob, old_log_prob, advantage, *, clip=0.2, weight=None):
        return record.f(log_prob, old_log_prob, advantage, clip=clip)

    fake = dataclasses.replace(record, f=f, stopped={"weight": lambda advantage: abs(advantage)})
    with pytest.raises(ContractError, match="not a stop-gradient"):
        checks.stop_gradients(fake)


# ---- every contract can fail


def _spoiled(name, change, **fields):
    record = catalog.find(name)

    def f(*args, **kwargs):
        return change(record.f, *args, **kwargs)

    f.__doc__, f.__module__, f.__wrapped__ = record.f.__doc__, record.f.__module__, record.f
    f.__name__ = record.f.__name__
    return dataclasses.replace(record, f=f, **fields)


def _in_place(f, log_prob, *args, **kwargs):
    log_prob.setflags(write=True)
    log_prob += 0.125
    return f(log_prob, *args, **kwargs)


def _stateful(f, *args, calls=[0.0], **kwargs):  # noqa: B006
    calls[0] += 1.0
    value, gradient = f(*args, **kwargs)
    return value + calls[0], gradient


def _in_double(f, *args, **kwargs):
    value, gradient = f(*args, **kwargs)
    return value, gradient.astype(np.float64)


def _loop(f, log_prob, *args, **kwargs):
    value, gradient = f(log_prob, *args, **kwargs)
    return value + 0 * sum(float(x) for x in log_prob), gradient


def _on_the_host(f, log_prob, **kwargs):
    return f(np.asarray(log_prob), **kwargs)


def _off(factor):
    def change(f, *args, **kwargs):
        return f(*args, **kwargs) * factor

    return change


def _half(f, *args, **kwargs):
    result = f(*args, **kwargs)
    return result._replace(x=result.x * 0.5)


@pytest.mark.parametrize(
    ("contract", "record"),
    [
        (checks.pure, lambda: _spoiled("ppo.clipped_surrogate", _in_place)),
        (checks.pure, lambda: _spoiled("ppo.clipped_surrogate", _stateful)),
        (checks.pure, lambda: _spoiled("stiefel.project", lambda f, x, z: x)),
        (checks.float32, lambda: _spoiled("ppo.clipped_surrogate", _in_double)),
        (checks.strict_device, lambda: _spoiled("ppo.clipped_surrogate", _loop)),
        (checks.strict_device, lambda: _spoiled("ppo.clipped_surrogate", _on_the_host)),
        (checks.limits, lambda: dataclasses.replace(catalog.find("ppo.clipped_surrogate"), limits=(WRONG_LIMIT,))),
        (checks.deviations, lambda: dataclasses.replace(catalog.find("ppo.clipped_surrogate"), deviations=(SAME,))),
        (checks.derivatives, lambda: _spoiled("stiefel.retract_qr", _off(1.001))),
        (checks.derivatives, lambda: dataclasses.replace(catalog.find("stiefel.retract_qr"), vjp=_transposed)),
        (checks.projection, lambda: _spoiled("stiefel.project", _off(1.001))),
        (checks.projection, lambda: _spoiled("stiefel.retract_qr", _off(1.001))),
        (checks.certificate, lambda: _spoiled("cg.cg", _half)),
        (checks.brute_force, lambda: _spoiled("gae.gae", _off(1 + 1e-6))),
        (checks.sampling, lambda: _spoiled("score_models.ddim_sample", _off(1.3))),
        (checks.bad_input, lambda: _spoiled("ppo.clipped_surrogate", _unchecked)),
        (checks.record_is_complete, lambda: dataclasses.replace(catalog.find("cg.cg"), settings={"default": {}})),
        (
            checks.pure,
            lambda: _spoiled("ppo.clipped_surrogate", lambda f, *args, **kwargs: (f(*args, **kwargs)[0], None)),
        ),
        (checks.shapes, lambda: _spoiled("ppo.clipped_surrogate", _positive_only)),
        (checks.deviations, lambda: dataclasses.replace(catalog.find("ppo.clipped_surrogate"), deviations=(HIDES,))),
        (
            checks.lengths,
            lambda: dataclasses.replace(catalog.find("score_models.ddim_step"), example=_in_the_plane, edges={}),
        ),
    ],
    ids=lambda v: v.__name__ if hasattr(v, "__name__") and v.__name__ != "<lambda>" else "",
)
def test_every_contract_can_fail(contract, record):
    with pytest.raises((ContractError, TypeError)):
        contract(record())


def _positive_only(f, log_prob, old_log_prob, advantage, **kwargs):
    value, gradient = f(log_prob, old_log_prob, advantage, **kwargs)
    return value, gradient[advantage > 0]


def _in_the_plane(rng, size):
    """D is 2 in all cases, so that 1/D could be 0.5."""
    return {name: rng.standard_normal((size, 2)) for name in ("x", "noise", "z")}


def _transposed(x, z, cotangent):
    return catalog.find("stiefel.retract_qr").jvp(x, z, cotangent)


def _unchecked(f, log_prob, old_log_prob, advantage, *, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    return -np.mean(r * advantage), -r * advantage


# ---- derivatives of transforms


def _transform(f, slope, *, points):
    """A transform of each entry, with a derivative by hand, at some points."""

    def at(x):
        return f(x)

    return catalog.Transform(
        f=at,
        inputs={"x": catalog.Input("N")},
        example=lambda rng, size: {"x": np.resize(np.array(points), size)},
        wrt="x",
        jvp=lambda x, tangent: slope(x) * tangent,
        vjp=lambda x, cotangent: slope(x) * cotangent,
    )


def test_derivatives_of_a_steep_transform():
    """Smooth, but not at a step of 1e-3: the ladder goes down to where it is."""
    steep = _transform(
        lambda x: np.tanh(3000 * x), lambda x: 3000 * (1 - np.tanh(3000 * x) ** 2), points=(0.0, 2e-4, 0.3)
    )
    checks.derivatives(steep)
    with pytest.raises(ContractError, match="jvp differs"):
        checks.derivatives(dataclasses.replace(steep, jvp=lambda x, tangent: 3001 * tangent))


def test_derivatives_at_a_kink():
    """What lies between both sides is right on the kink itself, and wrong beside it."""
    for half in (0.0, 0.5, 1.0):
        checks.derivatives(
            _transform(abs, lambda x, half=half: np.sign(x) + (2 * half - 1) * (x == 0), points=(0, 0.7))
        )
    for wrong in (lambda x: np.sign(x) + 1.5 * (x == 0), lambda x: np.sign(x) * (abs(x) < 0.5)):
        with pytest.raises(ContractError, match="jvp differs"):
            checks.derivatives(_transform(abs, wrong, points=(0, 0.7)))


def test_a_vjp_alone_is_compared_with_differences():
    cubic = _transform(lambda x: x**3, lambda x: 3 * x**2, points=(0.5, -2.0, 0.0))
    checks.derivatives(dataclasses.replace(cubic, jvp=None))
    with pytest.raises(ContractError, match="not the adjoint"):
        checks.derivatives(dataclasses.replace(cubic, jvp=None, vjp=lambda x, cotangent: 3.0001 * x**2 * cotangent))


WRONG_LIMIT = catalog.Limit(to="ppo.unclipped_surrogate", hyper={"clip": 0.5})
HIDES = catalog.Deviation(
    "half", lambda log_prob, old_log_prob, advantage, **hyper: (0.5 * log_prob.sum(), log_prob), "nowhere", "half of it"
)
SAME = catalog.Deviation("none", catalog.find("ppo.clipped_surrogate").f, "nowhere", "the same")


def test_limits_of_one_part_and_up_to_a_factor():
    """Twice the surrogate in a NamedTuple beside something else."""
    clipped, Both = catalog.find("ppo.clipped_surrogate"), namedtuple("Both", "loss other")

    def doubled(log_prob, old_log_prob, advantage, *, clip=0.2):
        value, gradient = clipped.f(log_prob, old_log_prob, advantage, clip=clip)
        return Both((2 * value, 2 * gradient), abs(gradient))

    def samples(inputs):
        """times the number of samples"""
        return len(inputs["advantage"])

    limit = catalog.Limit("ppo.clipped_surrogate", {}, part="loss", factor=2.0)
    assert limit.place == "in `loss` alone, times 2"
    record = dataclasses.replace(clipped, f=doubled, limits=(limit,))
    checks.limits(record)
    for wrong in ({"factor": 1.0}, {"part": "other"}, {"factor": samples}):
        with pytest.raises((ContractError, ValueError), match=r"differs|longer"):
            checks.limits(dataclasses.replace(record, limits=(dataclasses.replace(limit, **wrong),)))
    assert dataclasses.replace(limit, part=None, factor=samples).place == "times the number of samples"


def test_brute_force_of_several_parts():
    """Each part of a NamedTuple is compared with its own."""
    Pair = namedtuple("Pair", "total mean")
    record = catalog.Estimator(
        f=lambda x: Pair(x.sum(), x.mean()),
        inputs={"x": catalog.Input("N")},
        example=lambda rng, size: {"x": rng.standard_normal(size)},
        brute_force=lambda x: (sum(x.tolist()), sum(x.tolist()) / len(x)),
    )
    checks.brute_force(record)
    with pytest.raises(ContractError, match=r"result\.mean differs"):
        checks.brute_force(dataclasses.replace(record, brute_force=lambda x: (sum(x.tolist()), 0.0)))
    with pytest.raises(ContractError, match="2 parts, but 1"):
        checks.brute_force(dataclasses.replace(record, brute_force=lambda x: (sum(x.tolist()),)))


# ---- update rules that see more than gradients


@checked
def _polyak(params: Arrays, grads: Arrays, state: int, *, loss: Scalar, target: FiniteFloat = 0.0):
    """Polyak's step length, (loss - target) / ‖g‖², counting steps.

    Parameters
    ----------
    loss
        At the parameters.
    state
        The number of steps.
    target
        The least loss.
    """
    length = (loss - target) / sum((g * g).sum() for g in grads)
    return [p - length * g for p, g in zip(params, grads, strict=True)], state + 1


def _descent(rng, size):
    params = [rng.standard_normal(size), rng.standard_normal((2, size))]
    gradients = [[rng.standard_normal(p.shape) for p in params] for _ in range(3)]
    return {"params": params, "gradients": gradients, "losses": [np.asarray(v) for v in rng.random(3)]}


POLYAK = catalog.UpdateRule(
    f=_polyak,
    init=lambda params: 0,
    step_inputs={"loss": "losses"},
    example=_descent,
    settings={"default": {}, "probe": {"target": -0.5}},
)


def test_update_rules_with_other_data_at_each_step():
    assert list(POLYAK.inputs) == ["params", "gradients", "losses"]
    assert list(POLYAK.hyper_parameters) == ["target"]
    example = _descent(np.random.default_rng(0), 4)
    expected = example["params"]
    for loss, grads in zip(example["losses"], example["gradients"], strict=True):
        length = loss / sum((g * g).sum() for g in grads)
        expected = [p - length * g for p, g in zip(expected, grads, strict=True)]
    params, steps = checks.run(POLYAK, example)
    assert steps == 3 and all(np.allclose(p, e, rtol=1e-14) for p, e in zip(params, expected, strict=True))
    for contract in checks.contracts_of(POLYAK):
        contract(POLYAK)


def test_other_data_at_each_step_is_checked():
    with pytest.raises(ContractError, match="loss, NaN in loss: accepted"):
        checks.bad_input(dataclasses.replace(POLYAK, f=_unchecked_loss))


def _unchecked_loss(params, grads, state, *, loss, target=0.0):
    return _polyak(params, grads, state, loss=np.asarray(np.nan_to_num(loss)), target=target)


def test_limits_of_update_rules_compare_parameters():
    """A state of another kind is no difference; other parameters are."""
    adam = catalog.find("adam.update")

    def wrapped(params, grads, state, **hyper):
        params, inner = adam.f(params, grads, state["inner"], **hyper)
        return params, {"inner": inner, "more": 0}

    wrapped.__signature__ = inspect.signature(adam.f)
    limit = catalog.Limit("adam.update", {})
    rule = dataclasses.replace(adam, f=wrapped, init=lambda p: {"inner": adam.init(p), "more": 0}, limits=(limit,))
    checks.limits(rule)
    with pytest.raises(ContractError, match="differs"):
        checks.limits(dataclasses.replace(rule, limits=(dataclasses.replace(limit, to_hyper={"lr": 0.5}),)))


# ---- solvers that cannot converge


def _says_converged(f, *args, **kwargs):
    return f(*args, **kwargs)._replace(converged=True)


def _silent(f, *args, **kwargs):
    with warnings.catch_warnings(action="ignore"):
        return f(*args, **kwargs)


def _start_over(f, matvec, b, **kwargs):
    """Not the best it has: far off, with the norm of that residual."""
    result = f(matvec, b, **kwargs)
    return result._replace(x=-result.x, residual_norms=[float(np.linalg.norm(b + matvec(result.x)))])


def _old_norm(f, *args, **kwargs):
    result = f(*args, **kwargs)
    return result._replace(residual_norms=result.residual_norms[:-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_says_converged, "converged is True"),
        (_silent, "no ConvergenceWarning"),
        (_start_over, "rise of the energy"),
        (_old_norm, "error of the last norm reported"),
    ],
)
def test_solvers_that_cannot_converge_say_so(change, message):
    with pytest.raises(ContractError, match=message):
        checks.failures(_spoiled("cg.cg", change))


def test_what_is_refused_must_be():
    """A solver that takes unsymmetric matrices does not refuse them; an error that names nothing is no help."""
    cg = catalog.find("cg.cg")
    checks.refused(cg)
    fine = {"a good matrix": lambda: (cg.edges["one unknown"](), {})}
    with pytest.raises(ContractError, match="a good matrix: accepted"):
        checks.refused(dataclasses.replace(cg, refused=fine))

    def nameless(f, *args, **kwargs):
        raise ValueError("something is wrong")

    with pytest.raises(ContractError, match="the message names no argument"):
        checks.refused(_spoiled("cg.cg", nameless))


def test_cross_checks_say_what_they_refuse():
    """No new method can forget it; what is changed in the smallest example is filled, computed or a keyword."""
    record = catalog.find("causal_ladder.intervention_weights")
    with pytest.raises(ContractError, match="name in `refused` an input that breaks each of their rules"):
        checks.refused(dataclasses.replace(record, refused={}))
    changes = {"labels": 7, "nuisance": lambda nuisance: nuisance[::-1], "classes": 9}
    (case,) = checks.special_cases(record, {"changed": changes})
    usual = record.example(np.random.default_rng([record.sizes[0], 0]), record.sizes[0])
    assert (case.inputs["labels"] == 7).all() and case.inputs["labels"].dtype == usual["labels"].dtype
    np.testing.assert_array_equal(case.inputs["nuisance"], usual["nuisance"][::-1])
    assert case.hyper["classes"] == 9 and "classes" not in case.inputs


def test_solvers_name_what_they_cannot_do():
    cg = catalog.find("cg.cg")
    for record in (dataclasses.replace(cg, failures={}), dataclasses.replace(cg, direct=True)):
        with pytest.raises(ContractError, match="name cases that end in converged=False"):
            checks.failures(record)


# ---- the tools


def test_complex_step():
    f = lambda x: (np.exp(x) * np.sin(x)).sum()  # noqa: E731
    x, d = np.array([0.3, -1.2]), np.array([1.0, 2.0])
    exact = ((np.exp(x) * (np.sin(x) + np.cos(x))) * d).sum()
    assert checks.complex_step(f, x, d) == pytest.approx(exact, rel=1e-15)


def test_at_most_200_evaluations():
    for kind in KINDS:
        value, point, gradient = KINDS[kind](np.random.default_rng(1))
        count = [0]

        def counted(x, value=value, count=count):
            count[0] += 1
            return value(x)

        check_gradient(counted, point, gradient, rng=_rng(0))
        assert count[0] <= 200
    # the worst case: a kink at the point in every direction
    count[0] = 0
    norm_1 = lambda x: count.__setitem__(0, count[0] + 1) or float(abs(x).sum())  # noqa: E731
    check_gradient(norm_1, np.zeros(5), np.zeros(5), rng=_rng(0))
    assert count[0] <= 200


def test_domain_is_respected():
    p = np.array([0.0, 0.3, 1.0, 1e-4])
    seen = []

    def entropy(p):
        seen.append((p.min(), p.max()))
        q = np.clip(p, 1e-300, 1)
        return float(-(q * np.log(q)).sum())

    gradient = np.array([0.0, -math.log(0.3) - 1, 0.0, -math.log(1e-4) - 1])
    check_gradient(entropy, p, gradient, rng=_rng(0), domain=(0.0, 1.0))
    assert min(a for a, _ in seen) >= 0 and max(b for _, b in seen) <= 1


def test_convert_reaches_into_callables():
    loss = ClassifierLoss(np.ones((2, 3)), np.array([0, 1]), (3, 2))
    single = checks.convert({"f": loss}, lambda a: a.astype(np.float32) if a.dtype.kind == "f" else a)
    assert single["f"].X.dtype == np.float32 and single["f"].labels.dtype == np.int64
    assert loss.X.dtype == np.float64


def test_limits_where_the_inputs_are_special():
    """On the old policy nothing is clipped."""

    def on_policy(inputs):
        """the policy is the old one"""
        return {**inputs, "log_prob": inputs["old_log_prob"]}

    clipped = catalog.find("ppo.clipped_surrogate")
    limit = catalog.Limit("ppo.unclipped_surrogate", {}, where=on_policy)
    assert limit.place == "the policy is the old one"
    checks.limits(dataclasses.replace(clipped, limits=(limit,)))
    with pytest.raises(ContractError, match="differs"):
        checks.limits(dataclasses.replace(clipped, limits=(dataclasses.replace(limit, where=None),)))


def test_limits_between_functions_of_other_shapes():
    """Answers of one token: what is (B, 1) here is (N) there."""

    def single_tokens(inputs):
        """answers have one token"""
        B = len(inputs["mask"])
        first = {n: a[:, :1] if a.ndim == 2 else a for n, a in inputs.items()} | {"mask": np.ones((B, 1))}
        return first, {n: a.reshape(B) for n, a in first.items()}

    grpo, limit = catalog.find("grpo.grpo"), catalog.Limit("ppo.clipped_surrogate", {}, where=single_tokens)
    checks.limits(dataclasses.replace(grpo, limits=(limit,)))
    with pytest.raises(ContractError, match="differs"):
        checks.limits(dataclasses.replace(grpo, limits=(dataclasses.replace(limit, hyper={"clip": 0.3}),)))


def test_limits_of_the_gradient_alone():
    """A surrogate that is shifted by a constant has the same gradient."""
    clipped = catalog.find("ppo.clipped_surrogate")

    def shifted(log_prob, old_log_prob, advantage, *, clip=0.2):
        value, gradient = clipped.f(log_prob, old_log_prob, advantage, clip=clip)
        return value + 1, gradient

    limit = catalog.Limit("ppo.clipped_surrogate", {}, gradient_only=True)
    assert limit.place == "in the gradient alone"
    checks.limits(dataclasses.replace(clipped, f=shifted, limits=(limit,)))
    with pytest.raises(ContractError, match=r"result\.0 differs"):
        checks.limits(
            dataclasses.replace(clipped, f=shifted, limits=(dataclasses.replace(limit, gradient_only=False),))
        )
