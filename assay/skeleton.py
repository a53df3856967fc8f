"""`assay new <slug>`: a paper's folder and its test file, which pass as they are and are then replaced part by part."""

from __future__ import annotations

import keyword
from importlib.util import find_spec
from pathlib import Path
from string import Template

from assay.card import SLUG
from assay.errors import AssayError
from assay.record import write_atomically

YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}
GRAMMAR = {"log", "value", "rank", "method"}  # of expressions, slopes and figures
TAKEN = {"shared", "baselines", "contenders", "experiments", "hotpaths", "constant", "tensor", "run", "callable"}

CARD = """\
title: "$name: the paper's title"
authors: First Author, Second Author
venue: Conference 2020
topic: other
data: points on a line
headline: [error-is-cut]
idea: >
  What the paper does, in a few lines that a reader from another field can follow.
setting_of_paper: Data sets, widths, hardware and budgets of the paper.
setting_of_ours:
  quick: A line through noisy points, 3 seeds.
methods: {$slug: proposed, constant: baseline}
datasets: {}
experiments:
  fit: {metrics: {mse: ""}, replicate: 3 seeds changing data}
claims:
  error-is-cut:
    says: The proposed method at least halves the squared error of the baseline.
    test: constant / $slug >= 2, mean noise, from fit
    why: the paper reports a cut by half
    reported: 2 x; Table 1, from memory
figures:
  - {title: Error against noise, experiment: fit, x: noise, y: mse, log_y: true}
"""

METHOD = '''\
"""$name: the paper's idea in a few lines, with the equations that this file implements.

Eq. 1: y = w x + b
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class $name(nn.Module):
    """A line through points: title of the paper (venue, arXiv), Eq. 1.

    Shapes:
        x: (N,), no unit.
        returns: (N,), in the unit of y.
    """

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x[:, None])[:, 0]


def main() -> None:
    """Train on noisy points of a line, and print what has been learned."""
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 64)
    y, model = 2 * x + 0.1 * torch.randn(64), $name()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for step in range(1, 101):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}  mean squared error {loss:.4f}  slope {model.line.weight.item():.3f}, wanted 2")
'''

INIT = '''\
"""$name: the names that a user imports.

Predictions for your own points:

    import torch
    from methods.$slug import $name

    x = torch.rand(5)
    model = $name()
    y = model(x)  # (5,)
"""

from methods.$slug.$slug import $name

__all__ = ["$name"]
'''

MAIN = '''\
"""`python -m methods.$slug`"""

from methods.$slug.$slug import main

main()
'''

BASELINES = '''\
"""What $name is compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """Predicts one number whatever x is. x: (N,); returns: (N,)."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.level.expand_as(x)
'''

CONTENDERS = '''\
"""Who is compared: what builds each, its recipe, and what a search may change of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.contenders import Contender
from methods.$slug.baselines import Constant
from methods.$slug.$slug import $name

Points = tuple[Tensor, Tensor]
"""x and y, (N,) each."""


@dataclass(frozen=True)
class Recipe:
    """Adam on all points."""

    steps: int = 100
    lr: float = 0.1


CONTENDERS = {
    "$slug": Contender(lambda points, recipe: $name(), Recipe()),
    "constant": Contender(lambda points, recipe: Constant(), Recipe()),
}


def train(name: str, points: Points, recipe: Recipe) -> tuple[nn.Module, float]:
    """Build a contender and train it; returns it and its mean squared error."""
    model = CONTENDERS[name].build(points, recipe)
    (x, y), optimizer = points, torch.optim.Adam(model.parameters(), lr=recipe.lr)
    for _ in range(recipe.steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    return model, loss.item()


def example(seed: int = 0, noise: float = 0.1) -> Points:
    """64 noisy points on a line."""
    x = torch.linspace(-1, 1, 64)
    return x, 2 * x + noise * torch.randn(64, generator=torch.Generator().manual_seed(seed))
'''

EXPERIMENTS = '''\
"""The experiments of $name."""

from __future__ import annotations

from dataclasses import replace

from assay.contenders import spent
from assay.experiment import Run, experiment
from methods.$slug.contenders import CONTENDERS, example, train


@experiment(quick=dict(replicates=3, datasets=[], noises=[0.1, 0.3], steps=100))
def fit(run: Run, noises: list[float], steps: int) -> None:
    """All methods on the same points; a replicate is new data."""
    for noise in noises:
        points = example(run.seed, noise)
        for name, contender in CONTENDERS.items():
            with run.method(name, noise=noise) as m:
                model, m["mse"] = train(name, points, replace(contender.recipe, steps=steps))
                spent(m, model, steps=steps)
'''

HOTPATHS = '''\
"""What is tracked over commits: one set-up and one call each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from methods.$slug.$slug import $name


def forward() -> Callable[[], object]:
    model, x = $name(), torch.linspace(-1, 1, 4096)
    return lambda: model(x)
'''

TEST = '''\
"""$name, as statements about the paper."""

from __future__ import annotations

import torch

from methods.$slug import $name


def test_prediction_is_linear_in_x() -> None:
    torch.manual_seed(0)
    model, x = $name(), torch.tensor([0.0, 1.0, 2.0])
    y = model(x)
    torch.testing.assert_close(y[2] - y[1], y[1] - y[0])
'''


def _why_not(slug: str) -> str | None:
    """What else the name means, where it would become a module, a key on a card and a name in expressions."""
    if keyword.iskeyword(slug) or keyword.issoftkeyword(slug):
        return "it is a word of Python"
    if slug in YAML_WORDS:
        return "on a card YAML reads it as true, false or nothing"
    if slug in GRAMMAR:
        return "it has a meaning of its own on a card"
    if slug in TAKEN:
        return "a paper's folder has a file or a class of this name"
    if find_spec(slug) is not None:
        return "a module of this name can be imported already"
    return None


def create(root: Path, slug: str) -> list[Path]:
    """Write the folder and the test file; returns the files. Raises AssayError where they exist or the name is bad."""
    if not SLUG.fullmatch(slug):
        raise AssayError(f"'{slug}' is no slug: lower-case letters, digits and _, beginning with a letter")
    if reason := _why_not(slug):
        raise AssayError(f"a paper cannot be called '{slug}': {reason}; choose another name, such as '{slug}_net'")
    folder = root / "methods" / slug
    if folder.exists():
        raise AssayError(f"{folder} exists already; a paper is one folder, edit it there")
    name = "".join(part.capitalize() for part in slug.split("_"))
    methods = root / "methods" / "__init__.py"
    begun = {} if methods.exists() else {methods: '"""The papers of this project, a folder each."""\n'}
    texts = begun | {
        folder / "paper.yaml": CARD,
        folder / "__init__.py": INIT,
        folder / "__main__.py": MAIN,
        folder / f"{slug}.py": METHOD,
        folder / "baselines.py": BASELINES,
        folder / "contenders.py": CONTENDERS,
        folder / "experiments.py": EXPERIMENTS,
        folder / "hotpaths.py": HOTPATHS,
        root / "tests" / "methods" / slug / f"test_{slug}.py": TEST,
    }
    for path, text in texts.items():
        write_atomically(path, Template(text).substitute(slug=slug, name=name))
    return list(texts)
