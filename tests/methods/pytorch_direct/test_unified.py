"""UnifiedTensor: the same memory, what it takes, what it refuses, and how long it lives."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from methods.pytorch_direct import UnifiedTensor
from methods.pytorch_direct.baselines import StagedPinned

CUDA = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not CUDA, reason="needs a CUDA GPU")


@pytest.fixture
def features() -> Tensor:
    return torch.arange(40.0).view(10, 4)


def synchronized(rows: Tensor) -> Tensor:
    return rows.cpu()


@pytest.mark.parametrize("shape", [(10,), (10, 4), (10, 2, 3)])
def test_rows_of_any_shape_arrive_on_the_device(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    unified, index = UnifiedTensor(x), torch.tensor([9, 0, 0, 3])
    assert unified[index].device == unified.device
    assert torch.equal(unified[index].cpu(), x[index])
    assert torch.equal(unified.index_select(0, index).cpu(), x[index])
    assert torch.equal(unified[index.to(unified.device)].cpu(), x[index])
    assert unified[index[:0]].shape == (0, *shape[1:])


def test_nothing_is_copied_and_later_writes_are_seen(features: Tensor) -> None:
    unified = UnifiedTensor(features)
    assert unified.cpu() is features
    features[3] = -1.0
    assert torch.equal(unified[torch.tensor([3])].cpu(), features[3:4])


def test_what_is_scattered_through_the_alias_is_in_host_memory(features: Tensor) -> None:
    unified = UnifiedTensor(features)
    unified[torch.tensor([2, 5])] = torch.full((2, 4), 7.0)
    unified.alias.mul_(2)
    if CUDA:
        torch.cuda.synchronize()
    assert features[2].tolist() == [14.0] * 4
    assert features[1].tolist() == [8.0, 10.0, 12.0, 14.0]


def test_operators_through_the_alias_run_on_the_device(features: Tensor) -> None:
    unified = UnifiedTensor(features)
    assert (unified.alias + 1).device == unified.device
    assert torch.equal((unified.alias + torch.ones(4, device=unified.device)).cpu(), features + 1)


def test_a_wrapped_temporary_stays_alive_as_long_as_its_wrapper() -> None:
    x = torch.rand(10, 4)
    kept, died = x.clone(), weakref.ref(x)
    unified = UnifiedTensor(x)
    del x
    gc.collect()
    assert died() is not None
    assert torch.equal(unified[torch.arange(10)].cpu(), kept)
    del unified
    gc.collect()
    assert died() is None


def test_a_closed_tensor_gathers_no_more_but_gives_its_memory_back(features: Tensor) -> None:
    with UnifiedTensor(features) as unified:
        assert not unified.closed
    unified.close()
    assert unified.closed
    assert unified.cpu() is features
    uses: list[Callable[[], object]] = [lambda: unified[torch.tensor([0])], lambda: unified.alias]
    for use in uses:
        with pytest.raises(RuntimeError, match="closed"):
            use()


REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: UnifiedTensor([1.0]), TypeError, "not list"),  # type: ignore[arg-type]
    (lambda: UnifiedTensor(torch.rand(4, 6).t()), ValueError, r"pass tensor.contiguous\(\)"),
    (lambda: UnifiedTensor(torch.tensor(1.0)), ValueError, "not contiguous"),
    (lambda: UnifiedTensor(torch.rand(4, device="meta")), ValueError, "on meta"),
    (lambda: UnifiedTensor(torch.rand(4, 2, requires_grad=True)), ValueError, r"pass tensor.detach\(\)"),
    (lambda: UnifiedTensor(torch.rand(4, 2, dtype=torch.complex128)), ValueError, "view_as_real"),
    (lambda: UnifiedTensor(torch.rand(4, 2), mapping="diagonal"), ValueError, "mapping must be .*; got 'diagonal'"),
]


@pytest.mark.parametrize(("make", "error", "says"), REFUSED, ids=[says for *_, says in REFUSED])
def test_what_cannot_be_wrapped_is_refused_with_what_to_do(
    make: Callable[[], object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        make()


BAD_INDICES: list[tuple[object, type[Exception], str]] = [
    (3, TypeError, "not int"),
    (torch.tensor([1], dtype=torch.int32), TypeError, "int32"),
    (torch.tensor([True] * 10), TypeError, "bool"),
    (torch.tensor([[1]]), ValueError, "one dimension"),
    (torch.tensor([0, 10]), IndexError, "from 0 to 10; rows are 0 to 9"),
    (torch.tensor([-1]), IndexError, "from -1 to -1"),
]


@pytest.mark.parametrize(("index", "error", "says"), BAD_INDICES, ids=[says for *_, says in BAD_INDICES])
def test_a_bad_index_is_refused(index: Tensor, error: type[Exception], says: str, features: Tensor) -> None:
    unified = UnifiedTensor(features)
    with pytest.raises(error, match=says):
        unified[index]
    with pytest.raises(error, match=says):
        unified[index] = torch.zeros(len(index) if isinstance(index, Tensor) else 1, 4)


def test_a_destination_that_does_not_fit_is_refused(features: Tensor) -> None:
    unified, index = UnifiedTensor(features), torch.tensor([1, 2])
    device = unified.device
    for out in (
        torch.empty(3, 4, device=device), torch.empty(2, 4, device=device, dtype=torch.float64),
        torch.empty(2, 4, device="meta"), torch.empty(4, 2, device=device).t(),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"out must be contiguous torch.float32 \(2, 4\)"):
            unified.gather_into(out, index)
    with pytest.raises(ValueError, match="only rows"):
        unified.index_select(1, index)


def test_a_kept_buffer_grows_and_serves_smaller_gathers(features: Tensor) -> None:
    way = StagedPinned(features, "cuda" if CUDA else "cpu")
    for index in (torch.tensor([1]), torch.arange(10), torch.tensor([4, 2])):
        assert torch.equal(synchronized(way[index]), features[index])


@needs_gpu
def test_memory_is_page_locked_in_place_and_unlocked_at_the_end() -> None:
    x = torch.rand(1000, 602)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unified = UnifiedTensor(x)
    assert x.is_pinned()
    assert unified.alias.is_cuda
    assert unified.alias.data_ptr() == x.data_ptr()
    unified.close()
    assert not x.is_pinned()


@needs_gpu
def test_an_alias_keeps_the_memory_locked() -> None:
    x = torch.rand(1000, 602)
    alias = UnifiedTensor(x).alias
    gc.collect()
    assert x.is_pinned()
    assert torch.equal(alias.cpu(), x)
    del alias
    gc.collect()
    assert not x.is_pinned()


@needs_gpu
def test_pages_that_are_locked_already_in_part_are_copied_with_a_warning() -> None:
    x = torch.rand(100_000)
    with UnifiedTensor(x[50_000:]), pytest.warns(UserWarning, match="page-locked copy"):
        unified = UnifiedTensor(x)
    assert torch.equal(unified[torch.arange(100_000)].cpu(), x)
