"""What users of DVC expect: metrics, plots, and experiments that take parameters."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from assay import ROOT
from assay.card import Card, load_card
from assay.errors import JobError
from assay.params import changes, params_text
from assay.record import load_result
from tests.assay.test_pipeline import dvc, repro, start
from tests.checkout import CARD, Checkout

pytest.importorskip("dvc", reason="the pipeline needs dvc")

SAMPLE = """
COUNT = 3

@experiment(quick=dict(replicates=COUNT, datasets=[]))
def toy(run):
    for size in (1, 2):
        for name in ("good", "bad"):
            with run.method(name, size=size) as m:
                m["score"] = run.seed + 0.1 * size + (name == "good") * (1 + 0.01 * run.seed)
"""
FIGURED = CARD.replace("good - bad", "good[size=1] - bad[size=1]") + (
    "figures:\n  - {title: Score against size, experiment: toy, x: size, y: score}\n"
)


def test_metrics_and_plots_are_shown_and_an_experiment_takes_parameters(checkout: Checkout) -> None:
    checkout.paper("one", SAMPLE, FIGURED)
    start(checkout)
    shutil.copytree(ROOT / ".dvc" / "plots", checkout.root / ".dvc" / "plots")
    for command in (("add", "-A"), ("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "a")):
        subprocess.run(["git", *command], cwd=checkout.root, check=True)
    repro(checkout)

    shown = json.loads(dvc(checkout, "metrics", "show", "--json").stdout)
    found = shown[""]["data"]["results/quick/metrics/one.json"]["data"]
    assert (found["headline"], found["verdict"]) == ("good-is-better", "reproduced")
    assert found["ours"] == pytest.approx(1.01)

    table = checkout.root / "results/quick/plots/lines/one-01-score-against-size.csv"
    assert table.read_text().splitlines()[:2] == ["x,y,series", "1,1.1,bad"]
    drawn = dvc(checkout, "plots", "show", "--show-vega", str(table.relative_to(checkout.root)))
    assert drawn.returncode == 0, drawn.stderr
    assert '"series"' in drawn.stdout
    assert '"line"' in drawn.stdout

    done = dvc(checkout, "exp", "run", "--quiet", "-S", "params.json:quick.one.toy.replicates=4")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((checkout.root / "results/quick/one.json").read_text())
    assert result["replicates"] == {"toy": 4}
    listed = dvc(checkout, "exp", "show", "--csv").stdout
    assert "quick.one.toy.replicates" in listed
    assert "good-is-better" in listed


@pytest.fixture
def card(tmp_path: Path) -> Card:
    folder = tmp_path / "methods" / "one"
    folder.mkdir(parents=True)
    (folder / "experiments.py").write_text(SAMPLE)
    (folder / "paper.yaml").write_text(CARD)
    return load_card(folder / "paper.yaml")


def test_what_a_file_states_as_the_code_does_changes_nothing(card: Card, tmp_path: Path) -> None:
    text, file = params_text(tmp_path, {"one": card}), tmp_path / "params.json"
    file.write_text(text)
    assert '"replicates": 3' in text
    assert changes(tmp_path, file, card, "quick") == {}
    file.write_text(text.replace('"replicates": 3', '"replicates": 4'))
    assert changes(tmp_path, file, card, "quick") == {"toy": {"replicates": 4}}
    assert changes(tmp_path, file, card, "standard") == {}


@pytest.mark.parametrize(("wrong", "said"), [
    ('{"quick": {"one": {"toys": {"replicates": 3}}}}', "quick.one.toys: no such experiment; there are toy"),
    ('{"quick": {"one": {"toy": {"epochs": 3}}}}', "quick.one.toy.epochs: only replicates and datasets"),
    ('{"quick": {"one": {"toy": {"replicates": 0}}}}', "quick.one.toy.replicates is 0: a whole number from 1"),
    ('{"quick": {"one": {"toy": {"datasets": "csbm"}}}}', "quick.one.toy.datasets is 'csbm'"),
    ('{"quick": {"one": 3}}', "quick.one is 3, no mapping"), ("[", "cannot be read"),
])  # fmt: skip
def test_what_cannot_be_changed_is_named(card: Card, tmp_path: Path, wrong: str, said: str) -> None:
    (tmp_path / "params.json").write_text(wrong)
    with pytest.raises(JobError, match=r"params\.json: ") as raised:
        changes(tmp_path, tmp_path / "params.json", card, "quick")
    assert said in str(raised.value)


def test_a_broken_paper_stops_no_stage_of_another(checkout: Checkout) -> None:
    checkout.paper("broken", "from methods.broken import model\n" + SAMPLE)
    checkout.write("methods/broken/model.py", "")
    checkout.paper("whole", SAMPLE, FIGURED)
    start(checkout)
    checkout.write("methods/broken/model.py", "def f(:\n")
    repro(checkout)
    failed = load_result(checkout.root / "results/quick/broken.json").failures()
    assert "methods/broken/model.py:1: is no Python" in str(failed[0].reason)
    assert "good beats bad" in (checkout.root / "site/papers/whole.html").read_text()
    assert "is no Python" in (checkout.root / "site/papers/broken.html").read_text()
    shown = json.loads(dvc(checkout, "metrics", "show", "--json").stdout)[""]["data"]
    assert shown["results/quick/metrics/whole.json"]["data"]["reproduced"] == 1
    assert shown["results/quick/metrics/broken.json"]["data"]["failed_jobs"] == 1
    checked = checkout.assay("check")
    assert checked.returncode != 0
    assert "methods/broken/model.py:1: is no Python" in checked.stderr
