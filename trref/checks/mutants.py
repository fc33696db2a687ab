"""Mutants: the changes of a catalogued function, and of what it calls, that `trref verify` ought to notice.

Each mutant changes one place of a function's body: a sign, minimum for maximum, a dropped term or factor (a mask is
one), a constant, an axis, the direction of a comparison, mean for sum, the operands of a matrix product exchanged, a
transpose or a reversal dropped; or it lets the gradient flow through a quantity that the method holds constant. (Strict
against non-strict comparison is not mutated: at a tie both are right.) Signatures, checks and warnings are no places.
"""

import ast
import contextlib
import copy
import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable

import numpy as np

CHECKS = ("validate.", "warnings.", "flags.", "require_")  # statements that begin so
TEXTS = ("message", "reason")  # names of parts of warnings
SWAPS = {
    "minimum": "maximum",
    "maximum": "minimum",
    "min": "max",
    "max": "min",
    "sum": "mean",
    "mean": "sum",
}
SWAPS |= {
    "tril": "triu",
    "triu": "tril",
    "zeros_like": "ones_like",
    "ones_like": "zeros_like",
    "argmax": "argmin",
}
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
COMPOUND = ast.For | ast.While | ast.If | ast.With
REDUCTIONS = (
    "sum",
    "mean",
    "max",
    "min",
    "prod",
    "cumsum",
    "argmax",
    "argmin",
    "any",
    "all",
)
COMPARISONS = {
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change: its text, how to make what is changed, and in which function, such as "tokens.terms.group_mean".

    Two probes say whether it counts. `vectors`, where the operands of a product are exchanged, makes a function that
    fails unless these are two vectors: where it does not fail there is nothing to exchange. `reached`, where the change
    is in another module, makes one that fails in the changed statement, whose number is `statement`: where it does not
    fail this caller has no use for the statement, and others have.
    """

    text: str
    make: Callable
    function: str
    vectors: Callable | None = None
    reached: Callable | None = None
    statement: int = 0


# ---------------------------------------------------------------------------------------------------------- changes


def changes(node):
    """Yield the replacements of one node of a syntax tree."""
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        yield _with(node, "op", OPERATORS[type(node.op)]())
    if isinstance(node, ast.BinOp) and isinstance(
        node.op, ast.Add | ast.Sub | ast.Mult
    ):
        yield node.left
        yield node.right
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        yield ast.BinOp(node.right, node.op, node.left)
    if (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and not isinstance(node.operand, ast.Constant)
    ):
        yield node.operand
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield node.value
    if isinstance(node, ast.Subscript):
        yield from _not_reversed(node)
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if type(op) in COMPARISONS:
                yield _with(
                    node,
                    "ops",
                    [*node.ops[:i], COMPARISONS[type(op)](), *node.ops[i + 1 :]],
                )
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in (
            (node.value + 1, node.value * 1.5)
            if type(node.value) is float
            else (node.value + 1,)
        ):
            if value != node.value:
                yield ast.Constant(value)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in SWAPS
    ):
        yield _with(node, "func", _with(node.func, "attr", SWAPS[node.func.attr]))
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in REDUCTIONS
    ):
        yield from _other_axes(node)
    if isinstance(node, ast.BoolOp):
        yield _with(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())


def _with(node, field, value):
    """A copy of a node with another value of a field."""
    copied = copy.copy(node)
    setattr(copied, field, value)
    return copied


def _not_reversed(subscript):
    """Every ``::-1`` of a subscript dropped."""
    entries = (
        subscript.slice.elts
        if isinstance(subscript.slice, ast.Tuple)
        else [subscript.slice]
    )
    for i, entry in enumerate(entries):
        if isinstance(entry, ast.Slice) and ast.unparse(entry) == "::-1":
            kept = [*entries[:i], ast.Slice(), *entries[i + 1 :]]
            whole = ast.Tuple(kept, ast.Load()) if len(kept) > 1 else kept[0]
            yield _with(subscript, "slice", whole)


def _other_axes(call):
    """Reduce along the first axis instead of another one, and along the second instead of the first."""
    for i, axis in enumerate(call.args):
        if other := _other_axis(axis):
            yield _with(call, "args", [*call.args[:i], other, *call.args[i + 1 :]])
    for i, keyword in enumerate(call.keywords):
        if keyword.arg == "axis" and (other := _other_axis(keyword.value)):
            changed = _with(keyword, "value", other)
            yield _with(
                call, "keywords", [*call.keywords[:i], changed, *call.keywords[i + 1 :]]
            )


def _other_axis(node):
    text = ast.unparse(node)
    return (
        ast.Constant(1 if text == "0" else 0)
        if text in ("0", "1", "2", "-1", "-2")
        else None
    )


# ----------------------------------------------------------------------------------------------------------- places


def _is_check(statement):
    """Validation, docstrings, warnings, errors and nothing else: not the method's mathematics."""
    if isinstance(statement, ast.Raise | ast.Import | ast.ImportFrom):
        return True
    if (
        isinstance(statement, ast.If)
        and all(_is_check(s) for s in statement.body)
        and not statement.orelse
    ):
        return True
    if isinstance(statement, ast.Expr):
        text = ast.unparse(statement)
        return isinstance(statement.value, ast.Constant) or text.startswith(CHECKS)
    if isinstance(statement, ast.For) and all(_is_check(s) for s in statement.body):
        return True
    if isinstance(statement, ast.Assign):
        return (
            ast.unparse(statement.value).startswith("validate.")
            or ast.unparse(statement.targets[0]) in TEXTS
        )
    return False


@dataclasses.dataclass(frozen=True)
class Place:
    """A child of a node of a syntax tree: what stands in a field, or at an index of one."""

    parent: ast.AST
    field: str
    index: int | None

    @property
    def node(self):
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def put(self, node):
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node

    @contextlib.contextmanager
    def holding(self, replacement):
        """The replacement in this place, for a while."""
        node = self.node
        self.put(replacement)
        try:
            yield
        finally:
            self.put(node)


def places(node, reported, around=None):
    """Yield (place, around) of everything that may be changed within a function (or a part of it).

    `around` is the place of the statement, or of the head of a loop or branch, in which the change is shown.
    """
    for field, value in ast.iter_fields(node):
        if field == "annotation" or (
            isinstance(node, ast.FunctionDef) and field != "body"
        ):
            continue
        for index, child in (
            enumerate(value) if isinstance(value, list) else [(None, value)]
        ):
            if not isinstance(child, ast.AST) or (
                isinstance(child, ast.stmt) and _is_check(child)
            ):
                continue
            if child in reported or (
                isinstance(child, ast.keyword) and child.arg == "stacklevel"
            ):
                continue
            place = Place(node, field, index)
            shown = (
                place
                if isinstance(child, ast.stmt) or isinstance(node, COMPOUND)
                else around
            )
            if isinstance(child, ast.expr | ast.AugAssign):
                yield place, shown
            yield from places(child, reported, shown)


def idle(function, direct):
    """Return the parts of a function that cannot reach its result, and are therefore not changed.

    These are the statements that only compute names that nothing but checks and such statements read. Of a direct
    solver (one without ``max_iter``, of which there are no iterates to compare) `verify` judges the solution and what
    its certificate looks at; histories, counts and the verdict are held by the method's contracts and tests. So the
    arguments after the first of ``return Result(solution, …)``, and those of ``result._replace(…)``, do not count
    there.
    """
    found = []
    for node in ast.walk(function) if direct else ():
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Name) and called.id[0].isupper():
                found += [*node.value.args[1:], *node.value.keywords]
            if isinstance(called, ast.Attribute) and called.attr == "_replace":
                found += node.value.keywords
    parameters = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    while True:
        read = (
            _names_read(function, found) | parameters
        )  # a parameter may be changed in place
        more = [
            n
            for n in ast.walk(function)
            if isinstance(n, ast.stmt)
            and n is not function
            and n not in found
            and _only_changes(n, read)
        ]
        if not more:
            return found
        found += more


def _only_changes(statement, read):
    """Whether a statement defines or assigns plain names, or appends to one, none of which is read."""
    if isinstance(statement, ast.FunctionDef):
        return statement.name not in read
    if isinstance(statement, ast.Assign):
        targets = [
            t for target in statement.targets for t in getattr(target, "elts", [target])
        ]
    elif isinstance(statement, ast.AugAssign):
        targets = [statement.target]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        called = statement.value.func
        targets = (
            [called.value]
            if isinstance(called, ast.Attribute) and called.attr == "append"
            else []
        )
    else:
        return False
    return bool(targets) and all(
        isinstance(t, ast.Name) and t.id not in read for t in targets
    )


def _names_read(node, skipped):
    """The names that an expression or statement reads, checks and skipped parts aside."""
    if node in skipped or (isinstance(node, ast.stmt) and _is_check(node)):
        return set()
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    if isinstance(node, ast.AugAssign):
        return _names_read(node.value, skipped)
    if isinstance(node, ast.Expr) and _only_changes(node, ()):
        return set().union(*(_names_read(a, skipped) for a in node.value.args))
    return set().union(
        *(_names_read(child, skipped) for child in ast.iter_child_nodes(node))
    )


# --------------------------------------------------------------------------------------------------------- programs


def mutants(record):
    """Return the `Mutant`s of a catalogued function and of what it calls in its own and in other families."""
    program, found = Program(record), []
    direct = (
        type(record).__name__ == "Solver" and "max_iter" not in record.hyper_parameters
    )
    for module, function in program.reached:
        for text, place, around, replacement in changed(
            function, direct and function.name == record.f.__name__
        ):

            def make(place=place, other=replacement, module=module, function=function):
                with place.holding(other):
                    return program.compiled(module, function)

            product = isinstance(place.node, ast.BinOp) and isinstance(
                place.node.op, ast.MatMult
            )
            vectors = (
                functools.partial(make, other=_of_vectors(place.node))
                if product
                else None
            )
            elsewhere = module != program.entry[0]
            reached = (
                functools.partial(make, around, _failing(around.node))
                if elsewhere
                else None
            )
            name = _name(module, function.name)
            found.append(Mutant(text, make, name, vectors, reached, id(around.node)))
    for keyword in getattr(record, "stopped", {}):
        text = f"{record.f.__name__}: the gradient flows through {keyword}"
        name = _name(record.f.__module__, record.f.__name__)
        found.append(Mutant(text, functools.partial(_flowing, record, keyword), name))
    return found


def changed(function, direct=False):
    """Yield (text, place, the statement's place, replacement) for every change of a function's tree."""
    for place, around in list(places(function, idle(function, direct))):
        text = ast.unparse(around.node)
        for replacement in changes(place.node):
            with place.holding(replacement):
                mutated = ast.unparse(around.node)
            yield f"{function.name}: {text}  ->  {mutated}", place, around, replacement


def texts(name):
    """Return the texts of the mutants of a function, named as `Mutant.function` does."""
    module, _, short = f"trref.{name}".rpartition(".")
    return [text for text, *_ in changed(_module(module).functions[short])]


def _name(module, name):
    return f"{module.removeprefix('trref.')}.{name}"


class Program:
    """A function of the catalogue with the functions of the families that it calls, their modules' trees and names.

    `reached` holds (module, function) of those that are changed: what has a record of its own has mutants of its own,
    and so has what a method's own functions call.
    """

    def __init__(self, record):
        self.entry = record.f.__module__, record.f.__name__
        starts = _starts(record)

        def elsewhere(place):
            module, _ = place
            return place not in starts and (
                place in _with_records(module)
                or (module != self.entry[0] and place in _of_the_method(module))
            )

        reached, seen = _reach(starts, elsewhere)
        self.modules = {module: _module(module) for module, _ in seen}
        order = {
            function: i
            for m in self.modules.values()
            for i, function in enumerate(m.functions.values())
        }
        found = [
            (module, self.modules[module].functions[name]) for module, name in reached
        ]
        self.reached = sorted(
            found, key=lambda pair: (pair[0] != self.entry[0], pair[0], order[pair[1]])
        )

    def compiled(self, module, function):
        """The function of the catalogue, in copies of the modules' namespaces, with one function as its tree is now."""
        scopes = {name: source.scope() for name, source in self.modules.items()}
        exec(_code([function], module), scopes[module])
        for _ in range(2):  # aliases of imported functions, and imported aliases
            for name, source in self.modules.items():
                for local, (there, original) in source.imports.items():
                    if there in scopes and original in scopes[there]:
                        scopes[name][local] = scopes[there][original]
                exec(source.alias_code, scopes[name])
        return scopes[self.entry[0]][self.entry[1]]


def _starts(record):
    """The function of a record, and of an update rule its first state."""
    return [
        (f.__module__, f.__name__)
        for f in (record.f, getattr(record, "init", None))
        if f
    ]


def _reach(starts, elsewhere):
    """Return the functions (module, name) that are called from some, directly or not, and all names met on the way.

    Where ``elsewhere(place)`` is true nothing is followed.
    """
    found, seen, todo = [], set(), list(starts)
    while todo:
        place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        (module, name), source = place, _module(place[0])
        if name in source.imported_modules:
            raise ValueError(
                f"{module} imports the module {name}: import its functions by name, to be followed"
            )
        if name in source.imports:
            todo.append(source.imports[name])
        elif name in source.aliases:
            todo.append((module, source.aliases[name][0]))
        elif name in source.functions and not elsewhere(place):
            found.append(place)
            called = set().union(
                *(_names_read(s, ()) for s in source.functions[name].body)
            )  # decorators only check
            todo += [(module, n) for n in called]
    return found, seen


@functools.cache
def _records(module):
    """The records of the method that a module is; none of other modules."""
    from trref import catalog

    place = tuple(module.split(".")[1:])
    return catalog.method(*place).functions if place in catalog.places() else ()


@functools.cache
def _with_records(module):
    """The functions of a module that have records."""
    return {(record.f.__module__, record.f.__name__) for record in _records(module)}


@functools.cache
def _of_the_method(module):
    """The functions of a module that those with records call."""
    starts = [place for record in _records(module) for place in _starts(record)]
    return set(_reach(starts, lambda place: place[0] != module)[0])


@functools.cache
def _module(name):
    return Module(name)


class Module:
    """A module of a family: its functions' trees, and the names that stand for functions here or elsewhere."""

    def __init__(self, name):
        from trref import catalog

        self.vars = vars(sys.modules[name])
        tree = ast.parse(
            pathlib.Path(self.vars["__file__"]).read_text(encoding="utf-8")
        )
        self.functions = {
            n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)
        }
        families = tuple(f"trref.{family}." for family in catalog.FAMILIES)
        self.imports = {
            n.asname or n.name: (statement.module, n.name)
            for statement in tree.body
            if isinstance(statement, ast.ImportFrom)
            and f"{statement.module}.".startswith(families)
            for n in statement.names
        }
        self.imported_modules = {
            name
            for name, place in self.imports.items()
            if ".".join(place) in sys.modules
        }
        # such as ``_perturbation = perturbation.unchecked``
        plain = [
            n
            for n in tree.body
            if isinstance(n, ast.Assign)
            and isinstance(n.value, ast.Name | ast.Attribute)
        ]
        known = self.functions.keys() | self.imports.keys()
        meant = {
            ast.unparse(n.targets[0]): (ast.unparse(n.value).split(".")[0], n)
            for n in plain
        }
        self.aliases = {
            name: found for name, found in meant.items() if found[0] in known
        }
        for function in self.functions.values():
            _strip_annotations(function)
        self.code = _code(list(self.functions.values()), name)
        self.alias_code = _code([n for _, n in self.aliases.values()], name)

    def scope(self):
        """A copy of the module's names, with functions of its own that check nothing."""
        scope = {
            **self.vars,
            "checked": _unchecked,
            "_vectors_only": _vectors_only,
            "_fail": _fail,
        }
        exec(self.code, scope)
        return scope


def _strip_annotations(function):
    """They are evaluated with the definition, and of no use here."""
    function.returns = None
    for argument in ast.walk(function.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None


def _unchecked(f=None, *, also=None):
    """In the place of `trref.signature.checked`."""
    if f is None:
        return _unchecked
    f.unchecked = f
    return f


def _vectors_only(a, b):
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError("no product of two vectors")
    return a @ b


def _of_vectors(product):
    return ast.Call(
        ast.Name("_vectors_only", ast.Load()), [product.left, product.right], []
    )


def _fail():
    raise ValueError("the statement is reached")


def _failing(node):
    call = ast.Call(ast.Name("_fail", ast.Load()), [], [])
    return ast.Expr(call) if isinstance(node, ast.stmt) else call


def _code(statements, module):
    return compile(
        ast.fix_missing_locations(ast.Module(statements, [])),
        f"<mutant of {module}>",
        "exec",
    )


# --------------------------------------------------------------------------------------------------- stop-gradients


def _flowing(record, keyword):
    """The function with a gradient that does not hold a quantity constant: the difference is taken by differences."""
    from trref import catalog

    @functools.wraps(record.f)
    def function(**arguments):
        value, gradient = record.f(**arguments)
        inputs = {k: v for k, v in arguments.items() if k in record.inputs}
        hyper = {
            k: v
            for k, v in arguments.items()
            if k not in inputs and k not in record.stopped
        }
        frozen = {k: catalog.call(f, inputs, hyper) for k, f in record.stopped.items()}
        free = {k: v for k, v in frozen.items() if k != keyword}
        parts = (
            [gradient]
            if isinstance(record.wrt, str)
            else [getattr(gradient, n) for n in record.wrt]
        )
        parts = [
            part
            + _slopes(record, inputs, name, hyper | free)
            - _slopes(record, inputs, name, hyper | frozen)
            for name, part in zip(record.wrt_names, parts, strict=True)
        ]
        return value, parts[0] if isinstance(record.wrt, str) else type(gradient)(
            *parts
        )

    return function


def _slopes(record, inputs, name, hyper):
    """Central differences, rounded: where nothing flows two of them cancel exactly."""
    x, slopes = inputs[name].astype(float), np.empty(inputs[name].shape)
    for i in np.ndindex(x.shape):
        values = []
        for h in (1e-5, -1e-5):
            moved = x.copy()
            moved[i] += h
            values.append(float(record.f(**{**inputs, name: moved}, **hyper)[0]))
        slopes[i] = (values[0] - values[1]) / 2e-5
    return np.round(slopes, 6)
