"""The benchmark itself: its peers are right, its gate rejects wrong ones, its results survive."""

from __future__ import annotations

import dataclasses
import functools
import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

pytest.importorskip("torchvision")

from benchmarks import head, machine, memory, peers, plot, report, run
from benchmarks.calls import call, prepared
from benchmarks.device import DEVICES, Cpu
from benchmarks.gate import Gate, WrongResultError, checked_samples
from benchmarks.peers import PEERS, Peer, Warp, peers_on
from benchmarks.results import Measurement, ModeResult, Results, WorkloadResult, load, rows, save
from benchmarks.run import Settings
from benchmarks.targets import TARGETS
from benchmarks.timing import Plan, interleaved
from benchmarks.workloads import GPU_WORKLOADS, MODES, WORKLOADS, Inputs, Workload, make_inputs, shrunk

EAGER = [name for name in peers_on("cpu") if not PEERS[name].compiled]
WITH_FORWARD = [mode for mode in MODES.values() if mode.forward]  # the others call the same
TINY = shrunk(WORKLOADS["posewarper-384x288-n1"])
SETTINGS = Settings(1, Plan(0.0, 2, 2), peers=("torchvision", "grid_sample", "deformwarp"), memory=False)
README = "# title\n\n" + "".join(f"{begin}\n{end}\n\n" for begin, end in report.MARKERS.values()) + "tail\n"


@pytest.fixture(autouse=True)
def _small_and_unchanged(monkeypatch: pytest.MonkeyPatch) -> object:
    bandwidth = {"copy": 1e10, "read": 1e10}
    monkeypatch.setattr(machine, "measure_bandwidth", lambda: bandwidth)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _results(own: float = 0.001, complete: bool = True) -> Results:
    lines = [
        Measurement("torchvision", "torchvision", 0.1, 0.09, 0.11, 5, 1e-7, 20 << 20),
        Measurement("grid_sample", "grid_sample", 0.02, 0.02, 0.02, 5, 1e-6, None),
        Measurement("grid_sample_compiled", "grid_sample, compiled", note="wrong result: output"),
        Measurement("deformwarp", "deformwarp", own, own, own, 9, 1e-7, 1 << 20),
    ]
    mode = ModeResult("forward", TINY.bytes_moved(MODES["forward"]), lines)
    where = {"cpu": "Some CPU", "cores": 2, "memory_bytes": 1 << 34, "isa": "avx2"}
    commit = {"hash": "0123456789abcdef", "dirty": False}
    one = WorkloadResult(TINY, {"copy": 2e10, "read": 1.5e10}, [mode])
    return Results(where, {"python": "3.12", "torch": "2.15"}, commit, 2, {}, [one], complete)


@pytest.mark.parametrize("name", WORKLOADS)
def test_peers_agree_with_the_reference(name: str) -> None:
    workload = shrunk(WORKLOADS[name])
    inputs = make_inputs(workload, seed=1)
    gate = Gate(workload, inputs)
    for peer in map(PEERS.__getitem__, EAGER):
        if peer.can_run(workload) is not None:
            continue
        if workload.dtype == "float16" and peer.name == "torchvision":
            continue  # its positions are in half precision: whether that shows depends on the image's size
        warp = peer.make(workload)
        for mode in WITH_FORWARD:
            gate.check(peer, warp, inputs, mode)


def test_the_compiled_peer_agrees_with_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "COMPILER", "aot_eager")  # inductor takes a minute; every run passes it through the gate
    peer, inputs = PEERS["grid_sample_compiled"], make_inputs(TINY)
    gate = Gate(TINY, inputs)
    for mode in WITH_FORWARD:
        gate.check(peer, peer.make(TINY), inputs, mode)


def _wrong(change: str) -> Peer:
    def make(workload: Workload) -> Warp:
        right = PEERS["deformwarp"].make(workload)

        def warp(inputs: Inputs) -> Tensor:
            output = right(inputs)
            if change == "one pixel":
                output = output.clone()
                output[0, 0, 0, 0] += 0.1
            return output * 1.001 if change == "factor" else output

        return warp

    return Peer("wrong", "wrong", make)


@pytest.mark.parametrize("change", ["one pixel", "factor"])
def test_the_gate_rejects_a_wrong_output(change: str) -> None:
    inputs = make_inputs(TINY)
    with pytest.raises(WrongResultError, match="output: relative error"):
        Gate(TINY, inputs).check(_wrong(change), _wrong(change).make(TINY), inputs, MODES["forward"])


def test_the_gate_rejects_a_wrong_gradient_and_unwritten_memory() -> None:
    class _WrongGradient(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, weight: Tensor) -> Tensor:
            return weight.clone()

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:
            return 1.01 * grad

    def wrong_gradient(inputs: Inputs) -> Tensor:
        return PEERS["deformwarp"].make(TINY)(dataclasses.replace(inputs, weight=_WrongGradient.apply(inputs.weight)))

    def unwritten(inputs: Inputs) -> Tensor:
        return torch.empty(TINY.shapes["output"])

    inputs = make_inputs(TINY)
    gate = Gate(TINY, inputs)
    with pytest.raises(WrongResultError, match="gradient by weight"):
        gate.check(Peer("wrong", "", lambda w: wrong_gradient), wrong_gradient, inputs, MODES["backward"])
    with pytest.raises(WrongResultError, match="output: relative error nan"):
        gate.check(Peer("empty", "", lambda w: unwritten), unwritten, inputs, MODES["forward"])


def test_a_large_batch_is_checked_on_some_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = dataclasses.replace(TINY, samples=5)
    monkeypatch.setattr("benchmarks.gate.LARGEST_REFERENCE", 3 * 5 * 17 * 9 * 9 * 8)
    assert checked_samples(workload) == [0, 1, 4]
    inputs = make_inputs(workload)
    gate = Gate(workload, inputs)
    for name in EAGER:
        gate.check(PEERS[name], PEERS[name].make(workload), inputs, MODES["backward"])


def test_a_wrong_peer_gets_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "torchvision", dataclasses.replace(_wrong("factor"), name="torchvision"))
    said: list[str] = []
    result = run.measure_workload(TINY, dataclasses.replace(SETTINGS, modes=("forward",)), said.append)
    line = result.modes[0].measurements[0]
    assert (line.seconds, line.turns) == (None, 0)
    assert line.note is not None
    assert line.note.startswith("wrong result: output")
    assert "no time for wrong: wrong result" in said[0]
    assert all(other.seconds is not None for other in result.modes[0].measurements[1:])


@pytest.mark.parametrize("name", WORKLOADS)
def test_inputs_are_fresh_nonzero_and_between_integers(name: str) -> None:
    workload = shrunk(WORKLOADS[name])
    inputs, again, other = make_inputs(workload, 1), make_inputs(workload, 1), make_inputs(workload, 2)
    for offset, same, different in zip(inputs.offsets, again.offsets, other.offsets, strict=True):
        assert tuple(offset.shape) == workload.shapes["offsets"]
        assert torch.equal(offset, same)
        assert not torch.equal(offset, different)
        assert (offset != offset.round()).all()
    assert tuple(PEERS["deformwarp"].make(workload)(inputs).shape) == workload.shapes["output"]


def test_bytes_count_every_tensor_once_a_call() -> None:
    workload = dataclasses.replace(TINY, samples=1, height=4, width=3, bias=True, masked=True)
    image, offsets, masks, weight, bias, output = 17 * 12, 5 * 306 * 12, 5 * 153 * 12, 5 * 17 * 17 * 9, 17, 17 * 12
    inputs = image + offsets + masks + weight
    forward, backward = inputs + bias + output, inputs + output + inputs + bias
    assert workload.bytes_moved(MODES["forward"]) == 4 * forward
    assert workload.bytes_moved(MODES["backward"]) == 4 * (forward + backward)
    assert workload.bytes_moved(MODES["frozen"]) == 4 * (forward + backward - image)
    assert workload.bytes_moved(MODES["backward_alone"]) == 4 * backward
    assert workload.bytes_moved(MODES["backward_alone_frozen"]) == 4 * (backward - image)


def test_runs_take_turns() -> None:
    order: list[str] = []
    timings = interleaved({name: lambda name=name: order.append(name) for name in "ab"}, Plan(0.0, 3, 3))
    assert "".join(order) == "ab" * 4  # one to warm up
    assert timings["a"].turns == 3


@pytest.mark.parametrize("name", PEERS)
def test_a_backward_alone_runs_again_and_again_with_the_gradients_of_the_whole(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "COMPILER", "aot_eager")
    peer, inputs, mode = PEERS[name], make_inputs(TINY), MODES["backward_alone"]
    if peer.can_run(TINY) is not None:
        pytest.skip(str(peer.can_run(TINY)))
    warp = peer.make(TINY)
    alone = prepared(peer, warp, inputs.for_mode(mode), mode)
    whole = call(peer, warp, inputs.for_mode(mode), mode)
    for _ in range(2):
        outcome = alone()
        assert outcome.gradients.keys() == whole.gradients.keys()
        for gradient, expected in zip(outcome.gradients.values(), whole.gradients.values(), strict=True):
            torch.testing.assert_close(gradient, expected)


class _Stopped(Cpu):
    """Every call takes a quarter of a second by its clock, and it knows another bandwidth."""

    def seconds_of(self, run: object) -> float:
        run()  # type: ignore[operator]
        return 0.25

    def bandwidth(self) -> dict[str, float]:
        return {"copy": 1.0, "read": 2.0}

    def extra_memory(self, *args: object) -> int:
        return 7


def test_clock_bandwidth_and_memory_are_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEVICES, "cpu", _Stopped())
    result = run.measure_workload(TINY, dataclasses.replace(SETTINGS, memory=True, modes=("forward",)))
    assert result.bandwidth == {"copy": 1.0, "read": 2.0}
    assert {(line.seconds, line.memory_bytes) for line in result.modes[0].measurements} == {(0.25, 7)}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["--device", "cuda", "--out", str(tmp_path)]) == 2
    assert "torch sees no GPU" in capsys.readouterr().out


@pytest.mark.parametrize("name", GPU_WORKLOADS)
def test_workloads_of_the_gpu_are_what_their_names_say(name: str) -> None:
    workload = GPU_WORKLOADS[name]
    assert workload.name == name
    assert name.endswith(workload.dtype) or workload.group == "single"
    assert set(workload.modes) <= set(MODES)
    inputs = make_inputs(shrunk(workload), seed=1)
    assert {tensor.dtype for tensor in inputs.named().values()} == {workload.torch_dtype}
    assert all((offset == 0).all() == (workload.offsets == "zero") for offset in inputs.offsets)


def test_a_run_out_of_time_begins_no_workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, tmp_path, "--seconds", "-1", "--file", "named") == 1
    assert not list(tmp_path.iterdir())


def test_a_gpus_results_name_gpu_and_driver_and_only_the_peers_that_ran() -> None:
    results = _results()
    results.machine |= {"gpu": {"name": "Some GPU", "architecture": "sm_90", "driver": "580.1", "cuda": "13.0"}}
    text = report.markdown(results, "r.json")
    assert "Some GPU (sm_90), driver 580.1, CUDA 13.0, on Some CPU" in text
    assert "deformwarp (AVX2)" not in text


def test_memory_is_measured_in_a_fresh_process() -> None:
    workload = dataclasses.replace(WORKLOADS["posewarper-384x288-n1"], height=48, width=36)
    columns = workload.channels * workload.taps * 48 * 36 * 4
    extra = memory.extra_memory(workload, PEERS["torchvision"], MODES["forward"], 1)
    if extra is None:
        pytest.skip("not measurable here")
    assert columns <= extra < 6 * columns


def test_results_round_trip(tmp_path: Path) -> None:
    save(_results(), tmp_path / "new" / "r.json")
    assert load(tmp_path / "new" / "r.json") == _results()
    header, *lines = (tmp_path / "new" / "r.csv").read_text().splitlines()
    assert header.startswith("group,workload,mode,peer,label,milliseconds,over_torchvision,over_grid_sample")
    assert len(lines) == 4
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["r.csv", "r.json"]


def test_an_old_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="schema is 0"):
        load(tmp_path / "r.json")


def test_rows_have_ratios_and_shares() -> None:
    own = list(rows(_results()))[-1]
    assert own.over_torchvision == pytest.approx(100)
    assert own.over_grid_sample == pytest.approx(20)
    assert own.share_of_copy == pytest.approx(TINY.bytes_moved(MODES["forward"]) / 0.001 / 2e10)
    assert (own.memory_mib, own.slower) == (1, False)


def test_a_lost_workload_is_marked() -> None:
    text = report.markdown(_results(own=0.05), "r.json")
    assert "50.0 (slower)" in text
    assert f"Slower than the fastest peer: {TINY.name} (forward): deformwarp." in text
    assert "No time: grid_sample, compiled: wrong result: output" in text
    assert "nowhere in this run" in report.markdown(_results(), "r.json")


def test_an_interrupted_run_says_so() -> None:
    assert "interrupted" in report.markdown(_results(complete=False), "r.json")


@pytest.mark.parametrize("device", report.MARKERS)
def test_a_section_of_the_readme_is_rewritten_and_checked(
    device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = {"name": "Some GPU", "architecture": "sm_90", "driver": "580", "cuda": "13.0"}

    def measured(own: float = 0.001) -> Results:
        found = _results(own)
        return found if device == "cpu" else dataclasses.replace(found, machine=found.machine | {"gpu": gpu})

    results, readme = tmp_path / "results" / "r.json", tmp_path / "README.md"
    save(measured(), results)
    readme.write_text(README)
    arguments = [str(results), "--readme", str(readme)]
    assert report.main([*arguments, "--check"]) == 1
    assert "is not what" in capsys.readouterr().err
    assert readme.read_text() == README
    assert report.main(arguments) == 0
    begin, end = report.MARKERS[device]
    before, _, after = README.partition(f"{begin}\n{end}")
    text = readme.read_text()
    assert text.startswith(f"{before}{begin}\n\nGenerated from `results/r.json`")
    assert text.endswith(f"{end}{after}")
    assert report.main([*arguments, "--check"]) == 0
    save(measured(own=0.002), results)
    assert report.main([*arguments, "--check"]) == 1


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="no section between"):
        report.with_section("# title\n", "section", "gpu")


def test_the_terminal_has_the_table_and_every_peer() -> None:
    for every in (False, True):
        console = Console(file=io.StringIO(), width=300)
        report.show(_results(), console, every)
        assert isinstance(console.file, io.StringIO)
        assert TINY.name in console.file.getvalue()


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    plot.draw(_results(), tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 10_000


def _run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    for name in ("posewarper-384x288-n1", "resnet-dcn-64-56"):
        monkeypatch.setitem(WORKLOADS, name, dataclasses.replace(shrunk(WORKLOADS[name]), modes=("forward",)))
    monkeypatch.setattr(DEVICES["cpu"], "quick_plan", Plan(0.0, 2, 2))
    peer_names = ("--peer", "torchvision", "--peer", "deformwarp", "--no-memory", "--quick", "--threads", "1")
    names = ("--workload", "posewarper-384x288-n1", "--workload", "resnet-dcn-64-56")
    return run.main([*names, *peer_names, "--out", str(folder), *arguments])


def test_a_run_writes_results_and_refuses_to_overwrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, tmp_path) == 0
    (path,) = tmp_path.glob("cpu-*-1-thread.json")
    results = load(path)
    assert results.complete
    assert [entry.workload.name for entry in results.workloads] == ["posewarper-384x288-n1", "resnet-dcn-64-56"]
    assert results.machine["cpu"]
    assert results.versions["torch"] == torch.__version__
    before = path.read_bytes()
    assert _run(monkeypatch, tmp_path) == 2
    assert "--force" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert _run(monkeypatch, tmp_path, "--force") == 0
    assert path.read_bytes() != before


def test_an_interrupted_run_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = run.measure_workload

    def interrupted(workload: Workload, *rest: object) -> WorkloadResult:
        if workload.name == "resnet-dcn-64-56":
            raise KeyboardInterrupt
        return measure(workload, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "measure_workload", interrupted)
    assert _run(monkeypatch, tmp_path) == 130
    (path,) = tmp_path.glob("*.json")
    results = load(path)
    assert not results.complete
    assert [entry.workload.name for entry in results.workloads] == ["posewarper-384x288-n1"]


def test_an_unknown_workload_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--workload", "nonsense", "--out", str(tmp_path)]) == 2
    assert "'nonsense'" in capsys.readouterr().out


def test_targets_name_what_exists() -> None:
    for target in TARGETS:
        assert target.mode in WORKLOADS[target.workload].modes
        assert {target.peer, *target.over} <= set(PEERS)


@pytest.fixture
def small_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "make_inputs", functools.partial(head.make_inputs, height=12, width=10))
    monkeypatch.setattr(head, "_memory", lambda memory, samples, threads: {"normal": 100, "low": 25}[memory])


@pytest.mark.usefixtures("small_head")
def test_the_head_is_timed_and_weighed_in_both_modes() -> None:
    run = head.measure(1, 1, Plan(0.0, 2, 2))
    assert run["memory_ratio"] == 0.25
    assert run["time_ratio"] == run["seconds"]["low"]["median"] / run["seconds"]["normal"]["median"]


@pytest.mark.usefixtures("small_head")
def test_a_head_with_other_numbers_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = head.WarpHead._branch
    monkeypatch.setattr(head.WarpHead, "_branch", lambda self, *args: 1.001 * right(self, *args))
    with pytest.raises(RuntimeError, match="low memory differs by"):
        head.measure(1, 1, Plan(0.0, 2, 2))
