"""What one test on a card says: which measurements, reduced how, must lie in which region.

A field reference in code: each field of a test is here, and `Test.check` says which belong together. Fixed splits, such
as the ten that come with a data set, are no replicates: a published mean over them is a statement about these splits,
so the seed is repeated and each replicate is the mean over all splits,

    replicate: 3 seeds changing init
    test: gprgnn - mlp >= 1, mean split

where every row carries its `split` as a knob and every seed has a row on every split. `changing split` with the numbers
of what is tested and what is not is for claims about new splits.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from assay.expression import Expression, ExpressionError, check_length, parse

Kind = Literal["effect", "value", "equivalence", "trend", "rate", "spread"]
Evidence = Literal["measured", "counted", "simulated"]


def _read_scalar(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]{1,3}", value):
        raise ValueError(f"'{value}' is read as text by YAML: write {float(value)!r}")
    return value


Scalar = Annotated[bool | int | float | str, BeforeValidator(_read_scalar)]
NAME = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
# what stands beside each kind of region; a test has one region, and a part that sets one inherits no other
REGIONS = {
    "bar": ("bar", "direction", "contradicted"),
    "target": ("target", "within", "outside"),
    "margin": ("margin", "outside"),
}
REGION_OF = {"effect": ("bar",), "value": ("target",), "equivalence": ("margin",), "trend": ("bar", "target"),
             "rate": ("bar",), "spread": ("bar",)}  # fmt: skip


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Bound(Strict):
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
    if isinstance(text, str) and re.fullmatch(r"mean|any|all|[1-9][0-9]{0,3} of|(100|[1-9][0-9]?)%", text):
        return text
    raise ValueError(f"a rule is 'mean', 'any', 'all', 'k of' (such as '2 of') or a share such as '80%', not {text!r}")


BoundField = Annotated[Bound, BeforeValidator(_read_bound)]
OverRule = Annotated[str, BeforeValidator(_read_over)]


class Replicate(Strict):
    """What is repeated, for intervals are only about that. A card writes it in words, as `_read_replicate` says."""

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


_REPLICATE = re.compile(
    r"(?P<n>[1-9][0-9]{0,5}) (?P<unit>seed|process|parent)(?:e?s)?"
    r"(?: changing (?P<changes>init|data|split)(?: (?P<n_test>[1-9][0-9]*) / (?P<n_train>[1-9][0-9]*))?)?"
    r"(?: of (?P<pairs>[1-9][0-9]*) pairs)?"
)
REPLICATES = ("10 seeds changing init", "5 processes of 30 pairs", "6 seeds changing split 1000 / 1708", "exact")


def _read_replicate(value: object) -> object:
    """`6 seeds changing split 1000 / 1708`: so many of a data set are tested and not, which widens the interval."""
    if isinstance(value, Replicate):
        return value
    if value == "exact":
        return {"unit": "exact", "n": 1}
    match = _REPLICATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"what is repeated is written as in {', '.join(map(repr, REPLICATES))}, not {value!r}")
    return {name: found for name, found in match.groupdict().items() if found is not None}


InWords = Annotated[Replicate, BeforeValidator(_read_replicate)]


class Test(Strict):
    """One acceptance region around one number per replicate. A claim is one test, or several joined by `all`."""

    __test__ = False  # pytest collects classes by this name

    kind: Kind | None = None
    experiment: NAME | None = None
    metric: NAME | None = None
    unit: str = ""
    where: dict[str, Scalar] = {}
    value: str | None = None
    slope: str | None = None
    stat: Literal["mean", "median"] = "mean"
    replicate: Replicate | None = None
    over: dict[str, OverRule] = {}
    bar: BoundField | None = None
    direction: BoundField | None = None
    contradicted: BoundField | None = None
    target: float | None = None
    within: float | None = Field(default=None, ge=0)
    outside: float | None = Field(default=None, ge=0)
    margin: float | None = Field(default=None, gt=0)
    resolution: float | None = Field(default=None, gt=0)
    censored_at: float | NAME | None = None
    evidence: Evidence = "measured"
    core: bool = False

    def expression(self) -> Expression:
        """The parsed `value`, or the left side of `slope`."""
        return parse(self.value) if self.value is not None else self.slope_parts()[0]

    def slope_parts(self) -> tuple[Expression, Literal["log", "linear", "rank"], str]:
        """`"log fast ~ log n"` -> (fast, "log", "n"); `"ap ~ rank batch"` -> (ap, "rank", "batch")."""
        text = self.slope or ""
        check_length(text)
        left, tilde, right = (part.strip() for part in text.partition("~"))
        *scale, knob = right.split() or [""]
        logarithm = re.match(r"log\s", left) is not None
        known: dict[tuple[str, ...], Literal["log", "linear", "rank"]] = {
            (): "linear", ("log",): "log", ("rank",): "rank",
        }  # fmt: skip
        read = known.get(tuple(scale))
        if not tilde or read is None or logarithm != (read == "log") or not re.fullmatch(r"[A-Za-z_]\w*", knob):
            raise ValueError(f"a slope is written 'log y ~ log knob', 'y ~ knob' or 'y ~ rank knob', not {text!r}")
        return parse(left.removeprefix("log") if logarithm else left), read, knob

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
        if (self.slope is None) == (self.kind == "trend"):
            raise ValueError(f"a claim of kind '{self.kind}' needs a '{'slope' if self.kind == 'trend' else 'value'}'")
        self._check_region()
        self._check_that_nothing_is_ignored()
        self._check_order_of_thresholds()

    def region(self) -> str | None:
        """Which of `bar`, `target` and `margin` is given. Raises ValueError where more than one is."""
        given = [name for name in REGIONS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"'{given[0]}' and '{given[1]}' exclude each other: a test has one region")
        return given[0] if given else None

    def _check_region(self) -> None:
        """The one region of the claim's kind, whole, and nothing of another."""
        region, wanted = self.region(), REGION_OF[str(self.kind)]
        if region not in wanted:
            needs = " or ".join({"bar": "a 'bar'", "target": "'target' and 'within'", "margin": "a 'margin'"}[name]
                                for name in wanted)  # fmt: skip
            beside = "" if region is None else f", and no '{region}'"
            raise ValueError(f"a claim of kind '{self.kind}' needs {needs}{beside}")
        if region == "target" and self.within is None:
            raise ValueError("a target needs 'within'")
        allowed = REGIONS[region]
        for name in dict.fromkeys(field for fields in REGIONS.values() for field in fields):
            if getattr(self, name) is not None and name not in allowed:
                raise ValueError(f"'{name}' does not belong to a {region} and would be ignored; remove it")

    def _check_that_nothing_is_ignored(self) -> None:
        replicate = self.replicate
        assert replicate is not None
        exact = replicate.unit == "exact"
        ignored = {
            "replicate.pairs": replicate.pairs and replicate.unit != "process",
            "replicate.n_test": replicate.n_test and replicate.changes != "split",
            "replicate.changes": replicate.changes and exact,
            "stat": exact and self.stat == "median",
            "resolution": exact and self.resolution,
        }
        for field, is_ignored in ignored.items():
            if is_ignored:
                raise ValueError(f"'{field}' decides nothing here and would be ignored; remove it")
        if self.censored_at is not None and self.stat != "median":
            raise ValueError("a censored value has no mean: give 'stat: median' beside 'censored_at'")

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
