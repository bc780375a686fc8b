"""Which nodes of a graph change a tensor in place."""

from __future__ import annotations

import operator

from torch import fx, nn

IN_PLACE_OPERATORS = tuple(
    getattr(operator, f"i{name}")
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")
)


def _acts_in_place(module: nn.Module) -> bool:
    while isinstance(module, nn.Sequential) and len(module) > 0:
        module = module[0]
    return getattr(module, "inplace", False) is True


def in_place(node: fx.Node) -> bool:
    """Whether a call of a function or a method changes its first argument (or its ``out``)."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    trailing = name.endswith("_") and not name.endswith("__")
    flagged = "out" in node.kwargs or node.kwargs.get("inplace") is True
    return trailing or flagged or node.target in (operator.setitem, *IN_PLACE_OPERATORS)


def mutates(owner: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return _acts_in_place(owner.get_submodule(str(node.target)))
    return node.op in ("call_function", "call_method") and in_place(node)
