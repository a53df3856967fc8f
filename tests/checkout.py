"""A checkout of a test's own, in which papers can be added, run, damaged and killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import assay

CARD = """
title: A toy
authors: Nobody
venue: Nowhere 2020
idea: To test the harness.
setting_of_paper: none
methods: {good: proposed, bad: baseline}
experiments:
  toy: {metrics: {score: ""}, replicate: 3 seeds changing init}
claims:
  good-is-better:
    says: good beats bad.
    test: good - bad > 0, from toy
    why: a test
"""


# What the fork server of a run loads beside torch: toys train nothing and know no graphs, and take less time than it.
FOR_REAL_PAPERS = '"torch._dynamo", "torch_geometric", '


class Checkout:
    """A copy of the harness in a folder of its own, without papers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("assay", "datasets"):
            shutil.copytree(assay.ROOT / name, root / name)  # with what is compiled, which is not compiled anew
        jobs = (root / "assay/jobs.py").read_text()
        assert FOR_REAL_PAPERS in jobs
        self.write("assay/jobs.py", jobs.replace(FOR_REAL_PAPERS, ""))
        for name in ("pyproject.toml", "requirements.lock"):
            shutil.copy(assay.ROOT / name, root / name)
        self.write("methods/__init__.py", "")

    def write(self, path: str, text: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(dedent(text))
        return target

    def paper(self, slug: str, experiments: str, card: str = CARD) -> None:
        """Add a paper whose `experiments.py` has these lines below the usual imports."""
        head = (
            "import os, signal, time\nfrom pathlib import Path\nimport torch\nfrom assay.experiment import experiment\n"
        )
        self.write(f"methods/{slug}/__init__.py", "")
        self.write(f"methods/{slug}/paper.yaml", card)
        self.write(f"methods/{slug}/experiments.py", head + dedent(experiments))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "assay", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """With locks of its own: it neither waits for other runs on this machine nor keeps them waiting."""
        return {**os.environ, "PYTHONPATH": "", "COLUMNS": "200", "ASSAY_LOCKS": str(self.root / "locks")}

    def assay(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), cwd=self.root, env=self.environment, text=True,
                              capture_output=True, timeout=280)  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """As from a terminal: a shell's background job, which the tests may be, would have it ignore Ctrl-C."""
        return subprocess.Popen(self.command(*arguments), cwd=self.root, env=self.environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
