"""The demo, in tiny: the same numbers, a lower error, its files and nobody else's."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks.demo import __main__ as demo
from benchmarks.demo import drop_in, photograph, propagation
from benchmarks.timing import Plan
from benchmarks.workloads import MODES, shrunk
from deformwarp import FusedDeformWarp
from posewarper_models import load_checkpoint
from posewarper_models.colour_wheel import coloured
from posewarper_models.data.synthetic import SceneSettings, synthesise
from posewarper_models.evaluate import without_given
from posewarper_models.video import open_frames

TINY = photograph.Settings(height=32, width=40, steps=60)
FEW_FRAMES = replace(
    propagation.Settings(), clips=1, scene=SceneSettings(frames=7, stride=2, people_min=1, people_max=1)
)
ONE_TURN = Plan(0.01, 2, 2)


def console() -> Console:
    return Console(record=True, width=200, file=io.StringIO())


def test_the_heads_give_the_same_numbers() -> None:
    differences, report = drop_in.compare((13, 11))
    assert all(one.same for one in differences), differences
    assert {"output", "gradient of A", "gradient of B", "gradient of the warp's weight"} <= {
        one.name for one in differences
    }
    assert len(report.fused[0].convs) == 5


def test_costs_are_shown_side_by_side() -> None:
    screen = console()
    assert drop_in.run(screen, [shrunk(drop_in.SHAPES[0])], ONE_TURN, memory=False)
    text = screen.export_text()
    assert "class FiveCalls" in text
    assert "class OneLayer" in text
    assert "times as fast" in text
    assert "forward + backward" in text


def test_no_time_is_shown_when_heads_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = drop_in.Difference("output", 1.0, 0.5)
    monkeypatch.setattr(drop_in, "compare", lambda: ([wrong], drop_in.FusionReport()))
    screen = console()
    assert not drop_in.run(screen)
    text = screen.export_text()
    assert "DIFFERENT" in text
    assert "no times are shown" in text
    assert "times as fast" not in text


def test_no_time_is_shown_when_the_measured_calls_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = drop_in.PEERS["deformwarp"]
    doubled = replace(honest, make=lambda workload: lambda inputs: 2 * honest.make(workload)(inputs))
    monkeypatch.setitem(drop_in.PEERS, "deformwarp", doubled)
    cost = drop_in.measure(shrunk(drop_in.SHAPES[0]), MODES["forward"], ONE_TURN, memory=False)
    assert cost.wrong is not None
    assert cost.seconds == {}
    screen = console()
    screen.print(drop_in.cost_table([cost]))
    assert "no time: output differs" in screen.export_text()


def test_the_motion_is_where_b_shows_a() -> None:
    pair = photograph.make_pair(photograph.Settings(height=48, width=64))
    back = photograph.sampled(pair.b, photograph.pixels(48, 64) + pair.motion)
    before, after = (photograph.rmse(image, pair.a, pair.visible) for image in (pair.b, back))
    assert after < before / 4
    assert 0.5 < pair.visible.float().mean() < 1
    assert pair.motion.norm(dim=0).max() > 2


def test_a_new_aligner_moves_nothing() -> None:
    model, image = photograph.Aligner(), torch.rand(1, 3, 32, 40)
    offsets = model.offsets(image, image)
    torch.testing.assert_close(model(image, offsets), image)
    assert not model.displacement(offsets).any()
    assert isinstance(model.warp, FusedDeformWarp)


def test_the_displacement_is_the_mean_over_taps() -> None:
    model = photograph.Aligner()
    offsets = [torch.zeros(1, 18, 4, 5) for _ in photograph.DILATIONS]
    for offset in offsets:
        offset[:, 8::18], offset[:, 9::18] = 2.0, -1.0  # the centre tap, the only one with weight
    displacement = model.displacement(offsets)
    torch.testing.assert_close(displacement[0], torch.full((4, 5), 2.0))
    torch.testing.assert_close(displacement[1], torch.full((4, 5), -1.0))


def test_it_learns_and_draws(tmp_path: Path) -> None:
    screen, path = console(), tmp_path / "photograph.png"
    outcome = demo.run_photograph(screen, TINY, path)
    assert outcome.rmse_after < 0.6 * outcome.rmse_before
    assert path.read_bytes().startswith(b"\x89PNG")
    text = screen.export_text()
    assert "RMSE" in text
    assert "times lower" in text


def test_poses_are_propagated_and_drawn(tmp_path: Path) -> None:
    screen, video, panel = console(), tmp_path / "video.gif", tmp_path / "panel.png"
    results = propagation.run(screen, FEW_FRAMES, video, panel)
    text = screen.export_text()
    assert {"PoseWarper", "Farnebäck flow, direct", "Farnebäck flow, chained"} <= set(results)
    assert all(name[:20] in text for name in results)
    assert f"{results['PoseWarper'].mean_ap:.1f}" in text
    assert len(open_frames(video)) == 7
    assert panel.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_demos_model_has_learnt_something() -> None:
    """On clips that it has not seen it beats copied labels, and its own network on single frames."""
    settings = replace(propagation.Settings(), clips=3, scene=SceneSettings(frames=7, stride=2))
    model, _ = load_checkpoint(settings.model)
    clips = propagation.make_clips(settings)
    given = [clip.labels.every(settings.every, start=settings.first) for clip in clips]
    results, _ = propagation.compare(settings, model, clips, given)
    for other in ("labels copied", propagation.PER_FRAME):
        assert results["PoseWarper"].pck > results[other].pck + 5


def test_scores_are_of_joints_that_were_not_given() -> None:
    clip = synthesise(FEW_FRAMES.scene, 0)
    perfect = [clip.labels]
    given = [clip.labels.every(7, start=3)]
    copied = list(clip.labels.frames)
    for index in range(7):
        copied[index] = replace(copied[index], people=copied[3].people)
    moved = [replace(clip.labels, frames=tuple(copied))]
    truth = without_given(perfect, given)
    scores = propagation.scores(truth, {"perfect": perfect, "copied": moved}, {"perfect": 1.0, "copied": 0.0})
    assert scores["perfect"].pck == scores["perfect"].mean_ap == 100
    assert scores["perfect"].mean_error == 0
    assert scores["copied"].mean_error > 0


def test_learning_is_repeatable() -> None:
    settings = replace(TINY, steps=3)
    pair = photograph.make_pair(settings)
    one, other = photograph.learn(pair, settings), photograph.learn(pair, settings)
    assert one.rmse_after == pytest.approx(other.rmse_after, rel=1e-5)


def test_colours() -> None:
    displacement = np.array([[[0.0, 0.0, 3.0]], [[0.0, 3.0, 0.0]]])
    white, right, down = coloured(displacement, longest=3.0)[0]
    assert white.tolist() == [1, 1, 1]
    assert right.tolist() == [1, 0, 0]
    assert down.tolist() == pytest.approx([0.5, 1, 0])


def run_main(monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    monkeypatch.setattr(drop_in, "run", lambda console, say: True)
    monkeypatch.setattr(photograph, "Settings", lambda: replace(TINY, steps=1))
    monkeypatch.setattr(propagation, "Settings", lambda: FEW_FRAMES)
    return demo.main(["--out", str(folder)])


def test_it_writes_its_files_and_may_write_them_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "demo"
    for _ in range(2):
        assert run_main(monkeypatch, folder) == 0
        assert sorted(path.name for path in folder.iterdir()) == sorted(demo.OUTPUTS)


def test_it_refuses_a_folder_with_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert run_main(monkeypatch, tmp_path) == 2
    assert "holds other files (thesis.tex); name a new or an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_it_refuses_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    assert demo.main(["--out", str(path)]) == 2
    assert "is a file, but should be a folder" in capsys.readouterr().err
