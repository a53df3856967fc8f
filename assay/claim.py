"""What a card says of its experiments and its claims, and the resolved tests that a verdict is made of."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError

from assay.acceptance import NAME, Evidence, InWords, Replicate, Strict, Test
from assay.errors import AssayError
from assay.line import Fields, merged, names_every_metric, read_each, read_line, unit_of

Profile = Literal["quick", "standard", "gpu"]
PROFILES: tuple[Profile, ...] = ("quick", "standard", "gpu")
Of = Literal["paper", "ours"]
EVIDENCE: tuple[Evidence, ...] = ("measured", "counted", "simulated")


class Head(Strict):
    """What the tests of an experiment share, so that a claim says it no more."""

    metrics: dict[NAME, str] = Field(
        default_factory=dict,
        description="each metric and its unit, that of tests that name none first: `{accuracy: '%', parameters: "
        "counted}`. A unit may follow how the metric is known (`counted B`, `simulated s`); without a word it is "
        "measured, or counted where the replicate is exact",
    )
    replicate: InWords = Field(description="what is repeated")
    each: str = Field(default="", description="clauses of every test, such as `on cora, mean split`; a test may add")
    profiles: tuple[Profile, ...] = Field(default=PROFILES, description="those that can judge its claims")

    def evidence(self, metric: str | None, replicate: Replicate) -> Evidence:
        word = self.metrics.get(metric or "", "").partition(" ")[0]
        default: Evidence = "counted" if replicate.unit == "exact" else "measured"
        return next((known for known in EVIDENCE if known == word), default)

    def unit(self, metric: str | None) -> str:
        text = self.metrics.get(metric or "", "")
        first, _, rest = text.partition(" ")
        return rest if first in EVIDENCE else text


def _read_test(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Claim(Strict):
    """A sentence of the paper made falsifiable; or a check of our own (`of: ours`), shown and counted apart."""

    of: Of = Field(default="paper", description="whose claim it is; what no paper claims is `ours`")
    says: str = Field(description="the claim, in a sentence")
    paper_says: str = Field(default="", description="how the paper says it, as near to its words as can be")
    test: Annotated[tuple[str, ...], BeforeValidator(_read_test)] = Field(
        default=(), description="one line, or a list of lines all of which must hold; see the forms below"
    )
    each: str = Field(default="", description="clauses of every line of `test`")
    replicate: InWords | None = Field(default=None, description="where it is not the experiment's")
    why: str = Field(default="", description="the reason for the bar, fixed before the run; each test has one")
    reported: str | None = Field(
        default=None,
        description="the number that it is about, in the test's unit: `84.4 +- 0.5 %; Table 2, paper; Cora, 100 runs` "
        "(or `1 to 2`, `<= 3`, `>= 1`); or the name of one under `reported`",
    )
    given_profiles: tuple[Profile, ...] | None = Field(
        default=None, alias="profiles", description="those that can judge it, where they are not the first experiment's"
    )
    rests_on: str = Field(default="", description="what a reader of the verdict must know")
    untested: str | None = Field(default=None, description="in place of `test`: why it cannot be tested here")
    _tests: tuple[Test, ...] = PrivateAttr(default=(Test(),))
    _profiles: tuple[Profile, ...] = PrivateAttr(default=PROFILES)

    def tests(self) -> list[Test]:
        """The tests of this claim, each with every field resolved; one that is not tested has one without a field."""
        return list(self._tests)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The profiles that can judge it."""
        return self.given_profiles or self._profiles

    @property
    def kind(self) -> str | None:
        return self._tests[0].kind

    @property
    def experiment(self) -> str | None:
        return self._tests[0].experiment

    @property
    def metric(self) -> str | None:
        return self._tests[0].metric

    @property
    def where(self) -> dict[str, Any]:
        """The knobs that all of its tests fix, at the same value."""
        first, *others = self._tests
        return {k: v for k, v in first.where.items() if all((k, v) in test.where.items() for test in others)}

    def resolve(self, heads: dict[str, Head]) -> None:
        """Read the lines of `test` over what the experiment says. Raises ValueError, which begins with the field."""
        if self.untested is not None:
            for name in ("test", "each", "replicate"):
                if getattr(self, name):
                    raise ValueError(f"{name}: an untested claim has none, and it would be ignored; remove it")
            return
        if not self.why:
            raise ValueError("why: is missing: the reason for the bar, fixed before the run")
        if not self.test:
            raise ValueError(
                "test: is missing; write `test: a - b >= 1, on cora, from accuracy`, or `untested:` with the reason"
            )
        shared = _read("each", read_each, self.each)
        found: list[Test] = []
        for place, line in enumerate(self.test):
            field = f"test.{place}" if len(self.test) > 1 else "test"
            found += [_read(field, self._test, heads, shared, fields) for fields in _read(field, read_line, line)]
        self._tests = tuple(found)
        self._profiles = heads[str(found[0].experiment)].profiles
        if self.given_profiles == self._profiles:
            raise ValueError(f"profiles: are those of experiment {found[0].experiment}, which are taken; remove them")
        if len(found) == 1 and found[0].core:
            raise ValueError("test: `core` decides nothing in a claim of one test and would be ignored; remove it")
        if self.replicate is not None and not any(test.replicate == self.replicate for test in found):
            raise ValueError("replicate: every test is exact, so it would be ignored; remove it")

    def _test(self, heads: dict[str, Head], shared: Fields, line: Fields) -> Test:
        fields = merged(shared, line)
        name = fields.get("experiment")
        if name is None:
            raise ValueError(
                "says no experiment: end with `from accuracy`, or write `each: from accuracy` for all lines"
            )
        if name not in heads:
            raise ValueError(f"no experiment '{name}' under 'experiments' (there are {', '.join(heads) or 'none'})")
        head = heads[name]
        fields = {"replicate": self.replicate or head.replicate, **merged(read_each(head.each), fields)}
        fields["experiment"] = name
        if fields.pop("unpaired", False):
            fields["replicate"] = fields["replicate"].model_copy(update={"pairs": None})
        if "metric" not in fields and not names_every_metric(fields):
            fields["metric"] = next(iter(head.metrics), None)
        metric = fields.get("metric")
        if metric is not None and metric not in head.metrics:
            raise ValueError(f"no metric '{metric}' under experiments.{name}.metrics ({', '.join(head.metrics)})")
        test = Test.model_validate(fields)
        assert test.replicate is not None
        known = {"unit": unit_of(fields, head.unit(metric)), "evidence": head.evidence(metric, test.replicate)}
        test = test.model_copy(update={k: v for k, v in known.items() if k not in fields})
        test.check()
        return test

    def hash(self) -> str:
        """Of every field that decides the verdict: a bar moved after the run is seen by it."""
        deciding = {
            # `tail` was a field that no card set; committed results hold hashes with it
            "tests": [{**test.model_dump(mode="json"), "tail": True} for test in self.tests()],
            "profiles": self.profiles,
            "untested": self.untested,
        }
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:16]


def _read(field: str, read: Any, *given: Any) -> Any:
    """What `read` makes of a field; what it says against it begins with the field's name."""
    try:
        return read(*given)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{field}: {'.'.join(map(str, first['loc']))}: {message}") from None
    except (ValueError, AssayError) as error:
        raise ValueError(f"{field}: {error}") from None
