"""Replaces the deformable convolutions of somebody's model, in place, and says what it did."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import nn

from deformwarp import rules
from deformwarp.deform_convs import describe_deform_conv, is_deform_conv
from deformwarp.fuse.mmpose import fuse_neck, is_neck
from deformwarp.fuse.replay import be_as_before
from deformwarp.fuse.report import FusedSum, FusionReport, Skipped
from deformwarp.fuse.rewriting import fuse_sums, holders, join
from deformwarp.fuse.undo import Past, filled, shell_of
from deformwarp.modules import DeformConv2d

__all__ = ["FusedSum", "FusionReport", "Skipped", "fuse_deform_convs", "unfuse"]


def fuse_deform_convs(model: nn.Module) -> FusionReport:
    """Makes a model's deformable convolutions run on deformwarp; changes the model in place.

    1. *Fuse.* Where a module's forward sums the results of several deformable convolutions of one input
       (``+``, ``+=``, ``sum``, ``torch.add``, ``torch.stack(...).sum(0)`` or ``.mean(0)``, also times or over a
       constant), their calls become one call of one :class:`deformwarp.FusedDeformWarp`, a new child of that module;
       the convolutions leave it. The new layer holds copies, in the same dtype, on the same device and with the same
       ``requires_grad``: make the optimiser afterwards. State dicts keep the convolutions' keys, to save and to load.
       Their biases are copies, for the layer has only the sum: who writes into a state dict, as timm's ``ModelEmaV2``
       does, has to load it afterwards, or go by ``parameters()``, as ``torch.optim.swa_utils.AveragedModel`` does.
       The module stays the same object, of a subclass of its class whose forward was traced by ``torch.fx``; MMPose's
       ``PoseWarperNeck`` keeps its forward. What
       tracing would freeze (a forward that depends on ``training``, on optional arguments or on values, that makes
       tensors, sets attributes or switches gradients or autocast) is not fused.
    2. *Replace.* Every other one of torchvision or mmcv is replaced by :class:`deformwarp.DeformConv2d` with the very
       same ``Parameter`` objects: optimisers keep working, state dicts keep their keys.

    A convolution with hooks, a parametrised weight or a forward of its own stays as it is; the report says why.
    :func:`unfuse` undoes all of it.

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
        raise TypeError(
            f"model: is a {type(model).__name__}, but should be a torch.nn.Module; "
            "a list of convolutions becomes a layer by FusedDeformWarp.from_deform_convs"
        )
    report = FusionReport()
    names = {name: module for name, module in model.named_modules() if is_deform_conv(module)}
    refused = {name: reason for name, conv in names.items() if (reason := _why_not_ours(model, name)) is not None}
    usable = {name: conv for name, conv in names.items() if name not in refused}
    for owner, convs in _by_owner(model, usable).items():
        fuse = fuse_neck if is_neck(model.get_submodule(owner)) else fuse_sums
        fuse(model, owner, convs, report)
    report.skipped += [Skipped(name, f"left as it is: {reason}") for name, reason in refused.items()]
    gone = {name for one in report.fused for name in one.convs}
    for name, conv in usable.items():
        if name not in gone and not isinstance(conv, DeformConv2d):
            _put_everywhere(model, conv, _same_conv(conv, name))
            report.replaced.append(name)
    return report


def unfuse(model: nn.Module) -> list[str]:
    """Undoes :func:`fuse_deform_convs`: the model has its own convolutions again, with the weights of now.

    Fused layers leave the model, so that its optimiser has to be made anew; replaced convolutions keep their very
    ``Parameter`` objects. A bias that several convolutions shared is shared out: each keeps its own, and an equal part
    of what their sum has moved by.

    Args:
        model: any module; one that holds nothing fused or replaced stays as it is.

    Returns:
        The names of the convolutions that are back.

    Raises:
        TypeError: ``model`` is not a module.

    >>> from torchvision.ops import DeformConv2d as Theirs
    >>> model = nn.Sequential(Theirs(4, 4, 3))
    >>> fuse_deform_convs(model).replaced, unfuse(model), type(model[0]) is Theirs
    (['0'], ['0'], True)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: is a {type(model).__name__}, but should be a torch.nn.Module")
    back = []
    for name, conv in list(model.named_modules()):
        if "_deformwarp_shell" in vars(conv):
            (shell,) = vars(conv)["_deformwarp_shell"]
            _put_everywhere(model, conv, filled(shell, dict(conv._parameters), conv.training))
            back.append(name)
    for name, owner in list(model.named_modules()):
        past: Past | None = vars(owner).pop("_deformwarp_past", None)
        if past is not None:
            back += [join(name, conv) for conv in past.restore(owner)]
            be_as_before(owner)
    return back


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
    vars(ours)["_deformwarp_shell"] = (shell_of(conv),)  # a tuple, for a module would become a child
    return ours


def _put_everywhere(model: nn.Module, child: nn.Module, other: nn.Module) -> None:
    for module, key in holders(model, child):
        module._modules[key] = other


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
