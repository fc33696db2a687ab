"""How long a class takes: .venv/bin/python tools/bench_grading.py [--students 200] [--jobs 2].

As many different submissions of one function (clipped surrogate, level 2) as there are students, four of ten wrong, are
graded with explanations; the seconds on the clock are printed.
"""

import argparse
import pathlib
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

RIGHT = """
import numpy as np


def clipped_surrogate(log_prob, old_log_prob, advantage, *, clip=0.2):
    r = np.exp(log_prob - old_log_prob)
    u = r * advantage
    c = np.clip(r, 1 - clip, 1 + clip) * advantage
    n = len(r)
    return -np.minimum(u, c).sum() / n, -np.where(u <= c, u, 0) / n
"""
WRONG = (
    ("np.minimum", "np.maximum"),
    ("np.where(u <= c, u, 0)", "np.where(abs(r - 1) <= clip, u, 0)"),
    ("np.minimum(u, c)", "c"),
    ("/ n, -", "/ (n + 1), -"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()

    from trref.courses.assignment import Assignment, parse
    from trref.courses.grading import grade

    sources = [RIGHT] * 6 + [RIGHT.replace(*change) for change in WRONG]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for i in range(options.students):
            student = root / "in" / f"student{i:04d}"
            student.mkdir(parents=True)
            text = f"{sources[i % len(sources)]}# {i}\n"
            (student / "ppo_clipped_surrogate.py").write_text(text, encoding="utf-8")
        assignment = Assignment("A class", (parse("ppo.clipped_surrogate:2"),))
        start = time.perf_counter()
        found = grade(assignment, root / "in", root / "out", jobs=options.jobs)
        seconds = time.perf_counter() - start
    passed = sum(s["score"] == s["of"] for s in found["students"].values())
    print(f"{options.students} submissions, {passed} right, {options.jobs} jobs: {seconds:.1f} s")


if __name__ == "__main__":
    main()
