"""The card of a paper: `methods/<slug>/paper.yaml`. Data, no code.

A card states who wrote the paper, which methods stand against which baselines, what the paper reports, and the
claims, each made falsifiable by a bar that is fixed before anything is run. `load_card` validates all of it; every
error names the file, the line and the field. Nothing here imports torch, so `assay list` is instant.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from assay.acceptance import NAME, Bound, Replicate, Scalar, Strict, Test
from assay.claim import PROFILES, Claim, Head, Profile
from assay.closure import declared_experiments
from assay.errors import AssayError, CardError, JobError
from assay.line import read_each
from assay.yaml_card import Lines, dotted, read_yaml

__all__ = ["PROFILES", "SLUG", "Bound", "Card", "Claim", "Datasets", "Figure", "Head", "Profile", "Replicate",
           "Reported", "Scalar", "Test", "find_cards", "load_card"]  # fmt: skip

Known = Literal["abstract", "paper", "official code", "second-hand", "from memory"]

SLUG = re.compile(r"[a-z][a-z0-9_]*")
_ID = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class Reported(Strict):
    """A number that the paper reports, and how we know it."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    std: float | None = None
    unit: str = Field(default="", description="that of the test, so that both can be compared")
    source: str
    known: Known
    setting: str = ""


_NUMBER = r"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_REPORTED = re.compile(
    rf"(?:(?P<low>{_NUMBER}) to (?P<high>{_NUMBER})|>= (?P<least>{_NUMBER})|<= (?P<most>{_NUMBER})"
    rf"|(?P<value>{_NUMBER})(?: \+- (?P<std>{_NUMBER}))?)(?: (?P<unit>[^;]+))?;"
    rf"(?P<source>[^;]+), (?P<known>{'|'.join(get_args(Known))})(?:;(?P<setting>.*))?",
    re.DOTALL,
)


def _read_reported(value: object) -> object:
    if isinstance(value, Reported):
        return value
    match = _REPORTED.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(
            "a reported number is written `84.4 +- 0.5 %; Table 2, paper; Cora, 100 runs`: the number (or `1 to 2`, "
            f"`<= 3`, `>= 1`) with its unit; where it stands, and how it is known ({', '.join(get_args(Known))}); "
            f"the setting. Not {value!r}"
        )
    found = {name: text.strip() for name, text in match.groupdict().items() if text is not None}
    for name, other in (("least", "low"), ("most", "high")):
        if name in found:
            found[other] = found.pop(name)
    return found


class Figure(Strict):
    """A plot of measurements: `y` against the knob (or curve) `x`, one line for each value of `by`.

    Of kind `heatmap`: the metric `colour` over the knobs `x` and `y`, one panel for each value of `by`.
    Of kind `scatter` or `images`: the points or images of the artifact `y`, one panel for each value of `by`.
    """

    title: str = Field(description="a heading")
    experiment: NAME = Field(description="whose measurements are drawn")
    x: NAME = Field(default="", description="the knob, or the curve's `x_name`")
    y: NAME = Field(description="the metric; of a heatmap a knob, of samples the artifact")
    colour: NAME = Field(default="", description="the metric of a heatmap")
    by: NAME = Field(default="method", description="a series, or a panel, for each of its values")
    where: dict[str, Scalar] = Field(default_factory=dict, description="only rows with these knobs: `{depth: 64}`")
    kind: Literal["line", "bars", "heatmap", "scatter", "images"] = Field(
        default="line", description="`line`, `bars`, `heatmap`, or of an artifact `scatter` or `images`"
    )
    log_x: bool = Field(default=False, description="`true` for a logarithmic axis")
    log_y: bool = Field(default=False, description="the same of y")
    x_label: str = Field(default="", description="where it is not that of `labels`")
    y_label: str = Field(default="", description="the same of y")

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
    """A paper: who wrote it, what it claims, and how that is tested."""

    title: str = Field(description="the paper's")
    short: str = Field(
        default="", max_length=32, description="what tables call the paper, at most 32 characters: `DAGNN`"
    )
    topic: Annotated[str, Field(pattern=r"^[a-z]+( [a-z]+)*$")] = Field(
        default="other", description="the section of the front page where it stands, in small letters"
    )
    data: str = Field(
        default="", max_length=80, description="what a person calls the data sets, for tables: `Cora, Citeseer, PubMed`"
    )
    headline: tuple[_ID, ...] = Field(
        default=(), max_length=3, description="one to three of the paper's claims, which a reader asks for first"
    )
    authors: str = Field(description="family names")
    venue: str = Field(description="`KDD 2020`")
    arxiv: Annotated[str, Field(pattern=r"^[0-9]{4}\.[0-9]{4,5}$|^[a-z-]+/[0-9]{7}$")] | None = Field(
        default=None, description='in quotes: `"2007.09296"`'
    )
    url: str | None = Field(default=None, pattern=r"^https?://", description="of the paper, where arXiv has none")
    code: str | None = Field(default=None, pattern=r"^https?://", description="of the official code")
    idea: str = Field(description="what the paper does, for a reader from another field")
    setting_of_paper: str = Field(description="its data sets, sizes and budgets, and what of it could be read")
    setting_of_ours: dict[Profile, str] = Field(
        default_factory=dict, description="the same of each profile, `{quick: ..., standard: ..., gpu: ...}`"
    )
    methods: dict[NAME, Literal["proposed", "baseline", "variant"]] = Field(
        description="each method with its role: `{dagnn: proposed, gcn: baseline, ungated: variant}`"
    )
    datasets: Datasets = Field(
        default=Datasets(), description="those of each profile: `{quick: [csbm], standard: [cora, citeseer]}`"
    )
    reported: dict[_ID, Annotated[Reported, BeforeValidator(_read_reported)]] = Field(
        default_factory=dict, description="name -> number, of those that several claims or none are about"
    )
    heads: dict[NAME, Head] = Field(
        default_factory=dict,
        alias="experiments",
        description="each experiment that a claim rests on, and what its tests share",
    )
    claims: dict[_ID, Claim] = Field(description="name -> claim, each made falsifiable by a bar fixed before the run")
    labels: dict[NAME, str] = Field(
        default_factory=dict,
        description="what axes call a metric or a knob: `{depth: layers, accuracy: test accuracy (%)}`",
    )
    figures: tuple[Figure, ...] = Field(default=(), description="a list of pictures of measurements")
    slug: str = Field(default="", exclude=True)
    path: Path = Field(default=Path(), exclude=True)

    @property
    def name(self) -> str:
        """What tables call the paper."""
        return self.short or self.title

    @property
    def shown_files(self) -> list[Path]:
        """What the paper's page is made from beside its results: the card, and how to import and run the paper."""
        return [self.path, *(self.path.parent / name for name in ("__init__.py", "__main__.py", f"{self.slug}.py"))]

    def headlines(self) -> list[str]:
        """The claims that stand for the paper: those of `headline`, else the first that the paper makes."""
        return list(self.headline) or [i for i, claim in self.claims.items() if claim.of == "paper"][:1]

    @model_validator(mode="before")
    @classmethod
    def _axes_have_labels(cls, fields: Any) -> Any:
        """An axis without a label of its own has that of its metric or knob."""
        labels, figures = (fields.get(name) for name in ("labels", "figures")) if isinstance(fields, dict) else (0, 0)
        if not isinstance(labels, dict) or not isinstance(figures, list):
            return fields
        found = []
        for figure in figures:
            names = [(axis, figure.get(axis)) for axis in "xy"] if isinstance(figure, dict) else []
            known = {f"{axis}_label": labels[name] for axis, name in names if isinstance(name, str) and name in labels}
            found.append({**known, **figure} if known else figure)
        return {**fields, "figures": found}

    @model_validator(mode="before")
    @classmethod
    def _numbers_have_names(cls, fields: Any) -> Any:
        """A number that stands in the one claim that is about it has the claim's name."""
        claims, numbers = (fields.get(name) for name in ("claims", "reported")) if isinstance(fields, dict) else (0, 0)
        if not isinstance(claims, dict) or not isinstance(numbers, dict | None):
            return fields
        own = {
            claim_id: claim["reported"]
            for claim_id, claim in claims.items()
            if isinstance(claim, dict) and isinstance(claim.get("reported"), str) and ";" in claim["reported"]
        }
        for claim_id in own.keys() & (numbers or {}).keys():
            raise ValueError(f"reported.{claim_id}: is the name of a claim with a number of its own; rename it")
        named = {
            claim_id: {**claim, "reported": claim_id} if claim_id in own else claim
            for claim_id, claim in claims.items()
        }
        return {**fields, "claims": named, "reported": {**(numbers or {}), **own}} if own else fields

    @model_validator(mode="after")
    def _claims_have_tests(self) -> Self:
        for name, head in self.heads.items():
            try:
                read_each(head.each)
            except (ValueError, AssayError) as error:
                raise ValueError(f"experiments.{name}.each: {error}") from None
        for claim_id, claim in self.claims.items():
            try:
                claim.resolve(self.heads)
            except ValueError as error:
                raise ValueError(f"claims.{claim_id}.{error}") from None
        return self

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
            return list(declared_experiments(file.parents[2], file))
        except (OSError, JobError) as error:
            raise CardError(
                str(error) if isinstance(error, JobError) else f"{file}: cannot be read: {error}"
            ) from error

    @model_validator(mode="after")
    def _experiments_exist(self) -> Self:
        declared = self.experiments()
        named = [(f"experiments.{name}", name) for name in self.heads]
        named += [(f"figures.{i}.experiment", figure.experiment) for i, figure in enumerate(self.figures)]
        for place, name in named:
            if declared and name not in declared:
                raise ValueError(f"{place}: no experiment '{name}' in experiments.py (there are {', '.join(declared)})")
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        """What is said of an experiment, a metric or an axis is used by a test or a figure."""
        tests = [test for claim in self.claims.values() for test in claim.tests() if test.experiment is not None]
        for name, head in self.heads.items():
            of_head = [test for test in tests if test.experiment == name]
            if not of_head:
                raise ValueError(f"experiments.{name}: no test is `from {name}`, so it would be ignored; remove it")
            used = {test.metric for test in of_head} | {a.metric for test in of_head for a in test.expression().atoms()}
            for metric in head.metrics:
                if metric not in used:
                    raise ValueError(f"experiments.{name}.metrics: no test is about '{metric}'; remove it")
        about = {claim.reported for claim in self.claims.values()}
        for name in self.reported:
            if name not in about:
                raise ValueError(f"reported.{name}: no claim is about it, so it would be ignored; put it into NOTES.md")
        axes = {axis for figure in self.figures for axis in (figure.x, figure.y)}
        for name in self.labels:
            if name not in axes:
                raise ValueError(f"labels.{name}: no figure has it as x or y, so it would be ignored; remove it")
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        known = {*self.methods, "value"}
        for method in self.methods:
            if method in ("value", "log") or method.startswith("__"):
                raise ValueError(f"methods.{method}: '{method}' means something else in an expression; rename it")
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
    inline = re.match(
        r"((?:claims|methods|search|figures|experiments|labels|reported)\.[\w-]+(?:\.[a-z_]+)?(?:\.\d+)?): (.*)",
        message,
        re.DOTALL,
    )
    if not location and inline:
        location, message = tuple(int(p) if p.isdigit() else p for p in inline[1].split(".")), inline[2]
    if problem["type"] == "extra_forbidden":
        message = "unknown field"
    if problem["type"] == "missing":
        message = "this field is required"
    if location[:1] == ("reported",) and location not in lines:
        location = ("claims", *location[1:2], "reported")
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
