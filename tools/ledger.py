"""Judge public implementations and write docs/ledger.json: .venv/bin/python tools/ledger.py (extra `peers`)."""

import json
import pathlib
import sys
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    sys.path.insert(0, str(ROOT))
    from tests.peers import judged, judged_trainers
    from trref.conformance import verify

    warnings.simplefilter("ignore")
    rows = []
    for entry in (*judged.JUDGED, *judged_trainers.JUDGED):
        verdict = verify(entry.function, entry.make(), entry.options)
        rows.append(
            {
                "implementation": entry.what,
                "version": entry.version,
                "function": entry.function,
                "verdict": "conforms" if verdict.conforms else "deviates",
                "cases": verdict.cases,
                "finding": entry.finding,
            }
        )
        agrees = "" if verdict.conforms == entry.conforms else "   UNEXPECTED"
        print(f"{rows[-1]['verdict']:9} {entry.function:42} {entry.what}{agrees}", flush=True)
        if agrees:
            print(verdict)
    path = ROOT / "docs" / "ledger.json"
    path.write_text(json.dumps({"judged": rows}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
