"""``deformwarp bench``: what fusing gains on this machine, for a shape of the user's.

The repository's ``benchmarks/`` compare more peers on many shapes and keep results; this answers one question in
half a minute.
"""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.benchmark import Measurement, Timer

from deformwarp import backends
from deformwarp.accuracy import TOLERANCE
from deformwarp.functional import DILATIONS, fused_deform_warp
from deformwarp.rules import DTYPES

OFFSET_SIGMA = 3.0  # pixels
SLICES = 3  # the two take turns, so that the machine's noise hits both alike


@dataclass(frozen=True)
class Shape:
    """A problem of padding "same": D deformable convolutions [N, C, H, W] -> [N, C_out, H, W] and their sum."""

    samples: int = 1
    channels: int = 17
    height: int = 96
    width: int = 72
    out_channels: int = 17
    kernel: int = 3
    dilations: tuple[int, ...] = DILATIONS
    groups: int = 1
    offset_groups: int = 17
    masked: bool = False
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("channels", "height", "width", "out_channels", "kernel", "groups", "offset_groups", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: is {getattr(self, name)}, but should be at least 1")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel: is {self.kernel}, but should be odd, so that padding can keep the size")
        for name, whole in (("groups", "channels"), ("groups", "out_channels"), ("offset_groups", "channels")):
            if getattr(self, whole) % getattr(self, name) != 0:
                raise ValueError(
                    f"{name}: is {getattr(self, name)}, but should divide {whole} = {getattr(self, whole)}"
                )
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError(f"dilations: are {list(self.dilations)}, but should be one or more, each at least 1")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype: is {self.dtype}, but should be float64, float32, float16 or bfloat16")

    def padding(self, dilation: int) -> int:
        """What keeps the size."""
        return dilation * (self.kernel - 1) // 2


@dataclass(frozen=True)
class Inputs:
    """Random tensors of a shape; offsets lie between whole positions, where gradients jump."""

    input: Tensor  # [N, C, H, W]
    offsets: list[Tensor]  # D x [N, 2*G*K*K, H, W]
    masks: list[Tensor]  # none, or D x [N, G*K*K, H, W]
    weight: Tensor  # [D, C_out, C/groups, K, K]
    grad_output: Tensor  # [N, C_out, H, W]

    def leaves(self) -> list[Tensor]:
        """What gradients are asked for."""
        return [self.input, *self.offsets, *self.masks, self.weight]

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """``change(tensor)`` for every tensor, as leaves of their own."""

        def leaf(tensor: Tensor) -> Tensor:
            return change(tensor.detach()).clone().requires_grad_()

        return Inputs(
            leaf(self.input),
            [leaf(offset) for offset in self.offsets],
            [leaf(mask) for mask in self.masks],
            leaf(self.weight),
            change(self.grad_output),
        )

    def first_sample(self) -> Inputs:
        """The problem of the first sample alone."""
        return Inputs(
            self.input[:1],
            [offset[:1] for offset in self.offsets],
            [mask[:1] for mask in self.masks],
            self.weight,
            self.grad_output[:1],
        )


def make_inputs(shape: Shape, seed: int = 0) -> Inputs:
    """Fresh random inputs, the same for the same seed."""
    random = torch.Generator().manual_seed(seed)
    n, taps, size = shape.samples, shape.kernel**2, (shape.height, shape.width)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=random)

    def ready(tensor: Tensor) -> Tensor:
        return tensor.to(shape.device, shape.dtype).requires_grad_()

    def offset() -> Tensor:
        whole = (OFFSET_SIGMA * normal(n, 2 * shape.offset_groups * taps, *size)).clamp(-15, 15).floor()
        return ready(whole + 0.5)  # exact in every dtype

    return Inputs(
        ready(normal(n, shape.channels, *size)),
        [offset() for _ in shape.dilations],
        [ready(normal(n, shape.offset_groups * taps, *size)) for _ in shape.dilations] if shape.masked else [],
        ready(
            normal(len(shape.dilations), shape.out_channels, shape.channels // shape.groups, shape.kernel, shape.kernel)
        ),
        normal(n, shape.out_channels, *size).to(shape.device, shape.dtype),
    )


def fused(shape: Shape, inputs: Inputs) -> Tensor:
    """One call."""
    return fused_deform_warp(
        inputs.input, inputs.offsets, inputs.weight, dilations=shape.dilations, masks=inputs.masks or None
    )


def separate(shape: Shape, inputs: Inputs) -> Tensor:
    """torchvision: D calls and their sum."""
    from torchvision.ops import deform_conv2d

    total: Tensor | None = None
    for d, dilation in enumerate(shape.dilations):
        branch = deform_conv2d(
            inputs.input,
            inputs.offsets[d],
            inputs.weight[d],
            padding=shape.padding(dilation),
            dilation=dilation,
            mask=inputs.masks[d] if inputs.masks else None,
        )
        total = branch if total is None else total + branch
    assert total is not None
    return total


Warp = Callable[[Shape, Inputs], Tensor]


def forward(warp: Warp, shape: Shape, inputs: Inputs) -> list[Tensor]:
    """The output alone."""
    with torch.no_grad():
        return [warp(shape, inputs)]


def forward_and_backward(warp: Warp, shape: Shape, inputs: Inputs) -> list[Tensor]:
    """The output, and the gradient by every leaf."""
    output = warp(shape, inputs)
    return [output.detach(), *torch.autograd.grad(output, inputs.leaves(), inputs.grad_output)]


MODES = {"forward": forward, "forward + backward": forward_and_backward}


@dataclass(frozen=True)
class Line:
    """One way to compute one mode: its median, or why there is none."""

    mode: str
    name: str
    milliseconds: float | None
    note: str = ""


def _why_no_torchvision(shape: Shape) -> str | None:
    if importlib.util.find_spec("torchvision") is None:
        return "torchvision is not installed: pip install 'deformwarp[bench]'"
    if shape.device == "cpu" and shape.dtype == torch.bfloat16:
        return "torchvision has no CPU kernel for bfloat16"
    return None


def relative_error(warp: Warp, shape: Shape, inputs: Inputs) -> float:
    """Of output and gradients on the first sample, against the reference in float64."""
    first = inputs.first_sample().map(Tensor.clone)
    exact = first.map(Tensor.double)
    with backends.use_backend("reference"):
        expected = forward_and_backward(fused, shape, exact)
    got = forward_and_backward(warp, shape, first)
    return max(float((g.double() - e).norm() / e.norm()) for g, e in zip(got, expected, strict=True))


def measure(shape: Shape, seconds: float = 30.0) -> list[Line]:
    """Times torchvision's calls and the fused one, in turns; a wrong result gets no time.

    Args:
        shape: the problem.
        seconds: for all of it, about.

    Returns:
        A line for each mode and way.

    Raises:
        ValueError: ``seconds`` is not positive.

    >>> [line.name for line in measure(Shape(1, 2, 8, 8, 2, dilations=(1,), offset_groups=1), seconds=0.1)][-1]
    'deformwarp'
    """
    if not seconds > 0:
        raise ValueError(f"seconds: is {seconds}, but should be more than 0")
    inputs = make_inputs(shape)
    notes = {"torchvision": _why_no_torchvision(shape), "deformwarp": None}
    ways: dict[str, Warp] = {"torchvision": separate, "deformwarp": fused}
    for name, warp in ways.items():
        if notes[name] is None and not (error := relative_error(warp, shape, inputs)) <= TOLERANCE[shape.dtype]:
            notes[name] = f"wrong: relative error {error:.1e}, allowed {TOLERANCE[shape.dtype]:.0e}"
    slice_seconds = seconds / (SLICES * len(MODES) * len(ways))
    lines = []
    for mode, run in MODES.items():
        taken: dict[str, list[Measurement]] = {name: [] for name, note in notes.items() if note is None}
        for _ in range(SLICES):
            for name, measurements in taken.items():
                measurements.append(
                    _timer(run, ways[name], shape, inputs).blocked_autorange(min_run_time=slice_seconds)
                )
        for name, note in notes.items():
            if note is None:
                lines.append(Line(mode, name, Measurement.merge(taken[name])[0].median * 1e3))
            else:
                lines.append(Line(mode, name, None, note))
    return lines


def _timer(run: Callable[[Warp, Shape, Inputs], object], warp: Warp, shape: Shape, inputs: Inputs) -> Timer:
    # It waits for the device, and warms up.
    call = {"run": run, "warp": warp, "shape": shape, "inputs": inputs}
    return Timer("run(warp, shape, inputs)", globals=call, num_threads=torch.get_num_threads())


def table(lines: Sequence[Line]) -> str:
    """For people.

    >>> print(table([Line("forward", "torchvision", 80.0), Line("forward", "deformwarp", 4.0)]))
    forward              torchvision      80.00 ms
    forward              deformwarp        4.00 ms   20.0 times as fast
    """
    rows = []
    for line in lines:
        row = f"{line.mode:<20} {line.name:<12}"
        row += f" {line.note}" if line.milliseconds is None else f"{line.milliseconds:>10.2f} ms"
        ratio = gain(lines, line.mode)
        if line.name == "deformwarp" and ratio is not None:
            row += f"   {ratio:.1f} times as fast"
        rows.append(row)
    return "\n".join(rows)


def gain(lines: Sequence[Line], mode: str) -> float | None:
    """How many times as fast as torchvision, or None where one of the two has no time."""
    times = {line.name: line.milliseconds for line in lines if line.mode == mode}
    theirs, ours = times.get("torchvision"), times.get("deformwarp")
    return None if theirs is None or ours is None else theirs / ours


def draw(lines: Sequence[Line], title: str, path: Path) -> None:
    """Writes the times as bars.

    Args:
        lines: of :func:`measure`.
        title: above the picture.
        path: a PNG, which must not exist yet.

    Raises:
        ImportError: matplotlib is not installed.
        FileExistsError: there is such a file.
    """
    if path.exists():
        raise FileExistsError(f"{path}: exists, and is not overwritten")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the picture needs matplotlib: pip install 'deformwarp[bench]'") from error
    figure = Figure(figsize=(7, 0.55 * len(lines) + 1.2), layout="constrained")
    axes = figure.subplots()
    colours = {"torchvision": "#9aa5b1", "deformwarp": "#0072b2"}
    for place, line in enumerate(lines):
        axes.barh(place, line.milliseconds or 0.0, color=colours[line.name])
        text = line.note if line.milliseconds is None else f" {line.milliseconds:.2f} ms"
        ratio = gain(lines, line.mode)
        if line.name == "deformwarp" and ratio is not None:
            text += f", {ratio:.1f} times as fast"
        axes.text(line.milliseconds or 0.0, place, text, va="center", fontsize=9)
    axes.set_yticks(range(len(lines)), [f"{line.mode}: {line.name}" for line in lines])
    axes.invert_yaxis()
    axes.margins(x=0.35)
    axes.set_xlabel("ms, less is better")
    figure.suptitle(textwrap.fill(title, 80), fontsize=10)
    figure.savefig(path, dpi=130)
