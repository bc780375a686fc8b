"""A problem with something changed: Python and C++ refuse it by the same rule, or take it, if it is still valid."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import torch
from torch import Tensor

from deformwarp import rules
from fuzz.drawing import Trial
from fuzz.valid import problem

Arguments = dict[str, Any]  # of the operators

NUMBERS = (-1, 0, 1, 2, 7, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 62) + 1, (1 << 63) - 1, -(1 << 63))
CPU_KERNELS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)


def arguments_of(trial: Trial) -> Arguments:
    """A valid problem, as the operators take it."""
    given, case = problem(trial), trial.case
    return {
        "input": given.input,
        "offsets": list(given.offsets),
        "masks": list(given.masks or []),
        "weight": given.weight,
        "bias": given.bias,
        "stride": list(case.stride),
        "padding": [number for pair in case.paddings for number in pair],
        "dilation": [number for pair in case.dilations for number in pair],
        "grad_output": given.grad_output,
    }


def _changed_tensor(random: Random, tensor: Tensor) -> Tensor:
    if tensor.dim() == 0:
        return tensor.new_zeros(1)
    shape = list(tensor.shape)
    axis = random.randrange(len(shape))
    change = random.randrange(6)
    if change == 0:
        shape[axis] += random.choice((-1, 1, 2))
    elif change == 1:
        shape[axis] = 0
    elif change == 2:
        del shape[axis]
    elif change == 3:
        shape.insert(axis, 1)
    elif change == 4:
        other = random.choice((torch.float64, torch.float32, torch.bfloat16, torch.int32, torch.complex64, torch.bool))
        return torch.zeros(shape, dtype=other)
    else:
        return tensor.to("meta")
    return torch.zeros([max(size, 0) for size in shape], dtype=tensor.dtype)


def change(random: Random, arguments: Arguments) -> None:
    """Changes one thing: a tensor, the number of them, or a number."""
    name = random.choice([name for name, value in arguments.items() if value is not None and value != []])
    value = arguments[name]
    if isinstance(value, Tensor):
        arguments[name] = _changed_tensor(random, value)
    elif random.random() < 0.2:
        del value[random.randrange(len(value))]
    elif random.random() < 0.2:
        value.append(value[0])
    else:
        place = random.randrange(len(value))
        value[place] = (
            _changed_tensor(random, value[place]) if isinstance(value[place], Tensor) else random.choice(NUMBERS)
        )


def broken_rule(arguments: Arguments, backward: bool) -> str | None:
    """The first rule that Python finds broken."""
    # The operator of the backward takes no bias, that of the forward no grad_output.
    left_out = {"bias": None} if backward else {"grad_output": None}
    made = rules.Problem(**(arguments | left_out))
    return next((rule.name for rule in rules.RULES if any(True for _ in rule.broken(made))), None)


def _call(arguments: Arguments, backward: bool) -> None:
    operands = [arguments[name] for name in ("input", "offsets", "masks", "weight")]
    geometry = [arguments[name] for name in ("stride", "padding", "dilation")]
    if backward:
        torch.ops.deformwarp.warp_backward.default.redispatch(
            CPU_KERNELS, arguments["grad_output"], *operands, *geometry, 1.0, *[True] * 4
        )
    else:
        torch.ops.deformwarp.warp.default.redispatch(CPU_KERNELS, *operands, arguments["bias"], *geometry, 1.0)


def refused_by(arguments: Arguments, backward: bool) -> str | None:
    """The rule by which the compiled kernels refuse it, called past all of Python."""
    try:
        _call(arguments, backward)
    except RuntimeError as error:
        found = re.search(r"broken rule ([a-z_.]+)", str(error))
        if found is None:
            raise
        return found[1]
    return None


def changes_of(trial: Trial) -> int:
    """In how many places it is broken."""
    return 1 + trial.number % 2


def broken_arguments(trial: Trial) -> Arguments:
    """A trial's problem, changed in one or two places."""
    random = Random(trial.number)
    arguments = arguments_of(trial)
    for _ in range(changes_of(trial)):
        change(random, arguments)
    return arguments


def check(trial: Trial) -> None:
    """Breaks a trial's problem.

    Raises:
        AssertionError: Python and C++ disagree about it.
    """
    arguments = broken_arguments(trial)
    for backward in (False, True):
        expected, actual = broken_rule(arguments, backward), refused_by(arguments, backward)
        # Of two broken rules either side may find another one first.
        agree = actual == expected if changes_of(trial) == 1 else (actual is None) == (expected is None)
        assert agree, f"Python finds {expected} broken, C++ {actual}"
