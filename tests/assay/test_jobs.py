"""Jobs end in a record whatever happens to them, and none is run twice."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from assay.record import load_result
from tests.checkout import Checkout

# Every run of a job leaves a line here, so that a job run twice is seen.
LOGGING = """
import subprocess
LOG = Path(__file__).with_name("log")
def log(run, word="ran"):
    with LOG.open("a") as file:
        file.write(f"{word} {run.seed}\\n")
"""


def result(checkout: Checkout, slug: str = "toy") -> dict[str, Any]:
    return json.loads((checkout.root / f"results/quick/{slug}.json").read_text())


def lines(checkout: Checkout, slug: str = "toy") -> list[str]:
    path = checkout.root / "methods" / slug / "log"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def wait_for(condition: Any, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_failures_are_recorded_beside_what_works(checkout: Checkout) -> None:
    checkout.paper("toy", LOGGING + """
import threading
@experiment(quick=dict(replicates=2))
def toy(run):
    with run.method("good") as m:
        m["score"] = 1.0

@experiment(quick=dict())
def raises(run):
    with run.method("good") as m:
        m["score"] = 2.0
    raise ValueError("no such luck")

@experiment(quick=dict(), timeout=0.5)
def hangs(run):
    time.sleep(600)

@experiment(quick=dict(), timeout=0.5)
def is_stopped(run):
    os.kill(os.getpid(), signal.SIGSTOP)

@experiment(quick=dict(), timeout=0.5)
def stops_who_watches_it(run):
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(600)

@experiment(quick=dict())
def leaves(run):
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    threading.Thread(target=time.sleep, args=(600,)).start()

@experiment(quick=dict())
def is_killed(run):
    os.kill(os.getpid(), signal.SIGKILL)

@experiment(quick=dict())
def is_killed_by_a_signal_without_a_name(run):
    os.kill(os.getpid(), 40)

@experiment(quick=dict())
def diverges(run):
    with run.method("good") as m:
        m["loss"] = torch.tensor(float("nan"))

@experiment(quick=dict(), requires="memory:9999TiB")
def too_big(run):
    raise AssertionError("must not run")

@experiment(quick=dict())
def misspells(run):
    with run.method("good") as m:
        m["score"] = None
""")  # fmt: skip
    done = checkout.assay("run")
    assert done.returncode == 1, done.stderr
    jobs = {(job["experiment"], job["seed"]): job for job in result(checkout)["jobs"]}
    assert {name: job["status"] for (name, seed), job in jobs.items() if not seed} == {
        "toy": "done", "raises": "failed", "hangs": "timeout", "is_stopped": "timeout",
        "stops_who_watches_it": "timeout", "leaves": "done",
        "is_killed": "killed", "is_killed_by_a_signal_without_a_name": "killed", "diverges": "done",
        "too_big": "untested", "misspells": "failed"}  # fmt: skip
    assert not [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(checkout.root)], "something outlives it"
    assert "no such luck" in jobs["raises", 0]["reason"]
    assert "raise ValueError" in jobs["raises", 0]["traceback"]
    assert "0.5 s" in jobs["hangs", 0]["reason"]
    assert "SIGKILL" in jobs["is_killed", 0]["reason"]
    assert "signal 40" in jobs["is_killed_by_a_signal_without_a_name", 0]["reason"]
    assert "9999TiB" in jobs["too_big", 0]["reason"]
    rows = result(checkout)["rows"]
    assert [row["value"] for row in rows if row["experiment"] == "raises" and row["metric"] == "score"] == [2.0]
    (loss,) = [row for row in rows if row["metric"] == "loss"]
    assert loss["value"] is None
    assert loss["reason"] == "not finite: nan"
    assert "no such luck" in done.stderr

    checked = checkout.assay("check")
    assert checked.returncode != 0


def test_a_second_run_runs_nothing_and_a_failed_job_is_tried_again(checkout: Checkout) -> None:
    checkout.paper("toy", LOGGING + """
@experiment(quick=dict(replicates=3))
def toy(run):
    log(run)
    if run.seed == 1 and not Path(__file__).with_name("mended").exists():
        raise RuntimeError("once")
""")  # fmt: skip
    checkout.assay("run")
    assert sorted(lines(checkout)) == ["ran 0", "ran 1", "ran 2"]
    (checkout.root / "methods/toy/mended").touch()
    checkout.assay("run")
    assert sorted(lines(checkout)) == ["ran 0", "ran 1", "ran 1", "ran 2"]
    done = checkout.assay("run")
    assert "ran 0 of 3 jobs" in done.stdout
    assert [job["status"] for job in result(checkout)["jobs"]] == ["done"] * 3


def test_kill_9_in_the_middle_loses_nothing_and_runs_nothing_twice(checkout: Checkout) -> None:
    checkout.paper("toy", LOGGING + """
@experiment(quick=dict(replicates=4))
def toy(run):
    if run.seed == 2 and not Path(__file__).with_name("go").exists():
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        log(run, "began")
        time.sleep(600)
    log(run, "began")
    log(run)
    with run.method("good") as m:
        m["score"] = float(torch.rand(()))
""")  # fmt: skip
    process = checkout.start("run", "--jobs", "1")
    wait_for(lambda: "began 2" in lines(checkout))
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive, "workers outlive the run that was killed"
    assert len(gone) >= 2
    (checkout.root / "methods/toy/go").touch()
    done = checkout.assay("run", "--jobs", "1")
    assert "ran 2 of 4 jobs" in done.stdout, done.stdout + done.stderr
    assert sorted(line for line in lines(checkout) if line.startswith("ran")) == [f"ran {i}" for i in range(4)]
    assert [job["seed"] for job in result(checkout)["jobs"]] == [0, 1, 2, 3]


def test_two_runs_at_once_share_the_work(checkout: Checkout) -> None:
    checkout.paper("toy", LOGGING + """
@experiment(quick=dict(replicates=6))
def toy(run):
    log(run)
    time.sleep(0.2)
    with run.method("good") as m:
        m["score"] = run.seed
""")  # fmt: skip
    runs = [checkout.start("run", "--jobs", "2") for _ in range(2)]
    for process in runs:
        _, problems = process.communicate(timeout=120)
        assert process.returncode == 0, problems
    assert sorted(lines(checkout)) == [f"ran {i}" for i in range(6)]
    assert sorted(row["value"] for row in result(checkout)["rows"] if row["metric"] == "score") == list(range(6))


def test_ctrl_c_leaves_no_worker_keeps_finished_jobs_and_names_the_others(checkout: Checkout) -> None:
    checkout.paper("toy", LOGGING + """
@experiment(quick=dict(replicates=5))
def toy(run):
    if run.seed == 3:
        subprocess.Popen(["sleep", "600"], start_new_session=True)
    log(run, "began")
    with run.method("good") as m:
        m["score"] = 1.0 + run.seed
    with run.method("bad") as m:
        m["score"] = 0.1 * run.seed
    if run.seed == 3:
        time.sleep(600)
""")  # fmt: skip
    process = checkout.start("run", "--jobs", "1")
    wait_for(lambda: "began 3" in lines(checkout))
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, problems = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "finished jobs are kept" in problems
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert [job["status"] for job in result(checkout)["jobs"]] == ["done"] * 3 + ["missing"] * 2
    (verdict,) = json.loads(checkout.assay("verdicts", "--json").stdout)
    assert verdict["verdict"] == "untested"
    assert verdict["reason"].startswith(
        "incomplete: 2 of 5 jobs of toy left no record; `assay run toy --profile quick`"
    )
    assert checkout.assay("pipeline").returncode == 0
    checked = checkout.assay("check")
    assert checked.returncode == 1
    assert "toy #3-4: missing" in checked.stderr


def test_seeds_make_runs_repeatable_whatever_the_order_of_methods(checkout: Checkout) -> None:
    checkout.paper("toy", """
@experiment(quick=dict(replicates=2))
def toy(run):
    for name in ("good", "bad"):
        with run.method(name) as m:
            m["score"] = float(torch.rand(()))
""")  # fmt: skip
    checkout.assay("run")
    values = {
        (row["method"], row["seed"]): row["value"] for row in result(checkout)["rows"] if row["metric"] == "score"
    }
    assert values["good", 0] == values["bad", 0]
    assert values["good", 0] != values["good", 1]


def test_a_timed_job_is_a_fresh_process_and_alone(checkout: Checkout) -> None:
    checkout.paper("toy", """
def log(run):
    with Path(__file__).with_name("log").open("a") as file:
        file.write(f"{run.experiment} {run.seed} {time.monotonic()}\\n")

@experiment(quick=dict(replicates=2))
def toy(run):
    log(run)
    time.sleep(0.5)
    log(run)

@experiment(quick=dict(replicates=2, pairs=4), timed=True)
def fast(run, pairs):
    log(run)
    run.value("pid", os.getpid())
    run.race({"good[n=1]": lambda: time.sleep(0.001), "bad[n=2]": lambda: time.sleep(0.002)}, pairs=pairs, warmup=1)
    log(run)

@experiment(quick=dict())
def not_timed(run):
    run.race({"good": lambda: None}, pairs=2)
""")  # fmt: skip
    checkout.assay("run")
    found = load_result(checkout.root / "results/quick/toy.json")
    rows = [row for row in found.rows if row.metric == "time_s"]
    assert len(rows) == 2 * 2 * 4
    assert {(row.method, row.setting["n"]) for row in rows} == {("good", 1), ("bad", 2)}
    assert sorted({row.repeat for row in rows if row.repeat is not None}) == [0, 1, 2, 3]
    assert len({row.value for row in found.rows if row.metric == "pid"}) == 2
    (refused,) = found.failures()
    assert "timed=True" in (refused.reason or "")
    spans: dict[tuple[str, str], list[float]] = {}
    for name, seed, at in map(str.split, (checkout.root / "methods/toy/log").read_text().splitlines()):
        spans.setdefault((name, seed), []).append(float(at))
    assert len(spans) == 4
    for key, (began, ended) in spans.items():
        others = [span for other, span in spans.items() if key[0] == "fast" and other != key]
        assert not [span for span in others if span[0] < ended and span[1] > began], "a timed job is not alone"


def test_torch_and_blas_have_the_threads_of_the_job(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    checkout.paper(
        "toy",
        """
def threads(run):
    import numpy, threadpoolctl, torch
    import scipy.linalg
    with run.method("good") as m:
        m["torch"] = torch.get_num_threads()
        blas = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        m["fewest"], m["most"] = min(blas), max(blas)

@experiment(quick=dict())
def toy(run):
    threads(run)

@experiment(quick=dict(), threads=2)
def two(run):
    threads(run)

@experiment(quick=dict(), timed=True)
def timed(run):
    threads(run)
""",
    )
    done = checkout.assay("run", "toy")
    assert done.returncode == 0, done.stderr
    found = {(row["experiment"], row["metric"]): row["value"] for row in result(checkout)["rows"]}
    found = {key: value for key, value in found.items() if key[1] != "wall_s"}
    wanted = {"toy": 1, "two": 2, "timed": 1}
    assert found == {(name, metric): n for name, n in wanted.items() for metric in ("torch", "fewest", "most")}


def test_what_is_cached_is_built_once_for_a_seed(checkout: Checkout) -> None:
    checkout.paper("toy", LOGGING + """
def teacher(run):
    def build():
        log(run, "built")
        return {"w": torch.rand(3)}
    return run.cached("teacher", build)["w"].sum()

@experiment(quick=dict(replicates=2))
def toy(run):
    with run.method("good") as m:
        m["score"] = teacher(run)

@experiment(quick=dict(replicates=2))
def again(run):
    with run.method("good") as m:
        m["score"] = teacher(run)
""")  # fmt: skip
    checkout.assay("run")
    assert sorted(lines(checkout)) == ["built 0", "built 1"]
    values = {(row["experiment"], row["seed"]): row["value"] for row in result(checkout)["rows"]
              if row["metric"] == "score"}  # fmt: skip
    assert values["toy", 0] == values["again", 0] != values["toy", 1]


def test_ranks_are_real_processes_whose_rows_are_merged(checkout: Checkout) -> None:
    checkout.paper("toy", """
from assay.measure.communication import count_communication

def reduce(rank, world_size, elements):
    import torch.distributed as dist
    x = torch.full((elements,), float(rank))
    with count_communication() as counter:
        dist.all_reduce(x)
    return [{"method": "good", "metric": "sum", "value": float(x[0])},
            {"method": "good", "metric": "sent_bytes", "value": counter.sent_bytes, "unit": "B",
             "evidence": "counted", "setting": {"elements": elements}},
            {"method": "good", "metric": "pid", "value": os.getpid()}]

@experiment(quick=dict(datasets=[]))
def toy(run):
    run.ranks(reduce, 2, args=(1000,))
""")  # fmt: skip
    checkout.assay("run")
    rows = result(checkout)["rows"]
    assert [(row["rank"], row["value"]) for row in rows if row["metric"] == "sum"] == [(0, 1.0), (1, 1.0)]
    sent = [row for row in rows if row["metric"] == "sent_bytes"]
    assert [row["value"] for row in sent] == [4000, 4000]  # a ring of two: half of the tensor, twice
    assert sent[0]["setting"] == {"world_size": 2, "elements": 1000}
    assert sent[0]["evidence"] == "counted"
    assert len({row["value"] for row in rows if row["metric"] == "pid"}) == 2


def test_memory_curves_artifacts_and_untested_settings_are_kept(checkout: Checkout) -> None:
    checkout.paper("toy", """
import numpy as np
@experiment(quick=dict())
def toy(run):
    with run.method("good", depth=2) as m:
        m.curve("loss", x=[1, 2], y=[0.5, float("nan")], x_name="epoch")
    run.memory("good", lambda: torch.zeros(256), depth=2)
    run.artifact("sample", {"x": np.arange(4)}, method="good")
    run.untested("needs the moon", depth=3)

@experiment(quick=dict())
def too_large(run):
    run.artifact("sample", {"x": np.random.rand(100_000)})
""")  # fmt: skip
    checkout.assay("run")
    found = result(checkout)
    assert found["curves"][0]["y"] == [0.5, None]
    assert [row["value"] for row in found["rows"] if row["metric"] == "peak_bytes"] == [1024]
    assert found["artifacts"][0]["name"] == "sample"
    assert [row["reason"] for row in found["rows"] if row["metric"] == "untested"] == ["needs the moon"]
    (refused,) = [job for job in found["jobs"] if job["experiment"] == "too_large"]
    assert "262,144" in refused["reason"]


def test_editing_one_paper_reruns_only_that_paper(checkout: Checkout) -> None:
    body = (
        LOGGING
        + """
@experiment(quick=dict())
def toy(run):
    log(run)
"""
    )
    checkout.paper("toy", body)
    checkout.paper("other", body)
    checkout.assay("run")
    checkout.paper("toy", body + "\nX = 1\n")
    card = checkout.root / "methods/other/paper.yaml"
    card.write_text(card.read_text().replace("To test", "To try"))
    checkout.assay("run")
    assert lines(checkout, "toy") == ["ran 0"] * 2
    assert lines(checkout, "other") == ["ran 0"]


def test_code_that_changes_under_a_run_is_not_recorded_as_the_code_that_was_planned(checkout: Checkout) -> None:
    checkout.paper("toy", LOGGING + """
@experiment(quick=dict(replicates=2))
def toy(run):
    log(run)
    if run.seed == 0:
        with Path(__file__).open("a") as file:
            file.write("X = 1\\n")
""")  # fmt: skip
    checkout.assay("run", "--jobs", "1")
    first, second = result(checkout)["jobs"]
    assert first["status"] == "done"
    assert second["status"] == "failed"
    assert "edited while the run was under way" in second["reason"]


def test_a_bar_moved_after_the_run_is_seen(checkout: Checkout) -> None:
    checkout.paper("toy", """
@experiment(quick=dict(replicates=3))
def toy(run):
    for name, spread in (("good", 0.1), ("bad", 0.0)):
        with run.method(name) as m:
            m["score"] = 2.0 * (name == "good") + spread * float(torch.rand(()))
""")  # fmt: skip
    checkout.assay("run")
    before = json.loads(checkout.assay("verdicts", "--json").stdout)
    card = checkout.root / "methods/toy/paper.yaml"
    card.write_text(card.read_text().replace("good - bad > 0", "good - bad > 1"))
    checkout.assay("run")
    after = json.loads(checkout.assay("verdicts", "--json").stdout)
    assert not before[0]["changed"]
    assert after[0]["changed"]


def test_a_full_disk_stops_the_run_and_keeps_what_is_finished(checkout: Checkout) -> None:
    checkout.paper("toy", """
@experiment(quick=dict(replicates=2))
def toy(run):
    with run.method("good") as m:
        for i in range(20_000 if run.seed and not Path(__file__).with_name("room").exists() else 1):
            m["score"] = i
""")  # fmt: skip
    state = checkout.root / ".assay"
    state.mkdir()
    if os.system(f"mount -t tmpfs -o size=512k none {state} 2>/dev/null"):
        pytest.skip("no right to mount a small disk; test_record covers the write itself")
    try:
        done = checkout.assay("run", "--jobs", "1")
        assert done.returncode == 2
        assert "the disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        (checkout.root / "methods/toy/room").touch()
        again = checkout.assay("run", "--jobs", "1")
        assert "ran 1 of 2 jobs" in again.stdout, again.stdout + again.stderr
    finally:
        assert os.system(f"umount {state}") == 0


def test_a_damaged_job_file_counts_as_not_run(checkout: Checkout) -> None:
    checkout.paper("toy", LOGGING + """
@experiment(quick=dict())
def toy(run):
    log(run)
""")  # fmt: skip
    checkout.assay("run")
    (job,) = (checkout.root / ".assay/jobs").glob("*.json")
    job.write_text(job.read_text()[:40])
    checkout.assay("run")
    assert lines(checkout) == ["ran 0"] * 2


def test_parameters_that_the_function_does_not_take_are_refused() -> None:
    from assay.experiment import experiment

    with pytest.raises(TypeError, match="no parameter 'depth'"):

        @experiment(quick=dict(depth=1))
        def toy(run: object) -> None: ...


def test_a_data_set_that_is_not_on_the_card_is_refused(checkout: Checkout) -> None:
    checkout.paper("toy", """
@experiment(quick=dict(datasets=["movielens_100k"]))
def toy(run): ...
""")  # fmt: skip
    done = checkout.assay("run")
    assert done.returncode == 2
    assert "'movielens_100k' is not on the card" in done.stderr
    assert Path(checkout.root / "results/quick/toy.json").exists() is False
