"""A module of the same class but for its forward, which runs a graph."""

from __future__ import annotations

import importlib
import inspect
import linecache
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn


def run_graph(owner: nn.Module, graph: fx.Graph) -> None:
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
