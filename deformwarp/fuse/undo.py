"""What a fused module remembers of what it was: to undo it, and to keep the state dicts of before."""

from __future__ import annotations

import copy
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


def shell_of(conv: nn.Module) -> nn.Module:
    """A copy without tensors, to be filled again by :func:`filled`."""
    shell = copy.copy(conv)
    shell.__dict__.update({key: value.copy() for key, value in vars(conv).items() if isinstance(value, dict)})
    shell._parameters = dict.fromkeys(conv._parameters)
    return shell


def filled(shell: nn.Module, parameters: dict[str, nn.Parameter | None], training: bool) -> nn.Module:
    """A convolution like that of the shell, with these parameters."""
    conv = shell_of(shell)
    conv._parameters.update({name: value for name, value in parameters.items() if name in conv._parameters})
    return conv.train(training)


@dataclass
class Fusion:
    """One fused layer, and the convolutions in whose place it is. Names are within the module that holds them."""

    layer: str
    convs: tuple[str, ...]
    shells: tuple[nn.Module, ...]
    scale: float
    biases: tuple[Tensor | None, ...]  # [C_out] each; the layer has only their sum

    def _total_bias(self) -> Tensor:
        return self.scale * torch.stack([bias for bias in self.biases if bias is not None]).sum(0)

    def split(self, weight: Tensor, bias: Tensor | None) -> Iterator[tuple[str, Tensor]]:
        """The convolutions' parameters by name: what the layer's bias has moved by is shared out evenly."""
        for name, one in zip(self.convs, weight, strict=True):
            yield f"{name}.weight", one
        if bias is None:
            return
        self.biases = tuple(one if one is None else one.to(bias) for one in self.biases)
        count = sum(one is not None for one in self.biases)
        moved = (bias - self._total_bias()) / (self.scale * count) if self.scale != 0 else torch.zeros_like(bias)
        for name, own in zip(self.convs, self.biases, strict=True):
            if own is not None:
                yield f"{name}.bias", own + moved

    def put(self, state: MutableMapping[str, Any], prefix: str) -> None:
        """In a state dict, the convolutions' entries for the layer's."""
        weight, bias = state.pop(f"{prefix}{self.layer}.weight"), state.pop(f"{prefix}{self.layer}.bias", None)
        state.update({prefix + name: value for name, value in self.split(weight, bias)})

    def take(self, state: MutableMapping[str, Any], prefix: str) -> None:
        """In a state dict, the layer's entries for the convolutions', where all of these are there and alike."""
        weights = [state[key] for name in self.convs if (key := f"{prefix}{name}.weight") in state]
        if len(weights) < len(self.convs) or any(one.shape != weights[0].shape for one in weights):
            return
        names = [f"{prefix}{name}.bias" for name, bias in zip(self.convs, self.biases, strict=True) if bias is not None]
        if any(name not in state for name in names):
            return
        for name in self.convs:
            del state[f"{prefix}{name}.weight"]
        state[f"{prefix}{self.layer}.weight"] = torch.stack(weights)
        if names:
            found = iter([state.pop(name) for name in names])
            self.biases = tuple(None if bias is None else next(found).clone() for bias in self.biases)
            state[f"{prefix}{self.layer}.bias"] = self._total_bias()


@dataclass
class Past:
    """Everything that fusing changed in one module."""

    fusions: list[Fusion] = field(default_factory=list)
    order: dict[str, list[str]] = field(default_factory=dict)  # path of a holder -> names of its children before
    lists: dict[str, nn.Module] = field(default_factory=dict)  # path -> list that held convolutions
    changes: list[tuple[nn.Module, str, Any]] = field(default_factory=list)  # attributes, and what they were

    def remember_order(self, owner: nn.Module, convs: tuple[str, ...]) -> None:
        """To be called before children are taken away."""
        for conv in convs:
            path = conv
            while path:
                path = path.rpartition(".")[0]
                holder = owner.get_submodule(path)
                self.order.setdefault(path, list(holder._modules))
                if path:
                    self.lists.setdefault(path, holder)

    def change(self, module: nn.Module, attribute: str, value: Any) -> None:
        """Sets an attribute until :meth:`restore`."""
        self.changes.append((module, attribute, getattr(module, attribute)))
        setattr(module, attribute, value)

    def restore(self, owner: nn.Module) -> list[str]:
        """Puts the convolutions back where they were; returns their names."""
        layers = {fusion.layer: owner.get_submodule(fusion.layer) for fusion in self.fusions}
        for path in layers:
            _delete(owner, path)
        for path in sorted(self.lists, key=lambda path: path.count(".")):
            set_submodule(owner, path, self.lists[path])
        for fusion in self.fusions:
            layer: Any = layers[fusion.layer]
            tensors = dict(fusion.split(layer.weight.detach(), None if layer.bias is None else layer.bias.detach()))
            for name, shell in zip(fusion.convs, fusion.shells, strict=True):
                parameters = {
                    key: nn.Parameter(tensors[f"{name}.{key}"].clone(), getattr(layer, key).requires_grad)
                    for key in ("weight", "bias")
                    if f"{name}.{key}" in tensors
                }
                set_submodule(owner, name, filled(shell, {**parameters}, layer.training))
        for module, attribute, value in self.changes:
            setattr(module, attribute, value)
        for path, names in self.order.items():
            holder = owner.get_submodule(path)
            now = dict(holder._modules)
            holder._modules = {name: now.pop(name) for name in names if name in now} | now
        return [name for fusion in self.fusions for name in fusion.convs]


class Fused:
    """Mixed into the class of a module with fused layers: its state dicts are those of before."""

    _deformwarp_past: Past

    def state_dict(self, *args: Any, prefix: str = "", **options: Any) -> Any:
        state = super().state_dict(*args, prefix=prefix, **options)  # type: ignore[misc]
        for fusion in self._deformwarp_past.fusions:
            fusion.put(state, prefix)
        return state

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for fusion in self._deformwarp_past.fusions:
            fusion.take(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[misc]


def past_of(owner: nn.Module) -> Past:
    """What a module remembers; empty at first."""
    past: Past = vars(owner).setdefault("_deformwarp_past", Past())
    return past


def _delete(owner: nn.Module, path: str) -> None:
    holder, _, name = path.rpartition(".")
    del owner.get_submodule(holder)._modules[name]


def set_submodule(owner: nn.Module, path: str, child: nn.Module) -> None:
    """Registers a child, in the place that the path names."""
    holder, _, name = path.rpartition(".")
    owner.get_submodule(holder)._modules[name] = child
