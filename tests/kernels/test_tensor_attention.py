"""The kernels of tensor attention: results and gradients of the blocked twin, and their speed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from methods.shared.interpreter import interpreted
from methods.tensor_attention import kernels, tensor_attention
from methods.tensor_attention.baselines import loop_attention, naive_attention, sdpa_attention
from methods.tensor_attention.inputs import uniform
from methods.tensor_attention.tensor_attention import blocked_backward, blocked_forward

CUDA = torch.cuda.is_available()
needs_triton = pytest.mark.skipif(kernels.triton is None, reason="Triton is not installed")
# batch, n_q, n_1, n_2, d, e: odd lengths that differ, widths below 16 and of no power of two, single rows
SHAPES = [(2, 5, 3, 7, 3, 2), (1, 17, 2, 19, 16, 5), (1, 1, 1, 1, 1, 1), (1, 19, 3, 5, 4, 20), (1, 3, 5, 33, 33, 4)]


def inputs(shape: tuple[int, ...], size: float = 1.0) -> list[Tensor]:
    """q, k1, k2, v1, v2 in float64."""
    batch, n_q, n_1, n_2, d, e = shape
    generator = torch.Generator().manual_seed(0)
    shapes = [(n_q, d, size), (n_1, d, size), (n_2, d, 1.0), (n_1, e, 1.0), (n_2, e, 1.0)]
    return [s * torch.randn(batch, n, w, generator=generator, dtype=torch.float64) for n, w, s in shapes]


def on_kernel(name: str, *given: Tensor, scale: float) -> tuple[Tensor, ...]:
    """By the kernel: compiled where there is a GPU, else in the interpreter."""
    if CUDA:
        return tuple(y.cpu() for y in getattr(kernels, name)(*(x.cuda() for x in given), scale))
    return getattr(interpreted(kernels), name)(*given, scale)


def exact(x: list[Tensor], grad: Tensor, scale: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """T and its gradients by autograd through the whole softmax, in float64."""
    given = [y.clone().requires_grad_() for y in x]
    out = naive_attention(given[0], given[1:3], given[3:], scale=scale)
    return out.detach(), torch.autograd.grad(out, given, grad)


@needs_triton
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [1.0, 5.0], ids=["small logits", "large logits"])
def test_results_and_gradients_are_those_of_autograd_in_float64(shape: tuple[int, ...], size: float) -> None:
    x = inputs(shape, size)
    grad = torch.randn(shape[0], shape[1], shape[5], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted, gradients = exact(x, grad, 0.4)
    single = [y.float() for y in x]
    out, lse = on_kernel("forward", *single, scale=0.4)
    found = on_kernel("backward", grad.float(), *single, out, lse, scale=0.4)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-4, atol=1e-4)
    for name, ours, theirs in zip(("q", "k1", "k2", "v1", "v2"), found, gradients, strict=True):
        near = 2e-5 * max(1.0, float(theirs.abs().max()))
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=near, msg=lambda m, n=name: f"{n}: {m}")


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16] if CUDA else [torch.float16], ids=str)
def test_half_types_are_right_to_their_rounding(dtype: torch.dtype) -> None:
    x = [y.to(dtype) for y in inputs((1, 18, 3, 20, 8, 8))]
    grad = torch.randn(1, 18, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    wanted, gradients = exact([y.double() for y in x], grad.double(), 0.3)
    out, lse = on_kernel("forward", *x, scale=0.3)
    assert out.dtype == dtype
    found = on_kernel("backward", grad, *x, out, lse, scale=0.3)
    for ours, theirs in zip((out, *found), (wanted, *gradients), strict=True):
        assert float((ours.double() - theirs).abs().max()) < 4 * torch.finfo(dtype).eps * float(theirs.abs().max())


@needs_triton
def test_kernel_and_twin_agree_on_the_log_sum_exp_that_the_backward_pass_rests_on() -> None:
    x = [y.float() for y in inputs((2, 17, 3, 18, 4, 4))]
    (out, lse), (twin, twin_lse) = on_kernel("forward", *x, scale=0.5), blocked_forward(*x, 0.5)
    torch.testing.assert_close(out, twin, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lse, twin_lse, rtol=1e-5, atol=1e-5)
    grad = torch.ones_like(out)
    torch.testing.assert_close(
        on_kernel("backward", grad, *x, out, lse, scale=0.5), blocked_backward(grad, *x, twin, twin_lse, 0.5),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip


@needs_triton
def test_two_backward_passes_are_the_same_bits() -> None:
    x = [y.float() for y in inputs((1, 20, 3, 18, 4, 4))]
    out, lse = on_kernel("forward", *x, scale=0.5)
    once, again = (on_kernel("backward", out, *x, out, lse, scale=0.5) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


@needs_triton
@pytest.mark.skipif(kernels.INTERPRETED, reason="TRITON_INTERPRET is set: nothing is compiled")
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["_forward_kernel", "_query_kernel", "_key_kernel"])
def test_the_kernels_compile_for_a_gpu(name: str, dtype: str) -> None:
    """Compiling needs no GPU; this one is Hopper. The products are on the tensor cores."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(kernels, name)
    constants = {k: v for k, v in kernels._tiles(64, 64).items() if k != "num_warps"}
    single = {"lse": "*fp32", "delta": "*fp32", "scale": "fp32"}
    sizes = dict.fromkeys(("n_q", "n_1", "n_2", "d", "e"), "i32")
    signature = {arg: {**dict.fromkeys(constants, "constexpr"), **single, **sizes}.get(arg, f"*{dtype}")
                 for arg in kernel.arg_names}  # fmt: skip
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = kernels.triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": kernels.WARPS})
    assert "mma" in compiled.asm["ptx"]
    assert compiled.metadata.shared < 227 * 1024


@pytest.mark.skipif(CUDA or kernels.INTERPRETED, reason="this machine has a GPU, or TRITON_INTERPRET is set")
def test_without_a_gpu_or_the_interpreter_the_kernels_say_so_and_the_twin_runs() -> None:
    x = [y.float() for y in inputs((1, 5, 3, 4, 3, 2))]
    with pytest.raises(RuntimeError, match="has no kernel here"):
        kernels.forward(*x, 0.5)
    assert not kernels.can_run(x[0], x[3])
    torch.testing.assert_close(tensor_attention(*x, scale=0.5), blocked_forward(*x, 0.5)[0])


@needs_triton
def test_kernels_take_16_or_32_bits_and_widths_up_to_128() -> None:
    module = interpreted(kernels)
    narrow, wide = torch.zeros(1, 2, 128), torch.zeros(1, 2, 129)
    assert module.can_run(narrow, narrow)
    assert not module.can_run(narrow.double(), narrow.double())
    assert not module.can_run(narrow.bfloat16(), narrow.bfloat16())  # in the interpreter: it would be garbage
    assert not module.can_run(narrow, wide)
    assert not module.can_run(wide, narrow)


LENGTH, WIDTH, TYPE = (1024, 64, torch.bfloat16) if CUDA else (128, 4, torch.float32)
WAYS: dict[str, Callable[..., Tensor]] = {
    "kernel": tensor_attention,
    "twin": lambda *x: blocked_forward(*x, 1 / WIDTH)[0],
    "loop": loop_attention,
    "sdpa": sdpa_attention,
    "naive": lambda q, k1, k2, v1, v2: naive_attention(q, (k1, k2), (v1, v2)),
}


def speed_inputs() -> list[Tensor]:
    one = uniform(LENGTH, WIDTH, 1.0, seed=0, dtype=TYPE, device="cuda" if CUDA else "cpu").flat()
    return [x.unsqueeze(0) for x in one]


@pytest.mark.parametrize("way", WAYS)
def test_speed_of_exact_attention(way: str, measure: Callable[..., None], benchmark: object) -> None:
    benchmark.group = f"exact tensor attention of {LENGTH} tokens of width {WIDTH}"
    if way == "kernel" and not CUDA:
        pytest.skip("kernels are timed on a GPU; the interpreter's time says nothing")
    x = speed_inputs()
    measure(partial(WAYS[way], *x), moved_bytes=6 * x[0].nbytes, over="memory")


@pytest.mark.parametrize("way", ["kernel", "twin"])
def test_speed_of_its_gradients(way: str, measure: Callable[..., None], benchmark: object) -> None:
    benchmark.group = f"gradients of exact tensor attention of {LENGTH} tokens of width {WIDTH}"
    if way == "kernel" and not CUDA:
        pytest.skip("kernels are timed on a GPU; the interpreter's time says nothing")
    x = speed_inputs()
    forward, backward = (kernels.forward, kernels.backward) if way == "kernel" else (blocked_forward, blocked_backward)
    out, lse = forward(*x, 1 / WIDTH)
    measure(partial(backward, out, *x, out, lse, 1 / WIDTH), moved_bytes=12 * x[0].nbytes, over="memory")
