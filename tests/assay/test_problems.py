"""A problem is named once, with the place in a paper's code, and only what ends a command on purpose passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from assay import ROOT, problems
from assay.errors import AssayError


def raised(file: Path, source: str) -> Exception:
    """What these lines raise, as if they stood in a file."""
    with pytest.raises(Exception, match=r".*") as caught:
        exec(compile(source, str(file), "exec"))
    return caught.value


def test_an_error_names_the_line_of_the_paper_and_not_of_the_library_below_it() -> None:
    paper, library = ROOT / "methods" / "toy" / "model.py", ROOT / "assay" / "toy.py"
    names: dict[str, object] = {}
    exec(compile("def f():\n    return 1 / 0\n", str(library), "exec"), names)
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("\n\nf()\n", str(paper), "exec"), names)
    assert problems.explain(caught.value) == "methods/toy/model.py:3: ZeroDivisionError: division by zero"
    assert problems.explain(raised(library, "\n1 / 0")) == "assay/toy.py:2: ZeroDivisionError: division by zero"


def test_a_syntax_error_names_the_line_that_cannot_be_read() -> None:
    file = ROOT / "methods" / "toy" / "model.py"
    assert problems.explain(raised(file, "\n\ndef f(:\n")).startswith("methods/toy/model.py:3: SyntaxError: ")


def test_an_error_of_the_harness_is_said_as_it_is() -> None:
    assert problems.explain(AssayError("toy: a field")) == "toy: a field"


def test_a_problem_is_said_once_and_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    problems.forget()
    assert not problems.any_named()
    for _ in range(2):
        with problems.named("the page of toy"):
            raise AssayError("a field")
    assert capsys.readouterr().err == "assay: the page of toy: a field\n"
    assert problems.any_named()
    problems.forget()
    assert not problems.any_named()


def test_what_ends_a_command_on_purpose_is_no_problem() -> None:
    problems.forget()
    with pytest.raises(typer.Exit), problems.named("a run"):
        raise typer.Exit(130)
    assert not problems.any_named()


def test_a_name_that_there_is_not_gets_those_that_come_close_or_all() -> None:
    problems.known(["pres"], ["pres", "dagnn"], "paper")
    with pytest.raises(AssayError, match=r"no paper 'prse'; did you mean pres\?"):
        problems.known(["prse"], ["pres", "dagnn"], "paper")
    with pytest.raises(AssayError, match="no paper 'zzz'; there are pres, dagnn"):
        problems.known(["zzz"], ["pres", "dagnn"], "paper")
    with pytest.raises(AssayError, match="there are none"):
        problems.known(["zzz"], [], "paper")
