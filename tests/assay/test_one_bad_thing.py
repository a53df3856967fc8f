"""What is wrong with one paper is named, with its file and field, and stops no other."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import assay as project
from assay import cli, judging, problems, running
from assay.card import load_card
from assay.record import Result, load_result, result_path, save_result
from assay.verdict import INCONCLUSIVE, judge
from tests.assay.claims import result_of, rows
from tests.checkout import CARD, Checkout

Assay = Callable[..., tuple[int, str, str]]
VERDICT = "good-is-better  reproduced"
EXPERIMENTS = "@experiment(quick=dict())\ndef toy(run): ...\n"
MARKUP = r"[/b] [red]<script>alert(1)</script>$\frac{1}{2}$ & |`x`|"


def measured(card: str = CARD, root: Path | None = None, slug: str = "toy") -> Result:
    found = rows("good", [2.0, 2.1, 2.2], metric="score") + rows("bad", [1.0, 1.3, 1.1], metric="score")
    plain = result_of(found)
    assert root is not None
    claims = {"good-is-better": load_card(root / "methods" / slug / "paper.yaml").claims["good-is-better"].hash()}
    fields = {**vars(plain), "paper": slug, "profile": "quick", "replicates": {"toy": 3}, "claims": claims}
    fields["rows"] = [row.__class__(**{**vars(row), "experiment": "toy"}) for row in plain.rows]
    fields["jobs"] = [job.__class__(**{**vars(job), "experiment": "toy"}) for job in plain.jobs]
    return Result(**fields)


def paper(root: Path, slug: str, card: str = CARD) -> None:
    folder = root / "methods" / slug
    folder.mkdir(parents=True)
    (folder / "paper.yaml").write_text(CARD)
    (folder / "experiments.py").write_text(EXPERIMENTS)
    save_result(measured(card, root, slug), result_path(root, "quick", slug))
    (folder / "paper.yaml").write_text(card)


@pytest.fixture
def assay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Assay:
    """The command line in this process, in a folder of its own with one good paper, `ok`."""
    for module in (cli, judging, problems, running):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    paper(tmp_path, "ok")
    (tmp_path / "methods" / "__init__.py").touch()  # the mark of a project

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["assay", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


COMMANDS: list[tuple[str, ...]] = [
    ("list",), ("list", "--json"), ("verdicts",), ("verdicts", "--json"), ("verdicts", "--metrics"), ("report",),
]  # fmt: skip


def the_good_paper_is_there(root: Path, command: tuple[str, ...], shown: str) -> None:
    if command == ("report",):
        assert "good beats bad" in (root / "site" / "papers" / "ok.html").read_text()
        assert "papers/ok.html" in (root / "site" / "index.html").read_text()
    elif command == ("verdicts", "--metrics"):
        assert json.loads((root / "results/quick/metrics/ok.json").read_text())["reproduced"] == 1
    elif "--json" in command:
        assert "ok" in [found["paper"] for found in json.loads(shown)]
    else:
        assert "ok" in shown
        assert command == ("list",) or f"ok  quick  {VERDICT}" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_wrong_with_two_good_papers(tmp_path: Path, assay: Assay, command: tuple[str, ...]) -> None:
    paper(tmp_path, "toy")
    code, shown, said = assay(*command)
    assert (code, said) == (0, "")
    the_good_paper_is_there(tmp_path, command, shown)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("card", "experiments", "problem"),
    [
        (
            CARD.replace("from toy", "feeling"),
            EXPERIMENTS,
            r"methods/toy/paper.yaml:13: claims.good-is-better.test: `feeling`",
        ),
        ("{", EXPERIMENTS, "methods/toy/paper.yaml:2: not valid YAML"),
        ("- 1\n", EXPERIMENTS, "methods/toy/paper.yaml:1: a card is a mapping"),
        (CARD, "def toy(run:\n", "methods/toy/experiments.py:1: is no Python"),
    ],
)
def test_a_card_or_an_experiment_that_cannot_be_read_is_named_and_the_others_go_on(
    tmp_path: Path, assay: Assay, command: tuple[str, ...], card: str, experiments: str, problem: str
) -> None:
    paper(tmp_path, "toy")
    (tmp_path / "methods/toy/paper.yaml").write_text(card)
    (tmp_path / "methods/toy/experiments.py").write_text(experiments)
    code, shown, said = assay(*command)
    assert code == 2
    assert said.startswith("assay: ")
    assert problem in said
    assert said.count(problem) == 1
    the_good_paper_is_there(tmp_path, command, shown)
    assert assay("show", "ok")[0] == 0
    code, _, said = assay("show", "toy")
    assert code == 2
    assert problem in said


@pytest.mark.parametrize("command", COMMANDS[2:])
@pytest.mark.parametrize("damage", ["", "{", '{"schema": 1}', '{"schema": 99}', "[]", "null"])
def test_a_damaged_result_is_named_and_the_others_go_on(
    tmp_path: Path, assay: Assay, command: tuple[str, ...], damage: str
) -> None:
    paper(tmp_path, "toy")
    result_path(tmp_path, "quick", "toy").write_text(damage)
    code, shown, said = assay(*command)
    assert code == 2
    assert said.count("results/quick/toy.json") == 1
    the_good_paper_is_there(tmp_path, command, shown)
    assert assay("show", "ok")[0] == 0
    assert assay("show", "toy")[0] == 2


@pytest.mark.parametrize("command", COMMANDS[2:])
def test_a_claim_that_divides_by_zero_says_so_and_the_others_are_judged(
    tmp_path: Path, assay: Assay, command: tuple[str, ...]
) -> None:
    paper(tmp_path, "toy", CARD.replace("good - bad", "1 / (1 - 1) + good"))
    code, shown, said = assay(*command)
    assert (code, said) == (int(command[0] == "verdicts"), "")
    assert assay("--exit-zero", *command)[0] == 0
    the_good_paper_is_there(tmp_path, command, shown)
    if command == ("verdicts",):
        assert "toy  quick  good-is-better  untested" in shown
        assert "toy, claim good-is-better, profile quick: 1 / (1 - 1): division by zero" in shown


def test_whatever_judging_raises_is_named_with_its_place(
    tmp_path: Path, assay: Assay, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper(tmp_path, "toy")
    real = judging.judge

    def fails(card: Any, *rest: Any) -> Any:
        return 1 / 0 if card.slug == "toy" else real(card, *rest)

    monkeypatch.setattr(judging, "judge", fails)
    code, shown, _ = assay("verdicts")
    assert code == 1
    assert assay("verdicts", "--profile", "standard")[0] == 0  # which never ran
    assert "the card's claim cannot be judged: ZeroDivisionError" in shown
    assert f"ok  quick  {VERDICT}" in shown


@pytest.mark.parametrize("command", [*COMMANDS, ("show", "toy")])
def test_markup_in_a_title_an_idea_and_a_claim_stays_text(
    tmp_path: Path, assay: Assay, command: tuple[str, ...]
) -> None:
    card = CARD.replace("title: A toy", f"title: '{MARKUP}'").replace(
        "idea: To test", f"idea: '{MARKUP}'\nurl: 'https://x.y'\n#"
    )
    card = card.replace("says: good beats bad.", f"says: '{MARKUP}'").replace("why: a test", f"why: '{MARKUP}'")
    paper(tmp_path, "toy", card)
    code, shown, said = assay(*command)
    assert (code, said) == (0, "")
    if command in (("show", "toy"), ("list",)):
        assert "[/b]" in shown
        assert "<script>" in shown
    if command == ("report",):
        for page in (tmp_path / "site").rglob("*.html"):
            assert "<script>alert" not in page.read_text()
    if command[0] != "show":
        the_good_paper_is_there(tmp_path, command, shown)


def test_escape_characters_of_a_result_never_reach_the_terminal(tmp_path: Path, assay: Assay) -> None:
    paper(tmp_path, "toy")
    path = result_path(tmp_path, "quick", "toy")
    found = load_result(path)
    nasty = "\x1b[31mred\x07\x9b1A \u202e"
    bad = [row.__class__(**{**vars(row), "value": None, "reason": nasty}) for row in found.rows]
    save_result(Result(**{**vars(found), "rows": bad}), path)
    for command in (("verdicts",), ("show", "toy"), ("verdicts", "--json")):
        code, shown, _ = assay(*command)
        assert code == 0
        assert "red" in shown
        assert not {"\x1b", "\x07", "\x9b"} & set(shown)
    json.loads(assay("verdicts", "--json")[1])


def test_json_stays_json_where_colours_are_forced(
    tmp_path: Path, assay: Assay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    for command in ("list", "verdicts"):
        assert json.loads(assay(command, "--json")[1])[0]["paper"] == "ok"


def test_a_run_names_the_paper_whose_code_is_broken_and_runs_the_others(checkout: Checkout) -> None:
    toy = "@experiment(quick=dict(replicates=3))\ndef toy(run):\n    for name in ('good', 'bad'):\n" \
          "        with run.method(name) as m:\n            m['score'] = run.seed + (name == 'good')\n"  # fmt: skip
    checkout.paper("absent", toy + "import nothing_of_this_name\n")
    checkout.paper("broken", toy)
    checkout.write("methods/broken/model.py", "def f(:\n")
    checkout.write("methods/broken/experiments.py", "from assay.experiment import experiment\n"
                   "from methods.broken import model\n" + toy)  # fmt: skip
    checkout.paper("whole", toy)
    done = checkout.assay("run")
    assert "Traceback" not in done.stderr
    assert "whole quick: ran 3 of 3 jobs, 0 failed" in done.stdout
    assert "absent quick: methods/absent/experiments.py:" in done.stderr
    assert "No module named 'nothing_of_this_name'" in done.stderr
    assert "methods/broken/model.py:1: " in done.stderr
    stored = load_result(checkout.root / "results/quick/absent.json")
    assert [job.status for job in stored.jobs] == ["failed"]
    assert done.returncode == 1
    assert load_result(checkout.root / "results/quick/broken.json").failures()
    again = checkout.assay("run", "absent", "whole")
    assert again.returncode == 1
    assert "whole quick: ran 0 of 3 jobs" in again.stdout
    card = load_card(checkout.root / "methods/absent/paper.yaml")
    assert judge(card, "good-is-better", stored, "quick").verdict == INCONCLUSIVE
    checked = checkout.assay("check")
    assert checked.returncode == 1
    assert "absent: toy #0: failed: methods/absent/experiments.py" in checked.stderr


def test_one_claim_is_shown_in_full(tmp_path: Path, assay: Assay) -> None:
    code, shown, _ = assay("show", "ok", "good-is-better")
    assert code == 0
    for said in ("good-is-better: good beats bad.", "whose:     the paper's", "compared:  good - bad", "bar:       > 0",
                 "because:   a test", "quick:  reproduced", "the whole interval meets > 0"):  # fmt: skip
        assert said in shown
    code, _, said = assay("show", "ok", "good-is-bettr")
    assert code == 2
    assert "no claim of ok 'good-is-bettr'; did you mean good-is-better?" in said


def test_verdicts_are_filtered_by_word(tmp_path: Path, assay: Assay) -> None:
    paper(tmp_path, "toy", CARD.replace("good - bad", "bad - good"))
    found = json.loads(assay("verdicts", "--verdict", "contradicted", "--json")[1])
    assert [v["paper"] for v in found] == ["toy"]
    assert VERDICT in assay("verdicts", "--verdict", "reproduced")[1]
    assert "did you mean contradicted?" in assay("verdicts", "--verdict", "contradictd")[2]


def test_a_paper_can_be_checked_alone_and_the_version_is_told(tmp_path: Path, assay: Assay) -> None:
    paper(tmp_path, "toy")
    result_path(tmp_path, "quick", "toy").unlink()
    assert assay("check", "ok") == (0, "", "")
    code, _, said = assay("check", "toy")
    assert code == 1
    assert "toy: no result in profile quick" in said
    assert assay("--version")[1].startswith("assay ")


def test_a_paper_whose_card_is_broken_is_stored_as_failed_and_a_pipeline_goes_on(tmp_path: Path, assay: Assay) -> None:
    paper(tmp_path, "toy", "{")
    result_path(tmp_path, "quick", "toy").unlink()
    code, _, said = assay("run", "toy")
    assert code == 2
    assert "methods/toy/paper.yaml:2: not valid YAML" in said
    (job,) = load_result(result_path(tmp_path, "quick", "toy")).jobs
    assert (job.experiment, job.status) == ("toy", "failed")
    assert "not valid YAML" in str(job.reason)
    assert assay("--exit-zero", "run", "toy")[0] == 0
    assert assay("--exit-zero", "verdicts", "--metrics")[0] == 0
    of_toy = json.loads((tmp_path / "results/quick/metrics/toy.json").read_text())
    assert (of_toy["reproduced"], of_toy["failed_jobs"]) == (0, 1)
    assert assay("--exit-zero", "report")[0] == 0
    assert assay("check")[0] == 2


def test_a_committed_result_is_not_replaced_by_a_failure(tmp_path: Path, assay: Assay) -> None:
    paper(tmp_path, "toy", "{")
    kept = result_path(tmp_path, "standard", "toy")
    kept.parent.mkdir()
    kept.write_text("kept")
    assert assay("run", "toy", "--profile", "standard")[0] == 2
    assert kept.read_text() == "kept"


def test_the_page_of_one_paper_is_written_alone(tmp_path: Path, assay: Assay) -> None:
    paper(tmp_path, "toy")
    assert assay("report")[0] == 0
    for path in (tmp_path / "site").rglob("*.html"):
        path.write_text("old")
    code, shown, _ = assay("report", "toy")
    page = tmp_path / "site" / "papers" / "toy.html"
    assert (code, shown) == (0, f"{page}\n")
    assert "good beats bad" in page.read_text()
    assert {path.read_text() for path in (tmp_path / "site").rglob("*.html") if path != page} == {"old"}


def test_a_shell_completes_papers_and_claims(tmp_path: Path, assay: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    paper(tmp_path, "toy")

    def completed(line: str) -> list[str]:
        monkeypatch.setenv("_ASSAY_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        return assay()[1].split()

    assert completed("assay show ") == ["ok", "toy"]
    assert completed("assay verdicts ok t") == ["toy"]
    assert completed("assay show ok good") == ["good-is-better"]
    assert completed("assay run ok --profile st") == ["standard"]


def test_a_shell_is_shown_what_completes_in_it() -> None:
    """Which shell that is, is found among the processes above, so a real one has to be there."""
    command = shlex.join([sys.executable, "-m", "assay", "--show-completion"])
    shown = subprocess.run(["bash", "-c", f"{command}; exit $?"], capture_output=True, text=True, cwd=project.ROOT)
    assert shown.returncode == 0, shown.stderr
    assert "COMPLETE=complete_bash" in shown.stdout
