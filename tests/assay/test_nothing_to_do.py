"""With the real papers three times over, a command that finds nothing changed reads little and judges nothing."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import datasets
from assay import ROOT, closure, judging
from assay.card import Card, find_cards, load_card
from assay.pipeline import pipelines
from assay.remembered import Remembered, digest_of

COPIES = ("", "_b", "_c")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout with every paper three times: folders with other slugs, whose results are the committed ones."""
    root = tmp_path_factory.mktemp("house")
    for name in ("assay", "datasets", "methods"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for slug in find_cards(ROOT):
        for copy in reversed(COPIES):
            folder = root / "methods" / f"{slug}{copy}"
            shutil.copytree(
                ROOT / "methods" / slug, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
            for file in folder.rglob("*.py"):
                text = re.sub(rf"methods\.{slug}\b", f"methods.{slug}{copy}", file.read_text())
                file.write_text(f"{text}\nCOPY = {copy!r}\n")  # no two files are alike
            result = ROOT / f"results/standard/{slug}.json"
            if result.exists():
                text = result.read_text().replace(f'"paper": "{slug}"', f'"paper": "{slug}{copy}"', 1)
                path = root / f"results/standard/{slug}{copy}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    return root


@pytest.fixture
def counted(house: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a file was parsed, a result was read, and a claim was judged, in commands about the house."""
    found: Counter[str] = Counter()
    module_of = datasets.module_of
    monkeypatch.setattr(judging, "ROOT", house)
    monkeypatch.setattr(datasets, "module_of", lambda name: house / module_of(name).relative_to(ROOT))
    _count(monkeypatch, found, "parsed", ast, "parse")
    _count(monkeypatch, found, "read", judging, "load_result")
    _count(monkeypatch, found, "judged", judging, "judge")
    return found


def _count(monkeypatch: pytest.MonkeyPatch, found: Counter[str], name: str, place: Any, function: str) -> None:
    real: Callable[..., Any] = getattr(place, function)

    def counting(*args: Any, **kwargs: Any) -> Any:
        found[name] += 1
        return real(*args, **kwargs)

    monkeypatch.setattr(place, function, counting)


def command(house: Path, counted: Counter[str]) -> tuple[dict[str, Card], list[dict[str, Any]], dict[str, int]]:
    """What `assay check` asks for, in a process that remembers nothing but what is on the disk."""
    for kept in (closure._known_in, closure._read_once, judging._kept, judging._loaded):
        kept.cache_clear()
    counted.clear()
    cards = {slug: load_card(path) for slug, path in find_cards(house).items()}
    pipelines(house, cards)
    verdicts = [verdict.json() for verdict in judging.judge_all(cards, "standard")]
    for card in cards.values():
        judging.unfinished(card, "standard")
    return cards, verdicts, dict(counted)


def test_the_second_command_parses_reads_and_judges_nothing(house: Path, counted: Counter[str]) -> None:
    cards, first, counts = command(house, counted)
    files = len(list((house / "methods").rglob("*.py"))) + len(list((house / "assay").rglob("*.py")))
    assert len(cards) == 3 * len(find_cards(ROOT))
    assert counts["read"] == len(list((house / "results/standard").glob("*.json")))
    assert counts["judged"] == sum(len(card.claims) for card in cards.values())
    assert len(cards) < counts["parsed"] <= files + len(list((house / "datasets").glob("*.py")))
    _, second, counts = command(house, counted)
    assert counts == {}
    assert json.dumps(second) == json.dumps(first)

    slug = next(iter(find_cards(ROOT)))
    path = house / "methods" / f"{slug}_b" / "experiments.py"
    path.write_text(path.read_text() + "X = 1\n")
    result = house / f"results/standard/{slug}_c.json"
    result.write_text(result.read_text() + "\n")
    _, third, counts = command(house, counted)
    assert counts == {"parsed": 1, "read": 1, "judged": len(cards[f"{slug}_c"].claims)}
    assert json.dumps(third) == json.dumps(first)


def test_what_is_kept_counts_under_its_key_alone_and_not_when_damaged(tmp_path: Path) -> None:
    path = tmp_path / ".assay" / "kept.json"
    kept = Remembered(path)
    kept.put("name", "key", {"a": [1.5, None]})
    kept.save()
    assert Remembered(path).get("name", "key") == {"a": [1.5, None]}
    assert Remembered(path).get("name", "another key") is Remembered(path).get("other", "key") is None
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert Remembered(path).get("name", "key") is None, place
    for damaged in (b"", b"{}", content[:-1], b"[]\n[]"):
        path.write_bytes(damaged)
        assert Remembered(path).get("name", "key") is None
    assert digest_of("ab", "c") != digest_of("a", "bc")
