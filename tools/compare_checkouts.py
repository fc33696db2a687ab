"""Compare two checkouts: .venv/bin/python tools/compare_checkouts.py BEFORE AFTER [NAME …].

Every catalogued function and every deviation is run on every case of BEFORE: values, gradients, results, iterates,
paths of update rules. The same inputs then go to AFTER, and it is said which results are equal to the last bit and by
how much the others differ; and which functions, settings, cases, limits, deviations and contracts only one of the two
has. Each checkout runs in a process of its own. Functions are the same if they have the same name; or the name that
the list of renames gives (lines with ``old -> new`` or ``| old | new |`` in AFTER's CHANGELOG.md); or
else the same name in another module, which is then said. BEFORE may be a file that ``--save`` wrote. The status is 0
where nothing differs and nothing is lost.
"""

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import inspect
import os
import pathlib
import pickle
import re
import subprocess
import sys
import tempfile
import warnings

import _environment
import numpy as np

RENAME = re.compile(r"`?([\w.]+)`?\s*(?:->|→|\|)\s*`?([\w.]+)`?")
ITERATES = (1, 2, 5)
KINDS = ("settings", "cases", "limits", "deviations", "contracts")


@dataclasses.dataclass(frozen=True)
class Function:
    """What a checkout knows of one catalogued function.

    `kinds` holds the names of its settings, cases and so on, `digests` a fingerprint of the inputs of each case,
    `keywords` the hyper-parameters that each deviation takes.
    """

    name: str
    family: str
    inputs: list
    hyper: list
    kinds: dict
    digests: dict
    keywords: dict


@dataclasses.dataclass(frozen=True)
class Run:
    """One case: pickled inputs, hyper-parameters, and the parts of each result: "reference", or a deviation's name."""

    function: str
    label: str
    inputs: bytes
    hyper: dict
    results: dict


@dataclasses.dataclass(frozen=True)
class Dump:
    """A checkout: its functions, the modules that fail to import, and its cases (or how those of another one go)."""

    functions: dict
    broken: dict
    runs: list
    notes: list = dataclasses.field(default_factory=list)


# ------------------------------------------------------------------------------------------------ inside a checkout


def records(broken):
    """Return name -> record; methods that fail to import are noted in `broken`."""
    from trref import catalog

    found = {}
    for family, slug in catalog.places():
        try:
            found |= {record.name: record for record in catalog.method(family, slug).functions}
        except Exception as error:
            broken[f"{family}/{slug}"] = f"{type(error).__name__}: {error}"
    return found


def describe(record, cases):
    """Return the `Function` of a record with these cases."""
    from trref import checks

    kinds = {
        "settings": [f"{name}: {_sorted(hyper)}" for name, hyper in record.settings.items()],
        "cases": [case.label for case in cases],
        "limits": [_limit(limit) for limit in record.limits],
        "deviations": [deviation.name for deviation in record.deviations],
        "contracts": [contract.__name__ for contract in checks.contracts_of(record)],
    }
    return Function(
        name=record.name,
        family=record.family,
        inputs=list(record.inputs),
        hyper=list(record.hyper_parameters),
        kinds=kinds,
        digests={case.label: digest(case.inputs) for case in cases},
        keywords={d.name: sorted(record.hyper_parameters.keys() & taken(d.f)) for d in record.deviations},
    )


def taken(f):
    """The names of a function's parameters."""
    return inspect.signature(f).parameters.keys()


def _limit(limit):
    place = f" ({limit.place})" if limit.place else ""
    return f"{limit.to}{place}: {_sorted(limit.hyper)} {_sorted(limit.to_hyper)}"


def _sorted(mapping):
    return ", ".join(f"{key}={mapping[key]!r}" for key in sorted(mapping))


def wanted(name, family, names):
    """Whether a function belongs to the families, methods or functions named; all do where none is."""
    return not names or {name, name.partition(".")[0], family} & set(names)


def dump(names):
    """Run the functions of this checkout on its own cases."""
    from trref import checks

    broken, functions, runs = {}, {}, []
    for name, record in records(broken).items():
        if not wanted(name, record.family, names):
            continue
        cases = list(checks.cases(record))
        functions[name] = describe(record, cases)
        for case in cases:
            results = results_of(record, case.inputs, case.hyper, functions[name].keywords)
            runs.append(Run(name, case.label, pickle.dumps(case.inputs), case.hyper, results))
    return Dump(functions, broken, runs)


def replay(before, names, renames):
    """Run the functions of this checkout on the cases of another one; `broken` holds the modules without functions."""
    from trref import checks

    broken, functions, runs, notes = {}, {}, [], []
    known, own = records(broken), {}
    partners = match(before.functions, known, renames, notes)
    for name, record in known.items():
        if wanted(name, record.family, names) or name in partners.values():
            cases = list(checks.cases(record))
            functions[name] = describe(record, cases)
            own |= {(name, case.label): case.inputs for case in cases}
    fits = {old: fit(before.functions[old], functions[new], renames, notes) for old, new in partners.items()}
    for run in before.runs:
        if run.function not in partners:
            continue
        record, fitted = known[partners[run.function]], fits[run.function]
        try:
            inputs = pickle.loads(run.inputs)
        except (AttributeError, ImportError) as error:  # a callable's class stands elsewhere
            inputs = own.get((record.name, run.label), {})
            notes.append(f"{record.name}, {run.label}: the inputs are those of its own case: {error}")
        inputs, hyper = ({fitted.get(k, k): v for k, v in given.items()} for given in (inputs, run.hyper))
        mine = before.functions[run.function].keywords
        keywords = {name: [fitted.get(k, k) for k in some] for name, some in mine.items()}
        results = results_of(record, inputs, hyper, keywords)
        runs.append(dataclasses.replace(run, inputs=b"", results=results))
    return Dump(functions, broken, runs, notes)


def results_of(record, inputs, hyper, keywords):
    """Return variant -> parts, for the function and each of its deviations, with these of the hyper-parameters."""
    found = {"reference": parts(record, inputs, hyper)}
    for k in ITERATES if "max_iter" in record.hyper_parameters else ():
        found["reference"] |= parts(record, inputs, {**hyper, "max_iter": k}, f"iterate {k}: ")
    for deviation in record.deviations:
        other = dataclasses.replace(record, f=deviation.f, settings={"default": {}}, deviations=(), limits=())
        own = {k: v for k, v in hyper.items() if k in keywords.get(deviation.name, ())}
        found[deviation.name] = parts(other, inputs, own)
    return found


def parts(record, inputs, hyper, prefix=""):
    """Return name -> array; of an update rule after every step; ``"error"`` where the function gives one."""
    from trref import backend, checks

    steps = len(inputs["gradients"]) if type(record).__name__ == "UpdateRule" else 0
    found = {}
    try:
        with backend.use_backend("numpy"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for k in range(1, steps + 1):
                result = checks.run(record, {**inputs, "gradients": inputs["gradients"][:k]}, hyper)
                found |= {f"step {k}, {name}": np.array(a) for name, a in checks.flatten(result)}
            if not steps:
                found = {prefix + name: np.array(a) for name, a in checks.flatten(checks.run(record, inputs, hyper))}
    except Exception as error:
        found[f"{prefix}error"] = np.array(type(error).__name__)
    return found


def digest(inputs):
    """A fingerprint of the values of some inputs, whatever their names."""
    return hashlib.sha256(b"".join(sorted(pickle.dumps(value) for value in inputs.values()))).hexdigest()


# --------------------------------------------------------------------------------------------------------- matching


def match(before, after, renames, notes):
    """Return old name -> new name; what was found in another module is noted."""
    found = {}
    for name, function in before.items():
        slug, _, short = name.partition(".")
        listed = renames.get(name) or renames.get(f"{function.family}.{name}") or f"{renames.get(slug, slug)}.{short}"
        listed = listed if listed.count(".") < 2 else listed.partition(".")[2]
        if listed in after:
            found[name] = listed
            continue
        elsewhere = [n for n in after if n.partition(".")[2] == short and n not in before]
        near = [n for n in elsewhere if after[n].family == function.family] or elsewhere
        if len(near) == 1:
            found[name] = near[0]
            notes.append(f"{name} is taken to be {near[0]}, which has the same name in another module")
    return found


def fit(old, new, renames, notes):
    """Return old argument -> new argument, where these differ: as listed, or by order. What is assumed is noted."""
    found = {}
    for mine, theirs in ((old.inputs, new.inputs), (old.hyper, new.hyper)):
        lost = [n for n in mine if n not in theirs]
        new_names = {n: renames.get(f"{old.name}.{n}", renames.get(n, "")).rpartition(".")[2] for n in lost}
        listed = {n: name for n, name in new_names.items() if name in theirs}
        lost = [n for n in lost if n not in listed]
        more = [n for n in theirs if n not in mine and n not in listed.values()]
        found |= listed
        if lost and len(lost) == len(more):
            found |= dict(zip(lost, more, strict=True))
            notes.append(f"{new.name}: the arguments {', '.join(lost)} are taken to be {', '.join(more)}")
    for name in old.keywords.keys() & new.keywords.keys():
        if more := {k for k in new.keywords[name] if k in old.hyper and k not in old.keywords[name]}:
            notes.append(f"{new.name}: the deviation {name!r} takes further keywords: {', '.join(sorted(more))}")
    return found


# ------------------------------------------------------------------------------------------------------- comparison


def difference(a, b):
    """Return None where two arrays are equal to the last bit, else their largest difference, relative."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if a.tobytes() == b.tobytes():
        return None
    if a.dtype.kind not in "fiub":
        return float("inf")
    a, b = a.astype(float), b.astype(float)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    a, b = (np.where(np.isfinite(x), x, 0.0) for x in (a, b))
    scale = max(float(abs(a).max(initial=0.0)), float(abs(b).max(initial=0.0)))
    return float(abs(a - b).max(initial=0.0)) / scale if scale else 0.0


def compare(before, after, partners):
    """Print everything; return whether nothing differs and nothing is lost."""
    print(f"{'':12} {'before':>7} {'after':>7}")
    print(f"{'functions':12} {len(before.functions):7} {len(after.functions):7}")
    for kind in KINDS:
        numbers = (sum(len(f.kinds[kind]) for f in dumped.functions.values()) for dumped in (before, after))
        print(f"{kind:12} {next(numbers):7} {next(numbers):7}")
    for note in after.notes:
        print(f"note: {note}")
    lost = [f"{place} does not import before: {error}" for place, error in before.broken.items()]
    lost += [f"{place} does not import after: {error}" for place, error in after.broken.items()]
    lost += [f"only before: {name}" for name in sorted(before.functions.keys() - partners.keys())]
    more = [f"only after: {name}" for name in sorted(after.functions.keys() - set(partners.values()))]
    fewer, further = collections.defaultdict(list), collections.defaultdict(list)
    for old, new in sorted(partners.items()):
        mine, theirs = before.functions[old], after.functions[new]
        for kind in KINDS:
            a, b = collections.Counter(mine.kinds[kind]), collections.Counter(theirs.kinds[kind])
            for text in a - b:
                fewer[kind, text].append(new)
            for text in b - a:
                further[kind, text].append(new)
        other = [c for c in mine.digests if theirs.digests.get(c, mine.digests[c]) != mine.digests[c]]
        if other:
            print(f"note: {new}: other inputs in {len(other)} cases of the same name, such as {other[0]}")
    lost += [f"only before: {kind}: {text}: {', '.join(names)}" for (kind, text), names in fewer.items()]
    more += [f"only after: {kind}: {text}: {', '.join(names)}" for (kind, text), names in further.items()]
    for line in lost + more:
        print(line)
    return _results_agree(before, after) and not lost


def _results_agree(before, after):
    equal, worst, counts = 0, {}, collections.Counter()
    ran = {(run.function, run.label): run for run in after.runs}
    for run in before.runs:
        other = ran.get((run.function, run.label))
        for variant, mine in run.results.items() if other else ():
            if variant not in other.results:
                continue  # said above
            theirs = other.results[variant]
            apart = [difference(mine[p], theirs[p]) for p in mine.keys() & theirs.keys()]
            apart += [float("inf")] * len(mine.keys() ^ theirs.keys())
            apart = [d for d in apart if d is not None]
            counts[run.function] += 1
            if not apart:
                equal += 1
                continue
            key, found = (run.function, variant), (max(apart), run.label)
            worst[key] = (*max(found, worst.get(key, found)[:2]), worst.get(key, (0, "", 0))[2] + 1)
    total = sum(counts.values())
    for (function, variant), (apart, label, number) in sorted(worst.items(), key=lambda item: -item[1][0]):
        what = function if variant == "reference" else f"{function}, deviation {variant!r}"
        how = "another shape, dtype, field or error" if apart == float("inf") else f"{apart:.1e}, relative"
        print(f"differs: {what}: {number} cases, at most {how} ({label})")
    print(f"{total} results of {len(counts)} functions: {equal} equal to the last bit, {total - equal} differ")
    return total == equal and total > 0


# ---------------------------------------------------------------------------------------------------------- command


def in_checkout(folder, task, out):
    """Run this file inside a checkout, with the checkout's package."""
    folder = pathlib.Path(folder).resolve()
    environment = {**os.environ, **_environment.ONE_THREAD, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"}
    command = [sys.executable, __file__, "--inside", str(task), str(out)]
    done = subprocess.run(command, cwd=folder, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{folder} could not be run")
    return pickle.loads(pathlib.Path(out).read_bytes())


def inside(task, out):
    import trref

    here = pathlib.Path.cwd().resolve()
    if pathlib.Path(trref.__file__).resolve().parent.parent != here:
        sys.exit(f"trref was imported from {trref.__file__}, not from {here}")
    before, names, renames = pickle.loads(pathlib.Path(task).read_bytes())
    found = dump(names) if before is None else replay(before, names, renames)
    pathlib.Path(out).write_bytes(pickle.dumps(found))


def renames_in(path):
    """Return old name -> new name from the lines of a file."""
    with contextlib.suppress(FileNotFoundError):
        return dict(RENAME.findall(path.read_text(encoding="utf-8")))
    return {}


def main():
    if sys.argv[1:2] == ["--inside"]:
        return inside(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=pathlib.Path, help="a checkout, or a file that --save wrote")
    parser.add_argument("after", type=pathlib.Path, help="a checkout")
    parser.add_argument("names", nargs="*", help="only these families, methods or functions")
    parser.add_argument("--renames", type=pathlib.Path, help="a file; AFTER's CHANGELOG.md by default")
    parser.add_argument("--save", type=pathlib.Path, help="keep what BEFORE gave in this file")
    options = parser.parse_args()
    renames = renames_in(options.renames or options.after / "CHANGELOG.md")
    with tempfile.TemporaryDirectory() as folder:
        task, out = pathlib.Path(folder) / "task", options.save or pathlib.Path(folder) / "before"
        if options.before.is_file():
            before = pickle.loads(options.before.read_bytes())
            kept = {n: f for n, f in before.functions.items() if wanted(n, f.family, options.names)}
            runs = [run for run in before.runs if run.function in kept]
            before = dataclasses.replace(before, functions=kept, runs=runs)
        else:
            task.write_bytes(pickle.dumps((None, options.names, renames)))
            before = in_checkout(options.before, task, out)
        task.write_bytes(pickle.dumps((before, options.names, renames)))
        after = in_checkout(options.after, task, pathlib.Path(folder) / "after")
    partners = match(before.functions, after.functions, renames, [])
    return 0 if compare(before, after, partners) else 1


if __name__ == "__main__":
    sys.exit(main())
