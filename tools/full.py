"""What takes too long for every run: .venv/bin/python tools/full.py [mutants] [identify] [ledger].

All mutants of the catalogue, every member of every interface identified among all others, and the public
implementations judged anew (extra `peers`); all three where none is named. It writes docs/mutants.json,
docs/identify.json and docs/ledger. The status is 0 where nothing survives, is confused or unexpected.
"""

import argparse
import functools
import json
import multiprocessing
import sys

import _environment

sys.path.insert(0, str(_environment.ROOT))

import ledger
import mutate

from trref import catalog, checks
from trref.conformance import identify
from trref.conformance.identify import candidates, equal_candidates

DOCS = _environment.ROOT / "docs"


def _write(name, content):
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (DOCS / name).write_text(text, encoding="utf-8")


def all_mutants(jobs):
    """Return how many functions have mutants that survive, or cannot be judged; write docs/mutants.json."""
    found = mutate.run([record.name for record in mutate.chosen((), ci=False)], jobs)
    rows = {finding.name: finding.row for finding in sorted(found, key=lambda finding: finding.name)}
    _write("mutants.json", {"total": mutate.totals(found), "functions": rows})
    return sum(bool(finding.alive or finding.error) for finding in found)


# ---- identify


def interfaces():
    """Return the names of the interfaces whose members `identify` tells apart."""
    kinds = catalog.Objective | catalog.Transform | catalog.Estimator
    named = (r.interface.name for r in catalog.records() if r.interface and isinstance(r, kinds))
    return sorted({name.partition(" ")[0] for name in named})


def all_members(jobs):
    """Return how many members of the interfaces are confused; write docs/identify.json.

    Each member, setting and deviation must be identified as itself and as what agrees with it on every case. Of two
    published functions that agree a declared limit must say so; a deviation may be another function as published.
    """
    wrong, table = 0, {}
    for interface in interfaces():
        groups = equal_candidates_of(interface)
        undeclared = [
            a.text
            for group in groups
            for a in _published(group)[1:]
            if not any(declared(a, b) for b in _published(group) if a is not b)
        ]
        with multiprocessing.get_context("fork").Pool(jobs) as pool:  # which inherit the results computed so far
            found = [text for text in pool.imap(functools.partial(confused, interface), range(len(groups))) if text]
        for text in undeclared:
            print(f"{interface}: no limit says why {text} agrees with others")
        for text in found:
            print(f"{interface}: {text}")
        wrong += len(undeclared) + len(found)
        equal = [[c.text for c in group] for group in groups if len(group) > 1]
        table[interface] = {"members": len(candidates(interface)), "equal": equal}
        print(f"{interface}: {len(candidates(interface))} members, {len(groups)} that differ", flush=True)
    _write("identify.json", table)
    return wrong


def _published(group):
    return [candidate for candidate in group if candidate.deviation is None]


def confused(interface, number):
    """What is wrong with the identification of a group's first member; nothing where all is right."""
    group = equal_candidates_of(interface)[number]
    found = {match.candidate.text for match in identify(as_function(group[0]), interface).exact}
    expected = {candidate.text for candidate in group}
    return f"{group[0].text} is identified as {sorted(found)}, not as {sorted(expected)}" if found != expected else ""


equal_candidates_of = functools.cache(equal_candidates)


def as_function(candidate):
    """Return a candidate as someone else's function: value and gradient."""
    names = ", ".join(candidate.record.inputs)

    def result(inputs):
        if not isinstance(candidate.record, catalog.Objective):
            return checks.run(*candidate.runnable(inputs))
        parts = candidate.parts(inputs)
        gradients = [parts[f"gradient by {name}"] for name in candidate.record.wrt_names]
        return parts["value"], gradients[0] if len(gradients) == 1 else tuple(gradients)

    scope = {"result": result}
    exec(f"def f({names}):\n    return result(dict({', '.join(f'{n}={n}' for n in candidate.record.inputs)}))\n", scope)
    return scope["f"]


def declared(a, b):
    """Whether a limit makes two candidates equal for all inputs; or settings of one function come to the same."""
    same = a.record is b.record and _hyper(a.record, a.hyper) == _hyper(b.record, b.hyper)
    return same or _becomes(a, b) or _becomes(b, a)


def _becomes(a, b):
    return any(
        catalog.find(limit.to) is b.record
        and not limit.place
        and limit.hyper.items() <= _hyper(a.record, a.hyper).items()
        and _hyper(b.record, limit.to_hyper) == _hyper(b.record, b.hyper)
        for limit in a.record.limits
    )


def _hyper(record, hyper):
    return {**record.hyper_parameters, **hyper}


# ---- the command


def public_implementations(jobs):
    """Return how many verdicts on public implementations are not the expected ones; write docs/ledger."""
    return ledger.write()


PARTS = {"mutants": all_mutants, "identify": all_members, "ledger": public_implementations}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all by default")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    wrong = {name: PARTS[name](options.jobs) for name in options.parts or PARTS}
    for name, number in wrong.items():
        print(f"{name}: {f'{number} wrong' if number else 'all right'}")
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())
