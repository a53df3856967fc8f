"""What holds of every paper, as scikit-learn checks every estimator. A new paper gets all of it without a line here.

A paper whose experiments need more than smaller parameters to be small says so in `tests/methods/<slug>/small.py`;
see `tests/methods/paper.py` for what that file may hold and what is taken where there is none.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import typing
from collections import defaultdict
from typing import Any

import pytest
import torch

from assay.card import load_card
from tests.methods.blindness import assert_blind, experiments, rows_of, run_small
from tests.methods.claims import assert_claims_find_rows
from tests.methods.docstring import calls_of, run_lines
from tests.methods.paper import EVERY, Paper, numbers_of
from tests.methods.unusual import assert_takes_or_refuses

every = pytest.mark.parametrize("slug", EVERY)


@every
def test_every_experiment_is_blind_seeded_fair_and_gives_every_claim_its_rows(slug: str) -> None:
    paper = Paper(slug)
    with paper.made_small():
        open_to_test = {name: small for name, small in paper.small.items() if name not in paper.sealed}
        without = {**paper.without, **dict.fromkeys(paper.sealed, "compared as a whole")}
        runs = assert_blind(slug, open_to_test, paper.test_data_permuted, paper.test_metrics, without)
        for name in paper.sealed:
            runs[name] = run_small(slug, name, **paper.small[name])
            with paper.test_data_permuted():
                other = rows_of(run_small(slug, name, **paper.small[name]))
            assert other == rows_of(runs[name]), f"{slug} {name} has seen the test data"
        for name, run in runs.items():
            if all(experiments(slug)[name].replicates(p) == 1 for p in experiments(slug)[name].profiles):
                continue
            other = rows_of(run_small(slug, name, seed=1, **paper.small[name]))
            assert other != rows_of(run), f"{slug} {name}: another seed gives the same rows"
        runs |= {name: run_small(slug, name, **small) for name, small in paper.untrained.items()}
    left = set(experiments(slug)) - set(runs) - set(paper.elsewhere)
    assert not left, f"{slug}: not run at any size: {', '.join(sorted(left))}"
    assert_claims_find_rows(slug, runs, elsewhere=paper.elsewhere)
    for name, run in runs.items():
        assert_equal_budgets(slug, name, run.rows)


def assert_equal_budgets(slug: str, experiment: str, rows: list[Any]) -> None:
    """In one setting no baseline is given fewer trials than the proposed method, unless its contender says why."""
    card = load_card(Paper.card_path(slug))
    contenders = importlib.import_module(f"methods.{slug}.contenders").CONTENDERS
    trials: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row.metric == "trials" and row.method is not None:
            trials[str(row.setting)][row.method] = row.value
    for setting, of in trials.items():
        most = max((n for method, n in of.items() if card.methods.get(method) == "proposed"), default=0)
        for method, n in of.items():
            excused = method in contenders and contenders[method].less
            assert n >= most or card.methods.get(method) != "baseline" or excused, (
                f"{slug} {experiment} {setting}: {method} has {n:g} trials, the proposed method {most:g}; "
                f"give it as many, or say in its contender why it has `less`"
            )


@every
def test_every_contender_is_a_method_of_the_card(slug: str) -> None:
    contenders = importlib.import_module(f"methods.{slug}.contenders").CONTENDERS
    unknown = set(contenders) - set(load_card(Paper.card_path(slug)).methods)
    assert not unknown, f"{slug}: contenders that the card does not name: {', '.join(sorted(unknown))}"
    for name, contender in contenders.items():
        recipes = contender.recipe.values() if isinstance(contender.recipe, dict) else [contender.recipe]
        for recipe in recipes if contender.space else ():
            missing = set(contender.space) - {field.name for field in dataclasses.fields(recipe)}
            assert not missing, f"{slug} {name}: searches {', '.join(missing)}, which its recipe does not have"


@every
def test_every_field_of_a_recipe_changes_the_fit_and_so_does_the_seed(slug: str) -> None:
    paper = Paper(slug)
    for name, recipe in paper.recipes().items():
        plain = paper.fitted(name, recipe)
        assert paper.fitted(name, recipe) == plain, f"{slug} {name}: the same seed gives another fit"
        assert paper.fitted(name, recipe, seed=1) != plain, f"{slug} {name}: another seed gives the same fit"
        for field in dataclasses.fields(recipe):
            if field.name in paper.fixed:
                continue
            others = list(_others(getattr(recipe, field.name), typing.get_type_hints(type(recipe))[field.name]))
            changed = [dataclasses.replace(recipe, **{field.name: value}) for value in others]
            same = others and all(paper.fitted(name, other) == plain for other in changed)
            assert not same, f"{slug} {name}: {field.name} = {others} gives the same fit as {recipe}"


def _others(value: Any, kind: Any) -> list[Any]:
    """Other values that a field might have."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 2 * value + 1, max(1, value // 2)]
    if isinstance(value, float):
        return [0.5 * value if value else 0.1]
    return [option for option in typing.get_args(kind) if isinstance(option, str) and option != value]


@every
def test_the_lines_at_the_top_of_the_docstring_run_and_give_finite_numbers(slug: str) -> None:
    names = {k: v for k, v in run_lines(slug).items() if not k.startswith("__")}
    found = numbers_of([value for value in names.values() if isinstance(value, torch.Tensor | float | tuple | list)])
    assert found
    assert all(math.isfinite(value) for value in found)


@every
def test_what_these_lines_call_takes_or_refuses_unusual_inputs(slug: str) -> None:
    called = list(calls_of(slug))
    assert called, f"methods.{slug}: its docstring's lines call nothing that it exports"
    for _, call, good in called:
        if good:
            assert_takes_or_refuses(call, free=Paper(slug).free, **good)


@every
def test_python_m_prints_what_it_has_learned(slug: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"methods.{slug}.__main__").main  # importing it runs it
    assert callable(main)
    assert len(capsys.readouterr().out.splitlines()) >= 2
