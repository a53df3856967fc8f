from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from assay.errors import JobError
from assay.measure.memory import live_tensor_peak, rss_bytes

FLOAT, INT64 = 4, 8  # bytes per element


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def peak(fn, *args, **kwargs) -> int:
    return live_tensor_peak(fn, *args, **kwargs).bytes


def test_a_chain_holds_two_links_at_a_time():
    def chain():
        x = torch.ones(1000)
        for _ in range(5):
            x = x + 1
        return x

    assert peak(chain) == 2 * 1000 * FLOAT


def test_a_chain_that_keeps_its_links_pays_for_all():
    def chain():
        kept = [torch.ones(1000)]
        for _ in range(5):
            kept.append(kept[-1] + 1)

    assert peak(chain) == 6 * 1000 * FLOAT


def test_peak_is_the_highest_point_and_not_the_end():
    def mountain():
        big = torch.ones(5000)
        small = big[:10].clone()
        del big
        return small + 1

    assert peak(mountain) == (5000 + 10) * FLOAT


def test_a_view_keeps_the_whole_storage_and_counts_once():
    def corner():
        view = torch.ones(100, 100).t()[:1, :1].detach()
        return torch.ones(7), view

    assert peak(corner) == (100 * 100 + 7) * FLOAT


def test_in_place_operations_add_nothing():
    assert peak(lambda: torch.ones(1000).add_(1).mul_(2).relu_()) == 1000 * FLOAT


def test_resize_counts_the_growth_once():
    def grow():
        x = torch.ones(10)
        x.resize_(1000)
        x.resize_(500)
        return torch.ones(3)

    assert peak(grow) == (1000 + 3) * FLOAT


def test_outputs_given_by_out_are_counted_where_they_grow():
    assert peak(lambda: torch.add(torch.ones(50), 1, out=torch.empty(0))) == 2 * 50 * FLOAT


def test_mlp_forward_and_backward_by_hand():
    batch, inputs, hidden, outputs = 7, 5, 11, 2

    def step():
        x = torch.ones(batch, inputs)
        w1 = torch.ones(inputs, hidden, requires_grad=True)
        w2 = torch.ones(hidden, outputs, requires_grad=True)
        y = ((x @ w1).tanh() @ w2).exp()
        y.backward(torch.ones(batch, outputs))

    weights = inputs * hidden + hidden * outputs
    # The highest point is tanh's backward. Alive: x, both weights, h (saved by tanh and by the second
    # product), y (saved by exp), the gradient handed in, the gradient of w2, that of h, and that of h's
    # input, just made. Gone: tanh's input (never saved), the gradient of exp's input (used by the second
    # product's backward).
    floats = batch * inputs + weights + batch * hidden + 2 * batch * outputs + hidden * outputs + 2 * batch * hidden
    assert peak(step) == floats * FLOAT


def test_forward_alone_needs_less_than_with_backward():
    """What backward allocates is seen: without it the peak is lower by what the comment above lists."""
    batch, inputs, hidden, outputs = 7, 5, 11, 2

    def forward():
        x = torch.ones(batch, inputs)
        w1 = torch.ones(inputs, hidden, requires_grad=True)
        w2 = torch.ones(hidden, outputs, requires_grad=True)
        return ((x @ w1).tanh() @ w2).exp()

    weights = inputs * hidden + hidden * outputs
    assert peak(forward) == (batch * inputs + weights + 2 * batch * hidden) * FLOAT  # while tanh runs


def test_checkpointing_lowers_the_peak_by_what_it_drops():
    """Blocks of three tanh keep every result; recomputed, they keep their inputs and one block's results."""

    def blocks(recompute):
        def run():
            x = torch.ones(1000, requires_grad=True)
            for _ in range(8):
                block = nn.Sequential(nn.Tanh(), nn.Tanh(), nn.Tanh())
                x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
            x.sum().backward()

        return run

    saved = 8 * 3  # every tanh saves its result
    assert peak(blocks(False)) >= (1 + saved) * 1000 * FLOAT
    assert peak(blocks(True)) <= (1 + 8 + 3 + 2) * 1000 * FLOAT + FLOAT


def test_a_module_built_inside_counts_and_one_built_before_does_not():
    x = torch.ones(3, 20)
    before = nn.Linear(20, 30)
    parameters, output = (20 * 30 + 30) * FLOAT, 3 * 30 * FLOAT
    assert peak(lambda: nn.Linear(20, 30)(x)) == parameters + output
    assert peak(before, x) == output
    assert peak(before, x, include=[before, x]) == parameters + output + 3 * 20 * FLOAT


def test_gradients_that_existed_count_with_their_module():
    model = nn.Linear(20, 30)
    model(torch.ones(1, 20)).sum().backward()
    assert peak(lambda: None, include=[model]) == 2 * (20 * 30 + 30) * FLOAT


def test_buffers_count_with_their_module():
    # weight, bias, mean and variance of four channels, and the number of batches
    assert live_tensor_peak(lambda: None, include=[nn.BatchNorm1d(4)]).bytes == 4 * 4 * FLOAT + INT64


def test_a_tensor_made_before_is_free_until_it_grows():
    x = torch.ones(100)
    assert peak(lambda: x.add_(1).view(10, 10)) == 0
    assert peak(lambda: x.resize_(150)) == 50 * FLOAT


def test_saved_tensors_made_before_are_not_charged_to_backward():
    x = torch.ones(1000, requires_grad=True)
    y = x.exp().sum()
    # the seed gradient of one number; exp's gradient, which becomes x.grad (sum's is an expanded view of the
    # seed)
    assert peak(y.backward) == FLOAT + 1000 * FLOAT


def test_deep_copies_and_literals_are_seen():
    model = nn.Linear(10, 10)
    assert peak(lambda: copy.deepcopy(model)) == (10 * 10 + 10) * FLOAT
    assert peak(lambda: copy.deepcopy(model), include=[model]) == 2 * (10 * 10 + 10) * FLOAT
    before = torch.ones(100)  # no parameter: its storage is copied below any operation, into a tensor made as a scalar
    assert peak(lambda: copy.deepcopy(before)) == (100 + 1) * FLOAT
    assert peak(lambda: torch.tensor([1.0, 2.0, 3.0])) == 3 * FLOAT
    assert "clone" not in vars(torch.UntypedStorage)


def test_sparse_tensors_count_indices_and_values():
    indices, values = torch.tensor([[0, 1], [1, 0]]), torch.ones(2)
    matrix = torch.sparse_coo_tensor(indices, values, (3, 3), check_invariants=False).coalesce()
    assert peak(lambda: matrix * 2.0) == 2 * 2 * INT64 + 2 * FLOAT


@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc])
def test_compressed_tensors_count_both_indices_and_values(layout):
    starts, places = torch.tensor([0, 2, 3, 3]), torch.tensor([0, 2, 1])
    blocks = 2 if layout in (torch.sparse_bsr, torch.sparse_bsc) else 1
    values = torch.ones(3, 2, 2) if blocks == 2 else torch.ones(3)
    tensor = torch.sparse_compressed_tensor(starts, places, values, (3 * blocks, 3 * blocks), layout=layout)
    assert live_tensor_peak(lambda: None, include=[tensor]).bytes == (4 + 3) * INT64 + 3 * blocks**2 * FLOAT


def test_hidden_layouts_are_refused():
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no mkldnn")
    with pytest.raises(JobError, match=r"_mkldnn hides its storage.*to_dense"):
        live_tensor_peak(lambda: torch.ones(4, 4).to_mkldnn())


def test_the_count_is_repeatable_and_survives_an_exception():
    def step():
        model = nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14, 4))
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(5, 3, 16)).logsumexp(1).mean().backward()
        optimizer.step()

    first = peak(step)
    with pytest.raises(ZeroDivisionError):
        live_tensor_peak(lambda: [torch.ones(10), 1 / 0])
    assert "clone" not in vars(torch.UntypedStorage)
    assert peak(step) == first


def test_peak_on_a_gpu_is_the_allocators():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    kept = torch.ones(1 << 20, device="cuda")
    result = live_tensor_peak(lambda: kept + 1, device="cuda")
    assert result.kind == "allocator"
    assert result.bytes == FLOAT << 20


CHILD = """
import psutil
from assay.measure.memory import rss_bytes
start = rss_bytes()
ballast = b"x" * (1 << 27)
print(start, rss_bytes(), psutil.Process().memory_info().rss)
"""


def test_resident_peak_is_the_processes_own():
    """A fresh process started by a big one must not inherit the big one's peak (`getrusage` does)."""
    ballast = b"x" * (400 << 20)
    out = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=240)
    start, grown, now = map(int, out.stdout.split())
    assert start < rss_bytes() - len(ballast) // 2
    assert 0.95 < (grown - start) / (1 << 27) < 1.3
    assert grown > 0.99 * now, "the peak is at least what is resident"
