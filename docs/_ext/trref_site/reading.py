"""What to read before a method's page, and after it: from the modules' imports and from the limits on record."""

import ast
import functools

from trref import catalog

__all__ = ["after", "before", "ordered"]


@functools.cache
def _needs():
    """``{method: methods}``: what each imports, and what its functions become in a limit."""
    methods = catalog.methods()
    by_module = {method.module.__name__: method for method in methods}
    by_function = {record.name: method for method in methods for record in method.functions}
    needs = {}
    for method in methods:
        found = [by_module[name] for name in _imports(method.module) if name in by_module]
        found += [by_function[catalog.find(limit.to).name] for record in method.functions for limit in record.limits]
        needs[method.family, method.slug] = [m for m in dict.fromkeys(map(_place, found)) if m != _place(method)]
    return needs


def _place(method):
    return method.family, method.slug


def _imports(module):
    with open(module.__file__, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trref."):
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def before(method):
    """The methods that this one builds on, or becomes in a limit."""
    return [catalog.method(*place) for place in _needs()[_place(method)]]


def after(method):
    """The methods that build on this one, or become it; the shortest lists of needs first: these are the next steps."""
    place = _place(method)
    found = sorted((other for other, needed in _needs().items() if place in needed), key=lambda o: len(_needs()[o]))
    return [catalog.method(*other) for other in found if other not in _needs()[place]]


def ordered(methods):
    """The methods so that what is needed comes before what needs it, as far as there is no circle."""
    wanted, seen, order = {_place(m): m for m in methods}, set(), []

    def put(name):
        if name in seen:
            return
        seen.add(name)
        for needed in _needs()[name]:
            if needed in wanted:
                put(needed)
        order.append(wanted[name])

    for name in wanted:
        put(name)
    return order
