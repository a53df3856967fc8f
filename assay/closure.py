"""Which code an experiment runs: its imports inside the checkout, followed without running anything.

The closure decides what a job's fingerprint covers and what a pipeline stage depends on, so it is exact: editing a
paper reruns that paper, editing a shared module reruns its users, editing a card or a template reruns nothing.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

from assay.errors import JobError

PACKAGES = ("methods", "datasets", "assay")
# What turns a run into rows. The rest of the harness plans, stores and shows, and changes no number.
MEASURING = ("assay/experiment.py", "assay/ranks.py", "assay/network.py", "assay/measure")


def code_of_paper(root: Path, slug: str, datasets: Iterable[Path] = ()) -> list[Path]:
    """Files that the paper's experiments run, sorted: its own, shared, data sets' and the measuring code.

    Args:
        root: the checkout.
        slug: the paper's folder under `methods`.
        datasets: modules of the data sets that its card names (found by name at run time, so by no import).
    """
    measuring = [file for place in MEASURING for file in _python_files(root / place)]
    start = root / "methods" / slug / "experiments.py"
    if not start.is_file():
        raise JobError(f"{start}: this paper has no experiments; `assay new` shows the form of a folder")
    own = _follow(root, [start, *datasets], within=PACKAGES[:2])
    tuned = root.resolve() / "methods" / slug / "tuned.json"
    return sorted({*own, *measuring} | ({tuned} if tuned.is_file() else set()))


def code_of_datasets(root: Path, modules: Iterable[Path]) -> list[Path]:
    """Files that loading these data sets runs, sorted."""
    return sorted(_follow(root, modules, within=("datasets",)))


def _python_files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def _follow(root: Path, start: Iterable[Path], within: tuple[str, ...]) -> set[Path]:
    seen: set[Path] = set()
    todo = [path.resolve() for path in start]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        todo += [init for init in _packages_above(root, path) if init not in seen]
        for module in _imported(root, path):
            if module.split(".")[0] in within:
                todo += _files_of(root, module)
    return seen


def _packages_above(root: Path, path: Path) -> list[Path]:
    """`__init__.py` of every package around a module: importing the module runs them."""
    return [folder / "__init__.py" for folder in path.relative_to(root.resolve()).parents if str(folder) != "."
            for folder in [root.resolve() / folder] if (folder / "__init__.py").is_file()]  # fmt: skip


def _imported(root: Path, path: Path) -> set[str]:
    """Dotted names that a file may import; a name that turns out to be an attribute finds no file and is dropped."""
    package = list(path.relative_to(root.resolve()).with_suffix("").parts[:-1])
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *(node.module.split(".") if node.module else [])])
            names |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return names


def _files_of(root: Path, module: str) -> list[Path]:
    place = root.resolve().joinpath(*module.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return [candidate for candidate in candidates if candidate.is_file()]


def hash_code(root: Path, files: Iterable[Path]) -> str:
    """Of what the code does: comments, docstrings and layout change no number, so they rerun nothing."""
    digest = hashlib.sha256()
    for path in sorted(files):
        name = path.resolve().relative_to(root.resolve())
        if path.suffix != ".py":
            digest.update(f"{name}\n{path.read_text(encoding='utf-8')}\n".encode())
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                node.body = [s for s in node.body if not _is_docstring(s)]
        digest.update(f"{name}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
