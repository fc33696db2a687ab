"""Federated rounds and gossip on MPI ranks, against one process."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from trref.experiments.federated import Together, federate
from trref.experiments.federated_runs import RUNS
from trref.experiments.ranks import GRAPHS, run_federated, run_graph
from trref.manifolds.gossip import Together as AgentsTogether
from trref.problems.frames import agents_pca

CLIENTS, ROUNDS = 8, 5
PROGRAM = [sys.executable, "-m", "trref.experiments.ranks"]
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.defpath]))

ALL = """
import sys
import numpy as np
from mpi4py import MPI
from trref.experiments import ranks
comm, out = MPI.COMM_WORLD, {}
for name in ranks.RUNS:
    state = ranks.run_federated(name, ranks.Ranks(comm, 8), rounds=5)
    out |= {f"{name}.{i}": part for i, part in enumerate(state)}
for name in ranks.GRAPHS:
    state = ranks.run_graph(name, lambda weights: ranks.GraphRanks(comm, weights), rounds=5)
    out |= {f"{name}.{i}": part for i, part in enumerate(state)}
if comm.rank == 0:
    np.savez(sys.argv[1], **out)
"""


def _mpi():
    pytest.importorskip("mpi4py", reason="mpi4py is missing: the extra 'mpi' brings it, and MPICH")
    if MPIEXEC is None:
        pytest.skip("mpiexec is missing: the extra 'mpi' brings MPICH")


def _run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.fixture(scope="module")
def together():
    """The states of all methods, with all clients in one process."""
    states = {name: run_federated(name, Together(CLIENTS), rounds=ROUNDS) for name in RUNS}
    return states | {name: run_graph(name, AgentsTogether, rounds=ROUNDS) for name in GRAPHS}


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_give_what_one_process_gives(ranks, together, tmp_path):
    _mpi()
    done = _run(MPIEXEC, "-n", str(ranks), sys.executable, "-c", ALL, str(tmp_path / "out.npz"))
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as found:
        for name, state in together.items():
            for i, part in enumerate(state):
                if name in RUNS:
                    assert np.array_equal(found[f"{name}.{i}"], part), f"{name}: the same bits"
                else:
                    assert np.allclose(found[f"{name}.{i}"], part, rtol=1e-12, atol=1e-12), name


def test_a_lost_rank_ends_the_run_and_it_goes_on_from_the_last_round(tmp_path):
    _mpi()
    file = str(tmp_path / "run.npz")
    more = ["--clients", "4", "--seed", "3", "--save", file]
    command = [MPIEXEC, "-n", "3", *PROGRAM, "fedimpro", "--rounds", "100000", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        pids = re.findall(r"process (\d+)", run.stdout.readline())
        while run.stdout.readline().strip() != "round 4":
            pass
        os.kill(int(pids[2]), signal.SIGKILL)
        _, said = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "a rank was lost; round " in said and "--resume goes on from there" in said
    with np.load(file) as saved:
        last = int(saved["done"])
    assert last >= 4 and f"round {last} was the last that all completed" in said

    goes_on = _run(MPIEXEC, "-n", "2", *PROGRAM, "fedimpro", "--rounds", str(last + 2), *more, "--resume")
    assert goes_on.returncode == 0, goes_on.stderr
    whole = run_federated("fedimpro", Together(4), seed=3, clients=4, rounds=last + 2)
    with np.load(file) as saved:
        for i, part in enumerate(whole):
            assert np.array_equal(saved[f"state{i}"], part)

    other = _run(MPIEXEC, "-n", "1", *PROGRAM, "fedavg", *more, "--resume")
    assert other.returncode != 0 and "holds another run: fedimpro" in other.stderr
    nowhere = _run(MPIEXEC, "-n", "2", *PROGRAM, "fedavg", "--save", str(tmp_path / "none" / "run.npz"))
    assert nowhere.returncode != 0 and "no round was completed, and nothing was saved" in nowhere.stderr


def test_graphs_go_on_from_a_saved_state():
    for name in GRAPHS:
        whole = run_graph(name, AgentsTogether, rounds=6)
        half = run_graph(name, AgentsTogether, rounds=3)
        for ours, theirs in zip(run_graph(name, AgentsTogether, rounds=6, done=3, state=half), whole, strict=True):
            assert np.allclose(ours, theirs, rtol=1e-12, atol=1e-12), name


def test_every_run_gets_somewhere():
    """Losses fall, chains find their mean: that a run is the same everywhere says nothing of what it does."""
    C = agents_pca(np.random.default_rng(0), agents=CLIENTS, dims=6, points=40).C.mean(0)
    best = -np.linalg.eigvalsh(C)[-3:].sum() / 2
    for name in GRAPHS:
        losses = run_graph(name, AgentsTogether, rounds=60)[2]
        assert 0 <= losses[-1] - best < 0.1 * (losses[0] - best), name
    for name in ("fedavg", "fedclean", "sequential_gradient_coding"):
        run = RUNS[name](0, 6)
        moved = [
            np.linalg.norm(run_federated(name, Together(6), clients=6, rounds=r)[0] - run.start[0]) for r in (1, 9)
        ]
        assert 0 < moved[0] < moved[1], name
    first = run_federated("fsgld", Together(6), clients=6, rounds=1)[0]
    last = run_federated("fsgld", Together(6), clients=6, rounds=40)[0]
    assert last.std() < 0.5 * first.std(), "ten chains draw from one narrow posterior"


def test_a_round_has_its_number():
    seen = []
    client = lambda k, r, theta: seen.append(r) or (theta,)  # noqa: E731
    federate(Together(1), client, lambda theta, stack: theta, np.zeros(1), 2, start=5)
    assert seen == [5, 6]


def test_what_is_missing_is_said():
    program = "import sys; sys.modules['mpi4py'] = None; from trref.experiments.ranks import main; main(['fedavg'])"
    done = _run(sys.executable, "-c", program)
    assert done.returncode == 1 and "pip install 'trref[mpi]'" in done.stderr
    for wrong, why in ((["--resume"], "--resume needs --save"), (["--rounds", "0"], "at least 1")):
        done = _run(*PROGRAM, "fedavg", *wrong)
        assert done.returncode == 2 and why in done.stderr
