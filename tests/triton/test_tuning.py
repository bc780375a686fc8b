"""``deformwarp.tune``: what it measures, keeps and finds again, with a clock of its own instead of a GPU's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import deformwarp
from deformwarp.triton import tuning
from deformwarp.triton.arguments import Shape
from deformwarp.triton.plan import Device, Tile, plan

WARP = Shape(16, 17, 96, 72, 17, 72, 6912, 9, 3, 1, 1, 17, 17, 1, 1)
KEY = (WARP, 5, torch.float16, Device("cuda", "90", 132, "NVIDIA H200"))
FORWARD, BACKWARD = Tile(128, 8), Tile(32, 2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for remembered in (tuning._remembered, tuning._lasting_settings):
        remembered.cache_clear()
    yield tmp_path / "deformwarp" / "triton.json"
    for remembered in (tuning._remembered, tuning._lasting_settings):
        remembered.cache_clear()


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def entry(tiles: Any) -> str:
    return json.dumps({"format": tuning.FORMAT, "tiles": {tuning.key_of(*KEY): tiles}})


def fastest_is(best: Tile) -> Callable[[Callable[[], object]], float]:
    """A clock by which one tile is fastest."""

    def measure(call: Callable[[], object]) -> float:
        call()
        return 1.0 if tuning.settings_for(*KEY).forward == best else 2.0

    return measure


def test_nothing_is_remembered_unasked() -> None:
    assert tuning.settings_for(*KEY) == plan(*KEY)


def test_what_was_found_is_used_from_then_on(cache: Path) -> None:
    assert tuning.remember(KEY, FORWARD, BACKWARD) == cache
    settings = tuning.settings_for(*KEY)
    assert (settings.forward, settings.backward) == (FORWARD, BACKWARD)
    computed = plan(*KEY)
    assert replace(settings, forward=computed.forward, backward=computed.backward) == computed


@pytest.mark.parametrize(
    "other",
    [
        (WARP._replace(samples=1), *KEY[1:]),
        (WARP, 4, *KEY[2:]),
        (WARP, 5, torch.float32, KEY[3]),
        (*KEY[:3], Device("cuda", "90", 132, "NVIDIA H100")),
    ],
    ids=["shape", "branches", "dtype", "device"],
)
def test_what_was_found_is_for_its_own_problem_and_gpu(other: tuning.Key) -> None:
    tuning.remember(KEY, FORWARD, BACKWARD)
    assert tuning.settings_for(*other) == plan(*other)


def test_an_entry_joins_those_that_are_there(cache: Path) -> None:
    tuning.remember(KEY, FORWARD, BACKWARD)
    tuning.remember((WARP, 4, *KEY[2:]), BACKWARD, FORWARD)
    assert len(json.loads(cache.read_text())["tiles"]) == 2
    assert tuning.settings_for(*KEY).forward == FORWARD
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_the_fastest_candidate_wins_and_the_trial_leaves_nothing_behind() -> None:
    assert tuning.best_tile(KEY, "forward", lambda: None, fastest_is(FORWARD)) == FORWARD
    assert tuning.settings_for(*KEY) == plan(*KEY)


def test_a_candidate_that_needs_more_than_the_gpu_has_is_left_out() -> None:
    from triton.runtime.errors import OutOfResources

    def too_large_beyond_32_pixels() -> None:
        if tuning.settings_for(*KEY).forward.pixels > 32:
            raise OutOfResources(300_000, 232_448, "shared memory")

    best = tuning.best_tile(KEY, "forward", too_large_beyond_32_pixels, fastest_is(FORWARD))
    assert best.pixels == 32


def test_an_error_ends_the_trial() -> None:
    def broken() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        tuning.best_tile(KEY, "forward", broken, fastest_is(FORWARD))
    assert tuning.settings_for(*KEY) == plan(*KEY)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 2, "tiles": {}}', '{"format": 1, "tiles": 3}'])
def test_a_file_that_is_not_ours_is_ignored_with_a_warning_and_never_overwritten(content: str, cache: Path) -> None:
    write(cache, content)
    with pytest.warns(UserWarning, match=r"triton\.json is ignored"):
        assert tuning.settings_for(*KEY) == plan(*KEY)
    with pytest.raises(ValueError, match=r"would be overwritten.*move it away"):
        tuning.remember(KEY, FORWARD, BACKWARD)
    assert cache.read_text() == content


@pytest.mark.parametrize(
    "tiles",
    [
        7,
        {"forward": 7},
        {"forward": {"pixels": 48, "warps": 4}},
        {"forward": {"pixels": 64, "warps": 3}},
        {"forward": {"pixels": [64], "warps": 4}},
        {"sideways": {"pixels": 64, "warps": 4}},
    ],
    ids=str,
)
def test_an_entry_that_is_no_candidate_is_ignored(tiles: Any, cache: Path) -> None:
    write(cache, entry(tiles))
    assert tuning.settings_for(*KEY) == plan(*KEY)


def test_tune_says_why_it_cannot() -> None:
    x, offset, weight = torch.rand(1, 1, 2, 2), [torch.zeros(1, 2, 2, 2)], torch.rand(1, 1, 1, 1, 1)
    with pytest.raises(RuntimeError, match="backend 'triton' cannot take this problem: its tensors are on cpu"):
        deformwarp.tune(x, offset, weight, dilations=[1])


def test_tune_checks_its_arguments() -> None:
    x, offset, weight = torch.rand(1, 1, 2, 2), [torch.zeros(1, 2, 2, 2)], torch.rand(1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="dilations"):
        deformwarp.tune(x, offset, weight, dilations=[1, 2])
