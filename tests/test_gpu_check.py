"""``make gpu-check``: every step is tried, none beyond its time, and what became of it is kept."""

from __future__ import annotations

import importlib
import json
import re
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import torch

from benchmarks.cuda_figures.prediction import problem_of
from benchmarks.device import DEVICES
from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check import plan, profile_table, profiled, sanitized
from benchmarks.gpu_check.steps import Ended, Log, Status, Step, run_stages
from benchmarks.workloads import shrunk
from deformwarp.native import cuda_plan

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def step(name: str, code: str, seconds: float = 30, **options: object) -> Step:
    return Step(name, (sys.executable, "-S", "-c", code), seconds, **options)  # type: ignore[arg-type]


def run(folder: Path, *steps: Step, seconds: float = 60) -> list[Ended]:
    """One after another."""
    return run_stages([(one,) for one in steps], Log(folder / "log"), seconds)


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
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_steps_of_a_stage_run_at_the_same_time_and_their_outputs_stay_apart(tmp_path: Path) -> None:
    meet = (
        "import pathlib, time; pathlib.Path({mine!r}).touch(); print('begin of {mine}', flush=True)\n"
        "while not pathlib.Path({other!r}).exists(): time.sleep(0.01)\n"
        "print('end of {mine}')"
    )
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    stage = (step("first", meet.format(mine=one, other=two)), step("second", meet.format(mine=two, other=one)))
    outcomes = run_stages([stage, (step("after", "print('after')"),)], Log(tmp_path / "log"), 60)
    assert [outcome.status for outcome in outcomes] == [Status.PASSED] * 3
    log = (tmp_path / "log").read_text()
    for mine, other in ((one, two), (two, one)):
        assert f"begin of {other}" not in log[log.index(f"begin of {mine}") : log.index(f"end of {mine}")]
    assert "=== after" in log[log.rindex("end of ") :]


def test_one_that_fails_leaves_the_others_of_its_stage_alone(tmp_path: Path) -> None:
    stage = (
        step("bad", "raise SystemExit(3)"),
        Step("missing", ("/no/such/program",), 5),
        step("good", "import time; time.sleep(0.3); print('done')"),
    )
    outcomes = {outcome.name: outcome for outcome in run_stages([stage], Log(tmp_path / "log"), 60)}
    assert outcomes["bad"].note == "exit status 3; "
    assert outcomes["good"].is_sound
    assert "/no/such/program" in str(outcomes["missing"].note)


def test_a_step_out_of_time_is_interrupted_first_and_can_still_say_what_it_found(tmp_path: Path) -> None:
    code = "import time\ntry: time.sleep(30)\nexcept KeyboardInterrupt: print('3 failed, 5 passed')"
    (ended,) = run(tmp_path, step("tests", code, seconds=1))
    assert (ended.status, ended.note) == (Status.TIMED_OUT, "3 failed, 5 passed")


def test_steps_of_a_check_in_the_background_can_be_interrupted(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell leaves it for what it runs with &
    try:
        test_a_step_out_of_time_is_interrupted_first_and_can_still_say_what_it_found(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupted_check_leaves_nothing_running(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    slow = step("slow", f"import time, pathlib; time.sleep(2); pathlib.Path({str(alive)!r}).touch()")

    def interrupt(so_far: list[Ended]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stages([(step("quick", ""), slow)], Log(tmp_path / "log"), 60, interrupt)
    time.sleep(2.5)
    assert not alive.exists()


def test_a_step_beyond_its_time_is_ended_with_everything_that_it_started(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import time, pathlib; time.sleep(3); pathlib.Path({str(alive)!r}).touch()"
    code = (
        f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-S', '-c', {child!r}])"
    )
    begin = time.monotonic()
    (ended,) = run(tmp_path, step("endless", code, seconds=1))
    assert ended.status is Status.TIMED_OUT
    assert "\nbegun\n" in (tmp_path / "log").read_text()
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


def test_a_step_sees_the_repository_and_what_else_is_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/some/where")
    run(tmp_path, step("where", "import os; print(os.environ['PYTHONPATH'])"))
    assert f"\n{Path(__file__).parents[1]}:/some/where\n" in (tmp_path / "log").read_text()


def test_a_step_gets_its_environment(tmp_path: Path) -> None:
    code = "import os; print(os.environ['DEFORMWARP_CUDA_ARCHITECTURES'])"
    run(tmp_path, step("build", code, environment={"DEFORMWARP_CUDA_ARCHITECTURES": "90-real"}))
    assert "\n90-real\n" in (tmp_path / "log").read_text()


def _main(monkeypatch: pytest.MonkeyPatch, out: Path, *steps: Step, gpu: bool = True) -> int:
    monkeypatch.setattr(plan, "stages", lambda out: [(one,) for one in steps])
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


def test_a_gpu_that_cannot_be_described_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: object) -> None:
        raise RuntimeError("CUDA driver is a stub")

    monkeypatch.setattr(plan, "stages", lambda out: [(step("first", ""),), (step("second", ""),)])
    monkeypatch.setattr(plan, "no_gpu", lambda: None)
    monkeypatch.setattr(type(DEVICES["cuda"]), "describe", broken)
    assert gpu_check.main(["--out", str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "gpu-check.json").read_text())
    assert kept["note"] == "RuntimeError: CUDA driver is a stub"
    assert [one["name"] for one in kept["steps"]] == ["first", "second"]


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


def test_a_step_asked_for_alone_may_take_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = [(step("first", "raise SystemExit(3)"),), (step("second", "", seconds=0.001),)]
    monkeypatch.setattr(plan, "stages", lambda out: stages)
    monkeypatch.setattr(plan, "no_gpu", lambda: None)
    monkeypatch.setattr(gpu_check, "about", lambda: {"machine": {}})
    assert gpu_check.main(["--out", str(tmp_path), "--only", "second"]) == 0
    assert "of 570" in capsys.readouterr().out


@needs_no_gpu
def test_every_step_but_the_build_is_skipped_where_there_is_no_gpu(tmp_path: Path) -> None:
    stages = plan.stages(tmp_path)
    steps = [step for stage in stages for step in stage]
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    assert {step.name for step in steps if step.why_not() is None} == {"build"}
    outcomes = run(tmp_path, *(step for step in steps if step.name != "build"))
    assert {(outcome.status, outcome.note) for outcome in outcomes} == {(Status.SKIPPED, "no GPU")}


def test_every_step_gets_its_time_within_ten_minutes(tmp_path: Path) -> None:
    stages = plan.stages(tmp_path)
    assert sum(max(step.seconds for step in stage) for stage in stages) <= plan.SECONDS < 600


def test_what_measures_time_runs_alone(tmp_path: Path) -> None:
    together = {step.name: step.command for stage in plan.stages(tmp_path) if len(stage) > 1 for step in stage}
    assert set(together) == {*plan.TOOLS, "triton tests"}
    ports = [int(words[words.index("--port") + 1]) for name, words in together.items() if name in plan.TOOLS]
    assert all(second - first >= 10 for first, second in zip(sorted(ports), sorted(ports)[1:], strict=False))


def test_a_step_whose_modules_are_missing_names_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (posewarper,) = (step for stage in plan.stages(tmp_path) for step in stage if step.name == "posewarper")
    monkeypatch.setattr(plan, "no_gpu", lambda: None)
    monkeypatch.setattr(plan.importlib.util, "find_spec", lambda name: None)
    assert posewarper.why_not() == "missing: torchvision, timm, lightning, cv2: pip install '.[models]'"


@pytest.mark.parametrize("name", ["benchmark", "compiled peer", "posewarper", "table", "profile table"])
def test_the_steps_commands_are_ones_that_their_programs_understand(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is no GPU, each says that, or which file is missing; a wrong option would be argparse's exit."""
    (command,) = (step.command for stage in plan.stages(tmp_path) for step in stage if step.name == name)
    python, dash, module, *arguments = command
    assert (python, dash) == (sys.executable, "-m")
    main = importlib.import_module(module if hasattr(importlib.import_module(module), "main") else f"{module}.__main__")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with suppress(FileNotFoundError):  # a report of results that are not there
        assert main.main(arguments) in (1, 2)
        assert re.search(f"no GPU|{tmp_path}", "".join(capsys.readouterr()))


def _options_of(program: str, words: Sequence[str]) -> set[str]:
    before = words[: words.index(sys.executable)]
    assert before[0] == program
    return {word for word in before if word.startswith("--")}


def test_the_tools_get_options_that_their_manuals_have(tmp_path: Path) -> None:
    """Compute Sanitizer 2025.3.1 was given these and took them; ncu's are from its manual, nobody has run them."""
    steps = {step.name: step.command for stage in plan.stages(tmp_path) for step in stage}
    for tool in plan.TOOLS:
        assert _options_of("compute-sanitizer", steps[tool]) <= {
            "--tool",
            "--error-exitcode",
            "--report-api-errors",
            "--launch-timeout",
            "--kill",
            "--port",
            "--target-processes",
            "--destroy-on-device-error",
            "--print-limit",
        }
    assert _options_of("ncu", steps["profile"]) <= {
        "--profile-from-start",
        "--clock-control",
        "--section",
        "--csv",
        "--page",
        "--log-file",
    }


PROFILE = """==PROF== Connected to process 7 (/usr/bin/python3.12)
==PROF== Profiling "planar_forward" - 0: 0%....50%....100% - 38 passes
"ID","Kernel Name","gpu__time_duration.sum","sm__throughput.avg.pct_of_peak_sustained_elapsed"
"","","us","%"
"0","void planar_forward<half, 3>(Forward)","178.21","61.20"
"1","void planar_backward<half, true, 3>(Backward)","1,402.50","44.00"
"""


def test_a_profile_becomes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "profile.csv").write_text(PROFILE)
    written = tmp_path / "profile.md"
    assert profile_table.main([str(tmp_path / "profile.csv"), "--markdown", str(written)]) == 0
    heading, _, forward, backward = written.read_text().splitlines()
    assert heading.startswith("| kernel | time | DRAM |")
    assert forward.startswith("| void planar_forward<half, 3>(Forward) | 178.21 us | - |")
    assert "| 61.20 % |" in forward
    assert "| 1,402.50 us |" in backward
    assert written.read_text() == capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ncu says nothing"),
        ("==PROF== Connected\n==WARNING== No kernels were profiled.\n", "No kernels were profiled"),
        ("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission\n", "NVreg_RestrictProfilingToAdminUsers=0"),
        ('"ID","Kernel Name"\n"",""\n', "ncu says nothing"),
    ],
    ids=["empty", "no kernels", "no permission", "headings only"],
)
def test_a_profile_without_kernels_is_a_failure(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "profile.csv").write_text(text)
    assert profile_table.main([str(tmp_path / "profile.csv")]) == 1
    assert said in capsys.readouterr().err


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
    ranges = iter(range(100))
    for workload in profiled.WORKLOADS:
        profiled.run(shrunk(workload), "cpu", lambda: nullcontext(next(ranges)))
    assert next(ranges) == len(profiled.WORKLOADS) * len(profiled.CALLS)
