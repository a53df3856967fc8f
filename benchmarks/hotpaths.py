"""asv over the hot paths of all papers: their time, and the bytes at the peak of one call. Run by `make asv`."""

from __future__ import annotations

from assay import ROOT
from assay.hotpaths import finished, names, set_up
from assay.measure.memory import live_tensor_peak


class HotPath:
    """One benchmark with a parameter, the hot path, so that a paper that adds one edits nothing here."""

    params = (names(ROOT),)
    param_names = ("hot_path",)
    timeout = 600

    def setup(self, hot_path: str) -> None:
        self.call = finished(set_up(hot_path))
        self.call()

    def time_call(self, hot_path: str) -> None:
        self.call()

    def track_peak_bytes(self, hot_path: str) -> int:
        return live_tensor_peak(self.call).bytes

    track_peak_bytes.unit = "bytes"
