"""The gather kernels of PyTorch-Direct: bit-equal to X[index], every cell written once, and their speed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from methods.pytorch_direct import kernels
from methods.pytorch_direct.baselines import Resident, Staged, StagedPinned
from methods.pytorch_direct.kernels import MAPPINGS, is_shifted
from methods.pytorch_direct.pytorch_direct import UnifiedTensor
from methods.pytorch_direct.workloads import distinct_rows, host_table
from methods.shared.interpreter import interpreted

CUDA = torch.cuda.is_available()
needs_triton = pytest.mark.skipif(kernels.triton is None, reason="Triton is not installed")
WIDTHS = (1, 31, 32, 33, 602)
ROWS, ROWS_OUT = 40, 24


def gather(x: Tensor, index: Tensor, mapping: str) -> Tensor:
    """By the kernel: compiled and from host memory where there is a GPU, else in the interpreter."""
    if CUDA:
        with UnifiedTensor(x, "cuda", mapping) as unified:
            return unified.gather_into(blank(len(index), x, "cuda"), index).cpu()
    return interpreted(kernels).gather(x, index, blank(len(index), x), mapping)


def blank(rows: int, x: Tensor, device: str = "cpu") -> Tensor:
    """Full of what no row of `x` holds, so that a cell that is not written is seen."""
    fill = torch.nan if x.is_floating_point() else torch.iinfo(x.dtype).min
    return torch.full((rows, x.shape[1]), fill, dtype=x.dtype, device=device)


def table(width: int, dtype: torch.dtype = torch.float32, place: int = 0) -> Tensor:
    """(ROWS, width) of distinct values, the first one `place` elements into a line of 128 bytes."""
    line = 128 // dtype.itemsize
    flat = torch.empty(ROWS * width + 2 * line, dtype=dtype)
    skip = (place - flat.data_ptr() // dtype.itemsize) % line
    values = torch.arange(ROWS * width) % 2000  # exact in float16
    return flat[skip : skip + ROWS * width].copy_(values).view(ROWS, width)


def indices() -> dict[str, Tensor]:
    drawn = torch.randint(ROWS, (ROWS_OUT,), generator=torch.Generator().manual_seed(0))
    return {
        "random": drawn,
        "sorted": drawn.sort().values,
        "repeated": torch.full((ROWS_OUT,), 7),
        "first and last": torch.tensor([0, ROWS - 1, 0]),
        "empty": torch.empty(0, dtype=torch.int64),
    }


@needs_triton
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.uint8], ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_gather_is_x_of_index_bit_for_bit(width: int, dtype: torch.dtype, mapping: str) -> None:
    x = table(width, dtype) if dtype != torch.uint8 else table(width, torch.int64).to(torch.uint8)
    for kind, index in indices().items():
        assert torch.equal(gather(x, index, mapping), x[index]), kind


@needs_triton
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("place", [0, 1, 16, 31])
def test_a_table_may_begin_anywhere_in_a_line(place: int, mapping: str) -> None:
    index = indices()["random"]
    for width in (33, 128):
        x = table(width, place=place)
        assert kernels._place(x) == (place, 32)
        assert torch.equal(gather(x, index, mapping), x[index])


@needs_triton
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_nan_keeps_its_bits(mapping: str) -> None:
    bits = torch.tensor([[0x7FC0_1234, -1, 0x7F80_0001]], dtype=torch.int32).repeat(ROWS, 11)
    got = gather(bits.view(torch.float32), indices()["random"], mapping)
    assert torch.equal(got.view(torch.int32), bits[:ROWS_OUT])


if kernels.triton is not None:
    import triton
    import triton.language as tl

    # declared as the interpreter's, whatever the order of imports: it calls the kernel's own map
    _shifted_column = interpreted(kernels).shifted_column

    def _count_writes(index, writes, columns, positions, width, place, LINE: tl.constexpr, BLOCK: tl.constexpr):
        position = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = position < positions
        row = position // width
        start = tl.load(index + row, mask=inside, other=0) * width
        column = _shifted_column(row, start, position - row * width, width, place, LINE)
        tl.atomic_add(writes + row * width + column, 1, mask=inside)
        tl.store(columns + position, column, mask=inside)


@needs_triton
@pytest.mark.parametrize("place", [0, 8])
@pytest.mark.parametrize("width", [33, 47, 100, 602])
def test_the_shift_writes_every_cell_once_and_starts_warps_on_lines(
    width: int, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    kernel = triton.jit(_count_writes)
    index = indices()["random"]
    writes = torch.zeros((len(index), width), dtype=torch.int32)
    columns = torch.zeros((len(index), width), dtype=torch.int64)
    kernel[(writes.numel() // 1024 + 1,)](index, writes, columns, writes.numel(), width, place, LINE=32, BLOCK=1024)
    assert torch.equal(writes, torch.ones_like(writes))
    assert is_shifted(width, 4, place)
    # until the row wraps, the first thread of a warp reads the first element of a line
    first = (torch.arange(columns.numel()) % 32 == 0).view_as(columns)
    wrapped = columns < columns[:, :1]
    address = place + index.unsqueeze(1) * width + columns
    assert bool((address[first & ~wrapped] % 32 == 0).all())
    assert int((first & ~wrapped).sum()) > 0


@needs_triton
@pytest.mark.skipif(kernels.INTERPRETED, reason="TRITON_INTERPRET is set: nothing is compiled")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_compiled_for_a_gpu_a_warp_takes_32_neighbours_one_for_each_thread() -> None:
    """The request model's warp. Compiling needs no GPU; this one is Hopper."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    pointers = dict(source="*i32", index="*i64", out="*i32")
    numbers = dict(height="i32", width="i32", place="i32")
    flat = dict(SHIFT=True, LINE=32, BLOCK=kernels.BLOCK_POSITIONS)
    row = dict(ALIGN=True, LINE=32, ROWS=1, THREADS=kernels.BLOCK_THREADS)
    for kernel, more, constants, warps, layout in (
        (kernels._flat_kernel, dict(positions="i64"), flat, kernels.BLOCK_WARPS, "[1], threadsPerWarp = [32]"),
        (kernels._row_kernel, dict(target="*i64", rows="i32"), row, 8, "[1, 1], threadsPerWarp = [1, 32]"),
    ):
        signature = {**pointers, **more, **numbers, **dict.fromkeys(constants, "constexpr")}
        signature = {name: signature[name] for name in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
        assert f"sizePerThread = {layout}" in compiled.asm["ttgir"]
        loads = [line for line in compiled.asm["ptx"].splitlines() if "ld.global" in line]
        assert loads
        # else a width that is a multiple of 16 would be compiled anew, four elements for each thread
        assert {p.name for p in kernel.params if p.do_not_specialize} == {"width", "place"}
        assert not any(".v2" in line or ".v4" in line for line in loads)


@needs_triton
def test_what_the_kernels_cannot_do_is_refused() -> None:
    x, index = table(33), indices()["random"]
    module = interpreted(kernels)
    with pytest.raises(ValueError, match="no mapping 'diagonal'"):
        module.gather(x, index, blank(ROWS_OUT, x), "diagonal")
    with pytest.raises(ValueError, match="contiguous"):
        module.gather(x.t(), index, blank(ROWS_OUT, x))
    with pytest.raises(ValueError, match="8 bytes an element"):
        module.gather(x.to(torch.complex128), index, x.to(torch.complex128))


@pytest.mark.skipif(CUDA or kernels.INTERPRETED, reason="this machine has a GPU, or TRITON_INTERPRET is set")
def test_without_a_gpu_or_the_interpreter_the_kernels_say_what_to_use() -> None:
    x, index = table(33), indices()["random"]
    with pytest.raises(RuntimeError, match="use `gather_twin`"):
        kernels.gather(x, index, blank(ROWS_OUT, x))
    assert torch.equal(kernels.gather_twin(x, index, blank(ROWS_OUT, x)), x[index])


TABLE_ROWS, GATHERED = (500_000, 131_072) if CUDA else (50_000, 8_192)
DEVICE = "cuda" if CUDA else "cpu"


@pytest.mark.parametrize("width", [128, 602])
@pytest.mark.parametrize("way", [*MAPPINGS, "twin", "staged", "staged_pinned", "resident"])
def test_speed_of_a_gather(way: str, width: int, measure: Callable[..., None], benchmark: object) -> None:
    benchmark.group = f"gather {GATHERED:,} rows of {4 * width:,} bytes from host memory"
    if way in MAPPINGS and not CUDA:
        pytest.skip("kernels are timed on a GPU; the interpreter's time says nothing")
    x = host_table(TABLE_ROWS, width)
    index, out = distinct_rows(x, GATHERED, seed=0), torch.empty((GATHERED, width), device=DEVICE)
    if way == "twin":
        call = partial(kernels.gather_twin, UnifiedTensor(x).alias, index.to(DEVICE), out)
    else:
        plain = {"staged": Staged, "staged_pinned": StagedPinned, "resident": Resident}
        path = plain[way](x, DEVICE) if way in plain else UnifiedTensor(x, DEVICE, way)
        call = partial(path.gather_into, out, index)
    over_link = CUDA and way != "resident"
    measure(call, moved_bytes=out.nbytes * (1 if over_link else 2), over="link" if over_link else "memory")
