"""How far `trref verify` can be trusted, measured: .venv/bin/python tools/measure_verify.py [planted] [false] [mutants]

planted   Single mistakes that are no deviation on record, five a family, are planted in catalogued functions: how many
          are named, that is, how many explanations say what was planted?
false     Functions are bent smoothly, in ways that no hypothesis describes: how many are explained all the same?
mutants   Independent implementations (of tests/conformance/test_right_implementations.py) are each changed in one
          place: how many changes are not noticed? Those that compute the same (`SAME`) do not count.
"""

import argparse
import ast
import dataclasses
import inspect
import itertools
import json
import pathlib
import re
import sys
import textwrap
import time
import warnings

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

A_FAMILY, FEW = 5, {"sizes": (4, 8, 16), "seeds": (0, 1)}


def judgeable():
    """Yield the records that `verify` compares case by case."""
    from trref import catalog

    for record in catalog.records():
        if not isinstance(record, catalog.Sampler) and not getattr(record, "random", False):
            yield record


def _signed(function, like):
    """Give a function the catalogued one's signature, for `verify` to read."""
    function.__signature__ = inspect.signature(like)
    return function


def _scaled(result, factor):
    """A result with all its numbers multiplied."""
    if isinstance(result, tuple):
        parts = [_scaled(part, factor) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    if isinstance(result, list):
        return [_scaled(part, factor) for part in result]
    return result if result is None or isinstance(result, str | bool) else factor * result


# ------------------------------------------------------------------------------------------------------------- planted


@dataclasses.dataclass(frozen=True)
class Planted:
    """A mistake: the record, in words, the function that has it, and what an explanation of it says (a pattern)."""

    record: object
    kind: str
    function: object
    says: str


def mistakes(record):
    """Yield the `Planted` of a record."""
    from trref import catalog

    f, objective = record.f, isinstance(record, catalog.Objective)
    inputs = {n: s for n, s in record.inputs.items() if not s.optional}

    def planted(kind, change, says):
        def function(**given):
            return change(given)

        return Planted(record, kind, _signed(function, f), says)

    if isinstance(record, catalog.Objective | catalog.Transform | catalog.Estimator):
        yield planted("the opposite sign", lambda g: _scaled(f(**g), -1.0), "the opposite sign")
        yield planted("a factor of 3/4", lambda g: _scaled(f(**g), 0.75), r"constant factor of 0\.75")
    if objective:
        yield planted("the gradient doubled", lambda g: _gradient(f(**g), 2.0), "gradient has a constant factor of 2")
        yield planted("the gradient detached", lambda g: _gradient(f(**g), 0.0), r"gradient is zero \(detached\)")
        yield planted("an offset of the value", lambda g: _offset(f(**g)), r"constant offset of 0\.3")
    for (a, x), (b, y) in itertools.combinations(inputs.items(), 2):
        if x == y:
            swap = lambda g, a=a, b=b: f(**{**g, a: g[b], b: g[a]})  # noqa: E731
            says = rf"{a} for {b}|{b} for {a}|{a} and {b} are exchanged|{b} and {a} are exchanged|opposite sign"
            yield planted(f"{a} and {b} exchanged", swap, says)
    for (a, x), (b, y) in itertools.permutations(inputs.items(), 2):
        if x == y and a not in getattr(record, "wrt_names", ()) and b not in getattr(record, "wrt_names", ()):
            other = lambda g, a=a, b=b: f(**{**g, b: g[a]})  # noqa: E731
            yield planted(f"{a} in the place of {b}", other, rf"ignores {b} and takes {a}")
    for name, spec in inputs.items():
        if spec.kind == "mask":
            every = lambda g, n=name: f(**{**g, n: np.ones_like(g[n])})  # noqa: E731
            yield planted(f"{name} ignored", every, rf"ignores {name}")
    for name, value in record.hyper_parameters.items():
        if type(value) is float and value > 0:
            for wrong in {float(f"{value * 1.5:.1g}"), float(f"{value / 4:.1g}")} - {value}:
                fixed = lambda g, n=name, w=wrong: f(**{**g, n: w})  # noqa: E731
                yield planted(f"{name} fixed at {wrong:g}", fixed, rf"computes with {name} = {wrong:g}\b")


def _gradient(result, factor):
    return result[0], _scaled(result[1], factor)


def _offset(result):
    return result[0] + 0.3, result[1]


def chosen_mistakes(rng):
    """Five visible mistakes a family, of as many functions and kinds as there are."""
    from trref.conformance import verify

    families = {}
    for record in judgeable():
        families.setdefault(record.family, []).extend(mistakes(record))
    for every in families.values():
        found, names, kinds = [], {}, {}
        order = [every[i] for i in rng.permutation(len(every))]
        while order and len(found) < A_FAMILY:
            order.sort(key=lambda m: (names.get(m.record.name, 0), kinds.get(_kind(m), 0)))
            mistake = order.pop(0)
            verdict = _asked(verify, mistake, explain=False)
            if verdict is None or verdict.status in ("conforms", "could not run"):
                continue  # it cannot be seen, or is refused
            found.append(mistake)
            names[mistake.record.name] = names.get(mistake.record.name, 0) + 1
            kinds[_kind(mistake)] = kinds.get(_kind(mistake), 0) + 1
        yield from found


def _kind(mistake):
    return re.sub(r"\w+(?= and \w+ exchanged| fixed| in the place| ignored)", "", mistake.kind).split(" at ")[0]


def _asked(verify, mistake, **how):
    from trref.conformance.load import LoadError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return verify(mistake.record.name, mistake.function, **FEW, **how)
    except (LoadError, ValueError):
        return None


def planted():
    from trref.conformance import verify

    rows = []
    for mistake in chosen_mistakes(np.random.default_rng(0)):
        verdict = _asked(verify, mistake)
        said = [str(e) for e in (*verdict.explanations, *verdict.exemptions)]
        named = any(re.search(mistake.says, text) for text in said)
        rows.append({"function": mistake.record.name, "mistake": mistake.kind, "named": named, "said": said[:1]})
        print(f"{'named' if named else 'NOT NAMED':9} {mistake.record.name:45} {mistake.kind}   {said[:1]}", flush=True)
    return {"mistakes": len(rows), "named": sum(row["named"] for row in rows), "rows": rows}


# --------------------------------------------------------------------------------------------------------------- false


def distortions(record, rng):
    """Yield functions that are wrong in ways that no hypothesis describes: all results bent by a smooth function."""
    for _ in range(2):
        a, b, c = rng.uniform(0.1, 0.4), rng.uniform(0.5, 2.0), rng.uniform(0, 6)

        def bent(x, a=a, b=b, c=c):
            if isinstance(x, tuple):
                parts = [bent(part) for part in x]
                return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
            if isinstance(x, list):
                return [bent(part) for part in x]
            if not isinstance(x, float) and getattr(np.asarray(x).dtype, "kind", "") != "f":
                return x
            # by value and by place: zeros and ones bent by their value alone would only be scaled
            value = np.asarray(x)
            return x * (1 + a * np.sin(b * value + c + np.arange(value.size).reshape(value.shape)))

        def function(bent=bent, **given):
            return bent(record.f(**given))

        yield Planted(record, "bent", _signed(function, record.f), "")


def false(functions=200):
    """Distortions of so many functions, evenly over the catalogue."""
    from trref import catalog
    from trref.conformance import verify

    able = [r for r in judgeable() if not isinstance(r, catalog.Solver | catalog.UpdateRule)]
    able = [able[i] for i in np.linspace(0, len(able) - 1, functions).astype(int)]
    rows, rng = [], np.random.default_rng(1)
    for record in able:
        for mistake in distortions(record, rng):
            verdict = _asked(verify, mistake)
            if verdict is None or verdict.status != "deviates":
                continue
            said = [str(e) for e in verdict.explanations]
            rows.append({"function": record.name, "said": said[:1]})
            print(f"{'EXPLAINED' if said else 'not':9} {record.name:45} {said[:1]}", flush=True)
    wrong = [row for row in rows if row["said"]]
    return {
        "functions": len({r["function"] for r in rows}),
        "distorted": len(rows),
        "explained": len(wrong),
        "rows": wrong,
    }


# ------------------------------------------------------------------------------------------------------------- mutants

# text of a mutant: why it computes the same
SAME = json.loads((ROOT / "tools" / "measure_verify_same.json").read_text(encoding="utf-8"))


def mutated(function):
    """Yield (text, function) of an implementation changed in one place."""
    from trref.checks import mutants

    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    definition = tree.body[0]
    definition.decorator_list = []
    for text, place, _, replacement in mutants.changed(definition):
        with place.holding(replacement):
            scope = dict(function.__globals__)
            exec(compile(ast.fix_missing_locations(ast.parse(ast.unparse(tree))), "<mutant>", "exec"), scope)
        yield text, scope[definition.name]


def independent(most=30):
    """Of so many implementations, each with all of its mutants."""
    from tests.conformance.test_right_implementations import RIGHT
    from trref.conformance import verify
    from trref.conformance.load import LoadError

    rows, number, implementations = [], 0, 0
    for label, (name, function, options) in RIGHT.items():
        if implementations == most or not inspect.isfunction(function):
            continue
        implementations += 1
        start = time.perf_counter()
        for text, mutant in mutated(function):
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")
                    lives = verify(name, mutant, options, explain=False, sizes=(4, 8), seeds=(0, 1)).conforms
            except LoadError:
                lives = False
            if lives and text in SAME:
                continue
            number += 1
            if lives:
                rows.append({"function": name, "implementation": label, "mutant": text})
                print(f"SURVIVES  {name:30} {text}", flush=True)
        print(f"          {name:30} {label}: {time.perf_counter() - start:.0f} s", flush=True)
    return {"implementations": implementations, "mutants": number, "survive": len(rows), "rows": rows}


MEASURES = {"planted": planted, "false": false, "mutants": independent}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", help=", ".join(MEASURES))
    parser.add_argument("--json", type=pathlib.Path, help="write the figures and rows into this file")
    options = parser.parse_args()
    if unknown := set(options.measures) - set(MEASURES):
        parser.error(f"no measure is called {unknown.pop()}; there are {', '.join(MEASURES)}")
    found = {}
    for name in options.measures or MEASURES:
        found[name] = MEASURES[name]()
        figures = {k: v for k, v in found[name].items() if k != "rows"}
        print(f"{name}: {', '.join(f'{k} {v}' for k, v in figures.items())}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
