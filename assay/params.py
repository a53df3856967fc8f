"""`params.json`: replicates and data sets of each experiment in profile quick, for `dvc exp run -S`.

    dvc exp run -S params.json:quick.dagnn.accuracy.replicates=5 dagnn

The file is generated from `experiments.py`, which stays the source: only what differs from it changes a run, and the
run says so. JSON, for DVC reads it once for each stage and takes half a second for as much YAML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.card import Card, Profile
from assay.closure import CHANGEABLE, declared_experiments
from assay.errors import JobError

PARAMS = "params.json"


def stated(root: Path, card: Card, profile: Profile) -> dict[str, dict[str, Any]]:
    """By experiment, what its profile states, or leaves to the defaults: one replicate, the card's data sets."""
    file = root / "methods" / card.slug / "experiments.py"
    found = {}
    for name, profiles in declared_experiments(root, file).items():
        if profile in profiles:
            found[name] = {"replicates": 1, "datasets": list(card.datasets.of(profile)), **profiles[profile]}
    return found


def params_text(root: Path, cards: Mapping[str, Card]) -> str:
    """The whole file."""
    quick = {slug: stated(root, card, "quick") for slug, card in cards.items()}
    return json.dumps({"quick": quick}, indent=1) + "\n"


def changes(root: Path, file: Path, card: Card, profile: Profile) -> dict[str, dict[str, Any]]:
    """By experiment, what `file` says otherwise than `experiments.py`.

    Raises:
        JobError: it cannot be read, or names something that there is not.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JobError(f"{file}: cannot be read: {error}") from error
    place, known = f"{profile}.{card.slug}", stated(root, card, profile)
    wanted = content
    for name in (profile, card.slug):
        wanted = wanted.get(name, {}) if isinstance(wanted, dict) else None
    found: dict[str, dict[str, Any]] = {}
    for name, values in _mapping(file, place, wanted).items():
        if name not in known:
            raise JobError(f"{file}: {place}.{name}: no such experiment; there are {', '.join(known)}")
        for key, value in _mapping(file, f"{place}.{name}", values).items():
            if key not in CHANGEABLE:
                raise JobError(f"{file}: {place}.{name}.{key}: only {' and '.join(CHANGEABLE)} can be set here")
            if not _fits(key, value):
                raise JobError(f"{file}: {place}.{name}.{key} is {value!r}: a whole number from 1, or a list of names")
            if value != known[name][key]:
                found.setdefault(name, {})[key] = value
    return found


def _mapping(file: Path, place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise JobError(f"{file}: {place} is {value!r}, no mapping; `assay pipeline` writes the file anew")
    return value


def _fits(key: str, value: Any) -> bool:
    if key == "replicates":
        return type(value) is int and value >= 1
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
