"""A catalogued function as one file without trref: its own lines and those of all that it calls, checks left out.

Names are followed through the modules of the package; what an unneeded branch would import stays out. Comments with the
equations' labels stay where they were; all else is written anew from the syntax tree, so that no formatting tells a
changed line from the others.
"""

import ast
import functools
import importlib
import importlib.util
import io
import pathlib
import re
import tokenize
import typing

__all__ = ["Definition", "Unbundled", "bundle", "definitions", "plain_tree", "written"]

NUMPY = {
    "xp": "import numpy as np",
    "linalg": "from numpy import linalg",
    "special": "from scipy import special",
    "sparse": "from scipy import sparse",
}
TO_HOST = "def to_host(array):\n    return np.asarray(array)\n"
WARNING = "class ConvergenceWarning(UserWarning):\n    pass\n"


class Unbundled(Exception):
    """The function needs something that one file cannot hold."""


class Definition(typing.NamedTuple):
    """A top-level statement of a module, by the name that it defines."""

    module: str
    name: str
    node: ast.stmt
    tags: dict  # line -> label


@functools.cache
def _module(name):
    spec = importlib.util.find_spec(name)
    text = pathlib.Path(spec.origin).read_text(encoding="utf-8")
    tree, own, imports, others = ast.parse(text), {}, {}, {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own[node.name] = node
        elif isinstance(node, ast.Assign):
            own |= {
                t.id: node
                for target in node.targets
                for t in ast.walk(target)
                if isinstance(t, ast.Name)
            }
        elif (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").partition(".")[0] == "trref"
        ):
            imports |= {a.asname or a.name: (node.module, a.name) for a in node.names}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                single = type(node)(**{**vars(node), "names": [alias]})
                others[(alias.asname or alias.name).partition(".")[0]] = ast.unparse(
                    single
                )
    return own, imports, others, _tags(text)


def _tags(text):
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and (
            match := re.match(r"#\s*eq\.\s*(.+)", token.string)
        ):
            alone = not token.line[: token.start[1]].strip()
            found[token.start[0] + alone] = match[
                1
            ].strip()  # above a statement: of the next line
    return found


class _Plain(ast.NodeTransformer):
    """Without decorators, annotations, checks; with NumPy under its usual name."""

    def visit_FunctionDef(self, node):
        node.decorator_list = [
            d for d in node.decorator_list if "checked" not in ast.unparse(d)
        ]
        node.returns = None
        body = [s for s in node.body if not _is_check(s)]
        node.body = body if any(not _is_text(s) for s in body) else [*body, ast.Pass()]
        self.generic_visit(node)
        return node

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        node.annotation = ast.Name("object", ast.Load())  # a field of a NamedTuple
        self.generic_visit(node)
        return node

    def visit_Name(self, node):
        return ast.Name("np", node.ctx) if node.id == "xp" else node

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if node.attr == "unchecked":
            return node.value
        if isinstance(node.value, ast.Name) and (node.value.id, node.attr) == (
            "validate",
            "ConvergenceWarning",
        ):
            return ast.Name("ConvergenceWarning", node.ctx)
        return node


def plain_tree(tree):
    """Return a tree as it is written here: NumPy under its usual name, nothing of checks."""
    return _Plain().visit(tree)


def _is_text(statement):
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_check(statement):
    """A statement that only checks: with `validate`, and nothing of what it gives is used."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return ast.unparse(statement).startswith("validate.")
    return False


@functools.cache
def definitions(f):
    """Return the `Definition`s that a function needs, callees first, the imports of other packages, and NumPy's.

    Raises
    ------
    Unbundled
    """
    found, imports, array, active = {}, set(), set(), set()

    def need(module, name):
        own, ours, others, tags = _module(module)
        if (module, name) in found or (module, name) in active:
            return
        if name in own:
            active.add((module, name))
            node = _Plain().visit(_copy(own[name]))
            for used in sorted(_names(node)):
                if used != name:
                    need(module, used)
            active.discard((module, name))
            found[module, name] = Definition(module, name, node, tags)
        elif name in ours:
            there, original = ours[name]
            if there == "trref.backend":
                if original in NUMPY:
                    array.add(original)
                    return
                if original == "to_host":
                    imports.add(TO_HOST)
                    return
                raise Unbundled(f"{module} uses {original} of the backend")
            if there == "trref" and original == "validate":
                return
            if (there, original) == ("trref.validate", "ConvergenceWarning"):
                return
            if there == "trref.validate" or (
                there == "trref" and original != "validate"
            ):
                raise Unbundled(f"{module} uses {there}.{original}")
            if there == "trref.signature":
                return
            if (
                importlib.util.find_spec(f"{there}.{original}")
                if _is_package(there)
                else None
            ):
                raise Unbundled(f"{module} uses the module {original}")
            if original != name:
                raise Unbundled(f"{module} calls {original} {name}")
            need(there, original)
        elif name in others:
            imports.add(others[name])

    need(f.__module__, f.__name__)
    each = list(found.values())
    names = [d.name for d in each]
    if twice := {n for n in names if names.count(n) > 1}:
        raise Unbundled(f"several are called {', '.join(sorted(twice))}")
    return each, imports, array


def _is_package(name):
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None


def _copy(node):
    again = ast.parse(ast.unparse(node)).body[0]
    for old, new in zip(ast.walk(node), ast.walk(again), strict=True):
        if hasattr(old, "lineno"):
            new.lineno, new.end_lineno = old.lineno, old.end_lineno
    return again


def _names(node):
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    if any(
        "validate." in ast.unparse(s)
        for s in ast.walk(node)
        if isinstance(s, ast.stmt) and not _has_body(s)
    ):
        raise Unbundled("checks in the middle of the computation")
    return names


def _has_body(statement):
    return hasattr(statement, "body")


def written(definition):
    """Return the text of a definition, with the equations' labels at its lines."""
    text = ast.unparse(ast.fix_missing_locations(definition.node))
    again = ast.parse(text).body[0]
    lines, tags = text.split("\n"), {}
    for old, new in zip(_statements(definition.node), _statements(again), strict=True):
        first, last = old.lineno, old.end_lineno
        label = definition.tags.get(first) if _has_body(old) else None
        for line in range(first, last + 1) if not _has_body(old) else ():
            label = label or definition.tags.get(line)
        if label:
            tags.setdefault(new.lineno, label)
    for line, label in tags.items():
        lines[line - 1] += f"  # eq. {label}"
    return "\n".join(lines)


def _statements(node):
    return [n for n in ast.walk(node) if isinstance(n, ast.stmt)]


TEXTS = {}


def _text(definition, changed):
    """The text of a definition as it is now; that of one that is as it was is known."""
    if changed is not definition:
        return written(changed)
    place = definition.module, definition.name
    if place not in TEXTS:
        TEXTS[place] = written(definition)
    return TEXTS[place]


def bundle(f, *, more=(), change=None):
    """Return the source of a file that computes what a function computes, with NumPy and SciPy alone.

    Parameters
    ----------
    f : function
    more : sequence of function
        Others that the file is to have: the first state of an update rule.
    change : callable, optional
        ``change(definition) -> definition``, such as one with a mistake.

    Raises
    ------
    Unbundled
    """
    each, imports, array = {}, set(), set()
    for function in (f, *more):
        found, own, arrays = definitions(function)
        each |= {(d.module, d.name): d for d in found}
        imports |= own
        array |= arrays
    texts = [_text(d, change(d) if change else d) for d in each.values()]
    body = "\n\n\n".join(texts)
    lines = sorted(line for line in imports if line.startswith(("import ", "from ")))
    lines += [NUMPY[name] for name in sorted(array | {"xp"}, key=list(NUMPY).index)]
    if "ConvergenceWarning" in body:
        body = f"{WARNING}\n\n{body}"
    if TO_HOST in imports:
        body = f"{TO_HOST}\n\n{body}"
    return "\n".join(dict.fromkeys(lines)) + f"\n\n\n{body}\n"
