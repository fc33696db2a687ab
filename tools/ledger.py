"""Judge public implementations and write docs/ledger.json: .venv/bin/python tools/ledger.py (extra `peers`)."""

import json
import pathlib
import sys
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    sys.path.insert(0, str(ROOT))
    from tests.peers.judged import JUDGED
    from trref.conformance import verify

    warnings.simplefilter("ignore")
    rows = []
    for judged in JUDGED:
        verdict = verify(judged.function, judged.make(), judged.options)
        rows.append(
            {
                "implementation": judged.what,
                "version": judged.version,
                "function": judged.function,
                "verdict": "conforms" if verdict.conforms else "deviates",
                "cases": verdict.cases,
                "finding": judged.finding,
            }
        )
        agrees = "" if verdict.conforms == judged.conforms else "   UNEXPECTED"
        print(f"{rows[-1]['verdict']:9} {judged.function:42} {judged.what}{agrees}", flush=True)
        if agrees:
            print(verdict)
    path = ROOT / "docs" / "ledger.json"
    path.write_text(json.dumps({"judged": rows}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
