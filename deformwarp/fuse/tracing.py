"""A module's forward as a graph that stands for it: in training and evaluation, with and without its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from deformwarp.fuse.mutation import IN_PLACE_OPERATORS


class TraceError(Exception):
    """Why a forward must not be replaced by its trace."""


def _modes() -> tuple[bool, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
    )


class _Proxy(fx.Proxy):
    """Records ``a += b`` as what it is; fx would record ``a = a + b``, and lose the change to whoever else holds a."""


def _recorded(target: Callable[..., Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    return lambda proxy, other: proxy.tracer.create_proxy("call_function", target, (proxy, other), {})


for _target in IN_PLACE_OPERATORS:
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
            raise TraceError("its forward switches gradients or autocast, which a trace does not keep")
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
        raise TraceError("its forward makes tensors of its own, which a trace would freeze")
    if set_by_forward or set(changed) - {"training"}:
        raise TraceError(f"its forward sets attributes ({', '.join(set_by_forward + changed)})")
    return graph


def _steps(graph: fx.Graph) -> list[tuple[str, Any]]:
    return [(node.op, node.target) for node in graph.nodes if node.op.startswith("call")]


def trace(owner: nn.Module) -> fx.Graph:
    """The graph of a forward that runs the same way in training and evaluation, with and without its options."""
    if isinstance(owner, (fx.GraphModule, torch.jit.ScriptModule)) or "forward" in vars(owner):
        raise TraceError("its forward is not that of its class")
    try:
        parameters = inspect.signature(inspect.unwrap(type(owner).forward)).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        graph = _trace_once(owner, {}, owner.training)
        if _steps(_trace_once(owner, {}, not owner.training)) != _steps(graph):
            raise TraceError("its forward depends on training or evaluation mode")
        for left_out in [*({name: value} for name, value in defaults.items()), defaults]:
            if _steps(_trace_once(owner, left_out, owner.training)) != _steps(graph):
                raise TraceError(f"its forward depends on whether {', '.join(left_out)} is given")
    except TraceError:
        raise
    except Exception as error:  # whatever somebody's forward raises when it meets symbolic values
        text = " ".join(str(error).split())
        raise TraceError(f"torch.fx cannot trace its forward ({type(error).__name__}: {text[:160]})") from error
    return graph
