"""What the experiments measure with: aligned tables, CPU time in a race's order, and busy processes that end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch

from assay import ROOT
from assay.experiment import Run
from methods.pytorch_direct.contention import hogs
from methods.pytorch_direct.experiments import changed_lines
from methods.pytorch_direct.workloads import as_rows, cpu_seconds, distinct_rows, host_table


def test_a_table_begins_on_a_line_in_any_width() -> None:
    table = host_table(1000, 96)
    for width in (32, 96, 602):
        rows = as_rows(table, width)
        assert rows.data_ptr() % 128 == 0
        assert rows.is_contiguous()
        assert rows.shape == (96_000 // width, width)
    index = distinct_rows(table, 500, seed=0)
    assert len(index.unique()) == 500
    assert not torch.equal(index, index.sort().values)


def test_cpu_seconds_count_work_and_not_waiting() -> None:
    run = Run("toy", "quick", seed=0)

    def work() -> None:
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass

    cpu_seconds(run, {"direct": lambda: time.sleep(0.02), "staged": work}, pairs=3)
    rows = [row for row in run.rows if row.metric == "cpu_s"]
    assert [(row.method, row.repeat) for row in rows] == [(m, i) for m in ("direct", "staged") for i in range(3)]
    least_of_work = min(row.value for row in rows if row.method == "staged")
    assert least_of_work >= 0.02
    assert min(row.value for row in rows if row.method == "direct") < least_of_work / 2


def test_lines_touched_are_the_added_and_the_replaced_ones(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_text("a\nb\nc\n")
    for text, lines in (("a\nb\nc\n", 0), ("a\nx\nb\nc\n", 1), ("a\nB\nc\n", 1), ("a\nB\nC\nD\n", 3), ("a\nc\n", 1)):
        after.write_text(text)
        assert changed_lines(before, after) == lines


def test_hogs_work_while_the_block_runs_and_end_with_it() -> None:
    with hogs(1):
        (hog,) = (child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline()))
        before = sum(hog.cpu_times()[:2])
        while sum(hog.cpu_times()[:2]) <= before:
            time.sleep(0.05)
    assert not hog.is_running()


def test_hogs_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "beside_a_hog.py"
    script.write_text(
        "import multiprocessing, time\n"
        "from methods.pytorch_direct.contention import hogs\n"
        "if __name__ == '__main__':\n"
        "    with hogs(1):\n"
        "        print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "        time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, text=True,
                              stdout=subprocess.PIPE)  # fmt: skip
    assert parent.stdout is not None
    hog = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    gone, _ = psutil.wait_procs([hog], timeout=120)
    assert gone
