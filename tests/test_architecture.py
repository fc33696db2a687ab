"""The house: arrows point downward, nothing private is imported across files, and there is no circle."""

import ast
import functools
import graphlib
import pathlib

import trref
from trref import catalog

ROOT = pathlib.Path(trref.__file__).parent

FLOORS = [  # from the ground up; what stands on one floor may import each other
    {"backend", "strict"},
    {"validate"},
    {"signature", "docstring", "glossary"},
    {"nn", "problems"},
    {*catalog.FAMILIES},
    {"catalog"},
    {"checks"},
    {"conformance", "experiments"},
    {"courses"},
    {"cli", "__main__"},
]
STRANGERS = {"conformance", "experiments"}  # on one floor, and neither imports the other

# The supervisor starts the worker's loop, and the worker's other end starts the supervisor.
OPEN = {("trref.conformance.supervisor", "trref.conformance.worker")}


def _modules():
    """Every module of the package by its full name."""
    paths = ROOT.rglob("*.py")
    names = {p: ".".join(("trref", *p.relative_to(ROOT).with_suffix("").parts)) for p in paths}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


MODULES = _modules()


@functools.cache
def _tree(path):
    return ast.parse(path.read_text())


def imported(path):
    """``(module, name)`` of all that a file takes from this package; the name is empty for a whole module."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "trref")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "trref":
            yield from ((node.module, alias.name) for alias in node.names)


@functools.cache
def imports(name):
    """The modules of this package that a module imports: of ``from module import name``, a submodule of that name."""
    targets = {f"{m}.{n}" if f"{m}.{n}" in MODULES else m for m, n in imported(MODULES[name])}
    return frozenset(targets & MODULES.keys()) - {name}


def part(name):
    """The file or folder under ``trref`` that a module belongs to; the package itself counts as its backend."""
    return name.split(".")[1] if "." in name else "backend"


def floor(name):
    """How high a module stands."""
    return next(number for number, parts in enumerate(FLOORS) if part(name) in parts)


def test_arrows_point_downward():
    upward = {
        (name, target)
        for name in MODULES
        for target in imports(name)
        if floor(target) > floor(name) or {part(name), part(target)} == STRANGERS
    }
    assert not upward


def test_no_circle():
    modules = {name: {target for target in imports(name) if (name, target) not in OPEN} for name in MODULES}
    families = {family: set() for family in catalog.FAMILIES}
    for name in MODULES:
        if part(name) in families:
            families[part(name)] |= {part(t) for t in imports(name)} & families.keys() - {part(name)}
    for graph in (modules, families):
        graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def _private(path):
    """What a file takes from another file of the package although its name begins with an underscore."""
    modules = {}
    for module, name in imported(path):
        whole = f"{module}.{name}" if name else module
        modules[whole.rpartition(".")[2]] = whole
        if any(word.startswith("_") and not word.endswith("__") for word in whole.split(".")):
            yield whole
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr.startswith("_"):
            if modules.get(node.value.id) in MODULES and not node.attr.endswith("__"):
                yield f"{modules[node.value.id]}.{node.attr}"


def test_what_is_private_is_seen(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from trref import validate\nfrom trref.krylov.cg import _indefinite, cg\nimport trref.krylov._cases\n"
        "def f(x):\n    from trref.krylov import _pieces\n    return validate._near(x), validate.__doc__, x._shape\n"
    )
    seen = ["trref.krylov._cases", "trref.krylov._pieces", "trref.krylov.cg._indefinite", "trref.validate._near"]
    assert sorted(_private(path)) == seen


def test_nothing_private_is_imported():
    """Neither across files of the package, nor by tools, tutorials, examples and the site."""
    repository = ROOT.parent
    outside = [p for d in ("tools", "tutorials", "examples", "docs/_ext") for p in (repository / d).rglob("*.py")]
    taken = {str(p.relative_to(repository)): sorted(_private(p)) for p in [*MODULES.values(), *outside]}
    assert not {path: names for path, names in taken.items() if names}
