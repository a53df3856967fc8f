"""What a job has recorded stays, whatever becomes of its process, its file or the Assay that finds it."""

from __future__ import annotations

import json

from tests.checkout import Checkout

ENDINGS = """
import assay.worker
PAPER = Path(__file__).parent

def ran(run):
    with (PAPER / "log").open("a") as file:
        file.write(f"{run.experiment}\\n")

def good(run):
    ran(run)
    with run.method("good") as m:
        m["score"] = 1.0

def dies_when_saved():
    save = assay.worker.save_outcome
    def save_and_die(job, found):
        save(job, found)
        os.kill(os.getpid(), signal.SIGKILL)
    assay.worker.save_outcome = save_and_die

@experiment(quick=dict())
def toy(run):
    good(run)
    dies_when_saved()

@experiment(quick=dict())
def fails_and_dies(run):
    good(run)
    dies_when_saved()
    raise ValueError("a half \\ud800")

@experiment(quick=dict())
def exits_badly(run):
    import atexit
    good(run)
    atexit.register(lambda: os._exit(3))

@experiment(quick=dict())
def unstorable(run):
    good(run)
    with run.method("good", depth=2, width=(1, 2)):
        raise AssertionError("must not run")
"""


def test_a_record_outlives_its_process_and_an_unstorable_setting_fails_where_it_is_set(checkout: Checkout) -> None:
    checkout.paper("toy", ENDINGS)
    assert checkout.assay("run").returncode == 1
    path = checkout.root / "results/quick/toy.json"
    found = json.loads(path.read_text())
    jobs = {job["experiment"]: job for job in found["jobs"]}
    assert {name: job["status"] for name, job in jobs.items()} == {
        "toy": "done", "fails_and_dies": "failed", "exits_badly": "done", "unstorable": "failed"}  # fmt: skip
    assert {row["experiment"] for row in found["rows"] if row["metric"] == "score"} == jobs.keys()
    assert jobs["fails_and_dies"]["reason"] == "ValueError: a half \\ud800"
    assert jobs["unstorable"]["reason"].startswith(
        "RecordError: unstorable, good, depth=2, width=(1, 2): knob 'width' is (1, 2) (tuple): neither a number"
    )
    assert 'with run.method("good", depth=2, width=(1, 2)):' in jobs["unstorable"]["traceback"]
    assert all(job["date"] and job["origin"] == 0 for job in jobs.values())

    files = {json.loads(p.read_bytes().partition(b"\n")[2])["record"]["experiment"]: p
             for p in (checkout.root / ".assay/jobs").glob("*.json")}  # fmt: skip
    damaged = bytearray(files["toy"].read_bytes())
    damaged[-10] ^= 1
    files["toy"].write_bytes(damaged)
    files["exits_badly"].write_bytes(files["unstorable"].read_bytes())
    again = checkout.assay("run")
    assert "ran 4 of 4 jobs" in again.stdout  # two that failed, one damaged, one with another's file
    assert (checkout.root / "methods/toy/log").read_text().count("\n") == 8

    later = path.read_text().replace('"schema": 2', '"schema": 3')
    path.write_text(later)
    refused = checkout.assay("run")
    assert refused.returncode == 2
    assert "schema 3, written by a newer Assay; this one knows schema 2" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert path.read_text() == later
    assert (checkout.root / "methods/toy/log").read_text().count("\n") == 8, "refused before anything is run"
