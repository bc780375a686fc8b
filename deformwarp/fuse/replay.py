"""A module of the same class but for its forward, which runs a graph."""

from __future__ import annotations

import importlib
import inspect
import linecache
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from deformwarp.fuse.undo import Fused


def run_graph(owner: nn.Module, graph: fx.Graph) -> None:
    """From now on the module's forward runs the graph; it keeps the state dicts of before."""
    for node in graph.nodes:
        node.type = None  # annotations would have to be pickled with the source
    code = graph.python_code("self")
    owner.__class__ = _fused_class(_base(owner), code.src, _Names.of(code.globals))


def keep_forward(owner: nn.Module) -> None:
    """The module keeps its forward, and the state dicts of before."""
    owner.__class__ = _fused_class(_base(owner), "", _Names({}, {}))


def be_as_before(owner: nn.Module) -> None:
    """The module has its own class again."""
    owner.__class__ = _base(owner)


def _base(owner: nn.Module) -> type[nn.Module]:
    base: type[nn.Module] = getattr(type(owner), "_deformwarp_base", type(owner))
    return base


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


def _fused_class(base: type[nn.Module], source: str, names: _Names) -> type[nn.Module]:
    """A subclass, and not a forward on the instance, because replicas and copies take their class with them."""

    def reduce(self: nn.Module, protocol: object) -> tuple[Any, ...]:
        return _rebuild, (base, source, names), base.__reduce_ex__(self, 2)[2]

    members = {
        "__reduce_ex__": reduce,
        "__doc__": base.__doc__,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "_deformwarp_base": base,
    }
    if source:
        members["forward"] = _forward(base, source, names)
    return type(base.__name__, (Fused, base), members)


def _forward(base: type[nn.Module], source: str, names: _Names) -> Any:
    namespace = names.namespace()
    filename = f"<deformwarp fused forward of {base.__qualname__}, {hash(source):x}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)  # for tracebacks and compilers
    exec(compile(source, filename, "exec"), namespace)
    return namespace["forward"]


def _rebuild(base: type[nn.Module], source: str, names: _Names) -> nn.Module:
    """Copies and unpickles a fused module."""
    kind = _fused_class(base, source, names)
    return kind.__new__(kind)
