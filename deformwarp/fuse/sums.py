"""The sums in a graph, flattened: addends, and the constants they are multiplied by."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from deformwarp.fuse.mutation import in_place


@dataclass(frozen=True)
class Addend:
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
class Sum:
    """A sum in a graph, flattened."""

    root: fx.Node
    addends: list[Addend] = field(default_factory=list)
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
                self.addends.append(Addend(value, factor * share))
                self.changed += [value] if in_place(node) and value is node.args[0] else []


def sums_in(graph: fx.Graph) -> Iterator[Sum]:
    """The largest sums, last first."""
    seen: set[fx.Node] = set()
    for node in reversed(list(graph.nodes)):
        if node not in seen and _terms(node) is not None:
            found = Sum(node)
            found.collect(node, 1.0)
            seen.update(found.inner)
            if found.rebuildable:
                yield found
