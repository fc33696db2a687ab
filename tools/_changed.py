"""What a change touches: from changed files through the imports to methods, and to pytest's arguments.

Run as a script (with the environment's Python), it prints these arguments as JSON.
"""

import ast
import functools
import json
import subprocess
import sys

from _environment import ROOT

GENERIC = ("test_every_method", "test_properties", "test_tutorials", "test_mutants")  # parametrised by method
FOLDERS = ("nn", "problems", "experiments", "courses")  # of trref, beside families


def files(since=None):
    """Return the changed and the new files, relative to the root: since a revision, or since main was left."""
    since = since or _git("merge-base", "HEAD", "origin/main") or "HEAD"
    return sorted({*_git("diff", "--name-only", since).split(), *_git("ls-files", "-o", "--exclude-standard").split()})


def _git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


@functools.cache
def imports(path):
    """Return the modules of trref that a file names in its imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("trref.")}


def _module(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def users(modules):
    """Return these modules of trref and those that import them, directly or not."""
    every = {_module(path): imports(path) for path in (ROOT / "trref").rglob("*.py")}
    found, new = set(), set(modules)
    while new:
        found |= new
        new = {name for name, used in every.items() if used & new} - found
    return found


def about(slug):
    """Return words for pytest's ``-k``: generic tests of a method, its functions and its tutorial."""
    return [f"[{slug}]", f"[{slug}.", f"[plot_{slug}]"]


def selection(changed):
    """Return pytest's arguments for what the changed files touch; none for the whole suite, None for nothing."""
    from trref import catalog

    modules, tests, words, places = set(), set(), set(), set(catalog.places())
    for name in changed:
        path, parts = ROOT / name, name.split("/")
        if parts[0] == "trref" and parts[-1].endswith(".py") and _is_local(parts, catalog.FAMILIES):
            modules.add(_module(path))
        elif parts[0] == "tests" and parts[-1].startswith("test_") and path.is_file():
            tests.add(name)
        elif parts[0] == "tutorials" and parts[-1].endswith(".py"):
            words.add(f"[{path.stem}]")
        elif name.startswith("tools/equivalent_mutants/"):
            tests.add("tests/test_mutants.py")
        elif name.startswith("trref/references/"):
            tests.add("tests/test_citations.py")
        elif not name.endswith((".rst", ".md")):
            return []
    modules = users(modules)
    for path in (ROOT / "tests").rglob("test_*.py"):
        if imports(path) & modules:
            tests.add(str(path.relative_to(ROOT)))
    for path in (ROOT / "tutorials").rglob("plot_*.py"):
        if imports(path) & modules:
            words.add(f"[{path.stem}]")
    for module in modules:
        if tuple(module.removeprefix("trref.").removeprefix("catalog.").split(".")) in places:
            family, slug = module.split(".")[-2:]
            words |= set(about(slug))
            tests |= {name for name in [f"tests/{family}/test_{slug}.py"] if (ROOT / name).is_file()}
    if not tests and not words:
        return None
    generic = [f"tests/{name}.py" for name in GENERIC if words]
    whole = [name.rpartition("/")[2] for name in tests]  # pytest knows a file by its name
    return [*sorted({*generic, *tests}), "-k", " or ".join(sorted({*words, *whole}))]


def _is_local(parts, families):
    """Whether few things depend on a module of trref: a method, its record, a layer, a problem, an experiment."""
    inner = parts[2:] if parts[1] == "catalog" else parts[1:]
    return len(inner) > 1 and inner[0] in (*families, *FOLDERS)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    print(json.dumps(selection(files(*sys.argv[1:]))))
