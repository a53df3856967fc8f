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

from pydantic import Field, ValidationError, model_validator

from assay.acceptance import NAME, REGIONS, Bound, Replicate, Scalar, Strict, Test
from assay.errors import CardError
from assay.yaml_card import Lines, dotted, read_yaml

__all__ = ["PROFILES", "SLUG", "Bound", "Card", "Claim", "Datasets", "Figure", "Profile", "Replicate", "Reported",
           "Scalar", "Test", "declared_experiments", "find_cards", "load_card"]  # fmt: skip

Profile = Literal["quick", "standard", "gpu"]
PROFILES: tuple[Profile, ...] = ("quick", "standard", "gpu")
Of = Literal["paper", "ours"]
Known = Literal["abstract", "paper", "official code", "second-hand", "from memory"]

SLUG = re.compile(r"[a-z][a-z0-9_]*")
_ID = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


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
        if self.untested is not None:
            return self
        for test in self.tests():
            test.check()
        for name in REGIONS if self.all else ():
            if getattr(self, name) is not None and all(getattr(test, name) is None for test in self.tests()):
                raise ValueError(f"every part has a region of its own, so '{name}' would be ignored; remove it")
        return self

    def tests(self) -> list[Test]:
        """The tests of this claim, each with every field resolved; parts inherit what they do not set."""
        own = {name: getattr(self, name) for name in Test.model_fields}
        if not self.all:
            return [Test.model_construct(**own)]
        return [self._inherited(own, part) for part in self.all]

    @staticmethod
    def _inherited(own: dict[str, Any], part: Test) -> Test:
        """A part over what it inherits: settings are added up, and one region replaces another whole."""
        fields = {name: getattr(part, name) for name in part.model_fields_set}
        for name in ("where", "over"):
            if name in fields:
                fields[name] = {**own[name], **fields[name]}
        if {"value", "slope"} & fields.keys():
            own = {**own, "value": None, "slope": None}
        region = next((name for name in REGIONS if fields.get(name) is not None), None)
        if region is not None and own[region] is None:
            own = {**own, **dict.fromkeys(field for fields in REGIONS.values() for field in fields)}
        return Test.model_construct(**{**own, **fields})

    def hash(self) -> str:
        """Of every field that decides the verdict: a bar moved after the run is seen by it."""
        deciding = {
            "tests": [test.model_dump(mode="json") for test in self.tests()],
            "profiles": self.profiles,
            "untested": self.untested,
        }
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


class Reported(Strict):
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


class Figure(Strict):
    """A plot of measurements: `y` against the knob (or curve) `x`, one line for each value of `by`.

    Of kind `heatmap`: the metric `colour` over the knobs `x` and `y`, one panel for each value of `by`.
    Of kind `scatter` or `images`: the points or images of the artifact `y`, one panel for each value of `by`.
    """

    title: str
    experiment: NAME
    x: NAME = ""
    y: NAME
    colour: NAME = ""
    by: NAME = "method"
    where: dict[str, Scalar] = Field(default_factory=dict)
    kind: Literal["line", "bars", "heatmap", "scatter", "images"] = "line"
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
        if (self.kind == "heatmap") != bool(self.colour):
            raise ValueError("`colour` is the metric of a figure of kind heatmap, which needs it; no other has one")
        if self.kind == "heatmap" and (self.log_x or self.log_y or len({self.x, self.y, self.by}) < 3):
            raise ValueError(
                "a heatmap has a cell for each x and y: two knobs that differ from `by`, no log_x or log_y"
            )
        return self

    @property
    def metric(self) -> str:
        """What is drawn: the metric, or the artifact."""
        return self.colour or self.y


class Datasets(Strict):
    """Data sets by profile. Fixed: no experiment switches data by what happens to be present."""

    quick: tuple[NAME, ...] = ()
    standard: tuple[NAME, ...] = ()
    gpu: tuple[NAME, ...] = ()

    def of(self, profile: Profile) -> tuple[str, ...]:
        return getattr(self, profile)

    def names(self) -> list[str]:
        return sorted({*self.quick, *self.standard, *self.gpu})


class Card(Strict):
    title: str
    short: str = Field(
        default="", max_length=32, description="what tables call the paper: 'DAGNN', 'Sheaf recommender'"
    )
    topic: Annotated[str, Field(pattern=r"^[a-z]+( [a-z]+)*$")] = "other"
    headline: tuple[_ID, ...] = Field(default=(), max_length=3, description="the claims that a reader asks for first")
    authors: str
    venue: str
    arxiv: Annotated[str, Field(pattern=r"^[0-9]{4}\.[0-9]{4,5}$|^[a-z-]+/[0-9]{7}$")] | None = None
    url: str | None = Field(default=None, pattern=r"^https?://")
    code: str | None = Field(default=None, pattern=r"^https?://")
    idea: str
    setting_of_paper: str
    setting_of_ours: dict[Profile, str] = Field(default_factory=dict)
    methods: dict[NAME, Literal["proposed", "baseline", "variant"]]
    datasets: Datasets = Datasets()
    reported: dict[_ID, Reported] = Field(default_factory=dict)
    claims: dict[_ID, Claim]
    figures: tuple[Figure, ...] = ()
    search: dict[NAME, dict[NAME, tuple[Scalar, ...]]] = Field(default_factory=dict)
    slug: str = Field(default="", exclude=True)
    path: Path = Field(default=Path(), exclude=True)

    @property
    def name(self) -> str:
        """What tables call the paper."""
        return self.short or self.title

    def headlines(self) -> list[str]:
        """The claims that stand for the paper: those of `headline`, else the first that the paper makes."""
        return list(self.headline) or [i for i, claim in self.claims.items() if claim.of == "paper"][:1]

    @model_validator(mode="after")
    def _headlines_are_claims_of_the_paper(self) -> Self:
        for claim_id in self.headline:
            if claim_id not in self.claims:
                raise ValueError(f"headline: no claim '{claim_id}'; there are {', '.join(self.claims)}")
            if self.claims[claim_id].of != "paper":
                raise ValueError(f"headline: '{claim_id}' is a check of ours (of: ours), which no paper claims")
        return self

    def experiments(self) -> list[str]:
        """The experiments that `experiments.py` beside the card declares, read without running it."""
        file = self.path.parent / "experiments.py"
        if not self.path.name or not file.is_file():  # a card made in memory has no folder
            return []
        try:
            return declared_experiments(file.read_text(encoding="utf-8"))
        except SyntaxError as error:
            raise CardError(f"{file}:{error.lineno or 1}: is no Python: {error.msg}") from error
        except (OSError, ValueError) as error:  # a null byte, or no UTF-8
            raise CardError(f"{file}: cannot be read: {error}") from error

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
        for method in self.methods:
            if method in ("value", "log") or method.startswith("__"):
                raise ValueError(f"methods.{method}: '{method}' means something else in an expression; rename it")
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
    fields, lines = read_yaml(path)
    for taken in ("slug", "path"):
        if taken in fields:
            raise CardError(f"{path}:{lines[(taken,)]}: {taken}: is set by the folder's name; remove it")
    try:
        return Card.model_validate({**fields, "slug": path.parent.name, "path": path})
    except ValidationError as error:
        raise CardError("\n".join(_explain(path, lines, problem) for problem in error.errors())) from None


def _explain(path: Path, lines: Lines, problem: Any) -> str:
    """One line a person can act on; pydantic's location is cut to the part that exists in the file."""
    location = tuple(part for part in problem["loc"] if not (isinstance(part, str) and "[" in part))
    message = re.sub(r"^(Value|Assertion) error, ", "", problem["msg"])
    inline = re.match(r"((?:claims|methods|search|figures)\.[\w-]+(?:\.[a-z_]+)?): (.*)", message, re.DOTALL)
    if not location and inline:
        location, message = tuple(int(p) if p.isdigit() else p for p in inline[1].split(".")), inline[2]
    if problem["type"] == "extra_forbidden":
        message = "unknown field"
    if problem["type"] == "missing":
        message = "this field is required"
    known = location
    while known and known not in lines:
        known = known[:-1]
    return f"{path}:{lines.get(known, 1)}: {dotted(location) or 'card'}: {message}"


def find_cards(root: Path) -> dict[str, Path]:
    """Slug -> card of every paper's folder under `root/methods`, in order of the slugs."""
    return {
        path.parent.name: path
        for path in sorted((root / "methods").glob("*/paper.yaml"))
        if SLUG.fullmatch(path.parent.name)
    }
