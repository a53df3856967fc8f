"""Learning rates are chosen by validation: with other test images every choice is the same."""

from __future__ import annotations

from typing import Any

from tests.methods.blindness import assert_blind, other_test_images

SMALL: dict[str, dict[str, Any]] = {
    "deep_training": dict(dataset="digits", depths=[3], n=8, steps=10, lrs=[0.03, 0.3]),
    "aspect_ratio": dict(dataset="digits", weights=1_000, depths=[2, 3], steps=10, lrs=[0.3, 1.0], nets=1),
}
WITHOUT = {
    **dict.fromkeys(("constants", "power_laws"), "theory alone"),
    **dict.fromkeys(
        ("fluctuations", "exact_width", "full_weights", "universality", "off_criticality", "skip_connections",
         "mutual_information", "ntk_at_initialisation"), "networks at their initialisation, inputs made up"
    ),
    "ntk_change": "24 training images, of which the change of a kernel is measured; nothing is chosen",
}  # fmt: skip


def test_no_choice_rests_on_test_images() -> None:
    runs = assert_blind("dl_theory", SMALL, other_test_images, {"accuracy", "accuracy_by_ratio"}, WITHOUT)
    assert {"best_lr", "validation_accuracy"} <= {row.metric for run in runs.values() for row in run.rows}
