"""Every experiment of OneFlow made small; nothing of it is chosen by a score."""

from __future__ import annotations

from typing import Any

UNTRAINED: dict[str, dict[str, Any]] = {
    "boxing": dict(shape=[16, 16], world_sizes=[2], disjoint=[[1, 1]]),
    "equivalence": dict(world_sizes=[4], batch=32, hidden=8, steps=2),
    "signatures": dict(devices=2, lengths=[1], sizes=[4, 8]),
    "plan_search": dict(devices=4, width=8192, batches=[1024, 262144]),
    "plans": dict(world_sizes=[4], batches=[128], width=16, steps=2),
    "pipeline_time": dict(batches=2, unit_s=1e-4, pairs=1),
    "overlap": dict(elements=10_000, side=8, batches=3, pairs=1),
    "back_pressure": dict(items=20, ratio=3, unit_s=1e-4),
    "schedules": dict(graphs=2, batches=3),
    "boxing_time": dict(world_size=2, sides=[16], pairs=1),
    "step_time": dict(world_size=2, sizes=[[16, 8, 8, 4], [8, 16, 16, 4]], pairs=1),
}
ELSEWHERE = ("gpu_pipeline",)
WITHOUT = {
    **dict.fromkeys(("boxing", "signatures", "plan_search", "back_pressure", "schedules"), "bytes, plans, schedules"),
    **dict.fromkeys(("boxing_time", "step_time", "pipeline_time", "overlap", "gpu_pipeline"), "clocks"),
    **dict.fromkeys(("equivalence", "plans"), "training losses of one process and of every plan; nothing is chosen"),
}
