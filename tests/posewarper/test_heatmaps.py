"""Joints to heatmaps and back."""

from __future__ import annotations

import pytest
import torch

from posewarper_models.heatmaps import blurred, decode, encode

SIZE = (24, 18)


def drawn(x: float, y: float, sigma: float = 1.5) -> torch.Tensor:
    return encode(torch.tensor([[x, y]], dtype=torch.float64), torch.ones(1), SIZE, sigma)


@pytest.mark.parametrize(("x", "y"), [(9.0, 12.0), (8.3, 12.6), (0.0, 0.0), (17.0, 23.0)])
def test_heatmap_is_the_gaussian_of_its_definition(x: float, y: float) -> None:
    heatmap = drawn(x, y)[0]
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            inside = abs(column - x) <= 4.5 and abs(row - y) <= 4.5
            distance = torch.tensor((column - x) ** 2 + (row - y) ** 2, dtype=torch.float64)
            expected = torch.exp(-distance / (2 * 1.5**2)) if inside else torch.zeros(())
            assert heatmap[row, column].item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "visible"),
    [(9, 12, 0), (float("nan"), 12, 1), (float("inf"), 12, 1), (-40, 12, 1), (9, 300, 1)],
    ids=["invisible", "nan", "infinite", "far left", "far below"],
)
def test_joints_that_cannot_be_drawn_are_empty(x: float, y: float, visible: int) -> None:
    heatmap = encode(torch.tensor([[x, y]]), torch.tensor([visible]), SIZE, 1.5)
    assert torch.equal(heatmap, torch.zeros(1, *SIZE))


def test_leading_dimensions_are_kept() -> None:
    heatmaps = encode(torch.rand(2, 3, 5, 2) * 10, torch.ones(2, 3, 5), SIZE, 1.0)
    assert heatmaps.shape == (2, 3, 5, *SIZE)
    assert decode(heatmaps).shape == (2, 3, 5, 3)


@pytest.mark.parametrize(("x", "y"), [(9.0, 12.0), (8.3, 12.6), (8.49, 3.51), (1.2, 22.4)])
def test_parabola_gives_the_position_back(x: float, y: float) -> None:
    found = decode(drawn(x, y), refinement="parabola")[0, :2].tolist()
    assert found == pytest.approx([x, y], abs=1e-6)


@pytest.mark.parametrize(("x", "expected"), [(9.0, 9.0), (9.2, 9.25), (8.9, 8.75), (9.49, 9.25)])
def test_quarter_moves_towards_the_higher_neighbour(x: float, expected: float) -> None:
    assert decode(drawn(x, 12.0))[0, 0].item() == expected


@pytest.mark.parametrize("refinement", ["quarter", "parabola"])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (23, 17), (0, 9), (23, 9), (12, 0), (12, 17)])
def test_no_refinement_across_the_border(refinement: str, row: int, column: int) -> None:
    heatmap = torch.zeros(1, *SIZE)
    heatmap[0, row, column] = 0.7
    x, y, score = decode(heatmap, refinement=refinement)[0].tolist()
    assert (x, y) == (column, row)
    assert score == pytest.approx(0.7)


@pytest.mark.parametrize("refinement", ["quarter", "parabola"])
@pytest.mark.parametrize("value", [0.0, -1.0, 3.0])
def test_flat_heatmap_gives_a_finite_position(refinement: str, value: float) -> None:
    assert decode(torch.full((1, *SIZE), value), refinement=refinement).isfinite().all()


def test_blur_joins_a_split_peak() -> None:
    heatmap = torch.zeros(1, *SIZE)
    heatmap[0, 12, 5], heatmap[0, 12, 7] = 1.0, 0.99
    assert decode(heatmap)[0, 0].item() == 5
    x, _, score = decode(heatmap, blur=1.5)[0].tolist()
    assert 5.5 <= x <= 6.5
    assert score == pytest.approx(0.0), "the score is that of the heatmap before the blur, at the position found"


def test_blur_keeps_the_sum_of_what_is_far_from_the_border() -> None:
    assert blurred(drawn(9.0, 12.0), 1.0).sum().item() == pytest.approx(drawn(9.0, 12.0).sum().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((torch.zeros(5, 3), torch.ones(5), SIZE, 1.0), "keypoints"),
        ((torch.zeros(5, 2), torch.ones(4), SIZE, 1.0), "visible"),
        ((torch.zeros(5, 2), torch.ones(5), (0, 4), 1.0), "size"),
        ((torch.zeros(5, 2), torch.ones(5), SIZE, 0.0), "sigma"),
        ((torch.zeros(5, 2), torch.ones(5), SIZE, float("nan")), "sigma"),
    ],
    ids=["keypoints", "visible", "size", "sigma", "nan sigma"],
)
def test_wrong_arguments_are_named(arguments: tuple, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        encode(*arguments)


def test_unknown_refinement_is_named() -> None:
    with pytest.raises(ValueError, match="refinement: is 'cubic'"):
        decode(torch.zeros(1, 4, 4), refinement="cubic")
