"""``deformwarp bench``: a table and a picture of the user's shape, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from deformwarp import bench, cli
from deformwarp.bench import Inputs, Line, Shape

TINY = ["bench", "--seconds", "0.05", "--shape", "2x4x9x8", "--dilations", "1,2"]


@pytest.mark.parametrize(
    "more",
    [[], ["--masks", "--dtype", "float16"], ["--offset-groups", "1", "--groups", "2", "--kernel", "1"]],
    ids=["float32", "masks_float16", "groups"],
)
def test_it_prints_a_time_for_both_ways_in_both_modes(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(TINY + more) == 0
    printed = capsys.readouterr().out
    assert printed.count(" ms") == 4
    assert printed.count("times as fast") == 2


def test_it_draws_a_picture_and_overwrites_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "mine.png"
    assert cli.main([*TINY, "--out", str(picture)]) == 0
    before = picture.read_bytes()
    assert before.startswith(b"\x89PNG")
    assert cli.main([*TINY, "--out", str(picture)]) == 2
    assert "exists, and is not overwritten" in capsys.readouterr().err
    assert picture.read_bytes() == before


def test_what_torchvision_cannot_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*TINY, "--dtype", "bfloat16"]) == 0
    printed = capsys.readouterr().out
    assert "torchvision has no CPU kernel for bfloat16" in printed
    assert printed.count(" ms") == 2


def test_a_wrong_result_gets_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bench.separate

    def wrong(shape: Shape, inputs: Inputs) -> Tensor:
        return right(shape, inputs) * 1.001

    monkeypatch.setattr(bench, "separate", wrong)
    lines = bench.measure(Shape(1, 2, 8, 8, 2, dilations=(1,), offset_groups=2), seconds=0.05)
    assert {line.name: line.milliseconds is None for line in lines} == {"torchvision": True, "deformwarp": False}
    assert "wrong: relative error" in lines[0].note
    assert bench.gain(lines, "forward") is None


def test_the_gain_is_the_ratio_of_the_times() -> None:
    lines = [Line("forward", "torchvision", 6.0), Line("forward", "deformwarp", 1.5)]
    assert bench.gain(lines, "forward") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--groups", "3"], "groups: is 3, but should divide channels = 4"),
        (["--offset-groups", "3"], "offset_groups: is 3, but should divide channels = 4"),
        (["--kernel", "2"], "kernel: is 2, but should be odd"),
        (["--dilations", "0"], "dilations: are [0], but should be one or more, each at least 1"),
        (["--threads", "0"], "threads: is 0, but should be at least 1"),
        (["--seconds", "0"], "seconds: is 0.0, but should be more than 0"),
        (["--device", "gpu"], "gpu"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    assert cli.main(TINY + arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("arguments", [["--shape", "4x4"], ["--dilations", "a"], ["--dtype", "int8"]], ids=str)
def test_what_cannot_be_read_is_said_by_argparse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["bench", *arguments])
    assert f"argument {arguments[0]}" in capsys.readouterr().err


def test_info_says_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    assert "backend cpu:" in capsys.readouterr().out
