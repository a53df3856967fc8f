"""One paper's run: what is asked for is executed, and broken code leaves a result that says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import typer

import methods
from assay import ROOT, running
from assay.card import Card
from assay.errors import AssayError
from assay.jobs import Report
from assay.provenance import this_machine
from assay.record import load_result, result_path
from assay.worker import Job
from tests.assay.claims import card_of

TOY = """
from assay.experiment import experiment

@experiment(quick=dict(replicates=2, datasets=[]))
def one(run): ...

@experiment(quick=dict(replicates=1, datasets=[]))
def two(run): ...
"""


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """A paper with three jobs, in a checkout whose harness is this one."""
    slug = f"ran_{tmp_path.name}".lower()
    folder = tmp_path / "methods" / slug
    folder.mkdir(parents=True)
    for name in ("assay", "datasets"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "__init__.py").touch()
    (folder / "experiments.py").write_text(TOY)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "methods")])
    monkeypatch.setattr(running, "ROOT", tmp_path)
    return card_of(value="a - b", bar="> 0").model_copy(update={"slug": slug, "path": folder / "paper.yaml"})


def run(card: Card, *experiments: str, by: running.Execute | None = None) -> list[str]:
    """The jobs that were handed to be executed."""
    seen: list[str] = []

    def execute(jobs: list[Job], report: Report) -> None:
        seen.extend(f"{job.experiment} {job.seed}" for job in jobs)
        if by is not None:
            by(jobs, report)

    running.run_paper(card, "quick", list(experiments), this_machine(None), execute)
    return seen


def stored(card: Card) -> list[str]:
    path = result_path(running.ROOT, "quick", card.slug)
    return [f"{job.experiment} {job.seed} {job.status}" for job in load_result(path).jobs]


def test_only_the_experiments_that_were_asked_for_are_executed(paper: Card, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(paper) == ["one 0", "one 1", "two 0"]
    assert run(paper, "two") == ["two 0"]
    assert stored(paper) == ["one 0 missing", "one 1 missing", "two 0 missing"]  # planned, and not done
    assert f"{paper.slug} quick: ran 1 of 3 jobs, 0 failed" in capsys.readouterr().out
    with pytest.raises(AssayError, match="did you mean two"):
        run(paper, "twoo")


def test_an_interrupted_run_keeps_what_there_is_and_says_how_to_go_on(
    paper: Card, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(jobs: list[Job], report: Report) -> None:
        raise KeyboardInterrupt

    with pytest.raises(typer.Exit) as ended:
        run(paper, by=interrupted)
    assert ended.value.exit_code == 130
    assert len(stored(paper)) == 3
    assert "interrupted; finished jobs are kept" in capsys.readouterr().err


def test_broken_code_leaves_a_result_that_names_it_and_replaces_none_that_is_committed(paper: Card) -> None:
    experiments = paper.path.parent / "experiments.py"
    experiments.write_text(TOY + "import nothing_of_this_name\n")
    assert run(paper) == []
    assert stored(paper) == ["one 0 failed", "two 0 failed"]
    path = result_path(running.ROOT, "quick", paper.slug)
    assert "nothing_of_this_name" in str(load_result(path).jobs[0].reason)
    committed = result_path(running.ROOT, "standard", paper.slug)
    committed.parent.mkdir()
    committed.write_bytes(before := path.read_bytes())
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        running.run_paper(paper, "standard", [], this_machine(None), lambda jobs, report: None)
    assert committed.read_bytes() == before


def test_a_script_that_ends_python_when_it_is_imported_is_broken_code(paper: Card) -> None:
    (paper.path.parent / "experiments.py").write_text(TOY + "raise SystemExit(3)\n")
    assert run(paper) == []
    path = result_path(running.ROOT, "quick", paper.slug)
    assert "ends Python when it is imported: SystemExit(3)" in str(load_result(path).jobs[0].reason)


def test_one_gpu_runs_one_job_at_a_time_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(running, "run_jobs", lambda jobs, workers, report: asked.append(workers))
    for profile, limit in (("gpu", None), ("gpu", 3), ("quick", 2)):
        with running.machine_and_executor(None, profile, limit) as (_, execute):  # type: ignore[arg-type]
            execute([], lambda job, record: None)
    assert asked == [1, 3, 2]
