"""Every claim judged by what has been measured in this checkout, for commands, pages and tables.

A result is read once in a process. Verdicts are kept from one command to the next, under the digest of the card, the
result and the code that judges, so that only what has changed is judged again.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from assay import ROOT, problems
from assay.card import Card, Profile
from assay.errors import RecordError
from assay.record import JobRecord, Result, load_result, result_path
from assay.remembered import Remembered, digest_of, digest_of_code, digest_of_files
from assay.verdict import UNTESTED, Verdict, judge

UNJUDGED = "the card's claim cannot be judged: "
HERE = Path(__file__).resolve().parent
# Code that turns a card and rows into verdicts.
CODE = tuple(HERE / name for name in ("acceptance.py", "card.py", "claim.py", "expression.py", "judging.py", "line.py",
                                      "reading.py", "record.py", "yaml_card.py", "verdict"))  # fmt: skip


def result_of(profile: str, slug: str) -> Result | None:
    """The result of a paper, or None where there is none that can be read; a damaged one is named."""
    path = result_path(ROOT, profile, slug)
    try:
        state = path.stat()
    except OSError:
        return None
    try:
        return _loaded(path, state.st_mtime_ns, state.st_size)
    except RecordError as error:
        problems.name(str(error))
        return None


@functools.cache
def _loaded(path: Path, _time: int, _size: int) -> Result:
    return load_result(path)


def judge_all(cards: Mapping[str, Card], profile: Profile) -> list[Verdict]:
    """The verdict of every claim. One that cannot be judged as it is written says so and stops no other."""
    found = [verdict for card in cards.values() for verdict in _of(card, profile).verdicts]
    _kept(ROOT).save()
    return found


def unfinished(card: Card, profile: Profile) -> list[JobRecord] | None:
    """The jobs of a result that are not done; None where there is no result that can be read."""
    return _of(card, profile).unfinished


@dataclass(frozen=True)
class _Judged:
    """What a result says, in short."""

    verdicts: list[Verdict]
    unfinished: list[JobRecord] | None


def _of(card: Card, profile: Profile) -> _Judged:
    name, key = f"{profile} {card.slug}", key_of(card, profile)
    before = _kept(ROOT).get(name, key)
    if before is not None:
        jobs = before["unfinished"]
        return _Judged([_verdict(fields) for fields in before["verdicts"]],
                       None if jobs is None else [JobRecord(**job) for job in jobs])  # fmt: skip
    result = result_of(profile, card.slug)
    found = _Judged([_judged(card, claim_id, result, profile) for claim_id in card.claims],
                    None if result is None else [job for job in result.jobs if job.status != "done"])  # fmt: skip
    if result is not None or not result_path(ROOT, profile, card.slug).exists():  # else each command names the damage
        _kept(ROOT).put(name, key, asdict(found))
    return found


def key_of(card: Card, profile: Profile) -> str:
    """Digest of all that the verdicts of a card in a profile are made of."""
    return digest_of(digest_of_code(*CODE), *_versions(), card.model_dump_json(),
                     digest_of_files([card.path, result_path(ROOT, profile, card.slug)]))  # fmt: skip


@functools.cache
def _versions() -> list[str]:
    return [importlib.metadata.version(name) for name in ("numpy", "scipy")]


@functools.cache
def _kept(root: Path) -> Remembered:
    return Remembered(root / ".assay" / "verdicts.json")


def _verdict(fields: dict[str, Any]) -> Verdict:
    ends = fields["interval"]
    return Verdict(**{**fields, "interval": None if ends is None else (ends[0], ends[1])})


def _judged(card: Card, claim_id: str, result: Result | None, profile: Profile) -> Verdict:
    claim = card.claims[claim_id]
    try:
        return judge(card, claim_id, result, profile)
    except Exception as error:  # whatever it is, the other claims are judged
        reason = UNJUDGED + problems.explain(error)
        return Verdict(card.slug, claim_id, claim.kind, claim.says, UNTESTED, reason, profile, claim.of,
                       device=None if result is None else str(result.provenance.get("gpu") or "CPU"))  # fmt: skip
