"""What ``help()`` tells users: arguments, results, errors and an example of everything that is public."""

from __future__ import annotations

import dataclasses
import inspect
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("docstring_parser")

from docstring_parser import Docstring, DocstringStyle, parse

import deformwarp
import posewarper_models


def named(package: ModuleType) -> dict[str, Any]:
    return {f"{package.__name__}.{name}": getattr(package, name) for name in package.__all__}


def is_made_by_users(thing: Any) -> bool:
    """Layers are; reports and errors are given to them."""
    return inspect.isclass(thing) and not dataclasses.is_dataclass(thing) and not issubclass(thing, Exception)


def methods(names: dict[str, Any]) -> dict[str, Any]:
    found = {
        f"{name}.{method}": getattr(function, "__func__", function)
        for name, thing in names.items()
        if inspect.isclass(thing)
        for method, function in vars(thing).items()
        if not method.startswith("_") and method != "extra_repr"  # which torch documents once for all modules
    }
    return {name: function for name, function in found.items() if inspect.isfunction(function)}


def docstring(thing: Any) -> Docstring:
    return parse(inspect.cleandoc(thing.__doc__ or ""), DocstringStyle.GOOGLE)


def parameters(thing: Any) -> set[str]:
    return set(inspect.signature(thing).parameters) - {"self", "cls"}


def refers_to_another(thing: Any) -> bool:
    return "see :" in (thing.__doc__ or "")


OURS = named(deformwarp)
PUBLIC = OURS | named(posewarper_models)
LAYERS = {name: thing for name, thing in PUBLIC.items() if is_made_by_users(thing)}
FUNCTIONS = {name: thing for name, thing in PUBLIC.items() if not inspect.isclass(thing)}
METHODS = methods(PUBLIC)


def each(*things: dict[str, Any]) -> pytest.MarkDecorator:
    together = {name: thing for some in things for name, thing in some.items()}
    return pytest.mark.parametrize("thing", together.values(), ids=together.keys())


@each(PUBLIC, METHODS)
def test_it_says_what_it_is(thing: Any) -> None:
    assert docstring(thing).short_description


@each(LAYERS, FUNCTIONS, METHODS)
def test_every_argument_is_documented_and_nothing_that_is_none(thing: Any) -> None:
    names = {name.strip() for param in docstring(thing).params for name in param.arg_name.split(",")}
    assert names == parameters(thing) or (not names and refers_to_another(thing))


@each(FUNCTIONS, METHODS)
def test_results_are_documented(thing: Any) -> None:
    gives_something = inspect.signature(thing).return_annotation not in ("None", "Iterator[None]")
    if gives_something and parameters(thing):
        assert docstring(thing).returns is not None or refers_to_another(thing)


@each(FUNCTIONS, {name: thing for name, thing in LAYERS.items() if name in OURS})
def test_errors_are_documented(thing: Any) -> None:
    assert docstring(thing).raises


@each(OURS)
def test_there_is_an_example(thing: Any) -> None:
    assert ">>> " in thing.__doc__


@each({name: thing for name, thing in FUNCTIONS.items() if "input" in parameters(thing)})
def test_tensors_have_shapes_and_dtypes(thing: Any) -> None:
    described = {param.arg_name: param.description or "" for param in docstring(thing).params}
    assert "float32, float16 or bfloat16" in described["input"]
    for name in parameters(thing) & {"input", "offset", "offsets", "weight", "bias", "mask", "masks"}:
        assert "[" in described[name], name
