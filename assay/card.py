"""The card of a paper: `methods/<slug>/paper.yaml`. Data, no code.

A card states who wrote the paper, which methods stand against which baselines, what the paper reports, and the
claims, each made falsifiable by a bar that is fixed before anything is run. `load_card` validates all of it; every
error names the file, the line and the field. Nothing here imports torch, so `assay list` is instant.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from assay.errors import CardError
from assay.expression import Expression, ExpressionError, parse

Profile = Literal["quick", "standard", "gpu"]
PROFILES: tuple[Profile, ...] = ("quick", "standard", "gpu")
Kind = Literal["effect", "value", "equivalence", "trend"]
Evidence = Literal["measured", "counted", "simulated"]
Of = Literal["paper", "ours"]
Known = Literal["abstract", "paper", "official code", "second-hand", "from memory"]
Scalar = bool | int | float | str

SLUG = re.compile(r"[a-z][a-z0-9_]*")
_NAME = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_ID = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bound(_Strict):
    """One side of the number line, written on a card as `">= 30"`, `"> 0"`, `"<= 1.15"` or `"< 0"`."""

    op: Literal[">=", ">", "<=", "<"]
    threshold: float

    @property
    def higher_is_claimed(self) -> bool:
        return self.op in (">=", ">")

    def __str__(self) -> str:
        return f"{self.op} {self.threshold:g}"


def _read_bound(text: object) -> object:
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"\s*(>=|<=|>|<)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*", text)
    if match is None:
        raise ValueError(f"a bound is an operator and a number, such as '>= 30' or '< 0', not {text!r}")
    return {"op": match[1], "threshold": match[2]}


def _read_over(text: object) -> object:
    if isinstance(text, str) and re.fullmatch(r"mean|any|all|[1-9][0-9]* of|(100|[1-9][0-9]?)%", text):
        return text
    raise ValueError(f"a rule is 'mean', 'any', 'all', 'k of' (such as '2 of') or a share such as '80%', not {text!r}")


BoundField = Annotated[Bound, BeforeValidator(_read_bound)]
OverRule = Annotated[str, BeforeValidator(_read_over)]


class Replicate(_Strict):
    """What is repeated, for intervals are only about that. The card may write just `exact`."""

    unit: Literal["seed", "process", "parent", "exact"]
    changes: Literal["init", "split", "data"] | None = None
    n: int | None = Field(default=None, ge=1, description="replicates planned in the profile that decides")
    pairs: int | None = Field(default=None, ge=1, description="interleaved pairs in each process")
    n_test: int | None = Field(default=None, ge=1)
    n_train: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _split_sizes_come_together(self) -> Self:
        if (self.n_test is None) != (self.n_train is None):
            raise ValueError("n_test and n_train are given together (the error of re-splits of one data set)")
        return self


def _read_replicate(value: object) -> object:
    return {"unit": "exact", "n": 1} if value == "exact" else value


class Test(_Strict):
    """One acceptance region around one number per replicate. A claim is one test, or several joined by `all`."""

    __test__ = False  # pytest collects classes by this name

    kind: Kind | None = None
    experiment: _NAME | None = None
    metric: _NAME | None = None
    unit: str = ""
    where: dict[str, Scalar] = {}
    value: str | None = None
    slope: str | None = None
    stat: Literal["mean", "median"] = "mean"
    replicate: Annotated[Replicate, BeforeValidator(_read_replicate)] | None = None
    over: dict[str, OverRule] = {}
    bar: BoundField | None = None
    direction: BoundField | None = None
    contradicted: BoundField | None = None
    target: float | None = None
    within: float | None = Field(default=None, ge=0)
    outside: float | None = Field(default=None, ge=0)
    margin: float | None = Field(default=None, gt=0)
    resolution: float | None = Field(default=None, gt=0)
    censored_at: float | _NAME | None = None
    evidence: Evidence = "measured"
    core: bool = False
    tail: bool = True

    def expression(self) -> Expression:
        """The parsed `value`, or the left side of `slope`."""
        return parse(self.value) if self.value is not None else self.slope_parts()[0]

    def slope_parts(self) -> tuple[Expression, Literal["log", "linear", "rank"], str]:
        """`"log fast ~ log n"` -> (fast, "log", "n"); `"ap ~ rank batch"` -> (ap, "rank", "batch")."""
        match = re.fullmatch(r"\s*(log\s+)?(.+?)\s*~\s*(?:(log|rank)\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*", self.slope or "")
        if match is None or bool(match[1]) != (match[3] == "log"):
            raise ValueError(
                f"a slope is written 'log y ~ log knob', 'y ~ knob' or 'y ~ rank knob', not {self.slope!r}"
            )
        scale: Literal["log", "linear", "rank"] = match[3] if match[3] in ("log", "rank") else "linear"  # type: ignore[assignment]
        return parse(match[2]), scale, match[4]

    def check(self) -> None:
        """Raise ValueError where the fields do not add up to a test that can be decided."""
        for field in ("kind", "experiment", "replicate"):
            if getattr(self, field) is None:
                raise ValueError(f"'{field}' is missing")
        if (self.value is None) == (self.slope is None):
            raise ValueError("give either 'value' or 'slope'")
        try:
            atoms = self.expression().atoms()
        except ExpressionError as error:
            raise ValueError(f"in '{'value' if self.value else 'slope'}': {error}") from error
        if self.metric is None and any(atom.metric is None for atom in atoms):
            raise ValueError("'metric' is missing")
        needs_bar = self.kind == "effect" or (self.kind == "trend" and self.target is None)
        if needs_bar and self.bar is None:
            raise ValueError(f"a claim of kind '{self.kind}' needs a 'bar'")
        if self.kind == "value" and (self.target is None or self.within is None):
            raise ValueError("a claim of kind 'value' needs 'target' and 'within'")
        if self.kind == "trend" and self.target is not None and self.within is None:
            raise ValueError("a target needs 'within'")
        if self.kind == "equivalence" and self.margin is None:
            raise ValueError("a claim of kind 'equivalence' needs a 'margin'")
        if self.kind == "trend" and self.slope is None:
            raise ValueError("a claim of kind 'trend' needs a 'slope'")
        self._check_order_of_thresholds()

    def _check_order_of_thresholds(self) -> None:
        tolerance = self.within if self.target is not None else self.margin
        if self.outside is not None and tolerance is not None and self.outside < tolerance:
            raise ValueError("'outside' is narrower than 'within' or 'margin'")
        if self.bar is None:
            return
        sign = 1 if self.bar.higher_is_claimed else -1
        bar = sign * self.bar.threshold
        if self.direction is not None:
            if self.direction.higher_is_claimed != self.bar.higher_is_claimed:
                raise ValueError("'direction' points the other way than 'bar'")
            if sign * self.direction.threshold > bar:
                raise ValueError("'direction' is stricter than 'bar'")
        if self.contradicted is not None:
            if self.contradicted.higher_is_claimed == self.bar.higher_is_claimed:
                raise ValueError("'contradicted' points the same way as 'bar'")
            least = sign * self.direction.threshold if self.direction else bar
            if sign * self.contradicted.threshold > least:
                raise ValueError("'contradicted' overlaps with 'bar' or 'direction'")


class Claim(Test):
    """A sentence of the paper made falsifiable; or a check of our own (`of: ours`), shown and counted apart."""

    of: Of = "paper"
    says: str
    paper_says: str = ""
    why: str
    reported: str | None = None
    profiles: tuple[Profile, ...] = PROFILES
    rests_on: str = ""
    untested: str | None = None
    all: tuple[Test, ...] = ()

    @model_validator(mode="after")
    def _is_decidable(self) -> Self:
        if self.untested is None:
            for test in self.tests():
                test.check()
        return self

    def tests(self) -> list[Test]:
        """The tests of this claim, each with every field resolved; parts inherit what they do not set."""
        own = {name: getattr(self, name) for name in Test.model_fields}
        if not self.all:
            return [Test.model_construct(**own)]
        merged = []
        for part in self.all:
            fields = {name: getattr(part, name) for name in part.model_fields_set}
            for name in ("where", "over"):
                if name in fields:
                    fields[name] = {**own[name], **fields[name]}
            if {"value", "slope"} & fields.keys():
                fields.setdefault("value", None)
                fields.setdefault("slope", None)
            merged.append(Test.model_construct(**{**own, **fields}))
        return merged

    def hash(self) -> str:
        """Of every field that decides the verdict: a bar moved after the run is seen by it."""
        deciding = {
            "tests": [test.model_dump(mode="json") for test in self.tests()],
            "profiles": self.profiles,
            "untested": self.untested,
        }
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


class Reported(_Strict):
    """A number that the paper reports, and how we know it."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    std: float | None = None
    unit: str = ""
    source: str
    known: Known
    setting: str = ""

    @model_validator(mode="after")
    def _is_a_number_or_a_range(self) -> Self:
        if (self.value is None) == (self.low is None and self.high is None):
            raise ValueError("give 'value', or 'low' and/or 'high'")
        return self


class Figure(_Strict):
    """A plot of measurements: `y` against the knob (or curve) `x`, one line for each value of `by`.

    Of kind `scatter` or `images`: the points or images of the artifact `y`, one panel for each value of `by`.
    """

    title: str
    experiment: _NAME
    x: _NAME = ""
    y: _NAME
    by: _NAME = "method"
    where: dict[str, Scalar] = {}
    kind: Literal["line", "bars", "scatter", "images"] = "line"
    log_x: bool = False
    log_y: bool = False
    x_label: str = ""
    y_label: str = ""

    @model_validator(mode="after")
    def _fields_fit_the_kind(self) -> Self:
        samples = self.kind in ("scatter", "images")
        if samples and (self.x or self.log_x or self.log_y):
            raise ValueError(f"a figure of kind {self.kind} draws the artifact y as it is: remove x, log_x, log_y")
        if not samples and not self.x:
            raise ValueError(f"a figure of kind {self.kind} needs x, the knob or the curve's x_name")
        return self


class Datasets(_Strict):
    """Data sets by profile. Fixed: no experiment switches data by what happens to be present."""

    quick: tuple[_NAME, ...] = ()
    standard: tuple[_NAME, ...] = ()
    gpu: tuple[_NAME, ...] = ()

    def of(self, profile: Profile) -> tuple[str, ...]:
        return getattr(self, profile)

    def names(self) -> list[str]:
        return sorted({*self.quick, *self.standard, *self.gpu})


class Card(_Strict):
    title: str
    authors: str
    venue: str
    arxiv: Annotated[str, Field(pattern=r"^[0-9]{4}\.[0-9]{4,5}$|^[a-z-]+/[0-9]{7}$")] | None = None
    url: str | None = Field(default=None, pattern=r"^https?://")
    code: str | None = Field(default=None, pattern=r"^https?://")
    idea: str
    setting_of_paper: str
    setting_of_ours: dict[Profile, str] = {}
    methods: dict[_NAME, Literal["proposed", "baseline", "variant"]]
    datasets: Datasets = Datasets()
    reported: dict[_ID, Reported] = {}
    claims: dict[_ID, Claim]
    figures: tuple[Figure, ...] = ()
    search: dict[_NAME, dict[_NAME, tuple[Scalar, ...]]] = {}
    slug: str = Field(default="", exclude=True)
    path: Path = Field(default=Path(), exclude=True)

    def experiments(self) -> list[str]:
        """The experiments that `experiments.py` beside the card declares, read without running it."""
        file = self.path.parent / "experiments.py"
        read = self.path.name and file.is_file()  # a card made in memory has no folder
        return declared_experiments(file.read_text(encoding="utf-8")) if read else []

    @model_validator(mode="after")
    def _experiments_exist(self) -> Self:
        declared = self.experiments()
        named = [(f"claims.{i}", test.experiment) for i, claim in self.claims.items() for test in claim.tests()]
        named += [(f"figures.{i}", figure.experiment) for i, figure in enumerate(self.figures)]
        for place, name in named:
            if declared and name is not None and name not in declared:
                there = ", ".join(declared)
                raise ValueError(f"{place}.experiment: no experiment '{name}' in experiments.py (there are {there})")
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        known = {*self.methods, "value"}
        for method in self.search:
            if method not in self.methods:
                raise ValueError(f"search.{method}: no method '{method}' under 'methods'")
        for claim_id, claim in self.claims.items():
            if claim.reported is not None and claim.reported not in self.reported:
                raise ValueError(f"claims.{claim_id}.reported: no number '{claim.reported}' under 'reported'")
            if claim.untested is not None:
                continue
            for test in claim.tests():
                unknown = sorted({atom.name for atom in test.expression().atoms()} - known)
                if unknown:
                    raise ValueError(
                        f"claims.{claim_id}: no method '{unknown[0]}' under 'methods' "
                        f"(there are {', '.join(sorted(self.methods))})"
                    )
        return self


def declared_experiments(source: str) -> list[str]:
    """Names of the functions that `@experiment(...)` decorates, in the order of the file."""
    return [
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(d, ast.Call) and getattr(d.func, "id", "") == "experiment" for d in node.decorator_list)
    ]


def load_card(path: Path) -> Card:
    """Read and validate one card. Raises CardError, which names file, line and field."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise CardError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise CardError(f"{path}:1: a card is a mapping of fields; start from `assay new <slug>`")
    lines: dict[tuple[str | int, ...], int] = {}
    _collect_lines(root, (), lines, path)
    fields: Any = yaml.SafeLoader("").construct_document(root)
    for taken in ("slug", "path"):
        if taken in fields:
            raise CardError(f"{path}:{lines[(taken,)]}: {taken}: is set by the folder's name; remove it")
    try:
        return Card.model_validate({**fields, "slug": path.parent.name, "path": path})
    except ValidationError as error:
        raise CardError("\n".join(_explain(path, lines, fields, problem) for problem in error.errors())) from None


def _collect_lines(
    node: yaml.Node, at: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], path: Path
) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*at, key.value)
            if inner in lines:
                raise CardError(f"{path}:{key.start_mark.line + 1}: {_dotted(inner)}: is given twice")
            lines[inner] = key.start_mark.line + 1
            _collect_lines(value, inner, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, index)] = value.start_mark.line + 1
            _collect_lines(value, (*at, index), lines, path)


def _explain(path: Path, lines: dict[tuple[str | int, ...], int], fields: Any, problem: Any) -> str:
    """One line a person can act on; pydantic's location is cut to the part that exists in the file."""
    location = tuple(part for part in problem["loc"] if not (isinstance(part, str) and "[" in part))
    message = re.sub(r"^(Value|Assertion) error, ", "", problem["msg"])
    inline = re.match(r"((?:claims|search|figures)\.[\w-]+(?:\.[a-z_]+)?): (.*)", message, re.DOTALL)
    if not location and inline:
        location, message = tuple(int(p) if p.isdigit() else p for p in inline[1].split(".")), inline[2]
    if problem["type"] == "extra_forbidden":
        message = "unknown field"
    if problem["type"] == "missing":
        message = "this field is required"
    known = location
    while known and known not in lines:
        known = known[:-1]
    return f"{path}:{lines.get(known, 1)}: {_dotted(location) or 'card'}: {message}"


def _dotted(location: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in location)


def find_cards(root: Path) -> dict[str, Path]:
    """Slug -> card of every paper's folder under `root/methods`, in order of the slugs."""
    return {
        path.parent.name: path
        for path in sorted((root / "methods").glob("*/paper.yaml"))
        if SLUG.fullmatch(path.parent.name)
    }
