"""Change catalogued functions on purpose, and see that `trref verify` notices.

    .venv/bin/python tools/mutate.py                  # the whole catalogue, and docs/mutants.json
    .venv/bin/python tools/mutate.py ppo cg.cg        # only these methods or functions
    .venv/bin/python tools/mutate.py --ci             # the modules that changed, and ten fixed functions

Each mutant changes one place of the function's module: a sign, minimum for maximum, a dropped term or factor (a mask
is one), a constant, an axis, the direction of a comparison, mean for sum; or it lets the gradient flow through a
quantity that the method holds constant. (Strict against non-strict comparison is not mutated: at a tie
both are right.) A mutant survives where `verify` says that it conforms. Survivors must stand in
tools/equivalent_mutants.json, keyed by function and text, with the reason why they are equivalent.
"""

import argparse
import ast
import copy
import dataclasses
import functools
import inspect
import json
import pathlib
import signal
import subprocess
import sys
import time
import warnings

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "tools" / "equivalent_mutants.json"
FIXED = (
    "ppo.clipped_surrogate",
    "ppo.unclipped_surrogate",
    "gae.gae",
    "gae.lambda_return",
    "cg.cg",
    "stiefel.project",
    "stiefel.retract_qr",
    "adam.update",
    "sam.perturbed_gradient",
    "score_models.ddim_step",
)
CHECKS = ("validate.", "warnings.", "flags.", "require_")  # statements that begin so
TEXTS = ("message", "reason")  # names of parts of warnings
SWAPS = {"minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min", "sum": "mean", "mean": "sum"}
SWAPS |= {"tril": "triu", "triu": "tril", "zeros_like": "ones_like", "ones_like": "zeros_like", "argmax": "argmin"}
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
REDUCTIONS = ("sum", "mean", "max", "min", "prod", "cumsum", "argmax", "argmin", "any", "all")
COMPARISONS = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}


class TooSlow(BaseException):
    """A mutant that does not end is killed. No `except Exception` may swallow this."""


def changes(node):
    """Yield (description, replacement) for one node of a syntax tree."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        swapped = copy.deepcopy(node)
        swapped.op = OPERATORS[type(node.op)]()
        yield swapped
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult):
            yield node.left
            yield node.right
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield node.operand
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        swapped = copy.deepcopy(node)
        swapped.ops = [COMPARISONS[type(node.ops[0])]()]
        yield swapped
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in (node.value + 1, node.value * 1.5) if type(node.value) is float else (node.value + 1,):
            if value != node.value:
                yield ast.Constant(value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SWAPS:
        swapped = copy.deepcopy(node)
        swapped.func.attr = SWAPS[node.func.attr]
        yield swapped
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in REDUCTIONS:
        yield from _other_axes(node)
    if isinstance(node, ast.BoolOp):
        swapped = copy.deepcopy(node)
        swapped.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield swapped


def _other_axes(call):
    """Reduce along the first axis instead of another one, and along the second instead of the first."""
    places = [(call.args, i) for i in range(len(call.args))] + [(k, "value") for k in call.keywords if k.arg == "axis"]
    for holder, place in places:
        axis = holder[place] if isinstance(holder, list) else holder.value
        text = ast.unparse(axis)
        if text not in ("0", "1", "2", "-1", "-2"):
            continue
        other = ast.Constant(1 if text == "0" else 0)
        swapped = copy.deepcopy(call)
        if isinstance(holder, list):
            swapped.args[place] = other
        else:
            next(k for k in swapped.keywords if k.arg == "axis").value = other
        yield swapped


def _is_check(statement):
    """Validation, docstrings, warnings, errors and nothing else: not the method's mathematics."""
    if isinstance(statement, ast.Raise | ast.Import | ast.ImportFrom):
        return True
    if isinstance(statement, ast.If) and all(_is_check(s) for s in statement.body) and not statement.orelse:
        return True
    if isinstance(statement, ast.Expr):
        text = ast.unparse(statement)
        return isinstance(statement.value, ast.Constant) or text.startswith(CHECKS)
    if isinstance(statement, ast.For) and all(_is_check(s) for s in statement.body):
        return True
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.value).startswith("validate.") or ast.unparse(statement.targets[0]) in TEXTS
    return False


def places(function, reported):
    """Yield (parent, field, index, node) for every expression of a function's statements that may be changed."""
    for statement in function.body:
        if not _is_check(statement) and statement not in reported:
            yield from _within(statement, reported)


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
        read = _names_read(function, found) | parameters  # a parameter may be changed in place
        more = [
            n
            for n in ast.walk(function)
            if isinstance(n, ast.stmt) and n is not function and n not in found and _only_changes(n, read)
        ]
        if not more:
            return found
        found += more


def _only_changes(statement, read):
    """Whether a statement defines or assigns plain names, or appends to one, none of which is read."""
    if isinstance(statement, ast.FunctionDef):
        return statement.name not in read
    if isinstance(statement, ast.Assign):
        targets = [t for target in statement.targets for t in getattr(target, "elts", [target])]
    elif isinstance(statement, ast.AugAssign):
        targets = [statement.target]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        called = statement.value.func
        targets = [called.value] if isinstance(called, ast.Attribute) and called.attr == "append" else []
    else:
        return False
    return bool(targets) and all(isinstance(t, ast.Name) and t.id not in read for t in targets)


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
    return set().union(*(_names_read(child, skipped) for child in ast.iter_child_nodes(node)))


def _within(node, reported):
    for field, value in ast.iter_fields(node):
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or (isinstance(child, ast.stmt) and _is_check(child)):
                continue
            if child in reported or (isinstance(child, ast.keyword) and child.arg == "stacklevel"):
                continue
            if isinstance(child, ast.expr):
                yield node, field, index, child
            if not isinstance(child, ast.FunctionDef):
                yield from _within(child, reported)


def texts(record):
    """Return the texts of a record's mutants, without making these."""
    return [text for text, _ in mutants(record, make=False)]


def mutants(record, make=True):
    """Yield (text, function) for every mutant of a catalogued function and of what it calls in its family."""
    from trref import catalog

    module = inspect.getmodule(record.f)
    tree, shared = _tree(module)
    own = {r.f.__name__ for r in catalog.method(record.family, record.method_name).functions}
    wanted = _reachable(tree, record.f.__name__, own)
    direct = type(record).__name__ == "Solver" and "max_iter" not in record.hyper_parameters
    for function in [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in wanted]:
        reported = idle(function, direct and function.name == record.f.__name__)
        for parent, field, index, node in list(places(function, reported)):
            for replacement in changes(node):
                text = f"{function.name}: {ast.unparse(_enclosing(function, node))}"
                _put(parent, field, index, replacement)
                mutated = ast.unparse(_enclosing(function, replacement))
                try:
                    changed = _compile(tree, module, shared, record.f.__name__) if make else None
                finally:
                    _put(parent, field, index, node)
                yield f"{text}  ->  {mutated}", changed
    for keyword in getattr(record, "stopped", {}):
        yield f"{record.f.__name__}: the gradient flows through {keyword}", _flowing(record, keyword) if make else None


def _flowing(record, keyword):
    """The function with a gradient that does not hold a quantity constant: the difference is taken by differences."""
    from trref import catalog

    @functools.wraps(record.f)
    def function(**arguments):
        value, gradient = record.f(**arguments)
        inputs = {k: v for k, v in arguments.items() if k in record.inputs}
        hyper = {k: v for k, v in arguments.items() if k not in inputs and k not in record.stopped}
        frozen = {k: catalog.call(f, inputs, hyper) for k, f in record.stopped.items()}
        free = {k: v for k, v in frozen.items() if k != keyword}
        parts = [gradient] if isinstance(record.wrt, str) else [getattr(gradient, n) for n in record.wrt]
        parts = [
            part + _slopes(record, inputs, name, hyper | free) - _slopes(record, inputs, name, hyper | frozen)
            for name, part in zip(record.wrt_names, parts, strict=True)
        ]
        return value, parts[0] if isinstance(record.wrt, str) else type(gradient)(*parts)

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


def _tree(module):
    """The syntax tree of a module, with the functions of its family's terms that it imports; and those terms."""
    tree = ast.parse(pathlib.Path(module.__file__).read_text(encoding="utf-8"))
    name = module.__name__.rpartition(".")[0] + ".terms"
    if name not in sys.modules or name == module.__name__:
        return tree, None
    terms = sys.modules[name]
    found = ast.parse(pathlib.Path(terms.__file__).read_text(encoding="utf-8"))
    own = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    tree.body += [n for n in found.body if isinstance(n, ast.FunctionDef) and n.name not in own]
    return tree, terms


def _aliases(tree):
    """Statements such as ``_perturbation = perturbation.unchecked``: another name of a function of the module."""
    functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    plain = [n for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.value, ast.Name | ast.Attribute)]
    return {ast.unparse(n.targets[0]): n for n in plain if ast.unparse(n.value).split(".")[0] in functions}


def _reachable(tree, name, catalogued):
    """The function and those of its module that it calls, directly or not, but not those with records of their own."""
    functions, aliases = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}, _aliases(tree)
    found, todo = set(), [name]
    while todo:
        current = todo.pop()
        if current in aliases:
            current = ast.unparse(aliases[current].value).split(".")[0]
        if current in found or current not in functions:
            continue
        found.add(current)
        called = set().union(*(_names_read(s, ()) for s in functions[current].body))  # decorators only check
        todo += called - catalogued
    return found


def _enclosing(function, node):
    """The smallest statement of the function that contains a node; of an `if` or a loop, the head's expression."""
    best = function
    for statement in ast.walk(function):
        if isinstance(statement, ast.stmt) and any(n is node for n in ast.walk(statement)):
            best = statement
    if not isinstance(best, ast.For | ast.While | ast.If | ast.With | ast.FunctionDef):
        return best
    return next(c for c in ast.iter_child_nodes(best) if any(n is node for n in ast.walk(c)))


def _put(parent, field, index, node):
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _compile(tree, module, shared, name):
    """Run the changed functions in a copy of the module's namespace."""
    body = [n for n in tree.body if isinstance(n, ast.FunctionDef)] + list(_aliases(tree).values())
    code = compile(ast.fix_missing_locations(ast.Module(body, [])), f"<mutant of {module.__name__}>", "exec")
    scope = {**(vars(shared) if shared else {}), **vars(module)}
    exec(code, scope)
    return scope[name]


class Judge:
    """Runs `verify` on the mutants of one record: on few cases, and on all where these agree; most fall at once.

    The references are computed once. A mutant may take five times as long as the function itself, and two seconds
    (of the processor: a busy machine kills no mutant).
    """

    def __init__(self, record):
        self.record, self.known = record, {}
        start = time.process_time()
        if not self.conforms(record.f):
            raise RuntimeError(f"{record.name} itself does not conform")
        self.seconds = 2 + 5 * (time.process_time() - start)

    def killed(self, function):
        """Return whether `verify` notices."""

        def stop(*_):
            raise TooSlow

        signal.signal(signal.SIGPROF, stop)
        signal.setitimer(signal.ITIMER_PROF, self.seconds)
        try:
            return not self.conforms(function)
        except (TooSlow, Exception):
            return True
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def conforms(self, function):
        from trref import checks
        from trref.conformance import trials, verify

        compute, strictly = trials.trials, self.record
        if hasattr(strictly, "prescribed"):  # what is free to others is not free to change unnoticed
            strictly = dataclasses.replace(strictly, prescribed=True)

        def remembered(record, settings, constants, *, seeds, sizes):
            if (seeds, sizes) not in self.known:
                found = list(compute(strictly, settings, constants, seeds=seeds, sizes=sizes))
                for trial in found:
                    checks.convert(trial.inputs, _freeze)
                self.known[seeds, sizes] = found
            return self.known[seeds, sizes]

        trials.trials = remembered
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                name = self.record.name
                quick = verify(name, function, explain=False, seeds=(0,), sizes=(4,))
                return quick.conforms and verify(name, function, explain=False, seeds=(0, 1), sizes=(4, 8, 64)).conforms
        finally:
            trials.trials = compute


def _freeze(array):
    """No mutant may spoil the inputs of the next."""
    if isinstance(array, np.ndarray):
        array.flags.writeable = False
    return array


def chosen(arguments, ci):
    """Return the records to mutate."""
    from trref import catalog

    able = [r for r in catalog.records() if not isinstance(r, catalog.Sampler) and not getattr(r, "random", False)]
    if ci:
        command = ["git", "diff", "--name-only", "HEAD~1", "--", "trref"]
        changed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stdout.split()
        slugs = {pathlib.Path(path).stem for path in changed}
        return [r for r in able if r.name in FIXED or r.method_name in slugs]
    if not arguments:
        return able
    return [r for r in able if r.name in arguments or r.method_name in arguments or r.family in arguments]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="families, methods or functions")
    parser.add_argument("--ci", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    import multiprocessing

    records = [r.name for r in chosen(options.names, options.ci)]
    if not records:
        sys.exit("no such function")
    reviewed = json.loads(EQUIVALENT.read_text(encoding="utf-8")) if EQUIVALENT.exists() else {}
    left_over, needless, table = [], [], {}
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for name, number, alive in pool.imap_unordered(survivors, records):
            excused = [text for text in alive if text in reviewed.get(name, {})]
            left = [text for text in alive if text not in excused]
            table[name] = {"mutants": number, "killed": number - len(alive), "equivalent": len(excused)}
            left_over += [(name, text) for text in left]
            needless += [(name, text) for text in reviewed.get(name, ()) if text not in alive]
            print(f"{name:40} {number:4} mutants, {len(excused):3} equivalent, {len(left):3} survive", flush=True)
    for name, text in needless:
        print(f"EXCUSED, BUT KILLED {name}: {text}")
    for name, text in left_over:
        print(f"SURVIVES {name}: {text}")
    total = {key: sum(row[key] for row in table.values()) for key in ("mutants", "killed", "equivalent")}
    print(f"{total['mutants']} mutants of {len(table)} functions: {total['killed']} killed, {len(left_over)} survive")
    if not options.names and not options.ci:
        result = {"total": total, "functions": dict(sorted(table.items()))}
        (ROOT / "docs" / "mutants.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 1 if left_over else 0


def survivors(name):
    """Return the name of a function, the number of its mutants, and the texts of those that conform."""
    from trref import catalog

    record = catalog.find(name)
    judge, number, alive = Judge(record), 0, []
    for text, function in mutants(record):
        number += 1
        if not judge.killed(function):
            alive.append(text)
    return name, number, alive


if __name__ == "__main__":
    sys.exit(main())
