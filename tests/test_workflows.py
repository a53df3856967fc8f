"""What the workflows call exists, nothing untrusted reaches a shell, and an issue is opened only for a regression."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from assay import ROOT
from assay.cli import app
from assay.nights.record import Night, save_night
from datasets import info

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
NIGHT = Night({"commit": "a" * 40, "cpu": "one", "gpu": None, "versions": {}}, {}, {}, {"toy.call": {"peak_bytes": 8}})


def jobs(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load(path.read_text())["jobs"].values())


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path) for step in job["steps"]]


def scripts(path: Path) -> list[str]:
    return [step["run"] for step in steps(path) if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_asks_for_little_and_ends(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert set(workflow["permissions"]) <= {"contents"}
    assert "concurrency" in workflow
    for job in jobs(path):
        assert job["timeout-minutes"] > 0
        assert all(step["uses"].startswith("actions/") for step in job["steps"] if "uses" in step)
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_expression_is_pasted_into_a_shell(path: Path) -> None:
    """What comes from outside goes through the environment, where a shell takes it as a value."""
    assert not any("${{" in script for script in scripts(path))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_calls_exists(path: Path) -> None:
    text = "\n".join(scripts(path))
    assert set(re.findall(r"\bmake ([a-z]+)", text)) <= TARGETS
    assert set(re.findall(r"\bassay ([a-z]+)", text)) <= set(get_command(app).commands)  # type: ignore[attr-defined]
    for script in re.findall(r"(?<!\S)\.(?:github|ci)/[\w-]+", text):
        assert os.access(ROOT / script, os.X_OK), script
    for folder in re.findall(r"\btests/\w+", text):
        assert (ROOT / folder).is_dir(), folder
    ids = {step["id"] for step in steps(path) if "id" in step}
    assert set(re.findall(r"steps\.(\w+)\.", path.read_text())) <= ids


def test_the_night_goes_on_when_a_step_fails_and_always_reports() -> None:
    """A paper that fails must hide neither the alarm nor the report."""
    found = {step.get("name"): step.get("if", "") for step in steps(ROOT / ".github/workflows/nightly-gpu.yml")}
    after = list(found)[list(found).index("Profile gpu") + 1 :]
    assert all("cancelled()" in found[name] or "always()" in found[name] for name in after)
    assert "always()" in found["Report"]
    assert (
        "steps.compare.outputs.confirmed == 'true'"
        in found["Open an issue for what is confirmed, or comment on the open one"]
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actionlint_finds_nothing(path: Path) -> None:
    actionlint = shutil.which("actionlint")
    if actionlint is None:
        pytest.skip("actionlint is not installed")
    done = subprocess.run([actionlint, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_real_files_are_laid_out_as_the_tests_look_for_them(tmp_path: Path) -> None:
    mirror = os.environ.get("ASSAY_MIRROR")
    if mirror is None:
        pytest.skip("Bitcoin data comes from upstream or a mirror: set ASSAY_MIRROR")
    command = [sys.executable, ROOT / ".github/mirror", tmp_path, "bitcoin_otc"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    for file in info("bitcoin_otc").files:
        assert (tmp_path / str(file.mirror)).read_bytes() == (Path(mirror) / str(file.mirror)).read_bytes()
    ci = next(path for path in WORKFLOWS if path.stem == "ci")
    job = yaml.safe_load(ci.read_text())["jobs"]["real-files"]
    cached = next(step["with"]["path"] for step in job["steps"] if "cache" in step.get("uses", ""))
    assert job["env"]["ASSAY_MIRROR"].endswith(f"/{cached}")
    assert any(f".github/mirror {cached}" in step.get("run", "") for step in job["steps"])


class Runner:
    """A runner's folder with files of nights, and the two commands that its scripts call on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.command("assay", f'exec "{sys.executable}" -m assay "$@"')
        for name, size in (("before", 8), ("same", 8), ("grown", 9), ("shrunk", 7)):
            # of another machine, so that exact counts are compared and nothing is timed
            where = {"cpu": "two", "commit": "b" * 40} if name == "before" else {}
            night = replace(NIGHT, provenance=NIGHT.provenance | where, counts={"toy.call": {"peak_bytes": size}})
            save_night(night, folder / f"{name}.json")

    def command(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
                       "PYTHONPATH": str(ROOT), "GITHUB_OUTPUT": "output"}  # fmt: skip
        return subprocess.run([ROOT / ".github" / script, *arguments], cwd=self.folder, env=environment, text=True,
                              capture_output=True, timeout=280)  # fmt: skip


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.mark.parametrize(("night", "before", "release", "confirmed", "fails"), [
    ("same.json", "before.json", "", "false", False),
    ("shrunk.json", "none.json", "before.json", "false", False),
    ("grown.json", "before.json", "no-such-tag", "true", True),
    ("same.json", "none.json", "no-such-tag", "false", True),
])  # fmt: skip
def test_only_a_regression_is_confirmed_and_an_error_is_no_regression(
    runner: Runner, night: str, before: str, release: str, confirmed: str, fails: bool
) -> None:
    done = runner.run("alarm", night, before, release)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    assert (runner.folder / "output").read_text() == f"confirmed={confirmed}\n"
    assert ("GREW" in (runner.folder / "alarm.txt").read_text()) == (confirmed == "true")


@pytest.mark.parametrize("is_open", [True, False])
def test_one_issue_is_open_at_a_time_and_a_second_regression_comments_on_it(runner: Runner, is_open: bool) -> None:
    """`gh` stands for GitHub: it notes what it is asked, and what it gets as a body."""
    runner.command("gh", f'echo "$@" >> calls; case "$1 $2" in "issue create"|"issue comment") cat > body;; '
                         f'"issue list") echo "{7 if is_open else ""}";; esac')  # fmt: skip
    (runner.folder / "alarm.txt").write_text("toy.call GREW $(rm -r x) `ls`\n")
    for command in (
        ("init", "-q"),
        ("-c", "user.name=n", "-c", "user.email=n@h", "commit", "-q", "--allow-empty", "-mx"),
    ):
        subprocess.run(["git", *command], cwd=runner.folder, check=True)
    done = runner.run("open-issue", "alarm.txt")
    assert done.returncode == 0, done.stderr
    calls = (runner.folder / "calls").read_text()
    assert ("issue create" in calls) != is_open
    assert ("issue comment 7 " in calls) == is_open
    body = (runner.folder / "body").read_text()
    assert "toy.call GREW $(rm -r x) `ls`" in body
    assert body.startswith("Regression confirmed at ") == is_open
