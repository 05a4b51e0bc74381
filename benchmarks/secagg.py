"""HeadSum against Flower's SecAgg on the same vectors: one round, all clients real, both sides checked.

A client's time is all that it computes in the round but training and transport; the server's is all
that the coordinator computes. Flower waits while we measure, and we while Flower does.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.federation import CLIP, Federation, ServerRun
from benchmarks.flower import FLOWER, FlowerProcess
from benchmarks.results import publish, say
from ravan.codec.secagg_messages import Submission, header_to_wire, submission_to_wire
from ravan.ids import Digest
from ravan.manifest.instructions import RoundRef
from ravan.secagg.bundles import lay_out
from ravan.secagg.combine import RoundSum

FLOWER_STEP: Final = 2 * 8.0 / (1 << 22)
"""Flower's quantisation step at its defaults: clipping range 8, 2^22 levels."""


@dataclass
class Measured:
    """Seconds of both sides."""

    federation: Federation
    servers: list[ServerRun] = field(default_factory=list)
    flower_clients: list[float] = field(default_factory=list)
    flower_servers: list[float] = field(default_factory=list)

    def take(self, facts: dict[str, Any]) -> None:
        """Note what Flower's side told."""
        if "server_seconds" in facts:
            say(f"  Flower's server took {facts['server_seconds']:.1f} s")
        if "done" in facts:
            self.flower_servers = facts["server"]
            self.flower_clients = [sum(stages) for stages in facts["clients"]]


def write_vectors(path: Path, members: int, size: int) -> None:
    """Write one small random update for each member."""
    vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(members, size))
    generator = np.random.default_rng(1)
    for row in vectors:
        # a norm of about 1, well inside both sides' clip
        row[:] = generator.standard_normal(size, dtype=np.float32) / np.sqrt(size)
    vectors.flush()


def check_exact(federation: Federation, result: RoundSum) -> None:
    """Raise ValueError unless the sums are the plain integer sums of the survivors' quantised vectors."""
    ring = 1 << federation.assignment.ring_bits
    for bundle in federation.clients[0].roster.bundles:
        rows = [client.quantised[bundle.bundle_id] for client in federation.survivors]
        plain = np.asarray(np.sum(rows, axis=0, dtype=np.int64)) % ring
        for slot in lay_out(federation.assignment, bundle).slots:
            if not np.array_equal(plain[slot.offset : slot.flag], result.blocks[slot.block_id].total % ring):
                raise ValueError(f"The sum of {slot.block_id} is not the plain integer sum.")


def check_near(what: str, mean: NDArray[Any], expected: NDArray[Any], bound: float) -> float:
    """Return the largest error of a mean; raise ValueError when it is above the bound of its quantiser."""
    error = float(np.abs(mean - expected).max())
    if not error <= bound:
        raise ValueError(f"{what} is off by {error:.2e}; its quantiser explains {bound:.2e}.")
    return error


def mean_of(result: RoundSum) -> NDArray[np.float64]:
    """Return all released means as one vector in block order."""
    return np.concatenate([block.mean for block in result.blocks.values()])


def upload_bytes(federation: Federation, index: int) -> int:
    """Return what one client sends in the round: payload and every message as it is on the wire."""
    reference = RoundRef(
        run_id=federation.assignment.run_id,
        round_number=1,
        assignment_digest=federation.digest,
        roster_digest=Digest(bytes(32)),
    )
    messages = (federation.advertised, federation.shares, federation.signatures, federation.revealed)
    submissions = [Submission(round=reference, index=index, message=kind[index]) for kind in messages]
    header = federation.headers[index]
    small = sum(submission_to_wire(submission).ByteSize() for submission in submissions)
    return int(header.size_bytes + header_to_wire(reference, header).ByteSize() + small)


def compare(path: Path, folder: Path, dropped: int, clients: int, runs: int) -> dict[str, object]:
    """Run both sides in turn, check both, and return the figures."""
    vectors = np.load(path, mmap_mode="r")
    result = folder / "flower.npy"
    flower = FlowerProcess(path, dropped=dropped, clients=clients, server_runs=runs, result=result)
    try:
        measured = take_turns(flower, vectors, folder, dropped, clients, runs)
    finally:
        flower.stop()
    expected: NDArray[np.float64] = np.mean(vectors[: len(vectors) - dropped], axis=0, dtype=np.float64)
    check_exact(measured.federation, measured.servers[0].result)
    limit = measured.federation.assignment.quantum_limit
    errors = {
        "error": check_near("Our mean", mean_of(measured.servers[0].result), expected, CLIP / limit),
        "flower_error": check_near("Flower's mean", np.load(result), expected, FLOWER_STEP),
    }
    return {**figures(measured, clients), **errors}


def take_turns(
    flower: FlowerProcess, vectors: NDArray[np.float32], folder: Path, dropped: int, clients: int, runs: int
) -> Measured:
    """Measure the clients in pairs, then the servers."""
    members = len(vectors)
    measured = Measured(Federation(vectors, frozenset(range(members - dropped, members)), folder))

    def flowers_part() -> None:
        flower.go()
        flower.advance(measured.take)

    def turn(index: int) -> None:
        if index < clients:
            say(f"  client {index + 1} of {clients}: Flower's, then ours")
            if index == clients - 1:
                say(f"  then Flower's other clients and its server, which takes minutes for {members} members ...")
            flowers_part()

    say(f"  Flower's {members} clients make keys and shares ...")
    flower.advance(measured.take)
    measured.servers.append(measured.federation.run(turn))
    for number in range(2, runs + 1):
        say(f"  server run {number} of {runs}: Flower's, then ours")
        flowers_part()
        measured.servers.append(measured.federation.run())
    return measured


def figures(measured: Measured, clients: int) -> dict[str, object]:
    """Return medians and their ratios."""
    ours = median(client.watch.seconds for client in measured.federation.clients[:clients])
    server = median(run.seconds for run in measured.servers)
    flower_client, flower_server = median(measured.flower_clients), median(measured.flower_servers)
    size = measured.federation.vectors.shape[1]
    return {
        "client_speedup": round(flower_client / ours, 1),
        "server_speedup": round(flower_server / server, 1),
        "bytes_per_parameter": round(upload_bytes(measured.federation, 0) / size, 4),
        "client_ms": round(1e3 * ours, 1),
        "server_s": round(server, 3),
        "staged_hashing_s": round(median(run.hashing_seconds for run in measured.servers), 3),
        "flower_client_ms": round(1e3 * flower_client, 1),
        "flower_server_s": round(flower_server, 2),
        "flower": FLOWER,
    }


@click.command()
@click.option("--members", default=100, show_default=True, help="Clients of the round.")
@click.option("--size", default=1_000_000, show_default=True, help="Parameters of each update.")
@click.option("--clients", default=5, show_default=True, help="Clients whose time is taken.")
@click.option("--runs", default=3, show_default=True, help="Runs of each server.")
def main(members: int, size: int, clients: int, runs: int) -> None:
    """Compare one round with Flower's; a tenth of the members drop out before their upload."""
    dropped = members // 10
    say(f"One round of {members} members and {size} parameters, {dropped} drop out ...")
    with tempfile.TemporaryDirectory(prefix="ravan-bench-") as place:
        folder = Path(place)
        write_vectors(folder / "vectors.npy", members, size)
        found = compare(folder / "vectors.npy", folder, dropped, clients, runs)
    bars = {"client_speedup": 15, "server_speedup": 80, "bytes_per_parameter": 3.05}
    publish("bench-secagg", {**found, "members": members, "size": size, "dropped": dropped, "bars": bars})


if __name__ == "__main__":
    main()
