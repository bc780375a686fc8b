"""The Python side of the operators' schemas: fake kernels, the fallback for devices without kernels, gradients.

The schemas themselves and the kernels are in ``csrc/torch/library.cpp``.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deformwarp import native, reference, rules

Gradients = tuple[Tensor, list[Tensor], list[Tensor], Tensor]  # of input, offsets, masks, weight


@dataclass(frozen=True)
class Operators:
    """A forward operator and its backward, whose schemas are those of ``csrc/torch/operators.h``."""

    warp: Callable[..., Tensor]
    warp_backward: Callable[..., Gradients]


def _fake_warp(
    input: Tensor,
    offsets: Sequence[Tensor],
    masks: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    scale: float,
) -> Tensor:
    problem = rules.Problem(input, offsets, masks, weight, bias, stride, padding, dilation)
    rules.check(problem)
    return input.new_empty(problem.output_shape)


def gradient_like(tensor: Tensor, wanted: bool) -> Tensor:
    """Memory for a gradient; where it is not wanted, a tensor without elements stands for it."""
    return tensor.new_empty(tensor.shape if wanted else 0)


def _fake_warp_backward(
    grad_output: Tensor,
    input: Tensor,
    offsets: Sequence[Tensor],
    masks: Sequence[Tensor],
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    scale: float,
    input_wanted: bool,
    offsets_wanted: bool,
    masks_wanted: bool,
    weight_wanted: bool,
) -> Gradients:
    rules.check(rules.Problem(input, offsets, masks, weight, None, stride, padding, dilation, grad_output=grad_output))
    return (
        gradient_like(input, input_wanted),
        [gradient_like(offset, offsets_wanted) for offset in offsets],
        [gradient_like(mask, masks_wanted) for mask in masks],
        gradient_like(weight, weight_wanted),
    )


# Devices without kernels of their own run the formula.
_fallback = torch.library.Library("deformwarp", "IMPL")


def warp_by_formula(*args: Any) -> Tensor:
    input, offsets, masks, weight, bias, stride, padding, dilation, _ = args
    rules.check(rules.Problem(input, offsets, masks, weight, bias, stride, padding, dilation))
    return reference.warp(*args)


def warp_backward_by_formula(grad_output: Tensor, *args: Any) -> Gradients:
    *arguments, input_wanted, offsets_wanted, masks_wanted, weight_wanted = args
    input, offsets, masks, weight, stride, padding, dilation, _ = arguments
    rules.check(rules.Problem(input, offsets, masks, weight, None, stride, padding, dilation, grad_output=grad_output))

    def as_promised(grad: Tensor, wanted: bool) -> Tensor:  # by the fake kernel: autograd's strides may be others
        return grad.contiguous() if wanted else gradient_like(grad, wanted)

    grad_input, grad_offsets, grad_masks, grad_weight = reference.warp_gradients(grad_output, *arguments)
    return (
        as_promised(grad_input, input_wanted),
        [as_promised(grad, offsets_wanted) for grad in grad_offsets],
        [as_promised(grad, masks_wanted) for grad in grad_masks],
        as_promised(grad_weight, weight_wanted),
    )


_fallback.impl("warp", warp_by_formula, "CompositeExplicitAutograd")
_fallback.impl("warp_backward", warp_backward_by_formula, "CompositeExplicitAutograd")


@functools.cache
def warn_of_fallback(device: torch.device, successor: str) -> None:
    """Says, once, that the build's CUDA kernels do not run on a device, and which backend takes over."""
    name = str(device)
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        name = f"{torch.cuda.get_device_name(device)} (sm_{major}{minor})"
    warnings.warn(
        f"deformwarp: backend 'cuda' was built for {native.CUDA_ARCHITECTURES or 'other devices'} and does not run on "
        f"{name}: backend {successor!r} takes over, which is slower",
        stacklevel=2,
    )


# The CUDA kernels call these on a device whose architecture is not in the build.
def _warp_fallback(input: Tensor, *args: Any) -> Tensor:
    warn_of_fallback(input.device, "reference")
    return warp_by_formula(input, *args)


def _warp_backward_fallback(grad_output: Tensor, *args: Any) -> Gradients:
    warn_of_fallback(grad_output.device, "reference")
    return warp_backward_by_formula(grad_output, *args)


_fallback.impl("warp_fallback", _warp_fallback, "CompositeExplicitAutograd")
_fallback.impl("warp_backward_fallback", _warp_backward_fallback, "CompositeExplicitAutograd")


class _Saved:
    """What a backward needs of its forward: tensors through autograd's own store, the rest beside it."""

    @staticmethod
    def put(ctx: Any, tensors: Sequence[Tensor], offsets: Sequence[Tensor], masks: Sequence[Tensor], rest: Any) -> None:
        ctx.save_for_backward(*tensors, *offsets, *masks)
        ctx.branches, ctx.masked, ctx.rest = len(offsets), len(masks) > 0, rest

    @staticmethod
    def get(ctx: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        saved = list(ctx.saved_tensors)
        masks = [saved.pop() for _ in range(ctx.branches)][::-1] if ctx.masked else []
        offsets = [saved.pop() for _ in range(ctx.branches)][::-1]
        return saved, offsets, masks


def _save_warp(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, offsets, masks, weight, bias, *geometry = inputs
    _Saved.put(ctx, [input, weight], offsets, masks, geometry)


def _warp_vjp(
    ctx: Any, grad_output: Tensor, wanted: Sequence[bool], backward: Callable[..., Gradients]
) -> tuple[Tensor | None, list[Tensor | None], list[Tensor | None], Tensor | None, Tensor | None]:
    """Gradients by input, offsets, masks, weight and bias; ``wanted`` says which of the five."""
    (input, weight), offsets, masks = _Saved.get(ctx)
    grad_input, grad_offsets, grad_masks, grad_weight = backward(
        grad_output, input, offsets, masks, weight, *ctx.rest, *wanted[:4]
    )
    return (
        grad_input if wanted[0] else None,
        [grad if wanted[1] else None for grad in grad_offsets],
        [grad if wanted[2] else None for grad in grad_masks],
        grad_weight if wanted[3] else None,
        grad_output.sum((0, 2, 3)) if wanted[4] else None,
    )


def _warp_autograd(backward: Callable[..., Gradients]) -> Callable[..., tuple[Any, ...]]:
    def gradients(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
        wanted = [any(need) if isinstance(need, list) else bool(need) for need in ctx.needs_input_grad[:5]]
        return *_warp_vjp(ctx, grad_output, wanted, backward), None, None, None, None

    return gradients


def _save_warp_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad_output, input, offsets, masks, weight, *rest = inputs
    _Saved.put(ctx, [grad_output, input, weight], offsets, masks, (rest[:4], rest[4:]))


def _double_vjp(ctx: Any, grads: Sequence[Any]) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor], Tensor]:
    """Second derivatives, by grad_output, input, offsets, masks and weight, through the reference formula."""
    (grad_output, input, weight), offsets, masks = _Saved.get(ctx)
    geometry, wanted = ctx.rest

    def gradients(
        grad_output: Tensor, input: Tensor, offsets: list[Tensor], masks: list[Tensor], weight: Tensor
    ) -> Gradients:
        return reference.warp_gradients(grad_output, input, offsets, masks, weight, *geometry)

    primals, vjp, *_ = torch.func.vjp(gradients, grad_output, input, offsets, masks, weight)

    def incoming(given: Any, primal: Any, want: bool) -> Any:
        if isinstance(primal, list):
            return [incoming(one, other, want) for one, other in zip(given, primal, strict=True)]
        return given if want and given is not None else torch.zeros_like(primal)

    cotangents = tuple(map(incoming, grads, primals, wanted))
    result: tuple[Tensor, Tensor, list[Tensor], list[Tensor], Tensor] = vjp(cotangents)
    return result


def _warp_backward_autograd(ctx: Any, *grads: Any) -> tuple[Any, ...]:
    return *_double_vjp(ctx, grads), *([None] * 8)


def _slice_by_slice(op: Callable[..., Any], size: int, in_dims: Sequence[Any], args: Sequence[Any]) -> Any:
    """Results stacked along their first dimension: every slice is a batch of its own, which the kernels spread over
    all threads."""

    def pick(value: Any, dim: Any, number: int) -> Any:
        if isinstance(dim, (list, tuple)):
            return [pick(one, its_dim, number) for one, its_dim in zip(value, dim, strict=True)]
        if dim is None:
            return value
        # Where there are no slices, the results of one of zeros have the shapes that are asked for.
        return value.select(dim, number) if size > 0 else value.sum(dim)

    slices = [op(*(pick(a, d, n) for a, d in zip(args, in_dims, strict=True))) for n in range(max(size, 1))]
    return torch.utils._pytree.tree_map(lambda *parts: torch.stack(parts)[:size], *slices)


def _vmap_rule(op: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    def rule(info: Any, in_dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
        stacked = _slice_by_slice(op, info.batch_size, in_dims, args)
        return stacked, torch.utils._pytree.tree_map(lambda _: 0, stacked)

    return rule


def complete(name: str) -> Operators:
    """Give ``deformwarp::name`` and ``deformwarp::name_backward`` fake kernels, gradients and vmap."""
    operators = Operators(getattr(torch.ops.deformwarp, name), getattr(torch.ops.deformwarp, f"{name}_backward"))
    forward, backward = f"deformwarp::{name}", f"deformwarp::{name}_backward"
    torch.library.register_fake(forward, _fake_warp)
    torch.library.register_fake(backward, _fake_warp_backward)
    torch.library.register_autograd(forward, _warp_autograd(operators.warp_backward), setup_context=_save_warp)
    torch.library.register_autograd(backward, _warp_backward_autograd, setup_context=_save_warp_backward)
    torch.library.register_vmap(forward, _vmap_rule(operators.warp))
    torch.library.register_vmap(backward, _vmap_rule(operators.warp_backward))
    return operators


BY_DEVICE = complete("warp")  # the dispatcher chooses the kernels


def _below_autograd(op: Callable[..., Any], *args: Any) -> Any:
    """The operator without its registered gradients, whose Python code runs even where none are wanted."""
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)


def _backward_below_autograd(op: Callable[..., Gradients], grad_output: Tensor, *args: Any) -> Gradients:
    """... and under the older vmap of ``torch.autograd.grad(is_grads_batched=True)``, which takes no rules: there
    grad_output alone is a batch."""
    if not torch._C._functorch.is_legacy_batchedtensor(grad_output):
        gradients: Gradients = _below_autograd(op, grad_output, *args)
        return gradients
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    grads = torch._remove_batch_dim(grad_output, level, 0, 0)  # a batch that is there has its own size, not this 0
    in_dims = [0] + [None] * len(args)
    stacked = _slice_by_slice(functools.partial(_backward_below_autograd, op), grads.shape[0], in_dims, [grads, *args])
    batched: Gradients = torch.utils._pytree.tree_map(lambda grad: torch._add_batch_dim(grad, 0, level), stacked)
    return batched


class _Warp(torch.autograd.Function):
    """The same operator and formulas, for torch.func's transforms, which registered gradients do not support, and for
    eager calls, which registered gradients make wait: they flatten and restore all lists of tensors as trees."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        operators: Operators,
        geometry: list[Any],
        branches: int,
        *sampling: Tensor,
    ) -> Tensor:
        output: Tensor = _below_autograd(
            operators.warp, input, list(sampling[:branches]), list(sampling[branches:]), weight, bias, *geometry
        )
        return output

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        input, weight, bias, ctx.operators, geometry, branches, *sampling = inputs
        _save_warp(ctx, (input, sampling[:branches], sampling[branches:], weight, bias, *geometry), output)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Any, ...]:
        need_input, need_weight, need_bias, _, _, _, *sampling = ctx.needs_input_grad
        wanted = [need_input, any(sampling[: ctx.branches]), any(sampling[ctx.branches :]), need_weight, need_bias]
        grad_input, grad_offsets, grad_masks, grad_weight, grad_bias = _warp_vjp(
            ctx, grad_output, wanted, _differentiable_backward(ctx.operators)
        )
        return grad_input, grad_weight, grad_bias, None, None, None, *grad_offsets, *grad_masks


class _WarpBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad_output: Tensor,
        input: Tensor,
        weight: Tensor,
        operators: Operators,
        rest: list[Any],
        branches: int,
        *sampling: Tensor,
    ) -> tuple[Tensor, ...]:
        grad_input, grad_offsets, grad_masks, grad_weight = _backward_below_autograd(
            operators.warp_backward,
            grad_output,
            input,
            list(sampling[:branches]),
            list(sampling[branches:]),
            weight,
            *rest,
        )
        return grad_input, grad_weight, *grad_offsets, *grad_masks

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        grad_output, input, weight, _, rest, branches, *sampling = inputs
        _save_warp_backward(ctx, (grad_output, input, sampling[:branches], sampling[branches:], weight, *rest), output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        grad_input, grad_weight, *sampling = grads
        by_grad_output, by_input, by_offsets, by_masks, by_weight = _double_vjp(
            ctx, (grad_input, sampling[: ctx.branches], sampling[ctx.branches :], grad_weight)
        )
        return by_grad_output, by_input, by_weight, None, None, None, *by_offsets, *by_masks


def _differentiable_backward(operators: Operators) -> Callable[..., Gradients]:
    def backward(
        grad_output: Tensor, input: Tensor, offsets: list[Tensor], masks: list[Tensor], weight: Tensor, *rest: Any
    ) -> Gradients:
        if not torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active():
            return _backward_below_autograd(operators.warp_backward, grad_output, input, offsets, masks, weight, *rest)
        branches = len(offsets)
        grad_input, grad_weight, *sampling = _WarpBackward.apply(
            grad_output, input, weight, operators, list(rest), branches, *offsets, *masks
        )
        return grad_input, sampling[:branches], sampling[branches:], grad_weight

    return backward


# For deformwarp.aoti: a package of AOTInductor cannot pass a list without tensors, as the masks mostly are.
_unmasked = torch.library.Library("deformwarp", "FRAGMENT")
_unmasked.define(
    "warp_unmasked(Tensor input, Tensor[] offsets, Tensor weight, Tensor? bias, "
    "int[] stride, int[] padding, int[] dilation, float scale) -> Tensor"
)


def _warp_unmasked(input: Tensor, offsets: list[Tensor], *rest: Any) -> Tensor:
    output: Tensor = torch.ops.deformwarp.warp(input, offsets, [], *rest)
    return output


_unmasked.impl("warp_unmasked", _warp_unmasked, "CompositeExplicitAutograd")


@torch.library.register_fake("deformwarp::warp_unmasked")
def _fake_warp_unmasked(input: Tensor, offsets: list[Tensor], *rest: Any) -> Tensor:
    return _fake_warp(input, offsets, [], *rest)


def _operands(problem: rules.Problem) -> list[Tensor]:
    bias = [] if problem.bias is None else [problem.bias]
    return [problem.input, problem.weight, *bias, *problem.offsets, *problem.masks]


def _refuse_tangents(problem: rules.Problem) -> None:
    # PyTorch would drop them without a word: registered gradients know nothing of forward mode.
    if forward_ad._current_level < 0:
        return
    for tensor in _operands(problem):
        if forward_ad.unpack_dual(tensor).tangent is not None:
            raise NotImplementedError(
                "forward-mode AD (jvp) is not supported by deformwarp's kernels: "
                "use it within `deformwarp.use_backend('reference')`"
            )


def _wants_gradients(problem: rules.Problem) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in _operands(problem))


def warp(problem: rules.Problem, scale: float, operators: Operators = BY_DEVICE) -> Tensor:
    """The operator on a problem that it checks, in whatever way current transforms, compilers or gradients need it."""
    input, weight, bias = problem.input, problem.weight, problem.bias
    offsets, masks = list(problem.offsets), list(problem.masks)
    geometry = [list(problem.stride), list(problem.padding), list(problem.dilation), scale]

    def differentiable() -> Tensor:
        result: Tensor = _Warp.apply(input, weight, bias, operators, geometry, len(offsets), *offsets, *masks)
        return result

    if torch._C._are_functorch_transforms_active():
        return differentiable()
    _refuse_tangents(problem)
    if (
        torch.compiler.is_compiling() or torch._C._get_tracing_state()
    ):  # one node of a graph, with its registered gradients
        return operators.warp(input, offsets, masks, weight, bias, *geometry)
    if _wants_gradients(problem):
        return differentiable()
    result: Tensor = _below_autograd(operators.warp, input, offsets, masks, weight, bias, *geometry)
    return result
