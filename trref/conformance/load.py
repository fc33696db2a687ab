"""Find an implementation by name, and call it with arrays of its own framework."""

import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import pathlib
import re
import sys

import numpy as np

from trref import backend, checks

__all__ = ["FRAMEWORKS", "Implementation", "LoadError", "Options", "load", "solver_parts"]

FRAMEWORKS = ("auto", "numpy", "torch")


class LoadError(Exception):
    """The implementation could not be found, imported or fitted to the catalogued function."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How an implementation is called.

    Parameters
    ----------
    framework : {"auto", "numpy", "torch"}
        Automatic: torch where the function's module has imported it, else NumPy (or anything with ``__array__``).
    names : dict
        From the catalogue's argument names to the function's; ``"betas[0]"`` fills an entry of a tuple, and
        ``"low, high"`` gives one value to two arguments.
    constants : dict
        Passed in every case. Where a constant is one of the catalogue's hyper-parameters the reference gets it too.
    maximise : bool
        The implementation returns the quantity to maximise.
    backend : {"numpy", "cupy", "strict"}
        Where the arrays are that it gets: CuPy's in the place of NumPy's, or torch tensors on the GPU (for "cupy").
    """

    framework: str = "auto"
    names: dict = dataclasses.field(default_factory=dict)
    constants: dict = dataclasses.field(default_factory=dict)
    maximise: bool = False
    backend: str = "numpy"


def load(target):
    """Return the function or class that ``"file.py:function"`` or ``"package.module:function"`` names.

    Raises
    ------
    LoadError
        Says what was expected and what was found.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not name:
        raise LoadError(f"expected file.py:function or package.module:function, found {target!r}")
    try:
        module = _from_file(place) if place.endswith(".py") else importlib.import_module(place)
    except LoadError:
        raise
    except (Exception, SystemExit) as error:
        raise LoadError(f"importing {place} failed: {type(error).__name__}: {error}") from error
    if not callable(function := getattr(module, name, None)):
        known = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
        raise LoadError(f"{place} has no function {name!r}; it has {', '.join(known) or 'none'}")
    return function


def _from_file(place):
    path = pathlib.Path(place).resolve()
    if not path.is_file():
        raise LoadError(f"there is no file {place}")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    sys.path.insert(0, str(path.parent))
    specification.loader.exec_module(module)
    return module


class Implementation:
    """A foreign function, called with host arrays under the names of the catalogue."""

    def __init__(self, function, options):
        self.function, self.options = function, options
        self.sign = -1.0 if options.maximise else 1.0
        scope = getattr(inspect.unwrap(function), "__globals__", vars(sys.modules.get(function.__module__, sys)))
        uses_torch = any(getattr(v, "__name__", "").split(".")[0] == "torch" for v in list(scope.values()))
        automatic = "torch" if uses_torch or (function.__module__ or "").split(".")[0] == "torch" else "numpy"
        self.framework = automatic if options.framework == "auto" else options.framework
        if isinstance(function, type) and hasattr(function, "step"):
            self.framework = "torch optimizer"
        try:
            with backend.use_backend(options.backend):
                self.device = "cuda" if options.backend == "cupy" else "cpu"
        except (ImportError, ValueError) as error:
            raise LoadError(str(error)) from error
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError) as error:
            raise LoadError(f"the implementation's signature cannot be read: {error}") from error
        self.takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.parameters = [p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        self.required = [p.name for p in parameters if p.default is p.empty and p.name in self.parameters]
        self.init = _initial_state(scope.get("init"))

    def theirs(self, name):
        """Return the implementation's names for an argument of the catalogue; mostly one."""
        return [part.strip() for part in self.options.names.get(name, name).split(",")]

    def accepts(self, name):
        """Return whether the function has a parameter for this argument of the catalogue."""
        return self.takes_any or all(place.partition("[")[0] in self.parameters for place in self.theirs(name))

    def arguments(self, named):
        """Rename, fill tuples, add constants; what the function does not accept is left out."""
        found, tuples = {}, {}
        for name, value in named.items():
            for place in self.theirs(name) if self.accepts(name) else ():
                if entry := re.fullmatch(r"(\w+)\[(\d+)\]", place):
                    tuples.setdefault(entry[1], {})[int(entry[2])] = value
                else:
                    found[place] = value
        found |= {name: tuple(entries[i] for i in sorted(entries)) for name, entries in tuples.items()}
        return found | self.options.constants

    def given(self, named):
        """Move named values to the implementation's framework and device."""
        if self.framework.startswith("torch"):
            return {name: _tensor(value, self.device) for name, value in named.items()}
        if self.options.backend == "numpy":
            return named
        with backend.use_backend(self.options.backend):
            return {name: checks.to_device(value) for name, value in named.items()}

    def call(self, named):
        """Call the function with those named values that it accepts, moved to where it computes."""
        with backend.use_backend(self.options.backend):
            return self.function(**self.arguments(self.given(named)))

    # ---- one method a record type; each returns {part: array}

    def objective(self, inputs, hyper, wrt):
        """Value, and gradients by name where there are any: by autograd, or as returned."""
        if self.framework == "torch":
            return self._autograd(inputs, hyper, wrt)
        result = self.call({**inputs, **hyper})
        if not isinstance(result, tuple):
            return {"value": self.sign * _array(result)}
        parts = [result[1]] if len(wrt) == 1 else [getattr(result[1], n, None) for n in wrt]
        if any(p is None for p in parts):
            parts = list(result[1])
        gradients = {f"gradient by {n}": self.sign * _array(g) for n, g in zip(wrt, parts, strict=True)}
        return {"value": self.sign * _array(result[0]), **gradients}

    def _autograd(self, inputs, hyper, wrt):
        import torch

        tensors = self.arguments(self.given({**inputs, **hyper}))
        leaves = [tensors[self.theirs(n)[0]].requires_grad_() for n in wrt]
        result = self.function(**tensors)
        value = result[0] if isinstance(result, tuple) else result
        if isinstance(result, tuple) and len(result) > 1 and not value.requires_grad and len(wrt) == 1:
            return {"value": self.sign * _array(value), f"gradient by {wrt[0]}": self.sign * _array(result[1])}
        if not value.requires_grad:
            gradients = [None] * len(leaves)
        else:
            gradients = torch.autograd.grad(value, leaves, allow_unused=True)
        found = {"value": self.sign * _array(value)}
        for name, gradient, leaf in zip(wrt, gradients, leaves, strict=True):
            found[f"gradient by {name}"] = self.sign * _array(torch.zeros_like(leaf) if gradient is None else gradient)
        return found

    def transform(self, inputs, hyper, wrt, cotangent=None):
        """Result, and in torch the vjp by autograd."""
        if self.framework != "torch":
            return {"result": _array(self.call({**inputs, **hyper}))}
        import torch

        tensors = self.arguments(self.given({**inputs, **hyper}))
        leaf = tensors[self.theirs(wrt)[0]].requires_grad_()
        result = self.function(**tensors)
        found = {"result": _array(result)}
        if cotangent is not None and result.requires_grad:
            (pulled,) = torch.autograd.grad(result, leaf, _tensor(cotangent, self.device), allow_unused=True)
            found["vjp"] = _array(torch.zeros_like(leaf) if pulled is None else pulled)
        return found

    def estimator(self, inputs, hyper):
        """The result's parts."""
        return _parts(self.call({**inputs, **hyper}), "result")

    def solver(self, inputs, hyper):
        """The solution (the result, its field x, or its first entry), and beside it whatever has a name."""
        return solver_parts(self.call({**inputs, **hyper}))

    def update(self, inputs, hyper):
        """The parameters after every step of a gradient sequence, each array as (steps, …)."""
        if self.framework == "torch optimizer":
            return self._optimizer(inputs, hyper)
        inputs, path = self.given(inputs), []
        params = inputs["params"]
        with backend.use_backend(self.options.backend):
            state = self.init(params) if self.init else None
            for grads in inputs["gradients"]:
                named = {"params": params, "grads": grads, "state": state, **hyper}
                result = self.function(**self.arguments(named))
                if not isinstance(result, tuple) or len(result) != 2:
                    raise TypeError("an update rule must return (params, state)")
                params, state = result
                path.append([_array(p) for p in params])
        return {f"params[{i}] by step": np.stack([step[i] for step in path]) for i in range(len(params))}

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
        return {f"params[{i}] by step": np.stack([step[i] for step in path]) for i in range(len(params))}


def _initial_state(function):
    """The function ``init(params)`` beside an update rule, where there is one; else the first state is None."""
    if not inspect.isfunction(function):
        return None
    required = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
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
        with contextlib.suppress(TypeError, ValueError):  # not an array, nor a list of numbers
            array = _array(value)
            if array.dtype.kind in "fiub":
                parts[name] = array
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


def _array(value):
    """Anything with ``__array__`` or DLPack, on any device, to NumPy."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "dtype") and hasattr(value, "get"):
        value = value.get()
    if isinstance(value, np.ndarray | np.generic | int | float) or hasattr(value, "__array__"):
        return np.array(value)
    if hasattr(value, "__dlpack__"):
        return np.array(np.from_dlpack(value))
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(f"expected an array or a number, found {type(value).__name__}")
    return array


def _parts(value, name):
    if isinstance(value, tuple | list):
        fields = getattr(value, "_fields", range(len(value)))
        return {k: v for f, part in zip(fields, value, strict=True) for k, v in _parts(part, f"{name}.{f}").items()}
    return {name: _array(value)}
