"""What a task is, where papers share it: a stream of events cut by time."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from datasets.temporal import EventStream, Split
from methods.shared.temporal import to_device

TRAIN_UNTIL, VAL_UNTIL = 0.70, 0.85  # quantiles of the times of events


class CutStream(NamedTuple):
    """A stream whose time starts at 0, and the places in it where validation and test begin.

    split: masks over its events, where these came from; its training events may be fewer than those before `first_val`.
    """

    stream: EventStream
    split: Split
    first_val: int
    first_test: int


def cut_by_time(
    stream: EventStream, device: torch.device | str = "cpu", *, new_share: float = 0.0, seed: int = 0
) -> CutStream:
    """Training events up to the time quantile 0.70, validation up to 0.85, test after that.

    Args:
        new_share, seed: of the later nodes such a share loses its training events; see `EventStream.split`.

    Raises:
        ValueError: a part has no event.
    """
    if len(stream) == 0:
        raise ValueError("make_task: the stream has no events")
    stream = replace(stream, t=stream.t - stream.t[0])
    split = stream.split(TRAIN_UNTIL, VAL_UNTIL, new_share=new_share, seed=seed)
    for part in ("train", "val", "test"):
        if not bool(getattr(split, part).any()):
            raise ValueError(f"make_task: of {len(stream)} events none falls into the part {part!r}; give more events")
    first_val, first_test = (int(mask.nonzero()[0]) for mask in (split.val, split.test))
    return CutStream(to_device(stream, torch.device(device)), split, first_val, first_test)
