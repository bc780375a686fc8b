"""Replaces the deformable convolutions of somebody's model, in place, and says what it did."""

from __future__ import annotations

import importlib
import inspect
import linecache
import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor, fx, nn

from deformwarp import rules
from deformwarp.functional import IntOrPair
from deformwarp.modules import DeformConv2d, FusedDeformWarp


@dataclass(frozen=True)
class DeformConvSpec:
    """What a deformable convolution of any library is."""

    channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    offset_groups: int | None  # None where the module leaves it to the offsets
    weight: Tensor  # [C_out, C/groups, Kh, Kw]
    bias: Tensor | None  # [C_out]


# By package and class, so that neither library has to be imported, or installed.
_DEFORM_CONVS = {
    ("torchvision", "DeformConv2d"),
    ("mmcv", "DeformConv2d"),
    ("mmcv", "ModulatedDeformConv2d"),
    ("deformwarp", "DeformConv2d"),
}
_ACCEPTED = "a DeformConv2d of torchvision, mmcv or deformwarp, or mmcv's ModulatedDeformConv2d"


def _known(kind: type) -> bool:
    return (kind.__module__.partition(".")[0], kind.__name__) in _DEFORM_CONVS


def _is_deform_conv(module: nn.Module) -> bool:
    """Whether it is, or derives from, a deformable convolution; :func:`describe_deform_conv` may still refuse it."""
    return any(map(_known, type(module).__mro__))


def _pair(value: IntOrPair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def describe_deform_conv(conv: nn.Module, name: str) -> DeformConvSpec:
    """Reads a deformable convolution of torchvision, mmcv or deformwarp.

    Args:
        conv: ``DeformConv2d`` of torchvision, mmcv or deformwarp, or mmcv's ``ModulatedDeformConv2d``.
        name: what messages call it.

    Returns:
        Its sizes and its very own weight [C_out, C/groups, Kh, Kw] and bias [C_out].

    Raises:
        TypeError: it is something else, or has a forward of its own, as mmcv's packs do.

    >>> spec = describe_deform_conv(DeformConv2d(4, 6, (3, 5), padding=2), "conv")
    >>> spec.kernel_size, spec.padding, tuple(spec.weight.shape)
    ((3, 5), (2, 2), (6, 4, 3, 5))
    """
    kind = type(conv)
    if not _is_deform_conv(conv):
        raise TypeError(f"{name}: is a {kind.__name__}, but should be {_ACCEPTED}")
    if not _known(next(cls for cls in kind.__mro__ if "forward" in vars(cls))):
        if hasattr(conv, "conv_offset"):
            problem = "which predicts its own offsets inside"
        else:
            problem = "a subclass with a forward of its own"
        raise TypeError(f"{name}: is a {kind.__name__}, {problem}, but should be {_ACCEPTED}")
    module: Any = conv
    offset_groups = getattr(module, "deform_groups", getattr(module, "deformable_groups", None))
    return DeformConvSpec(
        channels=module.in_channels,
        out_channels=module.out_channels,
        kernel_size=_pair(module.kernel_size),
        stride=_pair(module.stride),
        padding=_pair(module.padding),
        dilation=_pair(module.dilation),
        groups=module.groups,
        offset_groups=offset_groups,
        weight=module.weight,
        bias=getattr(module, "bias", None),  # mmcv's DeformConv2d has none
    )


@dataclass(frozen=True)
class FusedSum:
    """One sum of deformable convolutions that became one layer."""

    parent: str  # the module whose forward summed them; "" is the model itself
    convs: tuple[str, ...]
    layer: str  # the FusedDeformWarp that took their place
    scale: float


@dataclass(frozen=True)
class Skipped:
    """One module that was left as it was, wholly or in one of the two steps."""

    name: str
    reason: str


@dataclass
class FusionReport:
    """What :func:`fuse_deform_convs` did, by the names of ``named_modules``; ``str(report)`` is a summary for people.

    >>> print(FusionReport(replaced=["head.conv"]))
    fused: no sum of deformable convolutions
    replaced by deformwarp.DeformConv2d: 1
      head.conv
    """

    fused: list[FusedSum] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"fused: {len(self.fused) or 'no'} sum{'s' * (len(self.fused) > 1)} of deformable convolutions"]
        lines += [f"  {', '.join(one.convs)} -> {one.layer} (scale {one.scale:g})" for one in self.fused]
        lines.append(f"replaced by deformwarp.DeformConv2d: {len(self.replaced) or 'none'}")
        lines += [f"  {name}" for name in self.replaced]
        if self.skipped:
            lines.append(f"skipped: {len(self.skipped)}")
            lines += [f"  {one.name or 'the model itself'}: {one.reason}" for one in self.skipped]
        return "\n".join(lines)


def fuse_deform_convs(model: nn.Module) -> FusionReport:
    """Makes a model's deformable convolutions run on deformwarp; changes the model in place.

    1. *Fuse.* Where a module's forward sums the results of several deformable convolutions of one input
       (``+``, ``+=``, ``sum``, ``torch.add``, ``torch.stack(...).sum(0)`` or ``.mean(0)``, also times or over a
       constant), their calls become one call of one :class:`deformwarp.FusedDeformWarp`, a new child of that module;
       the convolutions leave it. The new layer holds copies, in the same dtype, on the same device and with the same
       ``requires_grad``: make the optimiser afterwards, and load state dicts before.
       The module stays the same object, of a subclass of its class whose forward was traced by ``torch.fx``. What
       tracing would freeze (a forward that depends on ``training``, on optional arguments or on values, that makes
       tensors, sets attributes or switches gradients or autocast) is not fused.
    2. *Replace.* Every other one of torchvision or mmcv is replaced by :class:`deformwarp.DeformConv2d` with the very
       same ``Parameter`` objects: optimisers keep working, state dicts keep their keys.

    A convolution with hooks, a parametrised weight or a forward of its own stays as it is; the report says why.

    Args:
        model: any module.

    Returns:
        What was fused, replaced and skipped.

    Raises:
        TypeError: ``model`` is not a module.

    >>> from torchvision.ops import DeformConv2d as Theirs
    >>> class Head(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.deforms = nn.ModuleList(Theirs(4, 4, 3, padding=d, dilation=d, bias=False) for d in (1, 2))
    ...     def forward(self, heatmap, offset):
    ...         return sum(deform(heatmap, offset) for deform in self.deforms) / 2
    >>> head, arguments = Head(), (torch.rand(1, 4, 8, 8), torch.rand(1, 18, 8, 8))
    >>> before = head(*arguments)
    >>> print(fuse_deform_convs(head))
    fused: 1 sum of deformable convolutions
      deforms.0, deforms.1 -> fused_deform_warp (scale 0.5)
    replaced by deformwarp.DeformConv2d: none
    >>> torch.allclose(head(*arguments), before, atol=1e-6)
    True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: is a {type(model).__name__}, but should be a torch.nn.Module")
    report = FusionReport()
    names = {name: module for name, module in model.named_modules() if _is_deform_conv(module)}
    refused = {name: reason for name, conv in names.items() if (reason := _why_not_ours(model, name)) is not None}
    usable = {name: conv for name, conv in names.items() if name not in refused}
    for owner, convs in _by_owner(model, usable).items():
        _fuse_sums(model, owner, convs, report)
    report.skipped += [Skipped(name, f"left as it is: {reason}") for name, reason in refused.items()]
    gone = {name for one in report.fused for name in one.convs}
    for name, conv in usable.items():
        if name not in gone and not isinstance(conv, DeformConv2d):
            _put_everywhere(model, conv, _same_conv(conv, name))
            report.replaced.append(name)
    return report


_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def _why_not_ours(model: nn.Module, name: str) -> str | None:
    """Why a deformable convolution cannot become one of ours, or None."""
    conv = model.get_submodule(name)
    try:
        describe_deform_conv(conv, name or "model")
    except TypeError as error:
        return str(error).partition(": ")[2]
    plain = {key for key, value in conv._parameters.items() if value is not None} <= {"weight", "bias"}
    if "weight" not in conv._parameters or not plain or conv._buffers or conv._modules:
        return "its weight is computed (parametrised), or it holds more than weight and bias"
    if any(getattr(conv, hooks, None) for hooks in _HOOKS):
        return "it has hooks, which would be lost"
    if "forward" in vars(conv):
        return "its forward was replaced on the instance"
    if conv.weight.dtype not in rules.DTYPES:
        return f"its dtype is {conv.weight.dtype}"
    if name == "" and not isinstance(conv, DeformConv2d):
        return "it is the model itself, which nothing holds; replace it where it is made"
    return None


def _same_conv(conv: nn.Module, name: str) -> DeformConv2d:
    spec = describe_deform_conv(conv, name)
    with torch.device("meta"):  # its parameters are replaced at once, and no random number may be drawn
        ours = DeformConv2d(
            spec.channels,
            spec.out_channels,
            spec.kernel_size,
            spec.stride,
            spec.padding,
            spec.dilation,
            spec.groups,
            bias=spec.bias is not None,
        )
    ours._parameters["weight"], ours._parameters["bias"] = conv._parameters["weight"], conv._parameters.get("bias")
    ours.training = conv.training
    return ours


def _holders(model: nn.Module, child: nn.Module) -> list[tuple[nn.Module, str]]:
    """Every place where ``child`` is registered."""
    return [(module, key) for module in model.modules() for key, one in module._modules.items() if one is child]


def _put_everywhere(model: nn.Module, child: nn.Module, other: nn.Module) -> None:
    for module, key in _holders(model, child):
        module._modules[key] = other


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _by_owner(model: nn.Module, convs: dict[str, nn.Module]) -> dict[str, dict[str, nn.Module]]:
    """Name of the module whose forward calls them -> name within it -> convolution."""
    owners: dict[str, dict[str, nn.Module]] = defaultdict(dict)
    for name, conv in convs.items():
        owner = name.rpartition(".")[0]
        while owner and isinstance(model.get_submodule(owner), (nn.ModuleList, nn.ModuleDict)):
            owner = owner.rpartition(".")[0]
        if name:
            owners[owner][name.removeprefix(owner).lstrip(".")] = conv
    return owners


# ---- step 1: from a traced forward to the sums in it


class _TraceError(Exception):
    """Why a forward must not be replaced by its trace."""


def _modes() -> tuple[bool, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
    )


_IN_PLACE_OPERATORS = tuple(
    getattr(operator, f"i{name}")
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
)


class _Proxy(fx.Proxy):
    """Records ``a += b`` as what it is; fx would record ``a = a + b``, and lose the change to whoever else holds a."""


def _recorded(target: Callable[..., Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    return lambda proxy, other: proxy.tracer.create_proxy("call_function", target, (proxy, other), {})


for _target in _IN_PLACE_OPERATORS:
    setattr(_Proxy, f"__{_target.__name__.strip('_')}__", _recorded(_target))


class _Tracer(fx.Tracer):
    """Traces one module's own forward: its children are called, not looked into."""

    proxy_buffer_attributes = True

    def __init__(self, left_out: dict[str, Any]) -> None:
        super().__init__()
        self.left_out = left_out  # arguments that the caller leaves at these defaults
        self.modes = _modes()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        fn, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        names = inspect.unwrap(root_fn).__code__.co_varnames
        return fn, [self.left_out.get(name, arg) for name, arg in zip(names, args, strict=False)]

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if _modes() != self.modes:
            raise _TraceError("its forward switches gradients or autocast, which a trace does not keep")
        return super().create_node(*args, **kwargs)


def _trace_once(owner: nn.Module, left_out: dict[str, Any], training: bool) -> fx.Graph:
    flags = {module: module.training for module in owner.modules()}
    stores: tuple[dict[str, Any], ...] = (vars(owner), owner._buffers, owner._parameters, owner._modules)
    before = [dict(store) for store in stores]
    try:
        for module in flags:
            module.training = training
        graph = _Tracer(left_out).trace(owner)
    finally:
        for module, flag in flags.items():
            module.training = flag
        set_by_forward = [key for store, old in zip(stores, before, strict=True) for key in store.keys() - old.keys()]
        changed = [key for store, old in zip(stores, before, strict=True) for key in old if store[key] is not old[key]]
        for store, old in zip(stores, before, strict=True):
            store.clear()
            store.update(old)
    if any(key.startswith("_tensor_constant") for key in set_by_forward):
        raise _TraceError("its forward makes tensors of its own, which a trace would freeze")
    if set_by_forward or set(changed) - {"training"}:
        raise _TraceError(f"its forward sets attributes ({', '.join(set_by_forward + changed)})")
    return graph


def _steps(graph: fx.Graph) -> list[tuple[str, Any]]:
    return [(node.op, node.target) for node in graph.nodes if node.op.startswith("call")]


def _trace(owner: nn.Module) -> fx.Graph:
    """The graph of a forward that runs the same way in training and evaluation, with and without its options."""
    if isinstance(owner, (fx.GraphModule, torch.jit.ScriptModule)) or "forward" in vars(owner):
        raise _TraceError("its forward is not that of its class")
    try:
        parameters = inspect.signature(inspect.unwrap(type(owner).forward)).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        graph = _trace_once(owner, {}, owner.training)
        if _steps(_trace_once(owner, {}, not owner.training)) != _steps(graph):
            raise _TraceError("its forward depends on training or evaluation mode")
        for left_out in [*({name: value} for name, value in defaults.items()), defaults]:
            if _steps(_trace_once(owner, left_out, owner.training)) != _steps(graph):
                raise _TraceError(f"its forward depends on whether {', '.join(left_out)} is given")
    except _TraceError:
        raise
    except Exception as error:  # whatever somebody's forward raises when it meets symbolic values
        text = " ".join(str(error).split())
        raise _TraceError(f"torch.fx cannot trace its forward ({type(error).__name__}: {text[:160]})") from error
    return graph


@dataclass(frozen=True)
class _Addend:
    node: fx.Node
    factor: float


_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
_MULTIPLY = (operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_")
_DIVIDE = (operator.truediv, operator.itruediv, torch.div, torch.divide, torch.true_divide, "div", "div_")
_SUM, _MEAN = (torch.sum, "sum"), (torch.mean, "mean")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_zero(value: object) -> bool:
    return (_is_number(value) and value == 0) or (
        isinstance(value, fx.Node) and value.target is torch.zeros_like and len(value.users) == 1
    )


def _dimension(node: fx.Node, position: int, default: object) -> object:
    """The dimension that a call reduces or stacks along; None where it says more than that."""
    if len(node.args) > position + 1 or node.kwargs.keys() - {"dim", "axis"}:
        return None
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get("dim", node.kwargs.get("axis", default))


def _stacked(node: fx.Node) -> list[Any] | None:
    """What ``torch.stack(values, d).sum(d)`` sums, of a node that reduces something."""
    stack = node.args[0] if node.args else None
    if not isinstance(stack, fx.Node) or stack.target is not torch.stack or len(stack.users) != 1:
        return None
    along = _dimension(node, 1, None)
    values = stack.args[0] if stack.args else None
    if isinstance(along, (list, tuple)) and len(along) == 1:
        along = along[0]
    same = isinstance(along, int) and along == _dimension(stack, 1, 0)
    return list(values) if same and isinstance(values, (list, tuple)) else None


def _terms(node: fx.Node) -> list[tuple[Any, float]] | None:
    """A sum's, product's or quotient's operands, and the constants they are multiplied by."""
    if node.op not in ("call_function", "call_method"):
        return None
    if node.target in _SUM + _MEAN:
        values = _stacked(node)
        factor = 1.0 if node.target in _SUM or not values else 1 / len(values)
        return None if values is None else [(value, factor) for value in values]
    if len(node.args) != 2 or node.kwargs:
        return None
    left, right = node.args
    if node.target in _ADD:
        return [(left, 1.0), (right, 1.0)]
    if node.target in _MULTIPLY and _is_number(right):
        return [(left, float(right))]  # type: ignore[arg-type]
    if node.target in _MULTIPLY and _is_number(left):
        return [(right, float(left))]  # type: ignore[arg-type]
    if node.target in _DIVIDE and _is_number(right) and right != 0:
        return [(left, 1 / float(right))]  # type: ignore[arg-type]
    return None


@dataclass
class _Sum:
    """A sum in a graph, flattened."""

    root: fx.Node
    addends: list[_Addend] = field(default_factory=list)
    inner: list[fx.Node] = field(default_factory=list)  # root and intermediate results, from the root down
    zeros: list[fx.Node] = field(default_factory=list)
    changed: list[fx.Node] = field(default_factory=list)  # addends that the sum changes in place
    rebuildable: bool = True  # False where an addend is neither a node nor zero

    def collect(self, node: fx.Node, factor: float) -> None:
        self.inner.append(node)
        if node.target in _SUM + _MEAN:
            self.inner.append(node.args[0])  # type: ignore[arg-type]
        for value, share in _terms(node) or []:
            if _is_zero(value):
                self.zeros += [value] if isinstance(value, fx.Node) else []
            elif not isinstance(value, fx.Node):
                self.rebuildable = False
            elif len(value.users) == 1 and _terms(value) is not None:
                self.collect(value, factor * share)
            else:
                self.addends.append(_Addend(value, factor * share))
                self.changed += [value] if _in_place(node) and value is node.args[0] else []


def _sums(graph: fx.Graph) -> Iterator[_Sum]:
    """The largest sums, last first."""
    seen: set[fx.Node] = set()
    for node in reversed(list(graph.nodes)):
        if node not in seen and _terms(node) is not None:
            found = _Sum(node)
            found.collect(node, 1.0)
            seen.update(found.inner)
            if found.rebuildable:
                yield found


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
    def of(addend: _Addend, conv: nn.Module) -> _Call:
        node, forward = addend.node, inspect.signature(type(conv).forward)
        values = list(forward.bind(None, *node.args, **node.kwargs).arguments.values())[1:]
        mask = values[2] if len(values) > 2 else None
        spec = describe_deform_conv(conv, str(node.target))
        return _Call(node, conv, spec, addend.factor, values[0], values[1], mask)


def _why_unsharable(model: nn.Module, conv: nn.Module, calls: int) -> str | None:
    """Why a convolution cannot give up its weights to a fused layer, or None."""
    if calls > 1 or len(_holders(model, conv)) > 1:
        return "it is used more than once"
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    if any(uses[id(parameter)] > 1 for parameter in conv.parameters()):
        return "its parameters are shared with another module"
    return None


def _acts_in_place(module: nn.Module) -> bool:
    while isinstance(module, nn.Sequential) and len(module) > 0:
        module = module[0]
    return getattr(module, "inplace", False) is True


def _in_place(node: fx.Node) -> bool:
    """Whether a call of a function or a method changes its first argument (or its ``out``)."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    trailing = name.endswith("_") and not name.endswith("__")
    flagged = "out" in node.kwargs or node.kwargs.get("inplace") is True
    return trailing or flagged or node.target in (operator.setitem, *_IN_PLACE_OPERATORS)


def _mutates(owner: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return _acts_in_place(owner.get_submodule(str(node.target)))
    return node.op in ("call_function", "call_method") and _in_place(node)


def _mutated_between(owner: nn.Module, calls: Sequence[_Call], found: _Sum) -> bool:
    """Whether moving the calls down to their sum could move them past a change of what they read."""
    nodes = list(found.root.graph.nodes)
    start = min(nodes.index(node) for node in [*found.inner, *(call.node for call in calls)])
    return any(node not in found.inner and _mutates(owner, node) for node in nodes[start : nodes.index(found.root)])


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


def _rewrite(owner: nn.Module, found: _Sum, groups: Sequence[Sequence[_Call]]) -> list[str]:
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


def _fuse_sums(model: nn.Module, owner_name: str, convs: dict[str, nn.Module], report: FusionReport) -> None:
    """Fuses every sum in the forward of one module, and says why where it does not."""
    owner = model.get_submodule(owner_name)
    if len(convs) < 2:
        return
    try:
        graph = _trace(owner)
    except _TraceError as error:
        report.skipped.append(Skipped(owner_name, f"not fused: {error}"))
        return
    calls_of = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    left = dict.fromkeys(convs, "its result is not summed with others of the same input and shape")
    for found in _sums(graph):
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
            full = tuple(_join(owner_name, name) for name in names)
            report.fused.append(FusedSum(owner_name, full, _join(owner_name, layer), group[0].factor))
            for name in names:
                del left[name]
                _remove(owner, name)
    if len(left) < len(convs):
        _run_graph(owner, graph)
    report.skipped += [Skipped(_join(owner_name, name), f"not fused: {reason}") for name, reason in left.items()]


def _remove(owner: nn.Module, name: str) -> None:
    """Removes a child, and the lists that it leaves empty."""
    path, _, key = name.rpartition(".")
    holder = owner.get_submodule(path)
    del holder._modules[key]
    if path and not holder._modules:
        _remove(owner, path)


# ---- a module of the same class, but for its forward


def _run_graph(owner: nn.Module, graph: fx.Graph) -> None:
    for node in graph.nodes:
        node.type = None  # annotations would have to be pickled with the source
    code = graph.python_code("self")
    base = getattr(type(owner), "_deformwarp_base", type(owner))
    owner.__class__ = _class_with_forward(base, code.src, _Names.of(code.globals))


@dataclass(frozen=True)
class _Names:
    """The globals of generated source, in a form that can be pickled."""

    modules: dict[str, str]
    values: dict[str, Any]

    @staticmethod
    def of(names: dict[str, Any]) -> _Names:
        modules = {name: value.__name__ for name, value in names.items() if inspect.ismodule(value)}
        return _Names(modules, {name: value for name, value in names.items() if name not in modules})

    def namespace(self) -> dict[str, Any]:
        modules = {name: importlib.import_module(path) for name, path in self.modules.items()}
        return {"torch": torch, **modules, **self.values}


def _class_with_forward(base: type[nn.Module], source: str, names: _Names) -> type[nn.Module]:
    """A subclass, and not a forward on the instance, because replicas and copies take their class with them."""
    namespace = names.namespace()
    filename = f"<deformwarp fused forward of {base.__qualname__}, {hash(source):x}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)  # for tracebacks and compilers
    exec(compile(source, filename, "exec"), namespace)

    def reduce(self: nn.Module, protocol: object) -> tuple[Any, ...]:
        return _rebuild, (base, source, names), base.__reduce_ex__(self, 2)[2]

    members = {
        "forward": namespace["forward"],
        "__reduce_ex__": reduce,
        "__doc__": base.__doc__,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "_deformwarp_base": base,
    }
    return type(base.__name__, (base,), members)


def _rebuild(base: type[nn.Module], source: str, names: _Names) -> nn.Module:
    """Copies and unpickles a fused module."""
    kind = _class_with_forward(base, source, names)
    return kind.__new__(kind)
