"""Which code an experiment runs: its imports inside the project, followed without running anything.

The closure decides what a job's fingerprint covers and what a pipeline stage depends on, so it is exact: editing a
paper reruns that paper, editing a shared module reruns its users, editing a card or a template reruns nothing.
A file is parsed once in a process, and again when its time or size has changed; what was found in a content is kept
between processes (`keep`).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from assay import HOME
from assay.errors import CodeError, JobError
from assay.remembered import Remembered, digest_of

PACKAGES = ("methods", "datasets", "assay")
# What turns a run into rows. The rest of the harness plans, stores and shows, and changes no number.
MEASURING = ("assay/experiment.py", "assay/expression.py", "assay/measure", "assay/network.py", "assay/plain.py",
             "assay/processes.py", "assay/ranks.py", "assay/record.py", "assay/worker.py")  # fmt: skip
# What lies in a paper's folder and no experiment reads: its card, and prose.
CARD = "paper.yaml"
PROSE = (".md", ".html")
CHANGEABLE = ("replicates", "datasets")  # of an experiment in a profile, without a change of its code


def code_of_paper(root: Path, slug: str, datasets: Iterable[Path] = ()) -> list[Path]:
    """Files that the paper's experiments run, sorted: its own, shared, data sets' and the measuring code.

    Args:
        root: the project. Where it is not the checkout, the measuring code is that of the Assay that is installed.
        slug: the paper's folder under `methods`.
        datasets: modules of the data sets that its card names (found by name at run time, so by no import).
    """
    home = root if (root / "assay" / "__init__.py").is_file() else HOME
    measuring = [file for place in MEASURING for file in _python_files(home.resolve() / place)]
    start = root / "methods" / slug / "experiments.py"
    if not start.is_file():
        raise JobError(f"{start}: this paper has no experiments; `assay new` shows the form of a folder")
    own = _follow(root, [start, *datasets])
    return sorted({*own, *measuring, *_data_files(root.resolve() / "methods" / slug)})


def _data_files(folder: Path) -> Iterator[Path]:
    """Files that a paper's code may read, such as `tuned.json`: those with an ending, but for the card and prose."""
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).parts
        hidden = any(part.startswith((".", "__pycache__")) for part in inside)
        if path.suffix not in ("", ".py", *PROSE) and inside != (CARD,) and not hidden and path.is_file():
            yield path


def code_of_datasets(root: Path, modules: Iterable[Path]) -> list[Path]:
    """Files that loading these data sets runs, sorted."""
    return sorted(_follow(root, modules))


def _python_files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def keep(root: Path) -> None:
    """Keep what was found in the files that this process has parsed."""
    _known_in(root).save()


@functools.cache
def _known_in(root: Path) -> Remembered:
    return Remembered(root / ".assay" / "code.json")


def _follow(root: Path, start: Iterable[Path]) -> set[Path]:
    """All that these files import inside the project, but for Assay itself."""
    root, seen = root.resolve(), set[Path]()
    todo = [path.resolve() for path in start]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        todo += [init for init in _packages_above(root, path) if init not in seen]
        for module in _imported(root, path):
            if module.split(".")[0] != "assay":
                todo += _files_of(root, module)
    return seen


def _packages_above(root: Path, path: Path) -> list[Path]:
    """`__init__.py` of every package around a module: importing the module runs them."""
    return [folder / "__init__.py" for folder in path.relative_to(root.resolve()).parents if str(folder) != "."
            for folder in [root.resolve() / folder] if (folder / "__init__.py").is_file()]  # fmt: skip


def packages_of(root: Path, files: Iterable[Path]) -> set[str]:
    """Names that these files import from elsewhere: neither of this checkout nor of Python itself."""
    names = {module.split(".")[0] for path in files for level, module, _ in _read(root, path).imports if not level}
    return {name for name in names if name not in PACKAGES and name not in sys.stdlib_module_names}


def _imported(root: Path, path: Path) -> set[str]:
    """Dotted names that a file may import; a name that turns out to be an attribute finds no file and is dropped."""
    package = list(path.relative_to(root).parts[:-1])
    found: set[str] = set()
    for level, module, names in _read(root, path).imports:
        base = package[: len(package) - level + 1] if level else []
        source = ".".join([*base, *filter(None, [module])])
        found |= {source} | {f"{source}.{name}" for name in names}
    return found


def place_of(root: Path, path: Path) -> Path:
    """A file's place in the project, or of Assay's own in what it is installed in."""
    path, root = path.resolve(), root.resolve()
    return path.relative_to(root if path.is_relative_to(root) else HOME)


def found_in(root: Path, place: Path) -> Path:
    """The file of this place in a project on this machine."""
    return root / place if (root / place).exists() else HOME / place


def _files_of(root: Path, module: str) -> list[Path]:
    place = os.path.join(root, *module.split("."))
    return [Path(file) for file in (f"{place}.py", f"{place}/__init__.py") if os.path.isfile(file)]


def hash_code(root: Path, files: Iterable[Path]) -> str:
    """Of what the code does: comments, docstrings and layout change no number, so they rerun nothing."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{place_of(root, path)} {_read(root, path).digest}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _File:
    """What is known of a file.

    Attributes:
        imports: (level of a relative import, module, names).
        digest: of what its code does.
        experiments: the keywords of each function that `@experiment(...)` decorates, in the order of the file.
    """

    imports: tuple[tuple[int, str, tuple[str, ...]], ...]
    digest: str
    experiments: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)


def _read(root: Path, path: Path) -> _File:
    state = path.stat()
    return _read_once(root, path, state.st_mtime_ns, state.st_size)


@functools.cache
def _read_once(root: Path, path: Path, _time: int, _size: int) -> _File:
    content = path.read_bytes()
    if path.suffix != ".py":
        return _File((), hashlib.sha256(content).hexdigest())
    known, name = _known_in(root), digest_of(content)
    if (kept := known.get(name, _form())) is not None:
        return _File(**kept)
    found = _parsed(path, content)
    known.put(name, _form(), asdict(found))
    return found


@functools.cache
def _form() -> str:
    """What is kept holds for this module as it is, and for this Python."""
    return digest_of(Path(__file__).read_bytes(), sys.version)


def _parsed(path: Path, content: bytes) -> _File:
    try:
        tree = ast.parse(content, filename=str(path))
    except SyntaxError as error:
        raise CodeError(f"{path}:{error.lineno or 1}: is no Python: {error.msg}") from error
    except ValueError as error:  # a null byte
        raise CodeError(f"{path}: is no Python: {error}") from error
    imports: list[tuple[int, str, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [s for s in node.body if not _is_docstring(s)]
    digest = hashlib.sha256("".join(_written(tree)).encode(errors="surrogatepass")).hexdigest()
    return _File(tuple(imports), digest, _experiments_in(tree))


def _written(node: Any) -> Iterator[str]:
    """A syntax tree as text, the same in every version of Python.

    Not `ast.dump`: in Python 3.12 a function has a field more, empty where the code says nothing new, and from 3.13 on
    empty fields are left out. So a field counts only where it holds something. Some put an empty text into f-strings.
    """
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(node, ast.JoinedStr):
                value = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
            if value is not None and value != [] and name != "kind":
                yield f" {name}="
                yield from _written(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _written(item)
        yield "]"
    else:
        yield f"{type(node).__name__} {node!a},"


def declared_experiments(root: Path, file: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The experiments that a paper's `experiments.py` declares, read without running it.

    Of each the keywords, such as profiles, with the replicates and data sets that they state in plain values.
    Raises JobError where it is no Python.
    """
    return _read(root, file).experiments


def _experiments_in(tree: ast.Module) -> dict[str, dict[str, dict[str, Any]]]:
    named = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return {
        node.name: {keyword.arg: _stated(keyword.value, named) for keyword in call.keywords if keyword.arg}
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        for call in node.decorator_list
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "experiment"
    }


def _stated(profile: ast.expr, named: dict[str, ast.expr]) -> dict[str, Any]:
    """`replicates` and `datasets` of `dict(replicates=3, datasets=SAMPLE)`, where they are literal or a name for it."""
    found: dict[str, Any] = {}
    for keyword in profile.keywords if isinstance(profile, ast.Call) else ():
        value = named.get(keyword.value.id) if isinstance(keyword.value, ast.Name) else keyword.value
        if keyword.arg in CHANGEABLE and value is not None:
            with suppress(ValueError):
                plain = ast.literal_eval(value)
                found[keyword.arg] = list(plain) if isinstance(plain, tuple) else plain
    return found


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
