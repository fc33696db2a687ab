"""Find an implementation by name, and call it with arrays of its own framework."""

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import pathlib
import re
import sys
import types
from collections.abc import Mapping

import numpy as np

from trref import backend, checks
from trref.conformance import in_jax, rows

__all__ = [
    "FRAMEWORKS",
    "Implementation",
    "LoadError",
    "Options",
    "Refused",
    "load",
    "solver_parts",
]

FRAMEWORKS = ("auto", "numpy", "torch", "jax")


class LoadError(Exception):
    """The implementation could not be found, imported or fitted to the catalogued function."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How an implementation is called.

    Parameters
    ----------
    framework : {"auto", "numpy", "torch", "jax"}
        Automatic: torch or JAX where the function names it, else NumPy (or anything with
        ``__array__``); where its module has imported torch and that fails, the other.
    names : dict
        From the catalogue's argument names to the function's; ``"betas[0]"`` fills an
        entry of a tuple, ``"config.clip"`` a field of an object that has its fields as
        attributes and as keys, and ``"low, high"`` gives one value to two arguments.
    constants : dict
        Passed in every case, to the implementation and, where it is one of its
        hyper-parameters, to the catalogue's function.
    reference, theirs : dict
        Passed in every case, to the catalogue's function or to the implementation
        alone (under its own names, which may be fields such as ``"config.mode"``).
    init : dict
        Arguments of the class, where the implementation is a class with ``forward`` or
        ``__call__``, or a method of one; ``"{clip}"`` is the hyper-parameter clip.
    returns : str, optional
        Which part of the result counts: an index, a key, or the name of an attribute.
    reduce : {"seq_mean", "token_mean", "sum", "mean"}, optional
        How terms of tokens, which the implementation returns, become a loss: a mean over
        the tokens of each answer and then over answers, over all tokens, or their sum.
    mask : {"float", "bool"}
        What it takes as the argument mask.
    micro_batches : int, optional
        Objectives are called for so many rows at a time, and the mean of the results
        counts, as where gradients are accumulated.
    rows : bool
        Estimators of advantages and returns get an episode a row, padded, with a mask.
    maximise : bool
        The implementation returns the quantity to maximise.
    gradient : bool
        Whether gradients and derivatives are asked for.
    backend : {"numpy", "cupy", "strict"}
        Where the arrays are that it gets: CuPy's in the place of NumPy's, or torch
        tensors on the GPU (for "cupy").
    """

    framework: str = "auto"
    names: dict = dataclasses.field(default_factory=dict)
    constants: dict = dataclasses.field(default_factory=dict)
    reference: dict = dataclasses.field(default_factory=dict)
    theirs: dict = dataclasses.field(default_factory=dict)
    init: dict = dataclasses.field(default_factory=dict)
    returns: str | None = None
    reduce: str | None = None
    mask: str = "float"
    micro_batches: int | None = None
    rows: bool = False
    maximise: bool = False
    gradient: bool = True
    backend: str = "numpy"


class Refused(Exception):
    """The implementation returned something that is no array of real numbers; says what."""


def plain(text, most=500):
    """Return a text of foreign origin as one line that can be printed anywhere; TypeError where it is none."""
    if not isinstance(text, str):
        raise TypeError(f"expected a text, found {type(text).__name__}")
    line = " ".join(
        "".join(c if c.isprintable() else " " for c in text[: 4 * most]).split()
    )
    return line if len(line) <= most else line[: most - 1] + "…"


def described(error):
    """Return an exception's type and text, whatever its text does."""
    try:
        return plain(f"{type(error).__name__}: {error}")
    except BaseException:
        return "an exception that cannot be printed"


def load(target):
    """Return the function or class that ``"file.py:function"`` or ``"package.module:function"`` names.

    The module is imported under its name, as a shell would import it where the file (or its outermost package) lies, or
    in the working directory; but no file there hides a module of the standard library.

    Raises
    ------
    LoadError
        Says what was expected and what was found.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not name:
        raise LoadError(
            f"expected file.py:function or package.module:function, found {target!r}"
        )
    try:
        module = (
            _from_file(place)
            if place.endswith(".py")
            else _from_package(place, pathlib.Path.cwd())
        )
    except LoadError:
        raise
    except BaseException as error:
        raise LoadError(f"importing {place} failed: {described(error)}") from error
    found, *path = [getattr(module, name.split(".")[0], None), *name.split(".")[1:]]
    if path and isinstance(found, type) and callable(getattr(found, path[0], None)):
        return MethodOf(found, path[0])
    function = functools.reduce(lambda f, n: getattr(f, n, None), path, found)
    if not callable(function):
        known = [
            n
            for n, v in vars(module).items()
            if inspect.isfunction(v) and not n.startswith("_")
        ]
        raise LoadError(
            f"{place} has no function {name!r}; it has {', '.join(known) or 'none'}"
        )
    return function


def _from_file(place):
    path = pathlib.Path(place).resolve()
    if not path.is_file():
        raise LoadError(f"there is no file {place}")
    names, root = [path.stem], path.parent
    while (root / "__init__.py").is_file():
        names, root = [root.name, *names], root.parent
    if (
        len(names) > 1
        and all(n.isidentifier() for n in names)
        and names[0] not in sys.stdlib_module_names
    ):
        module = _from_package(".".join(names), root)
        if pathlib.Path(module.__file__).resolve() != path:
            raise LoadError(f"another package is called {names[0]}: {module.__file__}")
        return module
    _importable(path.parent)
    taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    specification = importlib.util.spec_from_file_location(
        path.stem + "_" * taken, path
    )
    module = sys.modules[specification.name] = importlib.util.module_from_spec(
        specification
    )
    specification.loader.exec_module(module)
    return module


def _from_package(name, root):
    _importable(root)
    return importlib.import_module(name)


def _importable(folder):
    """Look into a folder after the standard library and before what is installed."""
    installed = (
        i
        for i, p in enumerate(sys.path)
        if pathlib.Path(p).name in ("site-packages", "dist-packages")
    )
    sys.path.insert(next(installed, len(sys.path)), str(folder))


@dataclasses.dataclass(frozen=True)
class MethodOf:
    """A method, of instances that have to be made."""

    owner: type
    name: str


class Config(dict):
    """What an implementation reads its constants from: keys that are attributes, too."""

    __getattr__ = dict.__getitem__


def parameter(place):
    """Return the parameter that ``"betas[0]"`` or ``"config.clip"`` is a part of."""
    return re.split(r"[.\[]", place)[0]


class Implementation:
    """A foreign function, called with host arrays under the names of the catalogue."""

    def __init__(self, function, options):
        self.options, self.sign = options, -1.0 if options.maximise else 1.0
        if isinstance(function, type) and not hasattr(function, "step"):
            forward = hasattr(function, "forward")
            function = MethodOf(function, "forward" if forward else "__call__")
        self.owner, self.function = None, function
        if isinstance(function, MethodOf):
            self.owner = function
            function = getattr(function.owner, function.name)
        elif hasattr(function, "forward"):  # a module of torch
            function = function.forward
        signed = function
        if isinstance(function, functools.partial):
            function = function.func
        function = getattr(function, "__func__", function)  # of a bound method
        scope = getattr(
            inspect.unwrap(function),
            "__globals__",
            vars(sys.modules.get(function.__module__, sys)),
        )
        guesses = (options.framework,)
        if options.framework == "auto":
            guesses = _frameworks(function, scope)
        self.framework, *self.others = guesses
        if isinstance(function, type) and hasattr(function, "step"):
            self.framework = "torch optimizer"
        try:
            with backend.use_backend(options.backend):
                self.device = "cuda" if options.backend == "cupy" else "cpu"
        except (ImportError, ValueError) as error:
            raise LoadError(str(error)) from error
        try:
            parameters = list(inspect.signature(signed).parameters.values())
        except (TypeError, ValueError) as error:
            raise LoadError(
                f"the implementation's signature cannot be read: {error}"
            ) from error
        if self.owner:
            parameters = parameters[1:]  # without self
        self.takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.parameters = [
            p.name
            for p in parameters
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]
        self.required = [
            p.name
            for p in parameters
            if p.default is p.empty and p.name in self.parameters
        ]
        self.defaults = {
            p.name: p.default for p in parameters if type(p.default) is float
        }
        if "optax" in _packages(function) and "params" not in self.parameters:
            self.framework = "optax"  # it makes a transformation
        self.init = _initial_state(scope.get("init"))
        self.changed = []  # names of inputs that the last call wrote over, where they were arrays of a framework

    def theirs(self, name):
        """Return the implementation's names for an argument of the catalogue; mostly one."""
        return [part.strip() for part in self.options.names.get(name, name).split(",")]

    def accepts(self, name):
        """Return whether the function has a parameter for this argument of the catalogue."""
        if self.options.rows and name in rows.FOLDED:
            return True  # it goes into the rows
        if any(f"{{{name}}}" in str(value) for value in self.options.init.values()):
            return True
        places = map(parameter, self.theirs(name))
        return self.takes_any or all(place in self.parameters for place in places)

    def arguments(self, named):
        """Rename, fill tuples and fields, add constants; what is not accepted is left out."""
        found, tuples, configs = {}, {}, {}
        placed = [
            (place, value)
            for name, value in {**self.options.constants, **named}.items()
            for place in (self.theirs(name) if self.accepts(name) else ())
            if self.takes_any or parameter(place) in self.parameters
        ]
        for place, value in [*placed, *self.options.theirs.items()]:
            if entry := re.fullmatch(r"(\w+)\[(\d+)\]", place):
                tuples.setdefault(entry[1], {})[int(entry[2])] = value
            elif entry := re.fullmatch(r"(\w+)\.(\w+)", place):
                configs.setdefault(entry[1], Config())[entry[2]] = value
            else:
                found[place] = value
        found |= {
            name: tuple(entries[i] for i in sorted(entries))
            for name, entries in tuples.items()
        }
        return found | configs

    def _function(self, named):
        """The function; of a class, that of an instance made with its arguments."""
        if self.owner is None:
            return self.function
        init = {
            k: named.get(v[1:-1], v) if isinstance(v, str) and v[:1] == "{" else v
            for k, v in self.options.init.items()
        }
        try:
            instance = self.owner.owner(**init)
        except TypeError as error:
            raise Refused(
                f"no instance: {described(error)} (--init NAME=VALUE)"
            ) from error
        call = self.owner.name in ("forward", "__call__")
        return instance if call else getattr(instance, self.owner.name)

    def _picked(self, result, given):
        """The part of the result that counts, as a loss where it has terms of tokens."""
        wanted, reduce = self.options.returns, self.options.reduce
        try:
            if wanted is not None and wanted.isdecimal():
                result = result[int(wanted)]
            elif wanted is not None:
                keys = isinstance(result, Mapping)
                result = result[wanted] if keys else getattr(result, wanted)
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            raise Refused(f"nothing called {wanted} ({described(error)})") from error
        if reduce is None:
            return result
        mask = given.get("mask", 0 * result + 1)
        if reduce == "seq_mean":
            return ((result * mask).sum(1) / mask.sum(1).clip(1)).mean()
        if reduce == "token_mean":
            return (result * mask).sum() / mask.sum().clip(1)
        return (result * mask).sum() if reduce == "sum" else result.mean()

    def given(self, named):
        """Move named values to the implementation's framework and device."""
        if self.options.mask == "bool" and named.get("mask") is not None:
            named = {**named, "mask": named["mask"].astype(bool)}
        if self.framework in ("jax", "optax"):
            return {name: in_jax.arrays(value) for name, value in named.items()}
        if self.framework.startswith("torch"):
            return {name: _tensor(value, self.device) for name, value in named.items()}
        if self.options.backend == "numpy":
            return named
        with backend.use_backend(self.options.backend):
            return {name: checks.to_device(value) for name, value in named.items()}

    def call(self, named):
        """Call the function with those named values that it accepts, moved to where it computes."""
        return self._called(named, self.given(named))

    def _called(self, named, given):
        with backend.use_backend(self.options.backend):
            result = self._function(named)(**self.arguments(given))
            result = self._picked(result, given)
        for name, value in named.items():
            if isinstance(value, np.ndarray) and not np.array_equal(
                _array(given[name]), value, equal_nan=True
            ):
                self.changed.append(name)
        return result

    # ---- one method a record type; each returns {part: array}

    def objective(self, inputs, hyper, wrt):
        """Value, and gradients by name where there are any; of micro-batches, their mean."""
        size = self.options.micro_batches
        count = len(inputs[wrt[0]]) if inputs[wrt[0]].ndim else 1
        if not size or count <= size:
            return self._objective(inputs, hyper, wrt)
        found, split = {}, {}
        for first in range(0, count, size):
            part = {
                n: a[first : first + size] if _has_rows(a, count) else a
                for n, a in inputs.items()
            }
            share = min(size, count - first) / count
            for name, array in self._objective(part, hyper, wrt).items():
                found.setdefault(name, []).append(share * array)
        for name in wrt:
            split[f"gradient by {name}"] = _has_rows(inputs[name], count)
        return {
            name: np.concatenate(parts) if split.get(name) else sum(parts)
            for name, parts in found.items()
        }

    def _objective(self, inputs, hyper, wrt):
        """By autograd, or as returned."""
        named = {**inputs, **hyper}
        if self.framework == "torch" and self.options.gradient:
            return self._autograd(named, wrt)
        if self.framework == "jax" and self.options.gradient:
            return self._by_jax(named, wrt)
        result = self.call(named)
        value, *more = result if isinstance(result, tuple) and result else (result,)
        found = {"value": self.sign * _array(value)}
        given = more and self.options.gradient
        return found | self._returned(more[0], wrt) if given else found

    def _returned(self, gradients, wrt):
        """Gradients as returned: one array, or several by name or in order."""
        parts = [gradients] if len(wrt) == 1 else [_named(gradients, n) for n in wrt]
        if any(p is None for p in parts):
            parts = (
                list(gradients) if isinstance(gradients, tuple | list) else [gradients]
            )
        if len(parts) != len(wrt):
            raise Refused(
                f"{len(parts)} gradients, expected one by each of {', '.join(wrt)}"
            )
        return {
            f"gradient by {n}": self.sign * _array(g)
            for n, g in zip(wrt, parts, strict=True)
        }

    def _autograd(self, named, wrt):
        import torch

        given = self.given(named)
        leaves = [given[name].requires_grad_() for name in wrt]
        result = self._called(named, given)
        value, *more = result if isinstance(result, tuple) and result else (result,)
        found, differentiable = (
            {"value": self.sign * _array(value)},
            getattr(value, "requires_grad", False),
        )
        if found["value"].ndim or (more and not differentiable and len(wrt) == 1):
            return found | (
                self._returned(more[0], wrt) if more and not found["value"].ndim else {}
            )
        gradients = [None] * len(leaves)
        if differentiable:
            gradients = _derivatives(value, leaves)
        for name, gradient, leaf in zip(wrt, gradients, leaves, strict=True):
            found[f"gradient by {name}"] = self.sign * _array(
                torch.zeros_like(leaf) if gradient is None else gradient
            )
        return found

    def _by_jax(self, named, wrt):
        given = self.given(named)
        result = self._called(named, given)
        found = {"value": self.sign * _array(_first(result))}
        if found["value"].ndim:
            return found

        def value(*leaves):
            moved = {**given, **dict(zip(wrt, leaves, strict=True))}
            return _first(
                self._picked(self._function(named)(**self.arguments(moved)), moved)
            )

        gradients = _differentiated(in_jax.gradients, value, [given[n] for n in wrt])
        each = zip(wrt, gradients, strict=True)
        return found | {f"gradient by {n}": self.sign * _array(g) for n, g in each}

    def transform(self, inputs, hyper, wrt, cotangent=None):
        """Result, and in torch the vjp by autograd."""
        named = {**inputs, **hyper}
        if self.framework == "jax" and self.options.gradient and cotangent is not None:
            given = self.given(named)
            found = {"result": _array(self._called(named, given))}

            def result(leaf):
                return self._function(named)(**self.arguments({**given, wrt: leaf}))

            if found["result"].shape == cotangent.shape:
                back = in_jax.pulled_back
                pulled = _differentiated(back, result, given[wrt], cotangent)
                found["vjp"] = _array(pulled)
            return found
        if self.framework != "torch" or not self.options.gradient:
            return {"result": _array(self.call(named))}
        import torch

        given = self.given(named)
        leaf = given[wrt].requires_grad_()
        result = self._called(named, given)
        found = {"result": _array(result)}
        if (
            cotangent is not None
            and getattr(result, "requires_grad", False)
            and result.shape == cotangent.shape
        ):
            (pulled,) = _derivatives(result, [leaf], _tensor(cotangent, self.device))
            found["vjp"] = _array(torch.zeros_like(leaf) if pulled is None else pulled)
        return found

    def estimator(self, inputs, hyper):
        """The result's parts."""
        if not self.options.rows:
            return _parts(self.call({**inputs, **hyper}), "result")
        gamma = hyper.get("gamma", self.defaults.get(self.theirs("gamma")[0]))
        padded, back = _or_refused(rows.padded, inputs, gamma)
        parts = _parts(self.call({**padded, **hyper}), "result")
        return {name: _or_refused(back, array) for name, array in parts.items()}

    def solver(self, inputs, hyper):
        """The solution (the result, its field x, or its first entry), and beside it whatever has a name."""
        return solver_parts(self.call({**inputs, **hyper}))

    def update(self, inputs, hyper, step_inputs):
        """The parameters after every step of a gradient sequence, each array as (steps, …).

        `step_inputs` names further keywords, and the sequences that hold them.
        """
        if self.framework == "torch optimizer":
            return self._optimizer(inputs, hyper)
        if self.framework == "optax":
            given = self.given(inputs)
            made = self._function(hyper)(**self.arguments(hyper))
            return _by_step(in_jax.steps(made, given["params"], given["gradients"]))
        inputs, path = self.given(inputs), []
        params = inputs["params"]
        with backend.use_backend(self.options.backend):
            state = self.init(params) if self.init else None
            for k, grads in enumerate(inputs["gradients"]):
                named = {"params": params, "grads": grads, "state": state, **hyper}
                named |= {keyword: inputs[n][k] for keyword, n in step_inputs.items()}
                result = self._function(named)(**self.arguments(named))
                if not isinstance(result, tuple) or len(result) != 2:
                    raise Refused(
                        f"{type(result).__name__}, expected (params, state) of an update rule"
                    )
                params, state = result
                path.append([_array(p) for p in params])
        return {
            f"params[{i}] by step": np.stack([step[i] for step in path])
            for i in range(len(params))
        }

    def _optimizer(self, inputs, hyper):
        """A class with torch.optim's protocol: ``Optimizer(params, **hyper)``, ``param.grad``, ``step()``."""
        inputs = self.given(inputs)
        params = [p.requires_grad_() for p in inputs["params"]]
        optimizer, path = self.function(params, **self.arguments(hyper)), []
        for grads in inputs["gradients"]:
            for p, g in zip(params, grads, strict=True):
                p.grad = g
            optimizer.step()
            path.append([_array(p).copy() for p in params])
        return {
            f"params[{i}] by step": np.stack([step[i] for step in path])
            for i in range(len(params))
        }


def _named(parts, name):
    """The entry, or the attribute, of that name; None if there is none."""
    return parts.get(name) if isinstance(parts, dict) else getattr(parts, name, None)


def _or_refused(function, *arguments):
    try:
        return function(*arguments)
    except ValueError as error:
        raise Refused(str(error)) from error


def _has_rows(value, count):
    return isinstance(value, np.ndarray) and value.shape[:1] == (count,)


def _first(result):
    return result[0] if isinstance(result, tuple) and result else result


def _by_step(path):
    """The parameters of every step, each array as (steps, …)."""
    path = [[_array(p) for p in params] for params in path]
    numbered = enumerate(zip(*path, strict=True))
    return {f"params[{i}] by step": np.stack(arrays) for i, arrays in numbered}


def _derivatives(result, leaves, cotangent=None):
    import torch

    grad = functools.partial(torch.autograd.grad, allow_unused=True)
    return _differentiated(grad, result, leaves, cotangent)


def _differentiated(differentiate, *arguments):
    """What a framework gives, or why it cannot."""
    try:
        return differentiate(*arguments)
    except (RuntimeError, TypeError, ValueError) as error:
        hint = "--no-gradient compares values alone"
        raise Refused(
            f"what autograd cannot take: {described(error)} ({hint})"
        ) from error


def _frameworks(function, scope):
    """What to call it with, the likeliest first: by the names in its code, then in its module."""
    used = _packages(function) | {(function.__module__ or "").partition(".")[0]}
    modules = [v for v in list(scope.values()) if _is(v, types.ModuleType)]
    if "torch" in used:
        return "torch", "numpy"
    if "jax" in used:
        return "jax", "numpy"
    if not any(m.__name__ == "torch" for m in modules):
        # what it calls may be written in either, though it names neither
        return "numpy", *(f for f in ("torch", "jax") if f in sys.modules)
    return ("numpy", "torch") if used & {"numpy", "scipy"} else ("torch", "numpy")


def _packages(function):
    """The packages named in a function's code and annotations, and in those of the functions that it names."""
    found, seen, pending = set(), set(), [function]
    while pending and len(seen) < 200:
        f = inspect.unwrap(pending.pop())
        if _is(f, type):
            pending += [v for v in vars(f).values() if _is(v, types.FunctionType)]
        if not _is(f, types.FunctionType) or f in seen:
            continue
        seen.add(f)
        names = _names(f.__code__)
        found |= names & {"torch", "jax", "optax"} | {
            str(note).partition(".")[0] for note in f.__annotations__.values()
        }
        for value in [f.__globals__[name] for name in names if name in f.__globals__]:
            if _is(value, types.ModuleType):
                found.add(value.__name__.partition(".")[0])
            elif _is(value, types.FunctionType, type):
                found.add(top := (value.__module__ or "").partition(".")[0])
                pending += (
                    [value] if top not in ("torch", "jax", "numpy", "scipy") else []
                )
    return found


def _names(code):
    """The names in a function's code, and in that of the functions inside it."""
    inner = [_names(c) for c in code.co_consts if _is(c, types.CodeType)]
    return set(code.co_names).union(*inner)


def _is(value, *classes):
    """``isinstance`` that asks the value nothing."""
    return issubclass(type(value), classes)


def _initial_state(function):
    """The function ``init(params)`` beside an update rule, where there is one; else the first state is None."""
    if not inspect.isfunction(function):
        return None
    required = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty
    ]
    return function if required == ["params"] else None


def solver_parts(result):
    """Return a solver's solution and what else its result names, as arrays; texts are left out.

    The solution is the result itself, its field ``x``, or its first entry.
    """
    if hasattr(result, "_asdict"):
        named = result._asdict()
    else:
        named = dict(result) if isinstance(result, dict) else {}
    if not named:
        return _parts(result[0] if isinstance(result, tuple) else result, "solution")
    first = "x" if "x" in named else next(iter(named))
    parts = _parts(named.pop(first), "solution")
    for name, value in named.items():
        with contextlib.suppress(Refused):  # a text, or something of its own
            if isinstance(name, str) and len(name) < 100:
                parts[name] = _array(value)
    return parts


def _tensor(value, device):
    """NumPy to torch, within lists, too; callables of arrays become callables of tensors; the rest stays."""
    import torch

    if isinstance(value, np.ndarray):
        return torch.tensor(value, device=device)
    if isinstance(value, torch.Tensor) or isinstance(value, type):
        return value
    if isinstance(value, list):
        return [_tensor(v, device) for v in value]
    if callable(value):

        def wrapped(*tensors):
            result = value(*(_array(t) for t in tensors))
            parts = result if isinstance(result, tuple) else (result,)
            parts = tuple(torch.as_tensor(r, device=device) for r in parts)
            return parts if isinstance(result, tuple) else parts[0]

        return wrapped
    return value


MOST_BYTES = 1 << 26


def _array(value):
    """A number, list or array of any framework, on any device, as an array of NumPy; else `Refused`."""
    if hasattr(value, "detach"):  # torch's, whose 16-bit floats NumPy may not have
        value = value.detach().cpu()
        value = (
            value.double()
            if value.is_floating_point() and value.element_size() < 4
            else value
        )
    if hasattr(value, "device") and hasattr(value, "get"):  # CuPy's
        value = value.get()
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
        raise Refused(
            f"an array of the class {type(value).__name__}, expected a plain one"
        )
    if isinstance(value, str | bytes):
        raise Refused("a text, expected an array or a number")
    if isinstance(
        value, np.ndarray | np.generic | int | float | list | tuple
    ) or hasattr(value, "__array__"):
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise Refused(
                f"a {type(value).__name__} that is no array ({described(error)})"
            ) from error
    elif hasattr(value, "__dlpack__"):
        array = np.from_dlpack(value)
    else:
        raise Refused(f"{type(value).__name__}, expected an array or a number")
    if array.dtype.kind not in "fiub":
        raise Refused(
            f"an array of {SORTS.get(array.dtype.kind, array.dtype.name)}, expected real numbers"
        )
    if array.nbytes > MOST_BYTES:
        raise Refused(f"{array.nbytes:,} bytes, at most {MOST_BYTES:,} are compared")
    return array.astype(float) if array.dtype.itemsize > 8 else np.array(array)


SORTS = {
    "O": "objects",
    "c": "complex numbers",
    "U": "texts",
    "S": "bytes",
    "T": "texts",
    "V": "structures",
}


def _parts(value, name):
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        items = [(str(k), v) for k, v in value.items()]
        return {
            k: v for n, each in items for k, v in _parts(each, f"{name}.{n}").items()
        }
    if isinstance(value, tuple | list):
        fields = getattr(value, "_fields", range(len(value)))
        return {
            k: v
            for f, part in zip(fields, value, strict=True)
            for k, v in _parts(part, f"{name}.{f}").items()
        }
    return {name: _array(value)}
