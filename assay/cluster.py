"""The cluster executor: `assay run --cluster HOST:PORT` runs the jobs of a plan on the nodes of a Ray cluster.

The driver, which is this process, plans, gives each job to a node, and writes each outcome to its own `.assay/jobs`
as it arrives. Ray carries the code there and the outcomes back. On its node a job runs as it does on one machine:
the same code, in a process of its own, with its threads, its time limit and its record.

* HOST:PORT is what `ray start --head` prints (port 6379); the driver runs on a machine of that cluster. From outside
  it is `ray://HOST:10001`, which needs `pip install "ray[client]"` here and on the head.
* A node needs Python with the versions of this machine and `pip install ray aiohttp` (what Ray ships code with). Data
  sets are fetched by the node, once, into `~/.cache/assay/data`.
* A result names one machine. So only nodes of one CPU model (profile gpu: and one GPU model) are used, the jobs are
  planned for these, and the nodes that are left out are named.
* A timed job has a node to itself: all its CPUs and GPUs. Another job has as many CPUs as threads, and its GPUs.
* A job whose node dies is sent to another, three times at most. When the driver or the whole cluster dies, running
  the same command again goes on where it was.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay import ROOT
from assay.errors import AssayError, JobError
from assay.jobs import Report, run_jobs
from assay.locks import locked
from assay.provenance import Machine, gpu_model, this_machine
from assay.worker import STATE, Job, Outcome, ended, load_outcome, save_outcome

SHIPPED = ("assay", "methods", "datasets", "pyproject.toml")
PASSED_ON = ("ASSAY_MIRROR", "OMP_NUM_THREADS")
REACH_S, ANSWER_S = 10.0, 60.0
TRIES = 3
# read by Ray when it is imported
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass
class Node:
    """A node of the cluster, and the jobs of ours that are on it."""

    name: str
    address: str
    cpus: int
    gpus: int
    machine: Machine
    jobs: list[Job] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return _kind(self.machine)

    def share(self, job: Job) -> tuple[int, int]:
        """CPUs and GPUs that the job takes here; a job that wants more than there is takes all."""
        return (self.cpus, self.gpus) if job.timed else (min(job.threads, self.cpus), min(job.gpus, self.gpus))

    def has_room(self, job: Job) -> bool:
        cpus, gpus = (sum(taken) for taken in zip(*map(self.share, [*self.jobs, job]), strict=True))
        return cpus <= self.cpus and gpus <= self.gpus

    def suffices(self, job: Job) -> bool:
        return job.threads <= self.cpus and job.gpus <= self.gpus


@contextmanager
def connected(address: str, *, with_gpu: bool) -> Iterator[Cluster]:
    """The nodes of a cluster that can be used together. Raises JobError where there are none, within seconds."""
    ray = _import_ray()
    _reach(address)
    others = [f"/{path.name}" for path in ROOT.iterdir() if path.name not in SHIPPED]
    code = {"working_dir": str(ROOT), "excludes": [*others, "__pycache__"]}
    try:
        ray.init(address, runtime_env=code, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise JobError(
            f"the cluster at {address} cannot be joined: {error}; run on a machine of the cluster, or give "
            "ray://HOST:10001"
        ) from error
    try:
        yield Cluster(ray, address, with_gpu)
    finally:
        ray.shutdown()  # also ends what still runs for us on the nodes


class Cluster:
    """Nodes of one kind of machine.

    Attributes:
        machine: that kind; cores and memory are those of its smallest node.
        left_out: nodes that are not used, each with the reason.
    """

    def __init__(self, ray: Any, address: str, with_gpu: bool) -> None:
        self._ray, self._address, self._with_gpu = ray, address, with_gpu
        answered, silent = self._answering()
        usable = [node for node in answered if node.machine.gpu or not with_gpu]
        if not usable:
            raise JobError(f"the cluster at {address} has no node with a {'CUDA GPU' if with_gpu else 'CPU'} that "
                           "answers; `ray status` shows what it has")  # fmt: skip
        self._nodes, others = of_one_kind(usable, this_machine(gpu_model() if with_gpu else None))
        self.left_out = [f"{address}: did not answer within {ANSWER_S:g} s" for address in silent] + others
        smallest = min(self._nodes, key=lambda node: (node.machine.cores or 0, node.machine.memory_bytes))
        self.machine = smallest.machine

    def run(self, jobs: Sequence[Job], limit: int | None, report: Report) -> None:
        """Run jobs on the nodes, at most `limit` at a time; timed ones after the others, each alone on its node.

        As on one machine, a job that fails, hangs or is killed is recorded as such and stops no other.

        Raises:
            JobError: no node is left, or a node cannot run Assay's code.
            RecordError: an outcome cannot be written, here or on a node. Finished jobs are kept.
        """
        if not jobs:
            return
        with locked(jobs[0].root / STATE / "cluster.lock"):  # of two runs at once, the second finds the work done
            waiting = deque(sorted(jobs, key=lambda job: job.timed))
            running: dict[Any, tuple[Job, Node]] = {}
            losses: Counter[str] = Counter()
            while waiting or running:
                while waiting and (limit is None or len(running) < limit) and (node := self._room(waiting[0])):
                    job = waiting.popleft()
                    if (found := load_outcome(job)) and found.finished:
                        report(job, found.record)
                        continue
                    node.jobs.append(job)
                    running[self._send(job, node)] = job, node
                if not running:
                    continue
                (answer,), _ = self._ray.wait(list(running))
                job, node = running.pop(answer)
                node.jobs.remove(job)
                outcome = self._outcome(answer, job, node)
                if outcome is None:
                    self._drop_if_dead(node)
                    losses[job.fingerprint] += 1
                    if losses[job.fingerprint] < TRIES:
                        waiting.appendleft(job)
                        continue
                    outcome = _lost(job)
                save_outcome(job, outcome)
                report(job, outcome.record)

    def _room(self, job: Job) -> Node | None:
        """A node for the job: the least busy one with room, of those that have what it wants, else of all."""
        able = [node for node in self._nodes if node.suffices(job)] or self._nodes
        return min((node for node in able if node.has_room(job)), key=lambda node: len(node.jobs), default=None)

    def _send(self, job: Job, node: Node) -> Any:
        cpus, gpus = node.share(job)
        return self._on(node.name, _run_here, cpus, gpus).remote(job, _passed_on())

    def _on(self, node: str, function: Callable[..., Any], cpus: float, gpus: float) -> Any:
        """A Ray task on one node. Ray repeats none itself: it would on the same node, which may be gone."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(node, soft=False)
        return self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, scheduling_strategy=here)(function)

    def _outcome(self, answer: Any, job: Job, node: Node) -> Outcome | None:
        """What the job left, or None where its node or Ray's worker on it ended before the job did."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(answer)
        except errors.RuntimeEnvSetupError as error:
            raise JobError(f"node {node.address} cannot run Assay's code: {error}") from error
        except errors.RayTaskError as error:
            if isinstance(error.cause, AssayError):
                raise type(error.cause)(f"node {node.address}: {error.cause}") from error
            raise JobError(f"node {node.address}, {job}: {error}") from error
        except errors.RayError:
            return None

    def _drop_if_dead(self, node: Node) -> None:
        # without its GPU, which another job may hold
        if node in self._nodes and not self._ask({node.name: node.address}, with_gpu=False)[0]:
            self._nodes.remove(node)
        if not self._nodes:
            raise JobError(f"no node of the cluster at {self._address} is left; finished jobs are kept: run the same "
                           "command again when it is back")  # fmt: skip

    def _answering(self) -> tuple[list[Node], list[str]]:
        """Nodes with CPUs, as they describe themselves, and the addresses of those that do not answer."""
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"] and _amount(node, "CPU")}
        asked = {name: node["NodeManagerAddress"] for name, node in alive.items()}
        answers, silent = self._ask(asked, self._with_gpu)
        nodes = [Node(name, alive[name]["NodeManagerAddress"], _amount(alive[name], "CPU"),
                      _amount(alive[name], "GPU"), machine) for name, machine in answers.items()]  # fmt: skip
        return nodes, silent

    def _ask(self, nodes: dict[str, str], with_gpu: bool) -> tuple[dict[str, Machine], list[str]]:
        """What the nodes say they are, by name; and the addresses of those that do not answer."""
        gpus = 0.01 if with_gpu else 0  # Ray shows a task only the GPUs that it asks for
        asked = {self._on(name, _what_is_here, 0, gpus).remote(with_gpu): name for name in nodes}
        done, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S) if asked else ([], [])
        answers: dict[str, Machine] = {}
        for answer in done:
            try:
                answers[asked[answer]] = self._ray.get(answer)
            except self._ray.exceptions.RayTaskError as error:
                raise JobError(f"node {nodes[asked[answer]]} cannot run Assay's code: {error.cause}") from error
            except self._ray.exceptions.RayError:
                continue
        return answers, [address for name, address in nodes.items() if name not in answers]


def of_one_kind(nodes: Sequence[Node], here: Machine) -> tuple[list[Node], list[str]]:
    """The nodes of the most frequent CPU and GPU model (on a tie, this machine's), and why the others are left out.

    Args:
        nodes: all that answered.
        here: the driver's machine. Raises JobError for a node with other versions of what makes rows.
    """
    for node in nodes:
        _same_versions(node, here)
    kinds = Counter(node.kind for node in nodes)
    kind = max(kinds, key=lambda kind: (kinds[kind], kind == _kind(here)))
    left_out = [f"{n.address}: has {n.kind}; this run is measured on {kind}" for n in nodes if n.kind != kind]
    return [node for node in nodes if node.kind == kind], left_out


def _kind(machine: Machine) -> str:
    return " and ".join(filter(None, (machine.cpu, machine.gpu)))


def _import_ray() -> Any:
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    try:
        import ray
    except ImportError as error:
        raise JobError('--cluster needs Ray, which is not installed: `pip install ray` or `pip install -e ".[cluster]"`'
                       ) from error  # fmt: skip
    return ray


def _reach(address: str) -> None:
    """Raise JobError unless a cluster listens there: Ray itself would try for minutes."""
    client = address.startswith("ray://")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise JobError(f"--cluster {address}: give HOST:PORT as `ray start --head` prints it, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except (OSError, OverflowError) as error:
        raise JobError(
            f"no cluster answers at {address}: {error}; start one with `ray start --head`, or correct --cluster"
        ) from error
    ask = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    with suppress(subprocess.TimeoutExpired):
        if client or not subprocess.run(ask, capture_output=True, timeout=REACH_S).returncode:
            return
    raise JobError(
        f"what listens at {address} is no Ray head, or of another version; give the HOST:PORT that "
        "`ray start --head` prints (port 6379 unless it was told another)"
    )


def _same_versions(node: Node, here: Machine) -> None:
    for name in {**here.versions, **node.machine.versions}:
        there, ours = node.machine.versions.get(name), here.versions.get(name)
        if there != ours:
            raise JobError(
                f"node {node.address} has {name} {there or '(none)'} and this machine {ours or '(none)'}; rows must "
                "not depend on where a job ran: install the same versions (requirements.lock) on every node"
            )


def _amount(node: dict[str, Any], resource: str) -> int:
    return int(node["Resources"].get(resource, 0))


def _passed_on() -> dict[str, str]:
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def _lost(job: Job) -> Outcome:
    reason = f"its node, or Ray's worker there, ended {TRIES} times while it ran; is the memory of a node too small?"
    return Outcome(ended(job, "killed", 0.0, reason), [], [], [], job.claims)


def _what_is_here(with_gpu: bool) -> Machine:
    """Runs on a node."""
    return this_machine(gpu_model() if with_gpu else None)


def _run_here(job: Job, environment: dict[str, str]) -> Outcome:
    """Runs on a node: the job in a process of its own, which finds what it would find on the driver's machine."""
    os.environ.pop("OMP_NUM_THREADS", None)  # Ray's choice; a job sets its threads itself
    os.environ.update(environment)
    vars(sys.modules["__main__"]).pop("__file__", None)  # a job's process would import Ray's main program
    _keep_data()
    job = job.at(ROOT)
    run_jobs([job], workers=1)
    outcome = load_outcome(job)
    if outcome is None:
        raise JobError(f"{job}: its record is gone from {job.path}")
    job.path.unlink()
    return outcome


def _keep_data() -> None:
    """Let data sets stay on the node when Ray drops the code, which has a folder for each of its versions."""
    kept = Path.home() / ".cache" / "assay" / "data"
    kept.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        (ROOT / "data").symlink_to(kept)
