"""The lines at the top of a paper's docstring, which a user types first: run, and called with unusual inputs."""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


def lines_of(slug: str) -> str:
    """The first indented block of the package's docstring that begins with an import."""
    doc = importlib.import_module(f"methods.{slug}").__doc__ or ""
    blocks = re.findall(r"(?m)^((?: {4}.*\n|\n(?= {4}))+)", doc + "\n")
    found = [block for block in map(textwrap.dedent, blocks) if re.match(r"\s*(import|from) ", block)]
    assert found, f"methods.{slug}: its docstring has no indented lines that begin with an import"
    return found[0]


def run_lines(slug: str) -> dict[str, Any]:
    """The names that the lines leave."""
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(compile(lines_of(slug), f"docstring of methods.{slug}", "exec"), names)
    return names


def calls_of(slug: str) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """What the lines call of the paper, or of what it gave: (name, the call by keyword, the arguments of the lines).

    Only arguments whose value is known are given: numbers, words, and names of tensors.
    """
    names = run_lines(slug)
    public = importlib.import_module(f"methods.{slug}").__all__
    for node in ast.walk(ast.parse(lines_of(slug))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in names:
            continue
        target, name = names[node.func.id], node.func.id
        if name not in public and not isinstance(target, nn.Module):
            continue
        at: dict[str, str | int] = {}
        good: dict[str, Any] = {}
        given: list[Any] = []
        for place, argument in enumerate(node.args):
            given.append(eval(ast.unparse(argument), names))
            if isinstance(argument, ast.Name | ast.Constant):
                key = argument.id if isinstance(argument, ast.Name) else f"argument {place}"
                at[key], good[key] = place, given[-1]
        keywords = {k.arg: eval(ast.unparse(k.value), names) for k in node.keywords if k.arg}
        for k in node.keywords:
            if k.arg and isinstance(k.value, ast.Name | ast.Constant):
                at[k.arg], good[k.arg] = k.arg, keywords[k.arg]
        good = {key: value for key, value in good.items() if isinstance(value, Tensor | int | float | str)}
        if isinstance(target, nn.Module):
            target.eval()
        yield name, _by_keyword(target, given, keywords, at), good


def _by_keyword(
    target: Callable[..., Any], given: list[Any], keywords: dict[str, Any], at: dict[str, str | int]
) -> Callable[..., Any]:
    def call(**changed: Any) -> Any:
        positional, named = list(given), dict(keywords)
        for key, value in changed.items():
            place = at[key]
            if isinstance(place, int):
                positional[place] = value
            else:
                named[place] = value
        return target(*positional, **named)

    return call
