"""Implementations that end, hang, or start processes that should outlive them."""

import ctypes
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np

FOREVER = f"98765.{os.environ.get('TRREF_TEST', '0')}"


def right(log_prob, old_log_prob, advantage, clip=0.2):
    r, n = np.exp(log_prob - old_log_prob), len(log_prob)
    plain, clipped = r * advantage, np.clip(r, 1 - clip, 1 + clip) * advantage
    return -np.minimum(plain, clipped).mean(), -np.where(plain <= clipped, plain, 0) / n


def ends_quietly(**given):
    os._exit(0)


def ends_with_a_status(**given):
    os.write(2, b"a last word\n")
    os._exit(3)


def aborts(**given):
    os.abort()


def segmentation_fault(**given):
    return ctypes.string_at(0)


def kills_itself(**given):
    os.kill(os.getpid(), signal.SIGKILL)


def stops_itself(**given):
    os.kill(os.getpid(), signal.SIGSTOP)


def kills_its_parent(**given):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def kills_its_group(**given):
    os.killpg(0, signal.SIGKILL)


def sleeps(**given):
    time.sleep(60)


def holds_the_lock(**given):
    return sum(itertools.repeat(0.0, 10**12))


def ignores_signals(**given):
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    time.sleep(60)


def starts_a_process_a_call(**given):
    subprocess.Popen(["sleep", FOREVER])
    return right(**given)


def starts_a_session_a_call(**given):
    subprocess.Popen(["sleep", FOREVER], start_new_session=True, env={"PATH": os.environ["PATH"]})
    return right(**given)


def _daemon():
    """Forked twice: no longer a descendant by its parents."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
    os.wait()


def starts_a_daemon(**given):
    _daemon()
    return right(**given)


def starts_a_daemon_and_kills_its_parent(**given):
    _daemon()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def starts_a_daemon_and_dies(**given):
    _daemon()
    os._exit(1)


def splits(**given):
    os.fork()
    return right(**given)


def leaves_a_thread(**given):
    threading.Thread(target=time.sleep, args=(60,)).start()
    return right(**given)


def square(x):
    return x * x


def leaves_a_pool(**given):
    leaves_a_pool.pool = multiprocessing.get_context("fork").Pool(2)
    assert leaves_a_pool.pool.map(square, [1, 2]) == [1, 4]
    return right(**given)


def forks_without_end(**given):
    if not forks_without_end.started and os.fork() == 0:
        while True:  # each generation leaves the next behind
            time.sleep(0.02)
            if os.fork():
                os._exit(0)
    forks_without_end.started = True
    return right(**given)


forks_without_end.started = False


def floods_stderr(**given):
    while True:
        os.write(2, b"x" * 1000 + b"\n")


def reads_its_input(**given):
    assert sys.stdin.read() == "" and os.read(0, 10) == b""
    return right(**given)
