"""The records: what the catalogue knows of every method, one small record type a contract.

A method module ends with ``METHOD = Method(...)``, whose ``functions`` are records of the types below. The generic
tests, ``trref check``, ``trref verify`` and the tables of the documentation come from these records and nothing else.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping

from trref import validate

__all__ = [
    "FAMILIES",
    "Deviation",
    "Estimator",
    "Input",
    "Interface",
    "Limit",
    "Method",
    "Objective",
    "Record",
    "Sampler",
    "Solver",
    "Transform",
    "UpdateRule",
    "call",
    "find",
    "method",
    "methods",
    "places",
    "records",
]

FAMILIES = (
    "policy tokens preferences distillation krylov optimization transport manifolds optimizers sharpness bilevel "
    "diffusion dynamics gradients domains federated continual datasampling adversarial attribution shift "
    "trustworthiness vision causal statistics physics theory"
).split()

LEVELS = ("confirmed", "partly", "reconstructed")


@dataclasses.dataclass(frozen=True)
class Input:
    """One input: its shape (``"N"``, ``"B | B T"``, ``"T+1"``, ``"T ..."``, ``""`` for a scalar) and its kind.

    Kinds are those of `trref.validate.KINDS`, ``"callable"``, and ``"arrays"`` for the lists of an update rule.
    """

    shape: str
    kind: str = "real"
    optional: bool = False

    def __post_init__(self):
        validate.parse_shape(self.shape)
        if self.kind not in (*validate.KINDS, "callable", "arrays"):
            raise ValueError(f"no kind {self.kind!r}")


@dataclasses.dataclass(frozen=True)
class Interface:
    """A signature that several functions share.

    Parameters
    ----------
    name : str
    inputs : mapping of str to Input
        In the order of the positional arguments.
    example : callable
        ``example(rng, size) -> dict`` of host arrays and callables, mixing scales. It runs under the NumPy backend.
    edges : mapping of str to callable
        The named hard cases, each ``() -> dict``.
    """

    name: str
    inputs: Mapping[str, Input]
    example: Callable
    edges: Mapping[str, Callable] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Limit:
    """Under `hyper` the function equals the catalogued function `to` under `to_hyper`.

    Parameters
    ----------
    to : str
    hyper, to_hyper : mapping
    where : callable, optional
        ``where(inputs) -> inputs``: the special inputs at which the limit lies, and those that the other function
        calls by another name; or a pair, the inputs of each, where the two take other shapes (results are then
        compared entry by entry). Its docstring says in a few words what holds there.
    gradient_only : bool
        Of objectives: the gradients are equal, the values are not, as with surrogates of one gradient.
    """

    to: str
    hyper: Mapping
    to_hyper: Mapping = dataclasses.field(default_factory=dict)
    where: Callable | None = None
    gradient_only: bool = False

    @property
    def place(self):
        """What holds of the inputs at the limit, and of the result, in words; empty where it is the whole function."""
        words = [inspect.getdoc(self.where)] if self.where else []
        return ", ".join(words + ["in the gradient alone"] * self.gradient_only)


@dataclasses.dataclass(frozen=True)
class Deviation:
    """What public code is known to compute instead of the paper's equation.

    Parameters
    ----------
    name : str
    f : callable
        A small runnable variant with the same inputs.
    seen_in : str
        Where it was seen: project and file, with the version where known.
    computes : str
        What differs, in one sentence.
    documented : bool
        Whether that project says that it departs from the paper.
    """

    name: str
    f: Callable
    seen_in: str
    computes: str
    documented: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """What all record types share; see the subclasses.

    Parameters
    ----------
    f : callable
        The public function. Inputs are called by their names; keyword-only parameters that are no inputs are
        hyper-parameters.
    interface : Interface, optional
        Or else `inputs`, `example` and `edges` of its own.
    settings : mapping of str to mapping
        Every documented variant, as hyper-parameters; ``"default"`` always, and ``"probe"`` without neutral values
        wherever there are hyper-parameters.
    limits : sequence of Limit
    deviations : sequence of Deviation
    tolerance : float
        The relative error that an inner iteration leaves in the result; 0 for closed forms.
    """

    f: Callable
    interface: Interface | None = None
    inputs: Mapping[str, Input] | None = None
    example: Callable | None = None
    edges: Mapping[str, Callable] | None = None
    settings: Mapping[str, Mapping] = dataclasses.field(default_factory=lambda: {"default": {}})
    limits: tuple[Limit, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    tolerance: float = 0.0

    def __post_init__(self):
        for name in ("inputs", "example", "edges"):
            if getattr(self, name) is None:
                shared = getattr(self.interface, name) if self.interface else None
                if shared is None and name != "edges":
                    raise ValueError(f"{self.name}: give an interface, or {name}")
                object.__setattr__(self, name, shared if shared is not None else {})
        if "default" not in self.settings:
            raise ValueError(f"{self.name}: settings need 'default'")
        for setting, hyper in self.settings.items():
            if unknown := set(hyper) - set(self.hyper_parameters):
                raise ValueError(f"{self.name}: setting {setting!r} names no keyword of the function: {unknown}")

    @property
    def method_name(self):
        """The slug of the method that lists the function."""
        return self.f.__module__.rpartition(".")[2]

    @property
    def family(self):
        return self.f.__module__.split(".")[1]

    @property
    def name(self):
        """``"ppo.clipped_surrogate"``."""
        return f"{self.method_name}.{self.f.__name__}"

    @functools.cached_property
    def hyper_parameters(self):
        """Keyword-only parameters of the function with their defaults, without the stop-gradients."""
        stopped = getattr(self, "stopped", {})
        return {
            p.name: p.default
            for p in inspect.signature(self.f).parameters.values()
            if p.kind is p.KEYWORD_ONLY and p.name not in stopped and p.name not in self.inputs
        }

    def __call__(self, inputs, hyper=None):
        """Call the function on a dict of inputs and a dict of hyper-parameters."""
        return self.f(**inputs, **(hyper or {}))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective(Record):
    """``f(**inputs, **hyper) -> (value, gradient)``: the gradient of the value with respect to the inputs `wrt`.

    Parameters
    ----------
    wrt : str or tuple of str
        One name: the gradient is an array. Several: a NamedTuple with these fields.
    stopped : mapping of str to callable
        Quantities that the gradient holds constant: a keyword of `f` and the function that computes it.
    """

    wrt: str | tuple[str, ...]
    stopped: Mapping[str, Callable] = dataclasses.field(default_factory=dict)

    @property
    def wrt_names(self):
        return (self.wrt,) if isinstance(self.wrt, str) else tuple(self.wrt)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transform(Record):
    """``f(**inputs, **hyper) -> array``: projections, retractions, layers.

    Parameters
    ----------
    wrt : str
        The input that `jvp` and `vjp` differentiate.
    jvp, vjp : callable, optional
        ``jvp(**inputs, tangent=…, **hyper)`` and ``vjp(**inputs, cotangent=…, **hyper)``.
    idempotent : bool
        Applying it to its own result (in the place of `wrt`) changes nothing.
    feasible : callable, optional
        ``feasible(result, **inputs) -> float``: how far the result is from where it belongs, relative to 1.
    """

    wrt: str
    jvp: Callable | None = None
    vjp: Callable | None = None
    idempotent: bool = False
    feasible: Callable | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solver(Record):
    """``f(**inputs, **hyper) -> NamedTuple`` of a solution, histories (host floats), ``iterations`` and ``converged``.

    Parameters
    ----------
    certificate : callable
        ``certificate(result, **inputs, **hyper) -> dict`` of figures that the theory bounds.
    tolerances : mapping of str to float
        The bound of each figure in float64.
    random : bool
        A whole algorithm ``f(rng, problem, **hyper)``; the certificate is the paper's guarantee.
    agreement : float, optional
        The relative distance within which right solutions agree; None where a problem may have several.
    complete : callable, optional
        ``complete(solution, **inputs, **hyper) -> dict`` of other fields of the result, where these follow from the
        solution and an implementation gives that alone.
    prescribed : bool
        Whether the equations prescribe the way to the solution, so that iterates can be compared. False where they
        leave a choice: a line search's interpolation, a start, a warm-up.
    """

    certificate: Callable
    tolerances: Mapping[str, float]
    random: bool = False
    agreement: float | None = None
    complete: Callable | None = None
    prescribed: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateRule(Record):
    """``update(params, grads, state, *, lr, …) -> (params, state)`` with ``init(params) -> state``.

    `params` and `grads` are lists of arrays. Examples hold ``params`` and ``gradients``, a list of such lists.
    """

    init: Callable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimator(Record):
    """``f(**inputs, **hyper)`` -> a number or numbers, equal to ``brute_force(**inputs, **hyper)`` on host arrays."""

    brute_force: Callable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler(Record):
    """``f(rng, **inputs, **hyper) -> draws``; the same seed gives the same draws.

    Parameters
    ----------
    moments : callable
        ``moments(draws, **inputs, **hyper) -> dict`` of ``(observed, expected, allowance)`` host numbers; the
        allowance is stated confidence: standard errors, and the discretisation error where there is one.
    """

    moments: Callable


@dataclasses.dataclass(frozen=True)
class Method:
    """One published method: a module of this package.

    Parameters
    ----------
    title : str
    key : str
        The citation key in ``docs/references.bib``.
    arxiv : str or None
        The identifier, as ``"1707.06347"``.
    provenance : str or mapping
        ``"confirmed"`` (the equation was read in the paper or the authors' code), ``"partly"`` or ``"reconstructed"``;
        where equations differ, a mapping from such a level to the labels' names.
    functions : tuple of Record
    """

    title: str
    key: str
    arxiv: str | None
    provenance: str | Mapping[str, tuple[str, ...]]
    functions: tuple[Record, ...]

    def __post_init__(self):
        levels = [self.provenance] if isinstance(self.provenance, str) else list(self.provenance)
        if not levels or set(levels) - set(LEVELS):
            raise ValueError(f"provenance must be one of {LEVELS}, or map them to labels")
        if len({record.f.__module__ for record in self.functions}) != 1:
            raise ValueError(f"{self.title}: a method lists the functions of its own module, at least one")

    @property
    def module(self):
        return importlib.import_module(self.functions[0].f.__module__)

    @property
    def slug(self):
        return self.functions[0].method_name

    @property
    def family(self):
        return self.functions[0].family


def call(f, *available, skip=()):
    """Call `f` with those of the available named values (dicts) that its signature names."""
    named = {name: value for group in available for name, value in group.items()}
    wanted = [n for n in inspect.signature(f).parameters if n in named and n not in skip]
    return f(**{name: named[name] for name in wanted})


@functools.cache
def places():
    """Return (family, slug) of every method, without importing any method."""
    found = []
    for family in FAMILIES:
        try:
            package = importlib.import_module(f"trref.{family}")
        except ModuleNotFoundError as error:
            if error.name != f"trref.{family}":
                raise
            continue
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
            if module.name not in ("interfaces", "deviations") and not module.name.startswith("_"):
                found.append((family, module.name))
    return tuple(found)


@functools.cache
def method(family, slug):
    """Return one method; imports its module and nothing else of the catalogue."""
    return importlib.import_module(f"trref.{family}.{slug}").METHOD


def methods():
    """Return all methods of the catalogue, by family and slug; imports every family."""
    return tuple(method(*place) for place in places())


def records():
    """Return the records of all catalogued functions."""
    return tuple(record for method in methods() for record in method.functions)


def find(name):
    """Return the record of a catalogued function.

    Parameters
    ----------
    name : str
        ``"ppo.clipped_surrogate"``; also with the family in front, and ``"krylov.cg"`` or ``"gae"`` where a method
        has a function of its own name.

    Raises
    ------
    ValueError
        No such function; the message lists near names.
    """
    words = name.split(".")
    for family, slug in places():
        if slug not in words:
            continue
        for record in method(family, slug).functions:
            names = [record.name, f"{family}.{record.name}"]
            if record.f.__name__ == slug:
                names += [slug, f"{family}.{slug}"]
            if name in names:
                return record
    import difflib

    known = [record.name for record in records()]
    near = difflib.get_close_matches(name, known, n=3) or [n for n in known if name.split(".")[-1] in n][:3]
    raise ValueError(f"no catalogued function {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))
