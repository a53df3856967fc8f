"""asv over the hot paths of all papers: their time, and the bytes at the peak of one call. Run by `make asv`."""

from __future__ import annotations

from assay import ROOT
from assay.hotpaths import finished, names, set_up
from assay.measure.memory import live_tensor_peak


class _HotPath:
    """One hot path, `name`. Each has a class of its own, so that asv gives each a name and a graph of its own."""

    name: str
    timeout = 600

    def setup(self) -> None:
        self.call = finished(set_up(self.name))
        self.call()

    def time_call(self) -> None:
        self.call()

    def track_peak_bytes(self) -> int:
        return live_tensor_peak(self.call).bytes

    track_peak_bytes.unit = "bytes"


def _suite(name: str) -> type[_HotPath]:
    return type(name.replace(".", "__"), (_HotPath,), {"name": name, "__module__": __name__})


# asv finds what a module names, so that a paper that adds a hot path edits nothing here
globals().update({suite.__name__: suite for suite in map(_suite, names(ROOT))})
