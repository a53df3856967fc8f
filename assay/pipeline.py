"""`dvc.yaml`, generated from the cards: fetch what the papers need, run each paper in `quick`, judge, report.

DVC decides what to rerun from the dependencies listed here, so they are exact. A paper's stage depends on the code
that it runs, its data and the lock file; not on its card or a template. A second test then compares the file with
the cards, so that it is never stale. `pipelines/gpu/dvc.yaml` does the same for profile `gpu`, without judging.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from assay.card import Card, Profile
from assay.closure import code_of_datasets, code_of_paper, declared_experiments, keep
from assay.params import PARAMS, params_text
from assay.project import data_sets

HEADER = "# Generated from the cards by `assay pipeline`. Edit a card and run it again; never edit this file.\n"
LOCK = "requirements.lock"
MEASURE = "assay/measure"
PLOTS = ("lines", "bars")  # folders of tables, each with a template of its name under .dvc/plots
GPU = "pipelines/gpu/dvc.yaml"
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the same text, sooner
# Code that turns rows into verdicts and pages.
JUDGING = (
    "assay/acceptance.py",
    "assay/card.py",
    "assay/yaml_card.py",
    "assay/expression.py",
    "assay/record.py",
    "assay/verdict",
)


def pipelines(root: Path, cards: dict[str, Card]) -> dict[str, str]:
    """The text of each pipeline's file for these cards, by its path in the checkout."""
    found = {"dvc.yaml": _text(_root_stages(root, cards)), GPU: _text(_gpu_stages(root, cards)),
             PARAMS: params_text(root, cards)}  # fmt: skip
    keep(root)
    return found


def _text(stages: dict[str, Any]) -> str:
    return HEADER + yaml.dump({"stages": stages}, Dumper=_DUMPER, sort_keys=False, width=120)


def _root_stages(root: Path, cards: dict[str, Card]) -> dict[str, Any]:
    used = _with_files(cards, "quick")
    stages: dict[str, Any] = {f"fetch-{name}": _fetch(root, name) for name in used}
    for slug, card in cards.items():
        # persist keeps the stage out of DVC's run cache, which would hand one machine's results to another that shares
        # the cache as if it had measured them; what need not run again here is in .assay/jobs
        out = {f"results/quick/{slug}.json": {"cache": False, "persist": True}}
        stages[slug] = {**_run(root, card, "quick"), "params": [{PARAMS: [f"quick.{slug}"]}], "outs": [out]}
    results = [f"results/quick/{slug}.json" for slug in cards]
    cards_of = [f"methods/{slug}/paper.yaml" for slug in cards]
    judging = _relative(root, (file for place in JUDGING for file in _files(root / place)))
    committed = [f"results/{profile}" for profile in ("standard", "gpu") if (root / "results" / profile).is_dir()]
    stages["verdicts"] = {
        "cmd": "python -m assay --exit-zero verdicts --profile quick --metrics",
        "deps": [*results, *committed, *cards_of, *judging, *_there(root, "assay/metrics.py", "assay/plots.py")],
        # in DVC's cache, small as they are, so that `dvc exp show` has those of other experiments
        "metrics": [f"results/quick/metrics/{slug}.json" for slug in cards],
        "plots": [{f"results/quick/plots/{name}": {"x": "x", "y": "y", "template": name}} for name in PLOTS],
    }
    shown = _relative(root, (file for card in cards.values() for file in card.shown_files if file.is_file()))
    stages["report"] = {
        "cmd": "python -m assay --exit-zero report",
        "deps": [*results, *committed, *shown, *judging, *_there(root, "assay/report")],
        "outs": [{"site": {"cache": False, "persist": True}}],
    }
    return stages


def _gpu_stages(root: Path, cards: dict[str, Card]) -> dict[str, Any]:
    """Papers that declare a profile gpu, in a pipeline that nothing of the root's depends on.

    A data set that the root's pipeline fetches is fetched by it: DVC wants one stage for each output. The results are
    committed, so they are the outputs of no stage; nor can a stage that reports come after them, which `make gpu` does.
    """
    declared = {slug: card for slug, card in cards.items() if _declares_gpu(card)}
    fetched = [name for name in _with_files(declared, "gpu") if name not in _with_files(cards, "quick")]
    stages = {f"fetch-{name}": _fetch(root, name) for name in fetched}
    stages |= {slug: _run(root, card, "gpu") for slug, card in declared.items()}
    return {name: {"wdir": "../..", **stage} for name, stage in stages.items()}


def _declares_gpu(card: Card) -> bool:
    """Whether an experiment has a profile gpu, read without running it."""
    file = card.path.parent / "experiments.py"
    return any("gpu" in profiles for profiles in declared_experiments(file.parents[2], file).values())


def _with_files(cards: dict[str, Card], profile: Profile) -> list[str]:
    """Data sets of a profile that are not generated."""
    names = {name for card in cards.values() for name in card.datasets.of(profile)}
    return sorted(name for name in names if data_sets().info(name).files)


def _fetch(root: Path, name: str) -> dict[str, Any]:
    module = data_sets().module_of(name)
    return {
        "cmd": f"python -m assay fetch {name}",
        "deps": _relative(root, code_of_datasets(root, [module])),
        # kept between runs, for a file that verifies need not be fetched again; DVC records it and makes no copy
        "outs": [{f"data/{name}": {"cache": False, "persist": True}}],
    }


def _run(root: Path, card: Card, profile: Profile) -> dict[str, Any]:
    code = _code(root, card.slug, [data_sets().module_of(name) for name in card.datasets.of(profile)])
    data = [f"data/{name}" for name in card.datasets.of(profile) if name in _with_files({card.slug: card}, profile)]
    # a failure of quick is stored, and shown by `assay check`: a stage that fails would stop all that come after it
    tolerant, params = (" --exit-zero", f" --params {PARAMS}") if profile == "quick" else ("", "")
    cmd = f"python -m assay{tolerant} run {card.slug} --profile {profile}{params}"
    return {"cmd": cmd, "deps": [*code, *data, *_there(root, LOCK)]}


def _code(root: Path, slug: str, modules: list[Path]) -> list[str]:
    """The paper's code; the measuring folder as one entry, for DVC reads dvc.yaml and its lock slowly."""
    files = _relative(root, code_of_paper(root, slug, modules))
    return sorted({MEASURE if file.startswith(f"{MEASURE}/") else file for file in files})


def _there(root: Path, *places: str) -> list[str]:
    """Those that the project has: it may use an Assay that is installed elsewhere, and lock no versions."""
    return [place for place in places if (root / place).exists()]


def _files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place] if place.is_file() else []


def _relative(root: Path, paths: Iterable[Path]) -> list[str]:
    """Places of files of the project; Assay's own, where it is installed elsewhere, are no dependency."""
    root = root.resolve()
    return sorted(str(path.relative_to(root)) for path in map(_resolved, paths) if path.is_relative_to(root))


@functools.cache
def _resolved(path: Path) -> Path:
    """Of a file that many papers use, once."""
    return path.resolve()
