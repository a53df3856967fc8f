"""The same jobs on a real Ray cluster: a head without CPUs and two nodes, each with a raylet of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from assay.cluster import Node, connected, of_one_kind
from assay.errors import JobError
from assay.provenance import this_machine
from assay.record import Result, load_result
from assay.worker import Code, Job
from tests.checkout import Checkout

pytest.importorskip("ray", reason="Ray is not installed: pip install ray")

# Each run of a job leaves a line in the checkout of the driver, with the node that it ran on.
LOGGING = """
LOG = Path("{root}/log")
NODE = Path(os.environ.get("TMPDIR", "")).name
def log(run, word):
    with LOG.open("a") as file:
        file.write(f"{{run.experiment}} {{run.seed}} {{word}} {{NODE}} {{time.time()}}\\n")
"""


class LocalCluster:
    """Ray nodes on this machine, each with its own folder for temporary files, and so its own machine-wide lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._start("head", "--head", f"--port={self.address.partition(':')[2]}", "--num-cpus=0",
                    "--include-dashboard=false")  # fmt: skip
        self._wait_for("head")

    def have_two_workers(self) -> None:
        new = [name for name in ("n1", "n2") if name not in self.nodes]
        for name in new:
            self._start(name, f"--address={self.address}", "--num-cpus=2")
        for name in new:
            self._wait_for(name)

    def _start(self, name: str, *options: str) -> None:
        folder = self.folder / name
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": "", "HOME": str(folder), "TMPDIR": str(folder),
                       "ASSAY_LOCKS": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}  # fmt: skip
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--temp-dir={folder}",
                   "--object-store-memory=80000000", "--include-log-monitor=false",
                   "--dashboard-agent-listen-port=0", *options]  # fmt: skip
        with (folder / "out").open("wb") as out:
            self.nodes[name] = subprocess.Popen(command, env=environment, cwd=folder, stdout=out, stderr=out)

    def _wait_for(self, name: str) -> None:
        out = self.folder / name / "out"
        wait_for(lambda: "Ray runtime started" in out.read_text(), out.read_text)

    def kill(self, name: str) -> None:
        """As if its power went: the raylet, Ray's workers and the jobs at once."""
        process = self.nodes.pop(name)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            if member.is_running():
                member.kill()
        process.wait()
        assert not psutil.wait_procs(family, timeout=120)[1]
        shutil.rmtree(self.folder / name)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[LocalCluster]:
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # paths of unix sockets are short
    cluster = LocalCluster(folder)
    try:
        yield cluster
    finally:
        for name in [*cluster.nodes][::-1]:
            cluster.kill(name)
        shutil.rmtree(folder)


@pytest.fixture
def cluster(ray_cluster: LocalCluster) -> LocalCluster:
    ray_cluster.have_two_workers()
    return ray_cluster


def wait_for(condition: Any, explain: Any = lambda: "", seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {explain()}"
        time.sleep(0.02)


def lines(checkout: Checkout) -> list[list[str]]:
    path = checkout.root / "log"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def add_paper(checkout: Checkout, slug: str, experiments: str) -> None:
    checkout.paper(slug, LOGGING.format(root=checkout.root) + experiments)


def result(checkout: Checkout, slug: str = "toy") -> Result:
    return load_result(checkout.root / "results/quick" / f"{slug}.json")


TOY = """
@experiment(quick=dict(replicates=4), threads=2)
def toy(run):
    log(run, "began")
    time.sleep(0.2)
    for name in ("good", "bad"):
        with run.method(name) as m:
            m["score"] = float(torch.rand(1000).sum())
            m["threads"] = torch.get_num_threads()
    run.memory("good", lambda: torch.zeros(256))
    run.artifact("sample", {"x": torch.arange(4)})
    log(run, "ended")

@experiment(quick=dict(replicates=3, pairs=2), timed=True)
def fast(run, pairs):
    log(run, "began")
    (LOG.parent / f"fast{run.seed}").touch()
    end = time.time() + 240
    while run.seed < 2 and not all((LOG.parent / f"fast{seed}").exists() for seed in range(2)):
        assert time.time() < end, "the timed jobs of two nodes wait for each other"
    run.race({"good": lambda: time.sleep(0.001), "bad": lambda: time.sleep(0.002)}, pairs=pairs, warmup=0)
    log(run, "ended")

@experiment(quick=dict(), threads=2)
def ships(run):
    root = Path(__file__).parents[2]
    from datasets.sources import CACHE
    run.value("files", sum(1 for path in root.iterdir() if path.name not in (".assay", "data")))
    (LOG.parent / "cache").write_text(str(CACHE.resolve()))
    import sys
    assert "ray" not in sys.modules

@experiment(quick=dict(), threads=2)
def raises(run):
    with run.method("good") as m:
        m["score"] = 2.0
    raise ValueError("no such luck")

@experiment(quick=dict(), timeout=0.5, threads=2)
def hangs(run):
    time.sleep(600)

@experiment(quick=dict(), threads=2)
def is_killed(run):
    os.kill(os.getpid(), signal.SIGKILL)
"""
EDITS = """
@experiment(quick=dict(replicates=3), threads=2)
def toy(run):
    with Path(__file__).open("a") as file:
        file.write("X = 1\\n")
"""


@dataclasses.dataclass
class Ran:
    """A run on the cluster of a paper, and of one whose jobs edit their code there; then the paper run here."""

    checkout: Checkout
    there: Result
    here: Result
    log: list[list[str]]
    output: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def ran(ray_cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    ray_cluster.have_two_workers()
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    add_paper(checkout, "toy", TOY)
    add_paper(checkout, "edits", EDITS)
    checkout.write("heavy/of_no_use.py", "")
    output = checkout.assay("run", "toy", "edits", "--cluster", ray_cluster.address)
    assert output.returncode == 1, output.stderr
    there, log = result(checkout), lines(checkout)
    shutil.rmtree(checkout.root / ".assay")
    with pytest.MonkeyPatch.context() as local:
        local.setenv("TMPDIR", str(ray_cluster.folder))  # its timed jobs wait for no other run on this machine
        checkout.assay("run", "toy")
    return Ran(checkout, there, result(checkout), log, output)


def test_rows_are_those_of_a_local_run_but_for_time_energy_and_memory(ran: Ran) -> None:
    def told(found: Result) -> list[str]:
        kept = [row for row in found.rows if row.metric not in ("wall_s", "time_s", "energy_j", "files")]
        return [json.dumps(dataclasses.asdict(item)) for item in (*kept, *found.artifacts)]

    assert told(ran.there) == told(ran.here)
    assert {row.value for row in ran.there.rows if row.metric == "threads"} == {2}
    assert [row.repeat for row in ran.there.rows if row.metric == "time_s"] == [0, 1] * 2 * 3
    assert [job.fingerprint for job in ran.there.jobs] == [job.fingerprint for job in ran.here.jobs]
    assert ran.there.provenance["cpu"] == ran.here.provenance["cpu"]
    assert ran.there.provenance.keys() == ran.here.provenance.keys()


def test_every_job_ends_in_a_record_and_none_stops_another(ran: Ran) -> None:
    fates = {(job.experiment, job.status, job.reason) for job in ran.there.jobs}
    assert fates == {(job.experiment, job.status, job.reason) for job in ran.here.jobs}
    assert {(name, status) for name, status, _ in fates} == {
        ("toy", "done"), ("fast", "done"), ("ships", "done"), ("raises", "failed"), ("hangs", "timeout"),
        ("is_killed", "killed")}  # fmt: skip
    assert "raises #0: failed: ValueError: no such luck" in ran.output.stderr
    assert len([line for line in ran.output.stderr.splitlines() if line]) == 4, "Ray is not silent"


def test_both_nodes_take_part_and_a_timed_job_never_shares_its_node(ran: Ran) -> None:
    assert {node for *_, node, _ in ran.log} == {"n1", "n2"}
    spans: dict[tuple[str, str], list[Any]] = {}
    for name, seed, _, node, at in ran.log:
        spans.setdefault((name, seed), [node]).append(float(at))
    timed = [span for (name, _), span in spans.items() if name == "fast"]
    for node, began, ended in timed:
        assert not [s for s in spans.values() if s[0] == node and began < s[1] < ended]
    assert any(a[0] != b[0] and a[1] < b[1] < a[2] for a in timed for b in timed)


def test_a_node_gets_the_code_alone_and_keeps_data_sets_for_the_next_run(ran: Ran, ray_cluster: LocalCluster) -> None:
    (files,) = [row.value for row in ran.there.rows if row.metric == "files"]
    assert files == 4  # assay, datasets, methods, pyproject.toml
    cache = Path((ran.checkout.root / "cache").read_text())
    assert cache == ran.checkout.root / "data"  # written last by the local run
    assert any((ray_cluster.folder / name / ".cache/assay/data").is_dir() for name in ("n1", "n2"))


def test_code_edited_on_a_node_is_refused(ran: Ran) -> None:
    *first_on_their_nodes, third = result(ran.checkout, "edits").jobs
    assert [job.status for job in first_on_their_nodes] == ["done", "done"]
    assert "edited while the run was under way" in (third.reason or "")


def test_a_driver_that_ends_leaves_no_job_and_goes_on_where_it_was(checkout: Checkout, cluster: LocalCluster) -> None:
    add_paper(checkout, "toy", """
@experiment(quick=dict(replicates=3))
def toy(run):
    (LOG.parent / "pid").write_text(str(os.getpid()))
    log(run, "began")
    if run.seed == 1 and not (LOG.parent / "go").exists():
        time.sleep(600)
    log(run, "ended")
""")  # fmt: skip
    for end, began in ((signal.SIGKILL, ["0", "1"]), (signal.SIGINT, ["0", "1", "1"])):
        process = checkout.start("run", "--cluster", cluster.address, "--jobs", "1")
        wait_for(lambda: [line[1] for line in lines(checkout) if line[2] == "began"] == began)  # noqa: B023
        hanging = psutil.Process(int((checkout.root / "pid").read_text()))
        process.send_signal(end)
        _, problems = process.communicate(timeout=240)
        assert not psutil.wait_procs([hanging], timeout=120)[1]
    assert process.returncode == 130
    assert problems.strip() == "assay: interrupted; finished jobs are kept, run the same command again to go on"
    assert [job.status for job in result(checkout).jobs] == ["done", "missing", "missing"]
    (checkout.root / "go").touch()
    again = checkout.assay("run")
    assert "ran 2 of 3 jobs, 0 failed" in again.stdout, again.stderr
    assert sorted(line[1] for line in lines(checkout) if line[2] == "ended") == ["0", "1", "2"]


def test_a_node_killed_in_the_middle_loses_nothing(checkout: Checkout, cluster: LocalCluster) -> None:
    add_paper(checkout, "toy", """
@experiment(quick=dict(replicates=5))
def toy(run):
    log(run, "began")
    while run.seed == 2 and not (LOG.parent / "go").exists():
        time.sleep(0.05)
    with run.method("good") as m:
        m["score"] = float(torch.rand(()))
    log(run, "ended")
""")  # fmt: skip
    process = checkout.start("run", "--cluster", cluster.address)
    wait_for(lambda: len(lines(checkout)) == 9)
    jobs = checkout.root / ".assay/jobs"
    wait_for(lambda: len(list(jobs.glob("*.json"))) == 4)
    (node,) = [line[3] for line in lines(checkout) if line[1:3] == ["2", "began"]]
    cluster.kill(node)
    (checkout.root / "go").touch()
    _, problems = process.communicate(timeout=240)
    assert process.returncode == 0, problems
    assert problems == ""
    assert [job.status for job in result(checkout).jobs] == ["done"] * 5
    assert sorted(line[1] for line in lines(checkout) if line[2] == "ended") == ["0", "1", "2", "3", "4"]
    assert len({line[3] for line in lines(checkout) if line[1:3] == ["2", "began"]}) == 2
    again = checkout.assay("run")
    assert "ran 0 of 5 jobs" in again.stdout


def test_an_address_where_no_cluster_is_is_refused_within_seconds(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout.paper("toy", "@experiment(quick=dict())\ndef toy(run): ...")
    monkeypatch.setattr("assay.cluster.REACH_S", 2)
    with socket.socket() as closed, socket.socket() as no_ray:
        for held in (closed, no_ray):
            held.bind(("127.0.0.1", 0))
        no_ray.listen()
        done = checkout.assay("run", "--cluster", f"127.0.0.1:{closed.getsockname()[1]}")
        assert done.returncode == 2
        assert done.stderr.startswith("assay: no cluster answers at 127.0.0.1")
        for address, reason in (("head", "give HOST:PORT"), (f"127.0.0.1:{no_ray.getsockname()[1]}", "no Ray head")):
            with pytest.raises(JobError, match=reason), connected(address, with_gpu=False):
                pass


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(JobError, match="pip install ray"), connected("127.0.0.1:6379", with_gpu=False):
        pass


HERE = this_machine(None)
OTHER = dataclasses.replace(HERE, cpu="another CPU")


def node(name: str, cpus: int = 4, gpus: int = 0, machine: Any = HERE) -> Node:
    return Node(name, f"address-{name}", cpus, gpus, machine)


def job(*, timed: bool = False, threads: int = 1, gpus: int = 0) -> Job:
    return Job(
        Path(), "toy", "toy", "quick", None, (0,), timed, 1.0, threads, "cpu", gpus, Code((), "", ""), "", {}, {}
    )


def test_only_nodes_of_the_most_frequent_model_are_used_and_the_others_named() -> None:
    used, left_out = of_one_kind([node("a"), node("b", machine=OTHER), node("c", machine=OTHER)], HERE)
    assert [n.name for n in used] == ["b", "c"]
    (reason,) = left_out
    assert reason.startswith(f"address-a: has {HERE.cpu}")
    assert of_one_kind([node("b", machine=OTHER), node("a")], HERE)[0][0].name == "a", "a tie is this machine's"


def test_a_node_with_another_torch_is_refused_by_name() -> None:
    old = dataclasses.replace(HERE, versions={**HERE.versions, "torch": "1.0"})
    with pytest.raises(JobError, match=r"address-b has torch 1\.0 and this machine"):
        of_one_kind([node("a"), node("b", machine=old)], HERE)


def test_jobs_share_a_node_as_far_as_its_cpus_and_gpus_go() -> None:
    place = node("a", cpus=4, gpus=2)
    place.jobs = [job(threads=2, gpus=1)]
    assert place.has_room(job(threads=2, gpus=1))
    assert not place.has_room(job(threads=3))
    assert not place.has_room(job(gpus=2))
    assert not place.has_room(job(timed=True))
    place.jobs = [job(timed=True)]
    assert not place.has_room(job())
    place.jobs = []
    assert place.has_room(job(threads=64, gpus=8)), "a job that wants more than there is has all, as it has locally"
