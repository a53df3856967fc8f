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
TAKEN = {"shared", "baselines", "experiments", "hotpaths", "constant", "tensor", "run", "callable"}

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

EXPERIMENTS = '''\
"""The experiments of $name."""

from __future__ import annotations

import torch
from torch import nn

from assay.experiment import Run, experiment
from methods.$slug.baselines import Constant
from methods.$slug.$slug import $name

CONTENDERS: dict[str, type[nn.Module]] = {"$slug": $name, "constant": Constant}


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int) -> float:
    """Mean squared error after training on all points. x, y: (N,)."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()


@experiment(quick=dict(replicates=3, datasets=[], noises=[0.1, 0.3], steps=100))
def fit(run: Run, noises: list[float], steps: int) -> None:
    """Both methods on the same points; a replicate is new data."""
    generator = torch.Generator().manual_seed(run.seed)
    x = torch.linspace(-1, 1, 64)
    for noise in noises:
        y = 2 * x + noise * torch.randn(64, generator=generator)
        for name, build in CONTENDERS.items():
            with run.method(name, noise=noise) as m:
                m["mse"] = train(build(), x, y, steps)
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
        folder / "__init__.py": f'"""{name}: the names that a user imports."""\n\n'
        f'from methods.{slug}.{slug} import {name}\n\n__all__ = ["{name}"]\n',
        folder / f"{slug}.py": METHOD,
        folder / "baselines.py": BASELINES,
        folder / "experiments.py": EXPERIMENTS,
        folder / "hotpaths.py": HOTPATHS,
        root / "tests" / "methods" / slug / f"test_{slug}.py": TEST,
    }
    for path, text in texts.items():
        write_atomically(path, Template(text).substitute(slug=slug, name=name))
    return list(texts)
