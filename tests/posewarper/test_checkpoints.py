"""Checkpoints of ours, of the authors and of MMPose, in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import TINY, TinyBackbone
from torch import Tensor

from posewarper_models import CheckpointError, PoseWarper, build_posewarper, load_checkpoint, save_checkpoint
from posewarper_models.checkpoints import DEMO, foreign_state

Shape = tuple[int, ...]
WIDTH = 18  # of the smallest HRNet; the keys are those of W48


def conv(name: str, out: int, into: int, kernel: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (out, into, kernel, kernel)


def norm(name: str, channels: int) -> Iterator[tuple[str, Shape]]:
    for key in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{key}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def unit(name: str, out: int, into: int, kernel: int = 3) -> Iterator[tuple[str, Shape]]:
    """Convolution and batch norm in a sequence."""
    yield from conv(f"{name}.0", out, into, kernel)
    yield from norm(f"{name}.1", out)


def basic_block(name: str, channels: int, into: int) -> Iterator[tuple[str, Shape]]:
    for index, source in ((1, into), (2, channels)):
        yield from conv(f"{name}.conv{index}", channels, source, 3)
        yield from norm(f"{name}.bn{index}", channels)
    if channels != into:
        yield from unit(f"{name}.downsample", channels, into, 1)


def hrnet(width: int) -> Iterator[tuple[str, Shape]]:
    """Keys of HRNet for poses, written down from its published configuration: stages of 1, 4 and 3 modules with 2, 3
    and 4 branches of 4 basic blocks; the last module has only the finest output."""
    for index, into in ((1, 3), (2, 64)):
        yield from conv(f"conv{index}", 64, into, 3)
        yield from norm(f"bn{index}", 64)
    for block in range(4):
        into = 64 if block == 0 else 256
        for index, (out, source, kernel) in enumerate(((64, into, 1), (64, 64, 3), (256, 64, 1)), start=1):
            yield from conv(f"layer1.{block}.conv{index}", out, source, kernel)
            yield from norm(f"layer1.{block}.bn{index}", out)
        if block == 0:
            yield from unit("layer1.0.downsample", 256, 64, 1)
    yield from unit("transition1.0", width, 256)
    yield from unit("transition1.1.0", 2 * width, 256)
    yield from unit("transition2.2.0", 4 * width, 2 * width)
    yield from unit("transition3.3.0", 8 * width, 4 * width)
    for stage, modules, branches in ((2, 1, 2), (3, 4, 3), (4, 3, 4)):
        for module in range(modules):
            name = f"stage{stage}.{module}"
            for branch in range(branches):
                for block in range(4):
                    yield from basic_block(f"{name}.branches.{branch}.{block}", width << branch, width << branch)
            for to in range(1 if (stage, module) == (4, 2) else branches):
                for source in range(branches):
                    yield from fusion(f"{name}.fuse_layers.{to}.{source}", width, to, source)


def fusion(name: str, width: int, to: int, source: int) -> Iterator[tuple[str, Shape]]:
    if source > to:
        yield from unit(name, width << to, width << source, 1)
    for step in range(to - source):
        last = step == to - source - 1
        yield from unit(f"{name}.{step}", width << (to if last else source), width << source)


def head(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (17, width, 1, 1)
    yield f"{name}.bias", (17,)


def warping(features: str, offsets: list[str], deforms: list[str]) -> Iterator[tuple[str, Shape]]:
    for block in range(20):
        yield from basic_block(f"{features}.{block}", 128, 17 if block == 0 else 128)
    for name in offsets:
        yield f"{name}.weight", (306, 128, 3, 3)
    for name in deforms:
        yield f"{name}.weight", (17, 17, 3, 3)


def authors(width: int, stage: int) -> dict[str, Shape]:
    keys = dict(hrnet(width)) | dict(head("final_layer", width))
    if stage == 2:
        numbers = range(1, 6)
        keys |= dict(warping("offset_feats", [f"offsets{d}" for d in numbers], [f"deform_conv{d}" for d in numbers]))
    return keys


def mmpose(width: int, stage: int) -> dict[str, Shape]:
    keys = {f"backbone.{key}": shape for key, shape in hrnet(width)}
    if stage == 1:
        return keys | dict(head("keypoint_head.final_layer", width))
    names = [[f"neck.{part}.{d}" for d in range(5)] for part in ("offset_layers", "deform_conv_layers")]
    return keys | dict(head("neck.trans_layer", width)) | dict(warping("neck.offset_feats", *names))


FOREIGN = {"authors": authors, "mmpose": mmpose}
every_kind = pytest.mark.parametrize("kind", FOREIGN)
every_stage = pytest.mark.parametrize("stage", [1, 2])


def random_state(shapes: dict[str, Shape]) -> dict[str, Tensor]:
    return {key: torch.rand(shape) if shape else torch.tensor(7) for key, shape in shapes.items()}


@every_kind
@every_stage
def test_every_key_of_w48_has_its_place(kind: str, stage: int) -> None:
    with torch.device("meta"):
        model = build_posewarper("hrnet_w48")
    state = foreign_state(model, kind, warping=stage == 2)
    assert {key: tuple(value.shape) for key, value in state.items()} == FOREIGN[kind](48, stage)


@every_kind
@every_stage
def test_foreign_checkpoints_load_whole(kind: str, stage: int, tmp_path: Path) -> None:
    state = random_state(FOREIGN[kind](WIDTH, stage))
    torch.save({"state_dict": state, "epoch": 20}, tmp_path / "theirs.pth")
    model, report = load_checkpoint(tmp_path / "theirs.pth")
    assert report.complete, str(report)
    assert (report.kind, report.warping) == (kind, stage == 2)
    assert model.architecture["backbone"] == f"hrnet_w{WIDTH}"
    back = foreign_state(model, kind, warping=stage == 2)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_keys_go_where_they_mean(tmp_path: Path) -> None:
    state = random_state(authors(WIDTH, 2))
    torch.save(state, tmp_path / "final_state.pth")
    model, _ = load_checkpoint(tmp_path / "final_state.pth")
    assert torch.equal(model.warping.warp.weight[3], state["deform_conv4.weight"])
    assert torch.equal(model.warping.offset_convs[0].weight, state["offsets1.weight"])
    assert model.warping.offset_convs[4].dilation == (24, 24)
    assert torch.equal(model.backbone.final_layer.bias, state["final_layer.bias"])
    assert model.warping.trained
    assert model.warping.warp.scale == pytest.approx(1 / 5), "what the authors' weights were trained with"


def test_stage_1_leaves_the_warp_at_the_identity(tmp_path: Path) -> None:
    torch.save(random_state(authors(WIDTH, 1)), tmp_path / "stage1.pth")
    model, report = load_checkpoint(tmp_path / "stage1.pth")
    assert "starts as the identity" in str(report)
    assert not model.warping.trained


def test_names_of_data_parallel_are_understood(tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in random_state(authors(WIDTH, 1)).items()}
    torch.save(state, tmp_path / "parallel.pth")
    assert load_checkpoint(tmp_path / "parallel.pth")[1].complete


def test_what_is_left_over_is_named(tmp_path: Path) -> None:
    torch.save(random_state(authors(WIDTH, 1)) | {"extra.weight": torch.zeros(2)}, tmp_path / "odd.pth")
    _, report = load_checkpoint(tmp_path / "odd.pth")
    assert not report.complete
    assert report.unexpected == ("extra.weight",)
    assert "extra.weight" in str(report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage2.0.branches.0.0.bn1.bias": None}, "missing: stage2.0.branches.0.0.bn1.bias$"),
        ({"final_layer.weight": None, "final_layer.bias": None}, "missing: final_layer.weight, final_layer.bias$"),
        (
            {f"offsets{d}.weight": None for d in (1, 2, 3, 4, 5)},
            r"missing: offsets1.weight, .*offsets3.weight, \.\.\.$",
        ),
        (
            {"deform_conv2.weight": torch.zeros(17, 17, 5, 5)},
            r"deform_conv2.weight: \[17, 17, 5, 5\], should be \[17, 17, 3",
        ),
    ],
    ids=["one", "head", "part of the warp", "shape"],
)
def test_incomplete_checkpoints_are_refused(change: dict[str, Tensor | None], message: str, tmp_path: Path) -> None:
    state = random_state(authors(WIDTH, 2)) | change
    torch.save({key: value for key, value in state.items() if value is not None}, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "part.pth")


def test_an_incomplete_checkpoint_of_ours_is_refused(tmp_path: Path) -> None:
    content = torch.load(DEMO, weights_only=True)
    del content["state_dict"]["backbone.final_layer.weight"]
    torch.save(content, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match=r"part\.pt: .*missing: backbone.final_layer.weight$"):
        load_checkpoint(tmp_path / "part.pt")


def test_old_checkpoints_without_batch_counts_are_complete(tmp_path: Path) -> None:
    state = {k: v for k, v in random_state(authors(WIDTH, 1)).items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    assert load_checkpoint(tmp_path / "old.pth")[1].complete


def test_ours_come_back_whole(tmp_path: Path) -> None:
    settings = {"width": 16, "channels": [8, 8, 16, 16]}
    model = build_posewarper("resnet10t", **TINY, num_joints=5, scale=1.0, backbone_settings=settings).eval()
    save_checkpoint(model, tmp_path / "ours.pt")
    again, report = load_checkpoint(tmp_path / "ours.pt")
    assert report.complete
    assert report.kind == "posewarper"
    frames = torch.rand(2, 1, 3, 64, 64)
    assert torch.equal(again(*frames), model(*frames))


def test_half_precision_files_give_float32_models(tmp_path: Path, tiny: PoseWarper) -> None:
    save_checkpoint(tiny, tmp_path / "half.pt", dtype=torch.float16)
    again, _ = load_checkpoint(tmp_path / "half.pt", backbone=TinyBackbone())
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    torch.testing.assert_close(again.warping.warp.weight, tiny.warping.warp.weight, rtol=1e-3, atol=1e-3)


def test_a_backbone_of_ones_own_is_asked_for(tmp_path: Path, tiny: PoseWarper) -> None:
    save_checkpoint(tiny, tmp_path / "own.pt")
    with pytest.raises(CheckpointError, match="passed as `backbone`"):
        load_checkpoint(tmp_path / "own.pt")
    again, report = load_checkpoint(tmp_path / "own.pt", backbone=TinyBackbone())
    assert report.complete
    assert torch.equal(again.warping.warp.weight, tiny.warping.warp.weight)


def test_nothing_is_overwritten(tmp_path: Path, tiny: PoseWarper) -> None:
    (tmp_path / "there.pt").write_text("precious")
    with pytest.raises(CheckpointError, match="exists already"):
        save_checkpoint(tiny, tmp_path / "there.pt")
    assert (tmp_path / "there.pt").read_text() == "precious"


class Malicious:
    def __reduce__(self) -> tuple:
        return print, ("executed",)


def test_nothing_in_a_file_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Malicious()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth: cannot be read as weights"):
        load_checkpoint(tmp_path / "evil.pth")
    assert "executed" not in capsys.readouterr().out


def test_truncated_files_are_refused(tmp_path: Path, tiny: PoseWarper) -> None:
    save_checkpoint(tiny, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    for share in (0.0, 0.3, 0.99):
        (tmp_path / "cut.pt").write_bytes(content[: int(share * len(content))])
        with pytest.raises(CheckpointError, match=r"cut\.pt: cannot be read as weights"):
            load_checkpoint(tmp_path / "cut.pt", backbone=TinyBackbone())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"layer.weight": torch.zeros(2)}, "neither a checkpoint of ours nor of a PoseWarper .* layer.weight"),
        ({"state_dict": {}}, "holds no tensors"),
        ({"state_dict": 3}, "state_dict: is int"),
        ([torch.zeros(2)], "holds list"),
        ({"architecture": {"backbone": "resnet10t", "joints": 3}, "state_dict": {"a": torch.zeros(1)}}, "architecture"),
    ],
    ids=["foreign", "empty", "no state", "list", "architecture"],
)
def test_foreign_files_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "foreign.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.pth: no such file"):
        load_checkpoint(tmp_path / "nothing.pth")
