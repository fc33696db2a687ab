"""Find an implementation by name, and call it with arrays of its own framework."""

import importlib
import importlib.util
import inspect
import pathlib
import sys

import numpy as np

__all__ = ["FRAMEWORKS", "Implementation", "load"]

FRAMEWORKS = ("auto", "numpy", "torch")


class LoadError(Exception):
    """The implementation could not be found or imported."""


def load(target):
    """Return the function that ``"file.py:function"`` or ``"package.module:function"`` names.

    Raises
    ------
    LoadError
        Says what was expected and what was found.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not name:
        raise LoadError(f"expected file.py:function or package.module:function, found {target!r}")
    try:
        if place.endswith(".py"):
            path = pathlib.Path(place).resolve()
            if not path.is_file():
                raise LoadError(f"there is no file {place}")
            specification = importlib.util.spec_from_file_location(path.stem, path)
            module = importlib.util.module_from_spec(specification)
            sys.path.insert(0, str(path.parent))
            specification.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(f"importing {place} failed: {type(error).__name__}: {error}") from error
    if not callable(function := getattr(module, name, None)):
        known = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
        raise LoadError(f"{place} has no function {name!r}; it has {', '.join(known) or 'none'}")
    return function


class Implementation:
    """A foreign function, called with host arrays under the names of the catalogue.

    Parameters
    ----------
    function : callable
    framework : {"auto", "numpy", "torch"}
        Automatic: torch where the function's module has imported it, else NumPy.
    names : dict
        From the catalogue's argument names to the function's.
    constants : dict
        Further keyword arguments of the function.
    sign : float
        -1 for an implementation whose value is to be maximised.
    """

    def __init__(self, function, *, framework="auto", names=None, constants=None, sign=1.0):
        self.function, self.names, self.constants, self.sign = function, names or {}, constants or {}, sign
        if framework == "auto":
            module = sys.modules.get(function.__module__)
            scope = getattr(function, "__globals__", vars(module) if module else {})
            uses_torch = any(getattr(v, "__name__", "").split(".")[0] == "torch" for v in scope.values())
            framework = "torch" if uses_torch else "numpy"
        self.framework = framework
        parameters = inspect.signature(function).parameters.values()
        self.takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.parameters = [p.name for p in parameters]

    def accepts(self, name):
        """Return whether the function has a parameter for this argument of the catalogue."""
        return self.takes_any or self.names.get(name, name) in self.parameters

    def __call__(self, inputs, hyper, wrt=()):
        """Call the function; return ``(value, gradients or None)``, gradients by name.

        A torch function gives its value, and autograd the gradients; a NumPy function may return both.
        """
        arguments = {self.names.get(k, k): v for k, v in {**inputs, **hyper}.items() if self.accepts(k)}
        arguments |= self.constants
        if self.framework == "torch":
            return self._call_torch(arguments, wrt)
        result = self.function(**arguments)
        if isinstance(result, tuple) and wrt:
            value, gradient = result[0], result[1]
            parts = [gradient] if len(wrt) == 1 else [getattr(gradient, n) for n in wrt]
            return self.sign * np.asarray(value), {
                n: self.sign * np.asarray(g) for n, g in zip(wrt, parts, strict=True)
            }
        return self.sign * np.asarray(result), None

    def _call_torch(self, arguments, wrt):
        import torch

        tensors = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
        leaves = [tensors[self.names.get(n, n)].requires_grad_() for n in wrt]
        value = self.function(**tensors)
        value = value[0] if isinstance(value, tuple) and wrt else value
        if not wrt:
            return value.detach().numpy(), None
        gradients = torch.autograd.grad(value, leaves, allow_unused=True)
        arrays = [np.zeros(tuple(x.shape)) if g is None else g.numpy() for g, x in zip(gradients, leaves, strict=True)]
        return self.sign * value.detach().numpy(), {n: self.sign * a for n, a in zip(wrt, arrays, strict=True)}
