"""Messages name the argument and what it needed."""

import numpy as np
import pytest

import trref
from trref import strict, validate
from trref.backend import xp
from trref.catalog import Input

TWO = {"a": Input("B T"), "b": Input("B | B T")}


def ask(specs, *values):
    """Check values against specifications, in their order."""
    return validate.inputs(specs, dict(zip(specs, values, strict=True)))


def test_sizes_and_alternatives():
    assert ask(TWO, np.ones((2, 3)), np.ones(2)) == {"B": 2, "T": 3}
    assert ask(TWO, np.ones((2, 3)), np.ones((2, 3))) == {"B": 2, "T": 3}
    assert ask({"r": Input("T"), "v": Input("T+1")}, np.ones(4), np.ones(5)) == {"T": 4}
    assert ask({"q": Input("N 3")}, np.ones((2, 3))) == {"N": 2}
    batch = {"x": Input("... N P"), "z": Input("... N P")}
    assert ask(batch, np.ones((4, 5, 2, 3)), np.ones((4, 5, 2, 3))) == {"...": (4, 5), "N": 2, "P": 3}
    with pytest.raises(ValueError, match=r"z must have shape \(..., N, P\) with ... = \(4,\), N = 2, P = 3"):
        ask(batch, np.ones((4, 2, 3)), np.ones((2, 3)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((np.ones((2, 3)), np.ones(3)), r"b must have shape \(B\) or \(B, T\) with B = 2, T = 3, not \(3,\)"),
        ((np.ones(3), np.ones(3)), r"a must have shape \(B, T\), not \(3,\)"),
        ((np.ones((0, 3)), np.ones(0)), "a is empty"),
        ((np.array([[np.nan]]), np.ones(1)), "a must be finite"),
        ((np.ones((1, 1)), np.array([np.inf])), "b must be finite"),
    ],
)
def test_value_errors(values, message):
    with pytest.raises(ValueError, match=message):
        ask(TWO, *values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (([[1.0]], np.ones(1)), "a must be a numpy array, not builtins.list"),
        ((np.ones((1, 1), int), np.ones(1)), "a must be a float64 or float32 array, not int64"),
        ((np.ones((1, 1)), np.ones(1, np.float32)), "b is float32, but a is float64"),
        ((np.ones((1, 1), np.float16), np.ones(1)), "a must be a float64 or float32 array, not float16"),
        ((np.ones((1, 1), complex), np.ones(1)), "a must be"),
    ],
)
def test_type_errors(values, message):
    with pytest.raises(TypeError, match=message):
        ask(TWO, *values)


@pytest.mark.parametrize(
    ("kind", "good", "bad", "message"),
    [
        ("prob", [0.0, 0.5, 1.0], [0.0, -1e-9], r"must lie in \[0, 1\]"),
        ("mask", [0.0, 1.0], [0.5, 1.0], "only 0 and 1"),
        ("positive", [1e-300, 5.0], [0.0, 1.0], "must be positive"),
        ("nonnegative", [0.0, 5.0], [-1e-300, 1.0], "must be non-negative"),
        ("index", np.array([0, 3]), np.array([-1, 3]), "non-negative integers"),
        ("prob", [0.5], [np.nan], "must lie in"),
        ("mask", [1.0], [np.nan], "only 0 and 1"),
    ],
)
def test_kinds(kind, good, bad, message):
    spec = {"p": Input("N", kind)}
    ask(spec, np.asarray(good))
    with pytest.raises(ValueError, match=message):
        ask(spec, np.asarray(bad))


def test_log_probabilities_too_far_apart():
    spec = {"a": Input("N", "log_prob"), "b": Input("N", "log_prob")}
    ask(spec, np.array([-30.0]), np.array([0.0]))
    for far in (-30.1, 30.1):
        with pytest.raises(ValueError, match="b must be finite and within 30 of a"):
            ask(spec, np.array([far]), np.array([0.0]))


def test_log_probabilities_beyond_any_density():
    spec = {"a": Input("N", "log_prob")}
    ask(spec, np.array([49.9, -700.0]))
    for bad in (50.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="a must be finite and at most 50"):
            ask(spec, np.array([bad, -1.0]))


@pytest.mark.parametrize(("dtype", "largest"), [("float64", 1e100), ("float32", 1e15)])
def test_the_norm_is_bounded(dtype, largest):
    spec = {"x": Input("N N")}
    entry = np.full((2, 2), largest / 2, dtype)  # the norm of four is twice an entry
    ask(spec, 0.999 * entry)
    for bad in (1.001 * entry, -1.001 * entry, 1e10 * entry, np.array([[0, np.nan], [1, 1]], dtype)):
        with pytest.raises(ValueError, match="x must be finite, with a norm"):
            ask(spec, bad)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_simplex(dtype):
    spec = {"shares": Input("N K", "simplex")}
    good = np.random.default_rng(0).dirichlet(np.ones(5000), 2).astype(dtype)
    for shares in (good, np.eye(3, dtype=dtype)):
        ask(spec, shares)
    for bad in (good * (1 + 2e-5), good - 1e-3, np.array([[0.5, 0.6, -0.1]], dtype), np.array([[np.nan, 1.0]], dtype)):
        with pytest.raises(ValueError, match="shares must be non-negative, with sums of 1 along the last axis"):
            ask(spec, bad)


def test_labels_below_the_number_of_classes():
    validate.require(validate.labels(np.array([0, 2]), 3))
    with pytest.raises(ValueError, match="labels must be less than 3"):
        validate.require(validate.labels(np.array([0, 3]), 3))
    with pytest.raises(ValueError, match="actions must be less than 2"):
        validate.require(validate.labels(np.array([[2]]), 2, name="actions"))


class Curved:
    def __call__(self, x):
        return x

    def hessian_product(self, x, v):
        return v


def test_objects_with_methods():
    validate.provides("loss", Curved(), "__call__", "hessian_product")
    validate.provides("loss", len, "__call__")
    with pytest.raises(TypeError, match="loss must have hessian_product"):
        validate.provides("loss", len, "__call__", "hessian_product")
    with pytest.raises(TypeError, match=r"loss must have a call, hessian_product\(\); a list has not"):
        validate.provides("loss", [], "__call__", "hessian_product")
    with pytest.raises(TypeError, match="loss must be callable, not list"):
        validate.provides("loss", [], "__call__")
    other = Curved()
    other.hessian_product = 3.0  # a number of that name is no method
    with pytest.raises(TypeError, match="loss must have hessian_product"):
        validate.provides("loss", other, "hessian_product")


def test_orthonormal():
    spec = {"x": Input("N P", "orthonormal")}
    ask(spec, np.eye(4)[:, :2])
    with pytest.raises(ValueError, match="x must have orthonormal columns"):
        ask(spec, np.ones((4, 2)))
    with pytest.raises(ValueError, match="x must have orthonormal columns"):
        ask(spec, 0.9 * np.eye(4)[:, :2])


def test_one_synchronisation_when_all_is_well():
    with trref.use_backend("strict"), strict.synchronisations() as count:
        ask(TWO, xp.ones((2, 3)), xp.ones(2))
    assert count() == 1


def test_optional_and_callable():
    spec = {"f": Input("", "callable"), "x0": Input("N", optional=True)}
    ask(spec, len, None)
    with pytest.raises(TypeError, match="f must be callable"):
        ask(spec, 3, None)


@pytest.mark.parametrize(
    ("interval", "good", "bad"),
    [("(0, inf)", 1e-9, 0), ("[0, 1]", 1, 1.0001), ("[0, 1)", 0, 1.0), ("(0, 1)", 0.5, float("nan"))],
)
def test_intervals(interval, good, bad):
    validate.interval(interval, lr=good)
    with pytest.raises(ValueError, match="lr must lie in"):
        validate.interval(interval, lr=bad)


@pytest.mark.parametrize("value", ["0.1", None, True, 1j, [0.1]])
def test_intervals_want_numbers(value):
    with pytest.raises(TypeError, match="lr must be a number"):
        validate.interval("(0, inf)", lr=value)


def test_integers_and_choices():
    validate.integer("[1, inf)", steps=3)
    with pytest.raises(ValueError, match="no larger than 1e"):
        validate.interval("(0, inf)", lr=1e300)
    with pytest.raises(TypeError, match="steps must be an integer"):
        validate.integer("[1, inf)", steps=3.0)
    with pytest.raises(ValueError, match="steps must lie in"):
        validate.integer("[1, inf)", steps=0)
    with pytest.raises(ValueError, match="mode must be one of 'a', 'b'"):
        validate.choice(("a", "b"), mode="c")


class _Samples:
    def __init__(self, *result):
        self.result = result if len(result) != 1 else result[0]

    def each(self, theta):
        return self.result


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ((None,), TypeError, r"samples\.each must return a tuple \(losses, gradients\), not NoneType"),
        (("ab", "cd"), TypeError, r"the losses that samples\.each returns"),
        ((np.ones(2), np.ones((3, 4))), ValueError, r"must return gradients of shape \(2, 4\)"),
        ((np.ones((2, 1)), np.ones((2, 4))), ValueError, r"must return losses of shape \(2,\)"),
        ((np.ones(2), np.full((2, 4), np.nan)), ValueError, r"samples\.each must return finite values"),
        ((np.ones(2), np.ones((2, 4), np.float32)), TypeError, "give it data of one dtype"),
    ],
)
def test_what_samples_return(result, error, message):
    with pytest.raises(error, match=message):
        validate.each(_Samples(*result), np.ones(4))
    good = np.ones(2), np.ones((2, 4))
    assert validate.each(_Samples(*good), np.ones(4)) == good
    with pytest.raises(ValueError, match=r"must return losses of shape \(3,\)"):
        validate.each(_Samples(*good), np.ones(4), 3)


def test_lists_of_update_rules():
    def ask(params, grads, *moments):
        validate.require(*validate.lists({"params": params, "grads": grads}, *moments))

    good = [np.ones(2), np.ones((2, 2))]
    ask(good, good, good)
    for bad, message in [
        (good[:1], "grads must hold 2 arrays"),
        ([good[1], good[0]], r"grads\[0\] must have shape \(2,\)"),
        ([np.array([np.nan, 1.0]), good[1]], r"grads\[0\] must be finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            ask(good, bad)
    with pytest.raises(TypeError, match="params must be a non-empty list"):
        ask(np.ones(2), good)
