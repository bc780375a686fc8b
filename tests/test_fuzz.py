"""The fuzzer: it finds what is planted, and nothing else in a first few hundred trials."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fuzz import broken, memory, valid
from fuzz.__main__ import supervise
from fuzz.drawing import LAYOUTS, drawn
from torch import Tensor

from deformwarp import backends, rules

TESTS = Path(__file__).parent
FEW = range(1, 40)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=False, timeout=600)


@pytest.mark.slow
def test_a_few_hundred_trials_find_nothing() -> None:
    done = python("-m", "fuzz", "--count", "200")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("200 trials from 0 on")


def test_a_trial_that_kills_its_process_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import os; print('trial 41'); print('trial 42', flush=True); os.abort()"
    assert supervise([sys.executable, "-c", code], os.environ) == 1
    assert "fuzz: exit status -6 in trial 42; again: --first 42 --count 1" in capfd.readouterr().err


def spoilt(change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    original = backends.warp
    monkeypatch.setattr(backends, "warp", lambda *arguments: change(original(*arguments)))


def _last_is_wrong(output: Tensor) -> Tensor:
    wrong = torch.zeros_like(output)
    if wrong.numel():
        wrong.view(-1)[-1] = 1
    return output + wrong


@pytest.mark.parametrize("change", [_last_is_wrong, lambda output: output * 1.5], ids=["one_pixel", "a_factor"])
@pytest.mark.usefixtures("restored_threads")
def test_wrong_results_are_found(change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    trial = drawn(next(n for n in FEW if drawn(n).dtype == torch.float32 and drawn(n).case.batch > 0))
    valid.check(trial)
    spoilt(change, monkeypatch)
    with pytest.raises(AssertionError, match="output: error"):
        valid.check(trial)


def broken_rule(number: int) -> str | None:
    trial = drawn(number)
    return broken.broken_rule(broken.broken_arguments(trial), backward=False)


def test_a_rule_that_only_one_side_has_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    trials_of_it = [number for number in range(0, 400, 2) if broken_rule(number) == "stride.value"]
    monkeypatch.setattr(rules, "RULES", tuple(rule for rule in rules.RULES if rule.name != "stride.value"))
    with pytest.raises(AssertionError, match=r"Python finds .* broken, C\+\+ stride\.value"):
        broken.check(drawn(trials_of_it[0]))


@pytest.mark.parametrize("at_the_end", [False, True], ids=["before", "after"])
def test_a_read_beyond_fenced_memory_ends_the_process(at_the_end: bool) -> None:
    step = 4 if at_the_end else -4
    code = (
        "import ctypes, torch; from fuzz.memory import fenced\n"
        f"t = fenced((5,), torch.float32, {at_the_end})\n"
        f"print(ctypes.c_float.from_address(t.data_ptr() + {16 if at_the_end else 0}).value, flush=True)\n"
        f"print(ctypes.c_float.from_address(t.data_ptr() + {16 if at_the_end else 0} + {step}).value)"
    )
    done = python("-c", code)
    assert done.stdout == "0.0\n"
    assert done.returncode == -11


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (2, 3), (4,), (0, 2, 3, 4)], ids=str)
def test_fenced_copies_hold_the_same_numbers(layout: str, shape: tuple[int, ...]) -> None:
    tensor = torch.rand(shape, dtype=torch.float64)
    copy = memory.fenced_copy(tensor, layout, at_the_end=True)
    expected = tensor[:1].expand(shape) if layout == "repeated" and shape[0] > 1 else tensor
    assert torch.equal(copy, expected)


@pytest.mark.usefixtures("restored_threads")
def test_trials_are_of_all_kinds() -> None:
    several = [drawn(number) for number in range(300)]
    assert {trial.dtype for trial in several} == set(rules.DTYPES)
    assert {trial.case.masked for trial in several} == {True, False}
    assert {trial.case.groups > 1 for trial in several} == {True, False}
    assert {len(trial.case.dilations) > 1 for trial in several} == {True, False}
    assert {trial.case.offset_groups is None for trial in several} == {True, False}
    found = {broken_rule(number) for number in range(300)}
    assert None in found
    assert len(found) > 15
