"""Blind to the test data: every experiment of a paper runs twice, the second time with what it must not see permuted.

    def test_nothing_rests_on_test_labels(monkeypatch):
        assert_blind("dagnn", SMALL, permuted=lambda: test_labels_permuted(monkeypatch), test_metrics={"accuracy"})

Whatever chooses (an epoch, a trial, a negative, a normalisation) and looks at the test data while it does, changes a
row that is not a test metric.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any

import assay
from assay.experiment import Experiment, Run, experiments_of

CLOCKS = ("wall_s", "time_s", "energy_j", "rss_bytes")


def experiments(slug: str) -> dict[str, Experiment]:
    return experiments_of(importlib.import_module(f"methods.{slug}.experiments"))


def run_small(slug: str, name: str, *, seed: int = 0, dataset: str | None = None, **parameters: Any) -> Run:
    """The experiment in this process, with `parameters` in place of those of its smallest profile."""
    found = experiments(slug)[name]
    smallest = next(profile for profile in ("quick", "standard", "gpu") if profile in found.profiles)
    run = Run(name, smallest, seed, dataset, timed=found.timed, folder=assay.ROOT / "methods" / slug)
    found.function(run, **{**found.parameters(smallest), **parameters})
    return run


def assert_blind(
    slug: str,
    small: Mapping[str, Mapping[str, Any]],
    permuted: Callable[[], AbstractContextManager[Any]],
    test_metrics: Collection[str],
    without_training: Mapping[str, str] | None = None,
) -> dict[str, Run]:
    """Every row but the test metrics is bit-equal when the test data are permuted.

    Args:
        slug: the paper.
        small: experiment -> `dataset` and parameters that make it small.
        permuted: a context in which the labels, targets or events that must not be seen are permuted, as far out as
            the split is known, so that loading, normalising, sampling and choosing all see the permuted ones.
        test_metrics: the metrics that are computed from the test data. One of them has to change in every
            experiment, or the permutation has not reached it.
        without_training: experiment -> why it has nothing to be blind to. Every experiment stands in one of the two.

    Returns:
        experiment -> its run on the data as they are.
    """
    left = set(experiments(slug)) - set(small) - set(without_training or {})
    assert not left, f"{slug}: neither run blind nor said to train nothing: {', '.join(sorted(left))}"
    runs = {name: run_small(slug, name, **parameters) for name, parameters in small.items()}
    for name, parameters in small.items():
        as_it_is = _rows(runs[name])
        with permuted():
            blind = _rows(run_small(slug, name, **parameters))
        assert as_it_is.keys() == blind.keys(), f"{slug} {name}: other rows: {as_it_is.keys() ^ blind.keys()}"
        changed = {key for key in as_it_is if as_it_is[key] != blind[key]}
        seen = {key for key in changed if key[0] not in test_metrics}
        assert not seen, f"{slug} {name} has seen the test data: {sorted(map(str, seen))[:5]}"
        assert changed, f"{slug} {name}: no test metric changed, so the permutation does not reach the test data"
    return runs


def _rows(run: Run) -> dict[tuple[Any, ...], Any]:
    """(metric, what it belongs to) -> values; clocks left out."""
    found: dict[tuple[Any, ...], Any] = {}
    for row in run.rows:
        if row.metric not in CLOCKS and row.unit != "s":
            at = (row.metric, row.method, str(row.setting), row.rank, row.repeat)
            found.setdefault(at, []).append((row.value, row.reason))
    for curve in run.curves:
        found[(curve.metric, curve.method, str(curve.setting), "curve")] = (curve.x, curve.y)
    for artifact in run.artifacts:
        found[(artifact.name, artifact.method, str(artifact.setting), "artifact")] = artifact.npz_base64
    return found
