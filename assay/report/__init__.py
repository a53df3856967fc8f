"""The pages made of results: the static site and the Markdown scoreboard."""

from __future__ import annotations

from assay.report.scoreboard import write_scoreboard
from assay.report.site import write_site

__all__ = ["write_scoreboard", "write_site"]
