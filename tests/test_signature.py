"""The signature is asked at every call, says what the docstring need not, and is held by the contracts."""

import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, Protocol

import numpy as np
import pytest

from trref import catalog, checks, strict, use_backend
from trref.policy.ppo import clipped_surrogate
from trref.signature import (
    T1,
    Arrays,
    B,
    Decay,
    Index,
    K,
    Lead,
    LogProb,
    Mask,
    N,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    T,
    checked,
)

X = np.array([-1.0, -2.0])


class State(NamedTuple):
    step: int
    m: Arrays


@checked
def f(
    x: Real[B] | Real[B, T],
    mask: Mask[B, T] | None = None,
    *,
    size: PositiveInt | None = None,
    p: Annotated[float, "(1, inf)"] | Literal["inf"] = 2.0,
    how: Literal["a", "b"] = "a",
    g: Callable | None = None,
) -> Real[B]:
    """Do it.

    Parameters
    ----------
    x, size, p
        The point, its size and its norm.
    how, g
        A way.
    """
    return x.sum(-1) if x.ndim == 2 else x


def test_words():
    assert repr(Real[T1]) == "Real[T1]" and Real[T1].shape == "T+1" and Real[T1].words == "array (T+1,)"
    assert repr(Real[B] | Real[B, T] | None) == "Real[B] | Real[B, T] | None"
    assert repr(Scalar) == "Scalar" and repr(Index[N] | Real[N, K]) == "Index[N] | Real[N, K]"
    assert Real[Lead, N].shape == "... N" and repr(Real[Lead, N]) == "Real[Lead, N]"


def test_help_shows_what_was_written():
    @checked
    def h(x: Real[N], *, decay: Decay = 0.5, far: Annotated[float, "(2, inf)"] | None = None) -> tuple[Scalar, Real[N]]:
        """Do it.

        Parameters
        ----------
        x, far, decay
            A number.
        """

    assert str(inspect.signature(h)) == (
        "(x: Real[N], *, decay: Decay = 0.5, far: float in (2, inf) | None = None) -> tuple[Scalar, Real[N]]"
    )


class Walker(Protocol):
    def __call__(self, x): ...
    def step(self, x): ...


def test_an_object_must_have_the_methods_of_its_protocol():
    @checked
    def walk(walker: Walker, x: Real[N]) -> Real[N]:
        return x

    class Whole:
        def __call__(self, x): ...
        def step(self, x): ...

    assert walk(Whole(), X) is X and walk.inputs["walker"].methods == ("__call__", "step")
    with pytest.raises(TypeError, match=r"walk: walker must have step\(\); a function has not"):
        walk(lambda x: x, X)


def test_the_bare_function_can_be_pickled_and_messages_name_the_function():
    assert pickle.loads(pickle.dumps(clipped_surrogate.unchecked)) is clipped_surrogate.unchecked
    with pytest.raises(ValueError, match=r"^clipped_surrogate: clip must lie in"):
        clipped_surrogate(X, X, X, clip=-1)
    with pytest.raises(ValueError, match="Returns must name all 2 results"):

        @checked
        def g(x: Real[N]) -> tuple[Scalar, Real[N]]:
            """Do it.

            Returns
            -------
            A number.
            """


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"x": X, "mask": np.ones((3, 2))}, ValueError, r"mask must have shape \(B, T\) with B = 2"),
        ({"x": X, "mask": np.full((2, 1), 0.5)}, ValueError, "mask must hold only 0 and 1"),
        ({"x": X * np.inf}, ValueError, "x must be finite"),
        ({"x": [1.0]}, TypeError, "x must be a numpy array"),
        ({"x": X, "size": 0}, ValueError, "size must lie in"),
        ({"x": X, "size": 1.5}, TypeError, "size must be an integer"),
        ({"x": X, "p": 1.0}, ValueError, "p must lie in"),
        ({"x": X, "p": "two"}, TypeError, "p must be a number"),
        ({"x": X, "how": "c"}, ValueError, "how must be one of 'a', 'b'"),
        ({"x": X, "g": 3}, TypeError, "g must be callable"),
        ({"x": X, "gg": 3}, TypeError, "unexpected keyword argument 'gg'"),
        ({}, TypeError, "missing a required argument: 'x'"),
        ({"mask": None, "gg": 3}, TypeError, "missing a required argument"),
    ],
)
def test_refused(arguments, error, says):
    with pytest.raises(error, match=says):
        f(**arguments)


def test_accepted_by_place_and_by_name():
    assert f(X, None, size=3, p="inf") is X and f(x=X, how="b") is X
    with pytest.raises(TypeError, match="multiple values"):
        f(X, x=X)


def test_a_second_kind_is_told_by_its_dtype():
    @checked
    def h(a: Index[N] | Real[N, K]):
        return a

    assert h(np.arange(3)).dtype.kind == "i" and h(np.ones((2, 2))).ndim == 2
    with pytest.raises(ValueError, match="a must have shape"):
        h(np.ones(3))


def test_further_conditions_share_the_synchronisation():
    @checked(also=lambda x, y, **_: [(lambda: (x < y).all(), "x must be below y")])
    def g(x: LogProb[N], y: LogProb[N]) -> Prob[N]:
        return x

    with pytest.raises(ValueError, match="x must be below y"):
        g(X, X)
    with use_backend("strict"):
        x = checks.to_device(X)
        with strict.synchronisations() as count:
            g(x, x + 0.5)
        assert count() == 1


def test_state_of_an_update_rule():
    @checked
    def step(params: Arrays, grads: Arrays, state: State) -> tuple[Arrays, State]:
        return params, state

    step([X], [X], State(0, [X]))
    with pytest.raises(ValueError, match=r"state \(0\) must hold 1 arrays"):
        step([X], [X], State(0, []))
    with pytest.raises(TypeError, match="state must be State"):
        step([X], [X], (0, [X]))


def test_docstring_is_complete():
    doc = inspect.getdoc(f)
    assert "x : array (B,) or (B, T)\n    The point, its size and its norm." in doc
    assert 'p : float in (1, inf) or "inf", default 2.0' in doc and "size : int in [1, inf), optional" in doc
    assert "mask : array (B, T), 0 or 1, optional\n    1 on the tokens" in doc and "Raises" in doc
    assert f.undocumented == ()


def test_tools_see_the_function():
    assert pickle.loads(pickle.dumps(clipped_surrogate)) is clipped_surrogate
    assert "clip" in inspect.signature(clipped_surrogate).parameters
    assert "eq. ppo-clipped" in inspect.getsource(clipped_surrogate)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda value, gradient: (value, gradient[:-1]),
        lambda value, gradient: (value, gradient.astype(int)),
        lambda value, gradient: [value, gradient],
        lambda value, gradient: (gradient, gradient),
        lambda value, gradient: (value, gradient * np.nan),
    ],
)
def test_results_are_held_to_the_annotation(wrong):
    record = catalog.find("ppo.clipped_surrogate")

    def g(*args, **kwargs):
        return wrong(*record.f(*args, **kwargs))

    g.__wrapped__, g.__module__, g.__name__ = record.f, record.f.__module__, record.f.__name__
    with pytest.raises(checks.ContractError):
        checks.returns(dataclasses.replace(record, f=g))
