"""Every experiment of the theory made small, and its test images."""

from __future__ import annotations

from typing import Any

from methods.dl_theory.contenders import Recipe
from tests.methods.blindness import other_test_images

SMALL: dict[str, dict[str, Any]] = {
    "deep_training": dict(dataset="digits", depths=[3], n=8, steps=10, lrs=[0.03, 0.3]),
    "aspect_ratio": dict(dataset="digits", weights=1_000, depths=[2, 3], steps=10, lrs=[0.3, 1.0], nets=1),
    "fluctuations": dict(widths=[20], nets=50),
    "exact_width": dict(n=20, layers=[2, 10], nets=50),
    "full_weights": dict(n=8, depth=3, nets=50),
    "universality": dict(n=20, depth=3, nets=50),
    "off_criticality": dict(n=20, depth=3, nets=20),
    "skip_connections": dict(n=20, depth=3, nets=50, gammas=[0.0, 0.5]),
    "mutual_information": dict(wide=20, n=50, nets=50),
    "ntk_at_initialisation": dict(nets=50, shapes=[[8, 3]]),
    "ntk_change": dict(dataset="digits", widths=[8], depths=[2], nets=1),
}
UNTRAINED: dict[str, dict[str, Any]] = {"constants": {}, "power_laws": dict(layers=[50, 100])}
WITHOUT = dict.fromkeys(UNTRAINED, "theory alone")
SEALED = [name for name in SMALL if name not in ("deep_training", "aspect_ratio")]  # no test data, but seeds
TEST_METRICS = {"accuracy", "accuracy_by_ratio"}
_RECIPE = Recipe(depth=2, width=4, steps=6, lrs=(0.1, 0.3))
RECIPES = {"critical": _RECIPE, "plain_sgd": _RECIPE}

test_data_permuted = other_test_images
