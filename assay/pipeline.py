"""`dvc.yaml`, generated from the cards: fetch what the papers need, run each paper in `quick`, judge, report.

DVC decides what to rerun from the dependencies listed here, so they are exact. A paper's stage depends on the code
that it runs, its data and the lock file; not on its card or a template. A second test then compares the file with
the cards, so that it is never stale.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from assay.card import Card
from assay.closure import code_of_datasets, code_of_paper

HEADER = "# Generated from the cards by `assay pipeline`. Edit a card and run it again; never edit this file.\n"
LOCK = "requirements.lock"
MEASURE = "assay/measure"
# Code that turns rows into verdicts and pages.
JUDGING = ("assay/card.py", "assay/expression.py", "assay/record.py", "assay/verdict")


def pipeline(root: Path, cards: dict[str, Card]) -> str:
    """The text of `dvc.yaml` for these cards."""
    modules = importlib.import_module("datasets")
    used = sorted({name for card in cards.values() for name in card.datasets.quick if modules.info(name).files})
    stages: dict[str, Any] = {f"fetch-{name}": _fetch(root, name, modules.module_of(name)) for name in used}
    for slug, card in cards.items():
        stages[slug] = _run(root, card, [modules.module_of(name) for name in card.datasets.quick], used)
    results = [f"results/quick/{slug}.json" for slug in cards]
    cards_of = [f"methods/{slug}/paper.yaml" for slug in cards]
    judging = _relative(root, (file for place in JUDGING for file in _files(root / place)))
    stages["verdicts"] = {
        "cmd": "python -m assay verdicts --profile quick --metrics",
        "deps": [*results, *cards_of, *judging],
        "metrics": [{f"results/quick/metrics/{slug}.json": {"cache": False}} for slug in cards],
    }
    committed = [f"results/{profile}" for profile in ("standard", "gpu") if (root / "results" / profile).is_dir()]
    stages["report"] = {
        "cmd": "python -m assay report",
        "deps": [*results, *committed, *cards_of, *judging, "assay/report"],
        "outs": [{"site": {"cache": False}}],
    }
    return HEADER + yaml.safe_dump({"stages": stages}, sort_keys=False, width=120)


def _fetch(root: Path, name: str, module: Path) -> dict[str, Any]:
    return {
        "cmd": f"python -m assay fetch {name}",
        "deps": _relative(root, code_of_datasets(root, [module])),
        # kept between runs, for a file that verifies need not be fetched again; DVC records it and makes no copy
        "outs": [{f"data/{name}": {"cache": False, "persist": True}}],
    }


def _run(root: Path, card: Card, modules: list[Path], fetched: list[str]) -> dict[str, Any]:
    data = [f"data/{name}" for name in card.datasets.quick if name in fetched]
    return {
        "cmd": f"python -m assay run {card.slug} --profile quick",
        "deps": [*_code(root, card.slug, modules), *data, LOCK],
        "outs": [f"results/quick/{card.slug}.json"],
    }


def _code(root: Path, slug: str, modules: list[Path]) -> list[str]:
    """The paper's code; the measuring folder as one entry, for DVC reads dvc.yaml and its lock slowly."""
    files = _relative(root, code_of_paper(root, slug, modules))
    return sorted({MEASURE if file.startswith(f"{MEASURE}/") else file for file in files})


def _files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def _relative(root: Path, paths: Iterable[Path]) -> list[str]:
    return sorted(str(path.resolve().relative_to(root.resolve())) for path in paths)
