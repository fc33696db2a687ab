"""How fast this machine is while something else runs on it: a fixed computation, timed again and again.

Run as a script it prints the seconds of one computation a line, until it is ended.
"""

import statistics
import subprocess
import time

REFERENCE = 0.08  # seconds of the computation on one idle core of the machine on which budgets are set
PAUSE = 4.0  # seconds between two


def computation():
    """What tutorials do: loops in Python around small arrays, and a few larger products."""
    import numpy as np

    rng = np.random.default_rng(0)
    A, x = rng.standard_normal((300, 300)), rng.standard_normal(300)
    for _ in range(6000):
        x = np.tanh(x[::-1]) + 0.1 * x
    for _ in range(30):
        A = A @ A.T
        A = A / abs(A).max()
    return sum(i * i % 7 for i in range(300_000)) + float(A.sum() + x.sum())


class Slowness:
    """Within ``with``, a process times the computation; then `factor` says how much slower this machine was."""

    def __init__(self, python, environment):
        self.python, self.environment, self.factor = python, environment, 1.0

    def __enter__(self):
        self.process = subprocess.Popen(
            [self.python, __file__], stdout=subprocess.PIPE, text=True, env=self.environment
        )
        return self

    def __exit__(self, *error):
        self.process.terminate()
        seconds = [float(line) for line in self.process.communicate()[0].split()]
        if seconds:
            self.factor = max(1.0, statistics.median(seconds) / REFERENCE)


if __name__ == "__main__":
    computation()  # imports and warms up
    while True:
        start = time.perf_counter()
        computation()
        print(time.perf_counter() - start, flush=True)
        time.sleep(PAUSE)
