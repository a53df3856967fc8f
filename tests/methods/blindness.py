"""Blind to the test data: every experiment of a paper runs twice, the second time with what it must not see permuted.

    def test_nothing_rests_on_test_labels(monkeypatch):
        assert_blind("dagnn", SMALL, permuted=lambda: test_labels_permuted(monkeypatch), test_metrics={"accuracy"})

Whatever chooses (an epoch, a trial, a negative, a normalisation) and looks at the test data while it does, changes a
row that is not a test metric, or what the shared training loops have validated and kept.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

import assay
import datasets
from assay.experiment import Experiment, Run, experiments_of, seed_everything
from datasets.temporal import EventStream
from methods.shared import training as shared_training

CLOCKS = ("wall_s", "time_s", "energy_j", "rss_bytes")


def experiments(slug: str) -> dict[str, Experiment]:
    return experiments_of(importlib.import_module(f"methods.{slug}.experiments"))


def run_small(slug: str, name: str, *, seed: int = 0, dataset: str | None = None, **parameters: Any) -> Run:
    """The experiment in this process, with `parameters` in place of those of its smallest profile."""
    found = experiments(slug)[name]
    smallest = next(profile for profile in ("quick", "standard", "gpu") if profile in found.profiles)
    run = Run(name, smallest, seed, dataset, timed=found.timed, folder=assay.ROOT / "methods" / slug)
    seed_everything(seed)  # as a worker does
    found.function(run, **{**found.parameters(smallest), **parameters})
    return run


@contextmanager
def other_test_images() -> Iterator[None]:
    """Test images are upside down and inverted, their classes shifted, before anything sees them."""
    load = datasets.load

    def others(name: str, **options: Any) -> Any:
        data = load(name, **options)
        return data._replace(test_x=1 - data.test_x.flip(2), test_y=data.test_y.roll(1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", others)
        yield


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
    runs = {}
    for name, parameters in small.items():
        with _chosen() as by_all:
            runs[name] = run_small(slug, name, **parameters)
        as_it_is = rows_of(runs[name])
        with permuted(), _chosen() as by_blind:
            blind = rows_of(run_small(slug, name, **parameters))
        assert repr(by_all) == repr(by_blind), f"{slug} {name}: a training was validated or stopped by the test data"
        assert as_it_is.keys() == blind.keys(), f"{slug} {name}: other rows: {as_it_is.keys() ^ blind.keys()}"
        changed = {key for key in as_it_is if as_it_is[key] != blind[key]}
        seen = {key for key in changed if key[0] not in test_metrics}
        assert not seen, f"{slug} {name} has seen the test data: {sorted(map(str, seen))[:5]}"
        assert changed, f"{slug} {name}: no test metric changed, so the permutation does not reach the test data"
    return runs


@contextmanager
def other_test_events(experiments: Any) -> Iterator[None]:
    """Who meets whom in the test, with which features and how long after the rest; before splitting and drawing.

    For experiments that make their task of an `EventStream` by `make_task`, which tests what is later than 85 %.
    """
    make_task = experiments.make_task

    def permuted(stream: EventStream, *rest: Any) -> Any:
        first = int((stream.t <= stream.t.quantile(0.85)).sum())
        order = first + torch.randperm(len(stream) - first, generator=torch.Generator().manual_seed(0))
        order, t = torch.cat([torch.arange(first), order]), stream.t.clone()
        t[first:] += stream.t[first:] - stream.t[first - 1]
        changed = dict(dst=stream.dst[order], edge_features=stream.edge_features[order], t=t)
        return make_task(replace(stream, **changed), *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "make_task", permuted)
        yield


@contextmanager
def _chosen() -> Iterator[list[Any]]:
    """Of every training by the loop that papers share: its losses, its validations and the epoch that it has kept.

    An experiment that records nothing but its test would hide what it was chosen by.
    """
    seen: list[Any] = []
    training = shared_training.Training

    def begun() -> Any:
        seen.append(training())
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_training, "Training", begun)
        yield seen


def rows_of(run: Run) -> dict[tuple[Any, ...], Any]:
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
