"""Federated rounds and gossip on MPI ranks.

::

    mpiexec -n 4 python -m trref.experiments.ranks fedimpro --rounds 20 --save run.npz
    mpiexec -n 4 python -m trref.experiments.ranks drcgd --rounds 100 --clients 8

Clients, or agents of a ring, are dealt out over the ranks; what happens between them goes through the two verbs of
`trref.experiments.federated` and `trref.manifolds.gossip`, here between processes. A server's step is made on every
rank, from the same messages in the same order: federated runs have the same bits on any number of ranks, and graphs
differ by the order of sums. After each round the state is saved. If a rank is lost the run ends, a message says which
round was the last, and ``--resume`` goes on from there. One BLAS thread a rank is best.

It needs mpi4py and an MPI library, the extra ``mpi``. Only states of the same call are read back, and they are arrays.
"""

import argparse
import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import warnings

import numpy as np

from trref.experiments.federated import federate
from trref.experiments.federated_runs import RUNS
from trref.manifolds import drcgd, drdgd, gossip
from trref.manifolds.drcgd_consensus import metropolis_weights
from trref.manifolds.terms import mix
from trref.problems import graphs
from trref.problems.frames import AgentsPCA, agents_pca
from trref.validate import ConvergenceWarning

__all__ = ["GraphRanks", "Ranks", "main", "run_federated", "run_graph"]

GRAPHS = ("drcgd", "dprgd", "drdgd", "drgta")


class Ranks:
    """Client k lives on rank k mod size; the stacked messages of all come to every rank, in the clients' order."""

    def __init__(self, comm, clients):
        self.comm, self.clients = comm, clients

    def __call__(self, step, received):
        """Return one array a message, (K, …)."""
        mine = [
            step(k, received)
            for k in range(self.comm.rank, self.clients, self.comm.size)
        ]
        parts = self.comm.allgather(mine)
        messages = [
            parts[k % self.comm.size][k // self.comm.size] for k in range(self.clients)
        ]
        return tuple(np.stack(column) for column in zip(*messages, strict=True))


class GraphRanks:
    """Agents of a graph, equally many on each rank, in order; a rank speaks to those that hold neighbours of its own.

    ``mine`` are the agents here; ``rounds`` is how often they average.
    """

    def __init__(self, comm, weights, rounds=1):
        count, size = len(weights), comm.size
        if count % size:
            raise ValueError(
                f"agents must be a multiple of the {size} ranks, not {count}"
            )
        each = count // size
        self.comm, self.rounds = comm, rounds
        self.mine = slice(comm.rank * each, (comm.rank + 1) * each)
        blocks = weights.reshape(size, each, size, each).any((1, 3))
        self.near = [
            int(j) for j in np.flatnonzero(blocks[comm.rank]) if j != comm.rank
        ]
        self.graph = comm.Create_dist_graph_adjacent(self.near, self.near)
        known = sorted([*self.near, comm.rank])
        columns = np.concatenate([np.arange(j * each, (j + 1) * each) for j in known])
        self.order, self.weights = (
            np.argsort([*self.near, comm.rank]),
            weights[self.mine][:, columns],
        )

    def mix(self, x):
        """Return the weighted means of the agents here, from what their neighbours send."""
        for _ in range(self.rounds):
            x = np.ascontiguousarray(x)
            received = np.empty((len(self.near), *x.shape))
            self.graph.Neighbor_allgather(x, received)
            parts = [*received, x]
            known = np.concatenate([parts[i] for i in self.order])
            x = mix(self.weights, known)
        return x

    def gather(self, x):
        """Return everybody's arrays (A, …)."""
        x = np.ascontiguousarray(x)
        out = np.empty((self.comm.size * len(x), *x.shape[1:]))
        self.comm.Allgather(x, out)
        return out


def run_federated(
    name, exchange, *, seed=0, clients=8, rounds=10, done=0, state=None, keep=None
):
    """Run the rest of a method's rounds and return the server's last state, a tuple of arrays.

    ``exchange`` is a `Ranks`, or `trref.experiments.federated.Together`; ``keep(round, state)`` is called after each.
    """
    run = RUNS[name](seed, clients)
    state = run.start if state is None else state
    for r in range(done, rounds):
        state, _ = federate(exchange, run.client, run.server, state, 1, start=r)
        if keep:
            keep(r + 1, state)
    return state


def run_graph(
    name, connect, *, seed=0, clients=8, rounds=10, done=0, state=None, keep=None
):
    """Run the rest of a decentralised method's iterations and return frames, what they carry, and three histories.

    ``connect(weights)`` makes a `GraphRanks`, or a `trref.manifolds.gossip.Together`. Agents on a ring look for the
    three first principal components of all their data.
    """
    rng = np.random.default_rng(seed)
    f = agents_pca(rng, agents=clients, dims=6, points=40)
    frame = np.linalg.qr(rng.standard_normal((6, 3)))[0]
    network = connect(metropolis_weights(graphs.ring(clients)))
    here = getattr(network, "mine", slice(None))
    before = [[], [], []] if state is None else [list(part) for part in state[2:]]
    x, carried = (np.stack([frame] * clients), None) if state is None else state[:2]
    carried = None if carried is None else carried[here]
    local, how = AgentsPCA(f.C[here]), {"lr": 0.2, "decay": 0.0, "done": done}
    if name in ("drcgd", "dprgd"):
        cap = 0.9 if name == "drcgd" else 0.0
        steps = drcgd.conjugate_steps(
            local, x[here], network, beta_cap=cap, eta=carried, **how
        )
    else:
        tracking = name == "drgta"
        steps = drdgd.gradient_steps(
            local,
            x[here],
            network,
            consensus_lr=1.0,
            tracking=tracking,
            y=carried,
            **how,
        )

    told = []

    def watch(step, *histories):
        parts = [
            old + new[bool(old) :] for old, new in zip(before, histories, strict=True)
        ]
        told[:] = [
            network.gather(step.frames),
            network.gather(step.carried),
            *map(np.array, parts),
        ]
        if keep:
            keep(len(parts[0]) - 1, tuple(told))

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # as many rounds as were asked for
        gossip.follow(
            steps, local, network, tol=1e-15, max_iter=rounds - done, watch=watch
        )
    return tuple(told)


# ---- the program


def _save(path, call, done, state):
    """Write the state in one go: what is there is always a whole round."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".npz")
    with os.fdopen(handle, "wb") as file:
        np.savez(
            file,
            call=np.array(call),
            done=np.array(done),
            **{f"state{i}": a for i, a in enumerate(state)},
        )
    os.replace(name, path)


def _load(path, call):
    if not path.is_file():
        raise ValueError(f"--resume needs a saved run, and {path} is none")
    with np.load(path, allow_pickle=False) as saved:
        if saved["call"].tolist() != call:
            raise ValueError(
                f"{path} holds another run: {', '.join(saved['call'].tolist())}"
            )
        count = sum(name.startswith("state") for name in saved)
        return int(saved["done"]), tuple(saved[f"state{i}"] for i in range(count))


_WATCHER = """
import sys
none, some = sys.argv[1:]
said = sys.stdin.read().split() or ["0"]
if "end" not in said:
    left = none if said[-1] == "0" else some.replace("{round}", said[-1])
    print(f"a rank was lost; {left}", file=sys.stderr, flush=True)
"""


@contextlib.contextmanager
def _watched(comm, path):
    """A process beside rank 0 that outlives it; it is told of each round, and speaks if the ranks end without a word.

    When a rank is killed, MPI kills the others, and none of them can say anything.
    """
    if comm.rank:
        yield lambda done: None
        return
    watcher = subprocess.Popen(
        [sys.executable, "-c", _WATCHER, _last(path, 0), _last(path, "{round}")],
        stdin=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )

    def tell(word):
        watcher.stdin.write(f"{word} ")
        watcher.stdin.flush()

    yield tell
    tell("end")
    watcher.stdin.close()
    watcher.wait()


def main(arguments=None):
    """Run one method on the ranks that there are."""
    parser = argparse.ArgumentParser(
        prog="python -m trref.experiments.ranks",
        description=__doc__.partition("\n\n")[0],
    )
    parser.add_argument("method", choices=[*RUNS, *GRAPHS])
    parser.add_argument(
        "--rounds", type=int, default=10, help="rounds in all (default 10)"
    )
    parser.add_argument(
        "--clients",
        type=int,
        default=8,
        help="clients, or agents of the ring (default 8)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--save", type=pathlib.Path, help="a file .npz for the state after each round"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the file of --save"
    )
    options = parser.parse_args(arguments)
    if min(options.rounds, options.clients) < 1 or options.seed < 0:
        parser.error("--rounds and --clients must be at least 1, --seed at least 0")
    if options.resume and not options.save:
        parser.error("--resume needs --save FILE")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        sys.exit(
            f"MPI cannot be had here ({error}): pip install 'trref[mpi]' brings mpi4py and MPICH"
        )
    comm, told = MPI.COMM_WORLD, {"round": 0}
    try:
        _run(comm, options, told)
    except Exception as error:
        why = f"rank {comm.rank} of {comm.size} ends the run: {error}"
        last = _last(options.save, told["round"])
        print(f"{why}\n{last}", file=sys.stderr, flush=True)
        comm.Abort(1)


def _last(path, done):
    """What is left of a run that ended early after so many rounds."""
    if done == 0:
        return "no round was completed, and nothing was saved"
    left = "nothing was saved"
    if path:
        left = f"{path} holds it, and --resume goes on from there"
    return f"round {done} was the last that all completed; {left}"


def _run(comm, options, told):
    call = [options.method, f"clients {options.clients}", f"seed {options.seed}"]
    done, state = 0, None
    if comm.rank == 0 and options.save and not options.save.parent.is_dir():
        raise ValueError(
            f"--save names the folder {options.save.parent}, which there is not"
        )
    if comm.rank == 0 and options.resume:
        done, state = _load(options.save, call)
    told["round"], state = comm.bcast((done, state))
    done = told["round"]
    places = comm.gather(f"process {os.getpid()} on {socket.gethostname()}")
    if comm.rank == 0:
        ranks = ", ".join(f"{rank} is {place}" for rank, place in enumerate(places))
        print(f"{options.method}, {options.clients} clients; rank {ranks}", flush=True)
    with _watched(comm, options.save) as tell:
        tell(done)

        def keep(r, state):
            if comm.rank == 0:
                if options.save:
                    _save(options.save, call, r, state)
                tell(r)
                print(f"round {r}", flush=True)
            told["round"] = r

        how = {"seed": options.seed, "clients": options.clients}
        how |= {"rounds": options.rounds, "done": done, "state": state, "keep": keep}
        if options.method in GRAPHS:
            state = run_graph(options.method, lambda W: GraphRanks(comm, W), **how)
        else:
            exchange = Ranks(comm, options.clients)
            state = run_federated(options.method, exchange, **how)
    if comm.rank == 0:
        sums = ", ".join(f"{abs(part).sum():.17g}" for part in state)
        print(f"done: {options.rounds} rounds; sums of what the state holds: {sums}")


if __name__ == "__main__":
    main()
