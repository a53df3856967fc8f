"""The command line: its errors tell what to do, its JSON keeps its names, and new papers work at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

from tests.checkout import CARD, Checkout

TOY = """
@experiment(quick=dict(replicates=3))
def toy(run):
    for name, spread in (("good", 0.1), ("bad", 0.0)):
        with run.method(name) as m:
            m["score"] = 2.0 * (name == "good") + spread * float(torch.rand(()))
"""


def test_an_unknown_paper_is_named_with_what_comes_close(checkout: Checkout) -> None:
    checkout.paper("dagnn", TOY)
    done = checkout.assay("run", "dagn")
    assert done.returncode == 2
    assert "no paper 'dagn'; did you mean dagnn?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_profile_that_the_machine_cannot_run_is_refused(checkout: Checkout) -> None:
    checkout.paper("toy", TOY.replace("quick=", "gpu="))
    done = checkout.assay("run", "--profile", "gpu")
    import torch

    if torch.cuda.is_available():
        assert done.returncode == 0
    else:
        assert done.returncode == 2
        assert "profile gpu needs a CUDA GPU and this machine has none" in done.stderr


def test_a_profile_without_experiments_is_refused(checkout: Checkout) -> None:
    checkout.paper("toy", TOY)
    done = checkout.assay("run", "--profile", "standard")
    assert done.returncode == 2
    assert "toy has no experiment for profile standard" in done.stderr


def test_all_wrong_cards_are_reported_at_once(checkout: Checkout) -> None:
    checkout.paper("one", TOY, CARD.replace("from toy", "feeling"))
    checkout.paper("two", TOY, CARD.replace("why: a test", "whi: a test"))
    done = checkout.assay("list")
    assert done.returncode == 2
    assert "methods/one/paper.yaml:" in done.stderr
    assert "methods/two/paper.yaml:" in done.stderr
    assert "whi" in done.stderr


def test_json_keeps_its_names(checkout: Checkout) -> None:
    checkout.paper("toy", TOY)
    (listed,) = json.loads(checkout.assay("list", "--json").stdout)
    assert set(listed) == {"paper", "title", "arxiv", "methods", "experiments", "claims", "datasets", "data", "of"}
    assert listed["of"] == {"good-is-better": "paper"}
    assert listed["methods"] == [{"name": "good", "role": "proposed"}, {"name": "bad", "role": "baseline"}]
    (before,) = json.loads(checkout.assay("verdicts", "--json").stdout)
    assert before["verdict"] == "untested"
    checkout.assay("run")
    (verdict,) = json.loads(checkout.assay("verdicts", "toy", "--profile", "quick", "--json").stdout)
    assert {"paper", "claim", "kind", "says", "verdict", "reason", "evidence", "estimate", "interval", "n", "unit",
            "reported", "bar", "profile", "of"} <= set(verdict)  # fmt: skip
    assert verdict["of"] == "paper"
    assert verdict["verdict"] == "reproduced"
    assert verdict["n"] == 3
    low, high = verdict["interval"]
    assert low < verdict["estimate"] < high


def test_output_is_plain_where_there_is_no_terminal(checkout: Checkout) -> None:
    checkout.paper("toy", TOY)
    done = checkout.assay("run")
    assert done.stderr == ""
    assert "\x1b" not in done.stdout + checkout.assay("verdicts").stdout + checkout.assay("show", "toy").stdout


OWN = """
  good-is-no-better:
    of: ours
    says: good is no better than bad.
    test: bad - good > 0, from toy
    why: a test
"""


def test_our_own_checks_are_listed_and_counted_apart(checkout: Checkout) -> None:
    checkout.paper("toy", TOY, CARD + OWN)
    checkout.assay("run")
    for command in (("verdicts",), ("show", "toy")):
        claims, own = checkout.assay(*command).stdout.split("our own checks, which no paper claims")
        assert "good-is-better  reproduced" in claims
        assert "claims of papers: 1 reproduced" in claims
        assert "good-is-no-better  contradicted" in own
        assert "checks of our own: 1 contradicted" in own
    assert "1 claims + 1 of ours" in checkout.assay("list").stdout
    assert [v["of"] for v in json.loads(checkout.assay("verdicts", "--json").stdout)] == ["paper", "ours"]
    checkout.assay("verdicts", "--metrics")
    summary = json.loads((checkout.root / "results/quick/metrics/toy.json").read_text())
    assert (summary["reproduced"], summary["contradicted"]) == (1, 0)
    assert (summary["own_reproduced"], summary["own_contradicted"]) == (0, 1)


def test_a_bar_moved_after_the_run_shows_in_the_terminal(checkout: Checkout) -> None:
    checkout.paper("toy", TOY)
    checkout.assay("run")
    assert "card changed" not in checkout.assay("verdicts").stdout
    checkout.write("methods/toy/paper.yaml", CARD.replace("> 0", "> 0.5"))
    for command in (("verdicts",), ("show", "toy")):
        assert "card changed since the run" in checkout.assay(*command).stdout


def test_a_terminal_shows_progress_with_the_time_left(checkout: Checkout) -> None:
    checkout.paper(
        "toy", TOY.replace("replicates=3", "replicates=6").replace("    for name", "    time.sleep(1)\n    for name", 1)
    )
    terminal, ours = os.openpty()
    process = subprocess.Popen(checkout.command("run", "--jobs", "1"), cwd=checkout.root, stderr=ours,
                               stdout=subprocess.DEVNULL, env=checkout.environment | {"TERM": "xterm"})  # fmt: skip
    os.close(ours)
    seen = b""
    while chunk := _read(terminal):
        seen += chunk
    assert process.wait() == 0
    assert b"toy quick" in seen
    assert b"6/6" in seen
    assert b"left" in seen
    assert re.search(rb"left.*\d:\d\d:\d\d", seen), "no estimate of the time left"


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side is closed
        return b""


def test_a_new_paper_passes_its_own_tests_and_runs(checkout: Checkout) -> None:
    created = checkout.assay("new", "ring_memory").stdout.split()
    assert "methods/ring_memory/paper.yaml" in created
    tests = [path for path in created if path.startswith("tests/")]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], cwd=checkout.root, text=True,
                          capture_output=True, env=checkout.environment)  # fmt: skip
    assert done.returncode == 0, done.stdout
    checkout.assay("pipeline")
    assert checkout.assay("run", "ring_memory").returncode == 0
    (verdict,) = json.loads(checkout.assay("verdicts", "--json").stdout)
    assert verdict["verdict"] == "reproduced"
    assert checkout.assay("check").returncode == 0
    formatted = subprocess.run([sys.executable, "-m", "ruff", "format", "--check", "methods", "tests"], text=True,
                               cwd=checkout.root, capture_output=True)  # fmt: skip
    assert formatted.returncode == 0, formatted.stdout
    again = checkout.assay("new", "ring_memory")
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert checkout.assay("new", "Ring-Memory").returncode == 2


def test_tuning_gives_every_method_the_same_trials(checkout: Checkout) -> None:
    checkout.paper("toy", """
def validation_score(method, hyperparameters, seed):
    with Path(__file__).with_name("log").open("a") as file:
        file.write(f"{method} {seed} {sorted(hyperparameters.items())}\\n")
    return float("nan") if hyperparameters["lr"] == 10.0 else hyperparameters["lr"]

@experiment(quick=dict())
def toy(run):
    with run.method("good") as m:
        m["lr"] = run.tuned("good")["lr"]
""")  # fmt: skip
    (checkout.root / "methods/toy/contenders.py").write_text("""
from assay.contenders import Contender
CONTENDERS = {
    "good": Contender(dict, space=dict(lr=[0.1, 1.0], width=[1, 2])),
    "bad": Contender(dict, space=dict(lr=[0.1, 1.0, 10.0])),
}
""")
    done = checkout.assay("tune", "toy", "--trials", "3")
    assert done.returncode == 0, done.stderr
    log = [line.split(" ", 2) for line in (checkout.root / "methods/toy/log").read_text().splitlines()]
    seeds = [(method, int(seed)) for method, seed, _ in log]
    assert seeds == [(method, seed) for method in ("good", "bad") for seed in range(1000, 1003)]
    assert len({(method, setting) for method, _, setting in log}) == 6
    tuned = json.loads((checkout.root / "methods/toy/tuned.json").read_text())
    assert [tuned["trials"], *(best["trials"] for best in tuned["methods"].values())] == [3, 3, 3]
    assert {method: best["hyperparameters"]["lr"] for method, best in tuned["methods"].items()} == {
        "good": 1.0,
        "bad": 1.0,
    }
    checkout.assay("run")
    rows = json.loads((checkout.root / "results/quick/toy.json").read_text())["rows"]
    assert [row["value"] for row in rows if row["metric"] == "lr"] == [1.0]


def test_the_doctor_says_what_the_machine_can_do(checkout: Checkout) -> None:
    done = checkout.assay("doctor")
    assert done.returncode == 0, done.stderr
    assert {"cpu", "gpu", "energy", "disk", "mirror"} <= {line.split()[0] for line in done.stdout.splitlines()}
