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
from deformwarp.fuse.undo import Fusion, past_of, set_submodule, shell_of
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
    def name(self) -> str:
        return str(self.node.target)

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
        return _Call(node, conv, spec, addend.factor, _any_layout(values[0]), values[1], mask)


def _any_layout(node: Any) -> Any:
    """What ``node.contiguous()`` was called on: the fused layer takes any layout."""
    while isinstance(node, fx.Node) and node.op == "call_method" and node.target == "contiguous":
        node = node.args[0]
    return node


def _why_unsharable(model: nn.Module, conv: nn.Module) -> str | None:
    """Why a convolution cannot give up its weights to a fused layer, or None."""
    if len(holders(model, conv)) > 1:
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


_Key = tuple[tuple[str, ...], float]


def _key(group: Sequence[_Call]) -> _Key:
    """The layer that a group of calls becomes: the same convolutions, called together again, are the same layer."""
    return tuple(call.name for call in group), group[0].factor


def _called_otherwise(groups: Sequence[Sequence[_Call]], calls_of: Counter[str]) -> set[str]:
    """The convolutions that are not always called together with the same others."""
    keys: dict[str, list[_Key]] = defaultdict(list)
    for group in groups:
        for call in group:
            keys[call.name].append(_key(group))
    return {
        name
        for name, used in keys.items()
        if len(used) != calls_of[name] or len(set(used)) > 1 or len(set(used[0][0])) < len(used[0][0])
    }


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


def _rewrite(found: Sum, groups: Sequence[Sequence[_Call]], layers: dict[_Key, str]) -> None:
    """One call of the layer of each group, added up with what else the sum holds."""
    graph = found.root.graph
    fused = {call.node for group in groups for call in group}
    with graph.inserting_before(found.root):
        parts = []
        for group in groups:
            masks = None if group[0].mask is None else [call.mask for call in group]
            arguments = (group[0].input, [call.offset for call in group], masks)
            parts.append(graph.call_module(layers[_key(group)], arguments if masks else arguments[:2]))
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


def _candidates(
    model: nn.Module, owner: nn.Module, graph: fx.Graph, convs: dict[str, nn.Module], left: dict[str, str]
) -> list[tuple[Sum, list[list[_Call]]]]:
    """The sums in a graph, last first, and the calls in each that can become one; ``left`` says what cannot."""
    result = []
    for found in sums_in(graph):
        calls = []
        for addend in found.addends:
            name = str(addend.node.target)
            if addend.node.op != "call_module" or name not in convs:
                continue
            reason = _why_unsharable(model, convs[name])
            if len(addend.node.users) > 1:
                reason = "its result is used outside the sum, too"
            if reason is None:
                calls.append(_Call.of(addend, convs[name]))
            else:
                left[name] = reason
        groups = _groups(calls)
        foreign = set(found.changed) - {call.node for call in calls}
        if groups and (foreign or _mutated_between(owner, [call for group in groups for call in group], found)):
            left.update({call.name: "a tensor is changed in place within or before the sum" for call in calls})
        elif groups:
            result.append((found, groups))
    return result


def fuse_together(owner: nn.Module, convs: dict[str, nn.Module], layer: str, made: FusedDeformWarp) -> None:
    """Puts a layer in the place of convolutions, and remembers them."""
    past = past_of(owner)
    past.remember_order(owner, tuple(convs))
    specs = [describe_deform_conv(conv, name) for name, conv in convs.items()]
    biases = tuple(None if spec.bias is None else spec.bias.detach().clone() for spec in specs)
    past.fusions.append(Fusion(layer, tuple(convs), tuple(map(shell_of, convs.values())), made.scale, biases))
    for name in convs:
        _remove(owner, name)
    holder = layer.rpartition(".")[0]
    if holder and holder not in dict(owner.named_modules()):
        set_submodule(owner, holder, past.lists[holder])
    set_submodule(owner, layer, made)


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
    left = dict.fromkeys(convs, "its result is not summed with others of the same input and shape")
    candidates = _candidates(model, owner, graph, convs, left)
    calls_of = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    otherwise = _called_otherwise([group for _, groups in candidates for group in groups], calls_of)
    left.update(dict.fromkeys(otherwise, "it is used more than once, and not always with the same others"))
    layers: dict[_Key, str] = {}
    for found, groups in candidates:
        groups = [group for group in groups if otherwise.isdisjoint(call.name for call in group)]
        for group in groups:
            names, factor = key = _key(group)
            if key in layers:
                continue
            layers[key] = _free_name(owner)
            fuse_together(owner, {name: convs[name] for name in names}, layers[key], _layer_of(group))
            full = tuple(join(owner_name, name) for name in names)
            report.fused.append(FusedSum(owner_name, full, join(owner_name, layers[key]), factor))
            for name in names:
                del left[name]
        if groups:
            _rewrite(found, groups, layers)
    if layers:
        run_graph(owner, graph)
    report.skipped += [Skipped(join(owner_name, name), f"not fused: {reason}") for name, reason in left.items()]


def _remove(owner: nn.Module, name: str) -> None:
    """Removes a child, and the lists that it leaves empty."""
    path, _, key = name.rpartition(".")
    holder = owner.get_submodule(path)
    del holder._modules[key]
    if path and not holder._modules:
        _remove(owner, path)
