"""Judge public implementations and write docs/ledger, a file a method: .venv/bin/python tools/ledger.py [METHOD …].

The extra `peers` is needed (tools/test.py --peers). Trainers without a release are judged where TRREF_CHECKOUTS names
the folder of their checkouts (tests/peers/checkouts.txt); elsewhere their rows are kept as they are.
"""

import argparse
import json
import pathlib
import sys
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent
LEDGER = ROOT / "docs" / "ledger"


def judged(methods=()):
    """Return method -> what is judged, of these methods or all."""
    sys.path.insert(0, str(ROOT))
    from tests.peers import (
        judged,
        judged_checkouts,
        judged_libraries,
        judged_losses,
        judged_schedulers,
        judged_trainers,
    )

    found = {}
    modules = judged, judged_trainers, judged_losses, judged_libraries, judged_schedulers, judged_checkouts
    for entry in (entry for module in modules for entry in module.JUDGED):
        method = entry.function.partition(".")[0]
        if not methods or method in methods:
            found.setdefault(method, []).append(entry)
    return found


def row(entry, known):
    """Judge one implementation; return its row of the ledger, and whether the verdict is the expected one."""
    from trref.conformance import verify

    if entry.missing:
        return known[entry.what], True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdict = verify(entry.function, entry.make(), entry.options)
    found = {
        "implementation": entry.what,
        "version": entry.version,
        "function": entry.function,
        "verdict": verdict.status,
        "cases": verdict.cases,
        "finding": entry.finding,
    }
    expected = entry.expects(verdict)
    print(f"{found['verdict']:15} {entry.function:42} {entry.what}{'' if expected else '   UNEXPECTED'}", flush=True)
    if not expected:
        print(verdict)
    return found, expected


def write(methods=()):
    """Judge, and write the files; return how many verdicts were not expected."""
    unexpected, chosen = 0, judged(methods)
    for path in LEDGER.glob("*.json") if not methods else ():
        if path.stem not in chosen:
            path.unlink()
    LEDGER.mkdir(exist_ok=True)
    for method, entries in chosen.items():
        path = LEDGER / f"{method}.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        known = {row["implementation"]: row for row in known}
        rows, expected = zip(*(row(entry, known) for entry in entries), strict=True)
        unexpected += expected.count(False)
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return unexpected


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help="only implementations of these")
    options = parser.parse_args()
    return int(bool(write(options.methods)))


if __name__ == "__main__":
    sys.exit(main())
