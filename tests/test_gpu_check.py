"""``make gpu-check``: every step is tried, none beyond its time, and what became of it is kept."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.cuda_figures.prediction import problem_of
from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check import plan, profiled, sanitized
from benchmarks.gpu_check.steps import Ended, Log, Status, Step, run_steps
from benchmarks.workloads import shrunk
from deformwarp.native import cuda_plan

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def step(name: str, code: str, seconds: float = 30, **options: object) -> Step:
    return Step(name, (sys.executable, "-S", "-c", code), seconds, **options)  # type: ignore[arg-type]


def run(folder: Path, *steps: Step, seconds: float = 60) -> list[Ended]:
    return run_steps(steps, Log(folder / "log"), seconds)


def test_a_step_that_fails_stops_no_other_and_the_log_has_its_output(tmp_path: Path) -> None:
    first, second, third = run(
        tmp_path,
        step("good", "print('all is well')"),
        step("bad", "print('it was like this'); raise SystemExit(3)"),
        step("after", "print('here')"),
    )
    assert [first.status, second.status, third.status] == [Status.PASSED, Status.FAILED, Status.PASSED]
    assert second.note == "exit status 3; it was like this"
    log = (tmp_path / "log").read_text()
    assert log.index("all is well") < log.index("it was like this") < log.index("here")
    assert log.count("=== bad") == 2


def test_a_step_beyond_its_time_is_ended_with_everything_that_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import time, pathlib; time.sleep(3); pathlib.Path({str(alive)!r}).touch()"
    code = (
        f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-S', '-c', {child!r}])"
    )
    begin = time.monotonic()
    (ended,) = run(tmp_path, step("endless", code, seconds=1))
    assert ended.status is Status.TIMED_OUT
    assert ended.note == "begun"
    assert time.monotonic() - begin < 3
    time.sleep(max(0.0, begin + 4 - time.monotonic()))
    assert not alive.exists()


def test_all_steps_together_have_a_limit_too(tmp_path: Path) -> None:
    first, second = run(tmp_path, step("long", "import time; time.sleep(30)"), step("late", ""), seconds=1)
    assert first.status is Status.TIMED_OUT
    assert first.allowed <= 1
    assert (second.status, second.note) == (Status.SKIPPED, "no time is left")


def test_a_step_that_cannot_be_done_here_says_why(tmp_path: Path) -> None:
    (ended,) = run(tmp_path, step("elsewhere", "", why_not=lambda: "no GPU"))
    assert (ended.status, ended.note) == (Status.SKIPPED, "no GPU")
    assert not ended.is_sound


def test_a_program_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    (ended,) = run(tmp_path, Step("missing", ("/no/such/program",), 5))
    assert ended.status is Status.FAILED
    assert "/no/such/program" in str(ended.note)


def test_a_step_gets_its_environment(tmp_path: Path) -> None:
    code = "import os; print(os.environ['DEFORMWARP_CUDA_ARCHITECTURES'])"
    run(tmp_path, step("build", code, environment={"DEFORMWARP_CUDA_ARCHITECTURES": "90-real"}))
    assert "\n90-real\n" in (tmp_path / "log").read_text()


def _main(monkeypatch: pytest.MonkeyPatch, out: Path, *steps: Step, gpu: bool = True) -> int:
    monkeypatch.setattr(plan, "steps", lambda out: steps)
    monkeypatch.setattr(plan, "no_gpu", lambda: None if gpu else "no GPU")
    monkeypatch.setattr(gpu_check, "about", lambda: {"machine": {"gpu": "some GPU"}})
    return gpu_check.main(["--out", str(out)])


@pytest.mark.parametrize(("code", "status"), [("", 0), ("raise SystemExit(1)", 1)], ids=["passed", "failed"])
def test_the_exit_status_and_the_file_say_what_became_of_it(
    code: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(monkeypatch, tmp_path / "out", step("good", ""), step("other", code)) == status
    kept = json.loads((tmp_path / "out/gpu-check.json").read_text())
    assert kept["machine"] == {"gpu": "some GPU"}
    assert [(one["name"], one["status"]) for one in kept["steps"]] == [
        ("good", "passed"),
        ("other", "failed" if status else "passed"),
    ]
    assert ("not passed: other" if status else "all steps passed") in capsys.readouterr().out


def test_a_tool_that_is_missing_is_not_a_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _main(monkeypatch, tmp_path, step("good", ""), step("profile", "", why_not=lambda: "no ncu")) == 1


def test_without_a_gpu_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(monkeypatch, tmp_path, step("good", ""), gpu=False) == 2
    assert "no GPU: nothing was checked on one" in capsys.readouterr().out


def test_results_are_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gpu-check.json").write_text("mine")
    assert _main(monkeypatch, tmp_path, step("good", "")) == 1
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "gpu-check.json").read_text() == "mine"


def test_an_unknown_step_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--out", str(tmp_path), "--only", "nonsense"]) == 1
    assert "nonsense" in capsys.readouterr().err


@needs_no_gpu
def test_every_step_but_the_build_is_skipped_where_there_is_no_gpu(tmp_path: Path) -> None:
    steps = plan.steps(tmp_path)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    assert {step.name for step in steps if step.why_not() is None} == {"build"}
    outcomes = run(tmp_path, *(step for step in steps if step.name != "build"))
    assert {(outcome.status, outcome.note) for outcome in outcomes} == {(Status.SKIPPED, "no GPU")}


def test_the_steps_fit_ten_minutes_and_one_never_takes_all(tmp_path: Path) -> None:
    assert plan.SECONDS < 600
    assert all(step.seconds <= 160 for step in plan.steps(tmp_path))


def test_the_sanitizers_problems_run_twice_to_the_same_bits() -> None:
    for workload in sanitized.WORKLOADS:
        assert sanitized.largest_error(workload, "cpu") == 0


def test_the_sanitizers_problems_take_both_paths() -> None:
    plans = [cuda_plan(problem_of(workload)) for workload in sanitized.WORKLOADS]
    assert {plan.path for plan in plans} == {"general", "planar"}


def test_a_wrong_result_fails_the_sanitizers_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanitized, "WORKLOADS", sanitized.WORKLOADS[:2])
    assert sanitized.main("cpu") == 0
    monkeypatch.setattr(sanitized, "largest_error", lambda workload, device: float("nan"))
    assert sanitized.main("cpu") == 1


def test_what_is_profiled_runs() -> None:
    for workload in profiled.WORKLOADS:
        profiled.run(shrunk(workload), "cpu")
