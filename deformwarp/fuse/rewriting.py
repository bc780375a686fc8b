"""Turns the summed calls of a module's deformable convolutions into calls of one fused layer."""

from __future__ import annotations

import inspect
import operator
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch import fx, nn

from deformwarp.deform_convs import DeformConvSpec, describe_deform_conv
from deformwarp.fuse.mutation import mutates
from deformwarp.fuse.replay import run_graph
from deformwarp.fuse.report import FusedSum, FusionReport, Skipped
from deformwarp.fuse.sums import Addend, Sum, sums_in
from deformwarp.fuse.tracing import TraceError, trace
from deformwarp.modules import FusedDeformWarp


def holders(model: nn.Module, child: nn.Module) -> list[tuple[nn.Module, str]]:
    """Every place where ``child`` is registered."""
    return [(module, key) for module in model.modules() for key, one in module._modules.items() if one is child]


def join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


@dataclass
class _Call:
    """One call of a deformable convolution whose result is summed."""

    node: fx.Node
    conv: nn.Module
    spec: DeformConvSpec
    factor: float
    input: fx.Node
    offset: fx.Node
    mask: fx.Node | None

    @property
    def like(self) -> tuple[Any, ...]:
        """What calls must have in common to become one."""
        spec = self.spec
        shape = (spec.channels, spec.out_channels, spec.kernel_size, spec.groups, spec.offset_groups, spec.stride)
        tensor = (spec.weight.dtype, spec.weight.device, spec.weight.requires_grad)
        bias_learns = spec.bias is None or spec.bias.requires_grad
        return self.input, self.factor, shape, tensor, bias_learns, self.mask is None

    @staticmethod
    def of(addend: Addend, conv: nn.Module) -> _Call:
        node, forward = addend.node, inspect.signature(type(conv).forward)
        values = list(forward.bind(None, *node.args, **node.kwargs).arguments.values())[1:]
        mask = values[2] if len(values) > 2 else None
        spec = describe_deform_conv(conv, str(node.target))
        return _Call(node, conv, spec, addend.factor, values[0], values[1], mask)


def _why_unsharable(model: nn.Module, conv: nn.Module, calls: int) -> str | None:
    """Why a convolution cannot give up its weights to a fused layer, or None."""
    if calls > 1 or len(holders(model, conv)) > 1:
        return "it is used more than once"
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    if any(uses[id(parameter)] > 1 for parameter in conv.parameters()):
        return "its parameters are shared with another module"
    return None


def _mutated_between(owner: nn.Module, calls: Sequence[_Call], found: Sum) -> bool:
    """Whether moving the calls down to their sum could move them past a change of what they read."""
    nodes = list(found.root.graph.nodes)
    start = min(nodes.index(node) for node in [*found.inner, *(call.node for call in calls)])
    return any(node not in found.inner and mutates(owner, node) for node in nodes[start : nodes.index(found.root)])


def _groups(calls: Sequence[_Call]) -> list[list[_Call]]:
    groups: dict[tuple[Any, ...], list[_Call]] = defaultdict(list)
    for call in calls:
        groups[call.like].append(call)
    return [group for group in groups.values() if len(group) > 1]


def _free_name(owner: nn.Module) -> str:
    names = (f"fused_deform_warp{'' if n == 1 else f'_{n}'}" for n in count(1))
    return next(name for name in names if not hasattr(owner, name))


def _layer_of(group: Sequence[_Call]) -> FusedDeformWarp:
    layer = FusedDeformWarp.from_deform_convs([call.conv for call in group], scale=group[0].factor)
    layer.weight.requires_grad_(group[0].spec.weight.requires_grad)
    if layer.bias is not None:
        layer.bias.requires_grad_(any(call.spec.bias.requires_grad for call in group if call.spec.bias is not None))
    layer.train(group[0].conv.training)
    return layer


def _rewrite(owner: nn.Module, found: Sum, groups: Sequence[Sequence[_Call]]) -> list[str]:
    """One call of one new layer for each group, added up with what else the sum holds; returns the layers' names."""
    graph, names = found.root.graph, []
    fused = {call.node for group in groups for call in group}
    with graph.inserting_before(found.root):
        parts = []
        for group in groups:
            names.append(_free_name(owner))
            owner.add_module(names[-1], _layer_of(group))
            masks = None if group[0].mask is None else [call.mask for call in group]
            arguments = (group[0].input, [call.offset for call in group], masks)
            parts.append(graph.call_module(names[-1], arguments if masks else arguments[:2]))
        for addend in found.addends:
            if addend.node not in fused:
                scaled = addend.factor != 1
                parts.append(graph.call_function(operator.mul, (addend.node, addend.factor)) if scaled else addend.node)
        total = parts[0]
        for part in parts[1:]:
            total = graph.call_function(operator.add, (total, part))
    found.root.replace_all_uses_with(total)
    for node in [*found.inner, *found.zeros, *fused]:
        graph.erase_node(node)
    return names


def fuse_sums(model: nn.Module, owner_name: str, convs: dict[str, nn.Module], report: FusionReport) -> None:
    """Fuses every sum in the forward of one module, and says why where it does not."""
    owner = model.get_submodule(owner_name)
    if len(convs) < 2:
        return
    try:
        graph = trace(owner)
    except TraceError as error:
        report.skipped.append(Skipped(owner_name, f"not fused: {error}"))
        return
    calls_of = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    left = dict.fromkeys(convs, "its result is not summed with others of the same input and shape")
    for found in sums_in(graph):
        calls = []
        for addend in found.addends:
            name = str(addend.node.target)
            if addend.node.op != "call_module" or name not in convs:
                continue
            reason = _why_unsharable(model, convs[name], calls_of[name])
            if len(addend.node.users) > 1:
                reason = "its result is used outside the sum, too"
            if reason is None:
                calls.append(_Call.of(addend, convs[name]))
            else:
                left[name] = reason
        groups = _groups(calls)
        if not groups:
            continue
        foreign = set(found.changed) - {call.node for call in calls}
        if foreign or _mutated_between(owner, [call for group in groups for call in group], found):
            left.update(
                {str(call.node.target): "a tensor is changed in place within or before the sum" for call in calls}
            )
            continue
        members = [tuple(str(call.node.target) for call in group) for group in groups]
        for layer, group, names in zip(_rewrite(owner, found, groups), groups, members, strict=True):
            full = tuple(join(owner_name, name) for name in names)
            report.fused.append(FusedSum(owner_name, full, join(owner_name, layer), group[0].factor))
            for name in names:
                del left[name]
                _remove(owner, name)
    if len(left) < len(convs):
        run_graph(owner, graph)
    report.skipped += [Skipped(join(owner_name, name), f"not fused: {reason}") for name, reason in left.items()]


def _remove(owner: nn.Module, name: str) -> None:
    """Removes a child, and the lists that it leaves empty."""
    path, _, key = name.rpartition(".")
    holder = owner.get_submodule(path)
    del holder._modules[key]
    if path and not holder._modules:
        _remove(owner, path)
