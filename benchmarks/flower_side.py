"""Flower's part of the comparison: its own client mod and server workflow, in its own environment.

Runs under the interpreter of that environment and imports nothing of Ravan. All clients live in
this process; the transport between them and the workflow is a function call that is timed out of
both sides. Before each measured part it prints `{"turn": ...}` and waits for a line on standard
input, so that the other side can be measured in between.

    python flower_side.py VECTORS.npy DROPPED MEASURED_CLIENTS SERVER_RUNS RESULT.npy
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable
from copy import deepcopy

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.client.mod import secagg_mod
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common import recorddict_compat as compat
from flwr.server import LegacyContext, SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.server.workflow.secure_aggregation.secagg_workflow import SecAggWorkflow
from flwr.supercore.task_identity import TaskIdentity

CLIP = 8.0
STAGES = 4


class Proxy(ClientProxy):
    """A client that only has a number; the workflow talks to it through the grid."""

    def __init__(self, node_id: int) -> None:
        super().__init__(str(node_id))
        self.node_id = node_id

    def _unused(self, *args: object) -> None:
        raise NotImplementedError

    get_properties = get_parameters = fit = evaluate = reconnect = _unused


class OneRound(FedAvg):
    """Hands the workflow all clients, and takes its result as it is: no averaging of equal vectors."""

    def aggregate_fit(self, server_round, results, failures):  # noqa: ARG002 - the strategy's interface
        """Return the vector that the workflow wrote into every result."""
        self.result = parameters_to_ndarrays(results[0][1].parameters)
        return None, {}


class Clients:
    """All clients of one round and how long each spent in each stage."""

    def __init__(self, vectors: np.ndarray, dropped: set[int], turn: Callable[[int], None]) -> None:
        self.vectors = vectors
        self.dropped = dropped
        self.turn = turn
        self.contexts = {i: Context(1, i, {}, RecordDict(), {}) for i in self.ids}
        self.seconds = {i: [] for i in self.ids}

    @property
    def ids(self) -> range:
        """Return the node ids, from 1."""
        return range(1, len(self.vectors) + 1)

    def answer(self, stage: int, message: Message) -> Message:
        """Let the addressed client answer, without what it takes to train."""
        node = message.metadata.dst_node_id
        if stage >= 2 and node in self.dropped:
            return Message(Error(1, "dropped out"), reply_to=message)
        if stage == 2:
            self.turn(node)
        result = self.trained(node) if stage == 2 else None
        started = time.perf_counter()
        reply = secagg_mod(message, self.contexts[node], lambda *_: Message(result, reply_to=message))
        self.seconds[node].append(time.perf_counter() - started)
        return reply

    def trained(self, node: int) -> RecordDict:
        """Return what a client's training would: its vector and weight 1."""
        parameters = ndarrays_to_parameters([np.array(self.vectors[node - 1])])
        return compat.fitres_to_recorddict(FitRes(Status(Code.OK, ""), parameters, 1, {}), keep_input=False)


class Grid:
    """The workflow's way to the clients; remembers every reply, so that the server can run again."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.stage = 0
        self.seconds = 0.0
        self.replies: dict[tuple[int, int], Message] = {}

    def send_and_receive(self, messages: Iterable[Message], timeout: None) -> list[Message]:  # noqa: ARG002 - the grid's
        """Deliver and collect; only the first run reaches the clients."""
        started = time.perf_counter()
        answers = [self.reply(message) for message in messages]
        self.stage = (self.stage + 1) % STAGES
        self.seconds += time.perf_counter() - started
        return answers

    def reply(self, message: Message) -> Message:
        """Return the client's reply to this stage; both ways a copy, as from a wire, since both sides take it apart."""
        key = self.stage, message.metadata.dst_node_id
        if key not in self.replies:
            self.replies[key] = self.clients.answer(self.stage, deepcopy(message))
        return deepcopy(self.replies[key])


def run_server(grid: Grid, size: int) -> tuple[float, np.ndarray]:
    """Run the whole workflow; return the server's own seconds and the mean."""
    strategy = OneRound(fraction_fit=1.0, min_fit_clients=1, min_available_clients=1)
    manager = SimpleClientManager()
    for node in grid.clients.ids:
        manager.register(Proxy(node))
    context = LegacyContext(Context(1, 0, {}, RecordDict(), {}), strategy=strategy, client_manager=manager)
    start = ndarrays_to_parameters([np.zeros(size, np.float32)])
    context.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(start, keep_input=True)
    context.state.config_records[MAIN_CONFIGS_RECORD] = compat.ConfigRecord({Key.CURRENT_ROUND: 1})
    workflow = SecAggWorkflow(2 / 3, max_weight=1.0, clipping_range=CLIP)
    grid.seconds = 0.0
    started = time.perf_counter()
    workflow(grid, context)
    return time.perf_counter() - started - grid.seconds, strategy.result[0]


def tell(**facts: object) -> None:
    """Print one line for the other side."""
    print(json.dumps(facts), flush=True)


def main() -> None:
    """Run one round with real clients, then the server again with their replies."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 0
    vectors = np.load(sys.argv[1], mmap_mode="r")
    dropped, measured, server_runs = (int(argument) for argument in sys.argv[2:5])
    waiting = set(range(1, measured + 1))

    def turn(node: int) -> None:
        if node in waiting:
            tell(turn="client", node=node)
            sys.stdin.readline()

    clients = Clients(vectors, set(range(len(vectors) - dropped + 1, len(vectors) + 1)), turn)
    grid = Grid(clients)
    server = []
    for number in range(server_runs):
        if number:
            tell(turn="server", run=number)
            sys.stdin.readline()
        seconds, mean = run_server(grid, vectors.shape[1])
        tell(server_seconds=seconds)
        server.append(seconds)
    np.save(sys.argv[5], mean)
    tell(done=True, server=server, clients=[clients.seconds[node] for node in sorted(waiting)])


main()
