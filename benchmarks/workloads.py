"""What is measured, as data: the shapes, and random inputs for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from deformwarp.functional import DILATIONS

OFFSET_SIGMA = 3.0  # pixels
HALF_AND_FLOAT = ("float32", "float16", "bfloat16")
STEPS_PER_PIXEL = {torch.bfloat16: 8, torch.float16: 32}  # as many as offsets up to 16 have room for


@dataclass(frozen=True)
class Mode:
    """What of a workload is run."""

    name: str
    label: str
    gradients: bool
    frozen_input: bool = False
    forward: bool = True  # takes part in the measurement


MODES = {
    mode.name: mode
    for mode in (
        Mode("forward", "forward", gradients=False),
        Mode("backward", "forward + backward", gradients=True),
        Mode("frozen", "forward + backward, input frozen", gradients=True, frozen_input=True),
        Mode("backward_alone", "backward", gradients=True, forward=False),
        Mode("backward_alone_frozen", "backward, input frozen", gradients=True, frozen_input=True, forward=False),
    )
}


@dataclass(frozen=True)
class Workload:
    """One problem: D deformable convolutions of one input, and their sum. Padding keeps the size ("same")."""

    name: str
    group: str
    samples: int
    channels: int
    out_channels: int
    height: int
    width: int
    offset_groups: int
    dilations: tuple[int, ...] = (1,)
    kernel: tuple[int, int] = (3, 3)
    groups: int = 1
    stride: int = 1
    dtype: str = "float32"
    offsets: str = "smooth"  # "random": neighbouring pixels sample unrelated places; "zero": as training starts
    masked: bool = False
    bias: bool = False
    scale: float = 1.0
    modes: tuple[str, ...] = ("forward", "backward")
    compiled: bool = True  # also for the peers that are compiled, which takes long

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype itself."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    @property
    def taps(self) -> int:
        """Kh*Kw."""
        return self.kernel[0] * self.kernel[1]

    @property
    def branches(self) -> int:
        """D."""
        return len(self.dilations)

    @property
    def out_size(self) -> tuple[int, int]:
        """(Ho, Wo)."""
        return (self.height - 1) // self.stride + 1, (self.width - 1) // self.stride + 1

    def padding(self, branch: int) -> tuple[int, int]:
        """What "same" means for one branch."""
        return tuple(self.dilations[branch] * (size - 1) // 2 for size in self.kernel)  # type: ignore[return-value]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor; of offsets and masks, that of one branch."""
        shapes: dict[str, tuple[int, ...]] = {
            "input": (self.samples, self.channels, self.height, self.width),
            "offsets": (self.samples, 2 * self.offset_groups * self.taps, *self.out_size),
            "weight": (self.branches, self.out_channels, self.channels // self.groups, *self.kernel),
            "output": (self.samples, self.out_channels, *self.out_size),
        }
        if self.masked:
            shapes["masks"] = (self.samples, self.offset_groups * self.taps, *self.out_size)
        if self.bias:
            shapes["bias"] = (self.out_channels,)
        return shapes

    def bytes_moved(self, mode: Mode) -> int:
        """Bytes that must move: every input read once, every output written once, by the forward and by the backward.

        The backward is a call of its own, so it reads the inputs again, and the output's gradient, and writes the
        gradients.
        """
        size = self.torch_dtype.itemsize
        count = {name: torch.Size(shape).numel() * size for name, shape in self.shapes.items()}
        for name in ("offsets", "masks"):
            count[name] = count.get(name, 0) * self.branches
        output = count.pop("output")
        inputs = sum(count.values())
        if not mode.gradients:
            return inputs + output
        gradients = inputs - (count["input"] if mode.frozen_input else 0)
        backward = (inputs - count.get("bias", 0) + output) + gradients
        return backward + (inputs + output if mode.forward else 0)


@dataclass
class Inputs:
    """The tensors of one workload."""

    input: Tensor
    offsets: list[Tensor]
    masks: list[Tensor]
    weight: Tensor
    bias: Tensor | None
    grad_output: Tensor
    names: list[str] = field(default_factory=list)  # of the tensors that gradients are asked for

    def named(self) -> dict[str, Tensor]:
        """Every tensor that can have a gradient."""
        tensors = {"input": self.input, "weight": self.weight}
        tensors.update({f"offsets[{d}]": offset for d, offset in enumerate(self.offsets)})
        tensors.update({f"masks[{d}]": mask for d, mask in enumerate(self.masks)})
        if self.bias is not None:
            tensors["bias"] = self.bias
        return tensors

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same, every tensor changed."""
        return Inputs(
            change(self.input),
            [change(offset) for offset in self.offsets],
            [change(mask) for mask in self.masks],
            change(self.weight),
            None if self.bias is None else change(self.bias),
            change(self.grad_output),
        )

    def batch(self, samples: Sequence[int]) -> Inputs:
        """Some samples only; weight and bias are shared."""
        rows = list(samples)
        return replace(
            self,
            input=self.input[rows],
            offsets=[offset[rows] for offset in self.offsets],
            masks=[mask[rows] for mask in self.masks],
            grad_output=self.grad_output[rows],
        )

    def for_mode(self, mode: Mode) -> Inputs:
        """Leaves of the same memory that require the gradients of a mode."""
        result = self.map(Tensor.detach)
        if mode.gradients:
            result.names = [name for name in result.named() if name != "input" or not mode.frozen_input]
            for name in result.names:
                result.named()[name].requires_grad_()
        return result


def _off_integers(offset: Tensor, dtype: torch.dtype) -> Tensor:
    # On integer positions the gradient jumps, and peers that round positions differently would be told apart there
    # for no fault of theirs. These values are between integers, never zero, and exact in the dtype.
    steps = STEPS_PER_PIXEL.get(dtype, 1024)
    return ((offset.clamp(-15, 15) * steps).floor_() + 0.5) / steps


def _offset(workload: Workload, generator: torch.Generator) -> Tensor:
    samples, channels, height, width = workload.shapes["offsets"]
    on = generator.device
    if workload.offsets == "zero":
        return torch.zeros(workload.shapes["offsets"], dtype=workload.torch_dtype, device=on)
    if workload.offsets == "random":
        field = torch.randn(samples, channels, height, width, generator=generator, device=on)
    else:
        coarse = torch.randn(samples, channels, height // 12 + 2, width // 12 + 2, generator=generator, device=on)
        field = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    return _off_integers(OFFSET_SIGMA * field, workload.torch_dtype).to(workload.torch_dtype)


def make_inputs(workload: Workload, seed: int = 0, device: str = "cpu") -> Inputs:
    """Fresh random inputs, the same for the same seed and device.

    Zeros would time a special case: there are none, but where offsets are all zero, as they are when training starts.
    """
    generator = torch.Generator(device).manual_seed(seed)
    shapes, dtype = workload.shapes, workload.torch_dtype

    def normal(name: str) -> Tensor:
        return torch.randn(shapes[name], generator=generator, device=device).to(dtype)

    def mask() -> Tensor:
        return torch.rand(shapes["masks"], generator=generator, device=device).add_(0.1).to(dtype)

    fan_in = (workload.channels // workload.groups) * workload.taps
    return Inputs(
        normal("input"),
        [_offset(workload, generator) for _ in workload.dilations],
        [mask() for _ in workload.dilations] if workload.masked else [],
        normal("weight") / fan_in**0.5,
        normal("bias") if workload.bias else None,
        normal("output"),
    )


def shrunk(workload: Workload) -> Workload:
    """The same kind of workload, tiny: for tests and for warming up."""
    return replace(
        workload,
        samples=min(workload.samples, 2),
        height=min(workload.height, 9),
        width=min(workload.width, 8),
    )


def _posewarper(height: int, width: int, samples: int, offsets: str = "smooth") -> Workload:
    crop = f"{4 * height}x{4 * width}"
    name = f"posewarper-{crop}-n{samples}" + ("" if offsets == "smooth" else f"-{offsets}")
    modes = ("forward", "backward", "frozen") if height == 96 and samples in (1, 4) else ("forward", "backward")
    return Workload(name, "posewarper", samples, 17, 17, height, width, 17, DILATIONS, offsets=offsets, modes=modes)


def _single(name: str, channels: int, size: int, **options: object) -> Workload:
    return Workload(name, "single", 4, channels, channels, size, size, 1, **options)  # type: ignore[arg-type]


def _awkward(name: str, samples: int = 2, **options: object) -> Workload:
    base = Workload(f"awkward-{name}", "awkward", samples, 16, 16, 48, 36, 16, DILATIONS, offsets="random")
    return replace(base, **options)  # type: ignore[arg-type]


WORKLOADS = {
    workload.name: workload
    for workload in (
        *(_posewarper(96, 72, samples) for samples in (1, 2, 4, 8, 16)),
        *(_posewarper(96, 72, samples, "random") for samples in (1, 4)),
        *(_posewarper(64, 48, samples) for samples in (1, 2, 4, 8, 16)),
        _single("resnet-dcn-64-56", 64, 56),
        _single("resnet-dcn-128-28", 128, 28),
        _single("resnet-dcn-256-14", 256, 14),
        _single("resnet-dcn-512-7", 512, 7),
        _single("kernel-5x5-64-56", 64, 56, kernel=(5, 5)),
        _single("dcnv2-64-56", 64, 56, masked=True, bias=True),
        _single("dcnv2-256-14-stride-2", 256, 14, masked=True, bias=True, stride=2),
        _awkward("n37", samples=37),
        _awkward("primes", samples=3, height=31, width=29),
        _awkward("one-channel", channels=1, out_channels=1, offset_groups=1),
        _awkward("two-per-offset-group", offset_groups=8),
        _awkward("kernel-7x7", kernel=(7, 7), dilations=(1, 2)),
        _awkward("stride-2", stride=2),
        _awkward("groups-4", groups=4, offset_groups=4),
        _awkward("d1", dilations=(3,)),
        _awkward("d7", dilations=(1, 2, 3, 6, 12, 18, 24)),
        _awkward("tiny-8x6", samples=1, height=8, width=6),
        _awkward("masked", masked=True, bias=True, scale=0.2),
        _awkward("float64", dtype="float64"),
        _awkward("float16", dtype="float16"),
        _awkward("bfloat16", dtype="bfloat16"),
    )
}


def _on_gpu(height: int, samples: int, dtype: str, offsets: str = "smooth") -> Workload:
    like = _posewarper(height, height * 3 // 4, samples, offsets)
    return replace(
        like,
        name=f"{like.name}-{dtype}",
        dtype=dtype,
        modes=("forward", "backward_alone_frozen", "backward_alone"),
        compiled=dtype == "float32" and offsets == "smooth" and samples in (1, 16) and height == 96,
    )


# The most important first: a run with little time has them.
GPU_WORKLOADS = {
    workload.name: workload
    for workload in (
        *(_on_gpu(96, samples, dtype) for samples in (16, 1) for dtype in HALF_AND_FLOAT),
        *(_on_gpu(96, samples, dtype, "random") for samples in (16, 1) for dtype in HALF_AND_FLOAT),
        *(_on_gpu(96, samples, dtype) for samples in (4, 64) for dtype in HALF_AND_FLOAT),
        *(_on_gpu(64, samples, dtype) for samples in (16, 1) for dtype in HALF_AND_FLOAT),
        *(
            replace(workload, name=f"{workload.name}-{dtype}", dtype=dtype, compiled=False)
            for workload in WORKLOADS.values()
            if workload.group == "single"
            for dtype in ("float32", "float16")
        ),
        *(_on_gpu(96, samples, dtype, "zero") for samples in (16, 1) for dtype in HALF_AND_FLOAT),
        *(_on_gpu(64, samples, dtype) for samples in (4, 64) for dtype in HALF_AND_FLOAT),
    )
}
WORKLOADS_OF = {"cpu": WORKLOADS, "cuda": GPU_WORKLOADS}
GROUPS = tuple(dict.fromkeys(workload.group for workload in WORKLOADS.values()))
QUICK = (
    "posewarper-384x288-n1",
    "posewarper-384x288-n4",
    "posewarper-256x192-n1",
    "resnet-dcn-64-56",
    "dcnv2-64-56",
    "awkward-primes",
    "awkward-groups-4",
    "awkward-tiny-8x6",
    "posewarper-384x288-n16-float16",
    "posewarper-384x288-n1-float32",
)


def select(
    group: str | None = None, names: Sequence[str] = (), quick: bool = False, device: str = "cpu"
) -> list[Workload]:
    """A device's workloads of a group and of some names; few of them when it must be quick.

    >>> [workload.name for workload in select("single", quick=True)]
    ['resnet-dcn-64-56', 'dcnv2-64-56']
    """
    known = WORKLOADS_OF[device]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"workload: is {unknown[0]!r}, but should be one of {', '.join(known)}")
    return [
        workload
        for workload in known.values()
        if group in (None, workload.group)
        and (not names or workload.name in names)
        and (not quick or names or workload.name in QUICK)
    ]
