"""DVC reruns what an edit touches and nothing else, and is quick when there is nothing to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay import ROOT
from tests.checkout import CARD, Checkout

pytest.importorskip("dvc", reason="the pipeline needs dvc")

LOGGED = """
@experiment(quick=dict(replicates=3, datasets=[]), gpu=dict(datasets=[]))
def toy(run):
    with Path(__file__).with_name("log").open("a") as file:
        file.write("ran\\n")
    for name in ("good", "bad"):
        with run.method(name) as m:
            m["score"] = float(torch.rand(()))
"""


def dvc(checkout: Checkout, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**checkout.environment, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                   "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=checkout.root, text=True, capture_output=True,
                          env=environment)  # fmt: skip


def repro(checkout: Checkout) -> str:
    done = dvc(checkout, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start(checkout: Checkout) -> None:
    subprocess.run(["git", "init", "-q"], cwd=checkout.root, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=checkout.root, check=True)
    for name in (".gitignore", ".dvcignore", ".dvc/config"):
        shutil.copy(ROOT / name, checkout.root / name)
    assert checkout.assay("pipeline").returncode == 0


def log(checkout: Checkout, slug: str) -> int:
    return (checkout.root / "methods" / slug / "log").read_text().count("ran")


def test_an_edit_reruns_exactly_what_it_touches(checkout: Checkout) -> None:
    checkout.paper("one", LOGGED)
    checkout.paper(
        "two", LOGGED + '\n@experiment(quick=dict(datasets=[]))\ndef fails(run):\n    raise ValueError("no")\n'
    )
    start(checkout)
    repro(checkout)
    assert (log(checkout, "one"), log(checkout, "two")) == (3, 3)
    assert (checkout.root / "site/index.html").exists(), "a failed job must not stop the report"
    assert checkout.assay("check").returncode == 1

    assert "Running stage" not in repro(checkout)

    card = checkout.root / "methods/one/paper.yaml"
    card.write_text(card.read_text().replace("To test", "To try"))
    printed = repro(checkout)
    assert "Running stage 'verdicts'" in printed
    assert "Running stage 'one'" not in printed

    template = next((checkout.root / "assay/report/templates").glob("*.html"))
    template.write_text(template.read_text() + "\n")
    printed = repro(checkout)
    assert "Running stage 'report'" in printed
    assert "Running stage 'one'" not in printed
    assert (log(checkout, "one"), log(checkout, "two")) == (3, 3)

    checkout.paper("one", LOGGED + "\nX = 1\n", card.read_text())
    printed = repro(checkout)
    assert "Running stage 'one'" in printed
    assert "Running stage 'two'" not in printed
    assert (log(checkout, "one"), log(checkout, "two")) == (6, 3)

    shown = dvc(checkout, "metrics", "show", "--md")
    header, _, *rows = shown.stdout.strip().splitlines()
    assert {"reproduced", "inconclusive", "untested", "failed_jobs", "seconds"} <= {
        c.strip() for c in header.split("|")
    }
    assert len(rows) == 2


def of_51_papers(checkout: Checkout) -> None:
    for index in range(51):
        parts = [f"part_{i}" for i in range(6)]
        checkout.paper(f"paper_{index}", f"from methods.paper_{index} import {', '.join(parts)}\n{LOGGED}", CARD)
        for part in parts:
            checkout.write(f"methods/paper_{index}/{part}.py", "")
    start(checkout)
    # What the stages leave behind, committed as if they had run: running them is what the other test does.
    for slug in (f"paper_{index}" for index in range(51)):
        checkout.write(f"results/quick/{slug}.json", "{}")
        checkout.write(f"results/quick/metrics/{slug}.json", "{}")
    for place in ("results/quick/plots/lines/none.csv", "results/quick/plots/bars/none.csv", "site/index.html"):
        checkout.write(place, "")
    done = dvc(checkout, "commit", "--force", "--quiet")
    assert done.returncode == 0, done.stderr


def test_with_51_papers_a_paper_depends_on_nothing_of_another(checkout: Checkout) -> None:
    """So that dvc looks at each file for its own paper alone, and at none twice when there is nothing to do."""
    of_51_papers(checkout)
    stages = yaml.safe_load((checkout.root / "dvc.yaml").read_text())["stages"]
    assert len(stages) == 53
    assert len(yaml.safe_load((checkout.root / "pipelines/gpu/dvc.yaml").read_text())["stages"]) == 51
    of_methods = {slug: [dep for dep in stages[slug]["deps"] if dep.startswith("methods/paper_")]
                  for slug in stages if slug.startswith("paper_")}  # fmt: skip
    assert len(of_methods) == 51
    assert all(dep.startswith(f"methods/{slug}/") for slug, deps in of_methods.items() for dep in deps)
    assert {len(deps) for deps in of_methods.values()} == {8}  # six parts, the experiments and the package
    printed = repro(checkout)
    assert "Running stage" not in printed
    assert printed.count("didn't change, skipping") == 53


def test_nothing_to_do_with_51_papers(checkout: Checkout, benchmark: Any) -> None:
    of_51_papers(checkout)
    benchmark.pedantic(repro, args=(checkout,), rounds=3)


def test_the_gpu_pipeline_is_one_of_its_own(checkout: Checkout) -> None:
    """The root's pipeline leaves it alone; it fetches with the root's stages, and where there is no GPU it says so."""
    checkout.paper("on_gpu", LOGGED, CARD + "datasets: {quick: [movielens_100k], gpu: [movielens_100k, wiki]}\n")
    checkout.paper("on_cpu", LOGGED.replace(", gpu=dict(datasets=[])", ""))
    start(checkout)
    stages = yaml.safe_load((checkout.root / "pipelines/gpu/dvc.yaml").read_text())["stages"]
    assert set(stages) == {"fetch-wiki", "on_gpu"}
    assert {"data/movielens_100k", "data/wiki"} <= set(stages["on_gpu"]["deps"])
    # As if fetched: getting data is another test's matter.
    checkout.write("data/movielens_100k/file", "")
    checkout.write("data/wiki/file", "")
    for stage in ("fetch-movielens_100k", "pipelines/gpu/dvc.yaml:fetch-wiki"):
        assert dvc(checkout, "commit", "--force", "--quiet", stage).returncode == 0

    done = dvc(checkout, "repro", "--keep-going", "pipelines/gpu/dvc.yaml")
    assert done.returncode != 0
    assert "Stage 'fetch-movielens_100k' didn't change" in done.stdout
    assert "Running stage 'pipelines/gpu/dvc.yaml:on_gpu'" in done.stdout
    assert "profile gpu needs a CUDA GPU" in done.stderr
    assert "pipelines/gpu" not in repro(checkout)


def test_without_a_gpu_paper_the_gpu_pipeline_is_empty(checkout: Checkout) -> None:
    checkout.paper("on_cpu", LOGGED.replace(", gpu=dict(datasets=[])", ""))
    start(checkout)
    assert dvc(checkout, "repro", "pipelines/gpu/dvc.yaml").returncode == 0


def test_each_stale_file_is_named(checkout: Checkout) -> None:
    checkout.paper("one", LOGGED)
    start(checkout)
    assert checkout.assay("pipeline", "--check").returncode == 0
    for name in ("dvc.yaml", "pipelines/gpu/dvc.yaml", "params.json"):
        fresh = (checkout.root / name).read_text()
        checkout.write(name, fresh + "# edited\n")
        stale = checkout.assay("pipeline", "--check")
        assert stale.returncode == 2
        assert f"{name} is stale" in stale.stderr
        checkout.write(name, fresh)


def test_a_second_checkout_that_shares_the_cache_measures_for_itself(tmp_path: Path) -> None:
    """DVC's run cache would hand it the results of the first, as if they were its own."""
    checkouts = [Checkout(tmp_path / name) for name in ("first", "second")]
    for checkout in checkouts:
        checkout.paper("one", LOGGED)
        start(checkout)
        checkout.write(".dvc/config.local", f"[cache]\n    dir = {tmp_path / 'cache'}\n")
        assert "Running stage 'one'" in repro(checkout)
        assert log(checkout, "one") == 3
    result = checkouts[1].root / "results/quick/one.json"
    shown = checkouts[1].assay("show", "one").stdout
    assert f", on {json.loads(result.read_text())['provenance']['cpu']}" in shown
    assert "Running stage" not in repro(checkouts[1])
    result.unlink()
    repro(checkouts[1])
    assert result.exists()
    assert log(checkouts[1], "one") == 3, "its own finished jobs are not run again"
