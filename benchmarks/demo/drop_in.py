"""The drop-in comparison: PoseWarper's head in small, with five torchvision calls and with one layer."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from rich.columns import Columns
from rich.console import Console, Group
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from benchmarks.calls import call
from benchmarks.memory import extra_memory
from benchmarks.peers import PEERS
from benchmarks.timing import Plan, interleaved
from benchmarks.workloads import MODES, WORKLOADS, Mode, Workload, make_inputs
from deformwarp import FusedDeformWarp, FusionReport, fuse_deform_convs
from deformwarp.functional import DILATIONS

TOLERANCE = 1e-4  # largest difference over largest value; sums in another order differ by some 1e-6
BEFORE, AFTER = "torchvision", "deformwarp"
SHAPES = tuple(WORKLOADS[f"posewarper-384x288-n{samples}"] for samples in (1, 4))
Say = Callable[[str], None]


class OffsetHead(nn.Module):
    """What both heads share: five convolutions that predict offsets from the difference of two heatmaps."""

    def __init__(self, channels: int = 17, features: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(channels, features, 3, padding=1), nn.ReLU())
        self.offset_layers = nn.ModuleList(
            nn.Conv2d(features, 2 * channels * 9, 3, padding=d, dilation=d, bias=False) for d in DILATIONS
        )

    def offsets(self, difference: Tensor) -> list[Tensor]:
        features = self.features(difference)
        return [layer(features) for layer in self.offset_layers]


class FiveCalls(OffsetHead):
    def __init__(self, channels: int = 17) -> None:
        super().__init__(channels)
        self.deforms = nn.ModuleList(
            DeformConv2d(channels, channels, 3, padding=d, dilation=d, bias=False) for d in DILATIONS
        )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        offsets = self.offsets(a - b)
        calls = zip(self.deforms, offsets, strict=True)
        return sum(deform(b, offset) for deform, offset in calls) / len(DILATIONS)


class OneLayer(OffsetHead):
    def __init__(self, channels: int = 17) -> None:
        super().__init__(channels)
        self.warp = FusedDeformWarp(channels, dilations=DILATIONS, scale=1 / len(DILATIONS))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.warp(b, self.offsets(a - b))


def with_weights_of(five: FiveCalls) -> OneLayer:
    """The head after the change, with the weights of the one before."""
    one = OneLayer()
    one.features.load_state_dict(five.features.state_dict())
    one.offset_layers.load_state_dict(five.offset_layers.state_dict())
    one.warp = FusedDeformWarp.from_deform_convs(list(five.deforms), scale=one.warp.scale)
    return one


@dataclass(frozen=True)
class Difference:
    """Of one tensor, before and after."""

    name: str
    largest: float
    relative: float  # to the largest value before

    @property
    def same(self) -> bool:
        return self.relative <= TOLERANCE

    @staticmethod
    def between(name: str, before: Tensor, after: Tensor) -> Difference:
        largest = (after - before).abs().max().item()
        return Difference(name, largest, largest / max(before.abs().max().item(), 1e-30))


def results(head: nn.Module, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Output and all gradients of a head; the weights of five convolutions are stacked as those of one layer."""
    head.zero_grad()
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    output = head(a, b)
    # Not the sum alone, whose gradient is the same for every pixel.
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    found = {"output": output.detach(), "gradient of A": a.grad, "gradient of B": b.grad}
    named = dict(head.named_parameters())
    shared = [name for name in named if name.startswith(("features", "offset_layers"))]
    found |= {f"gradient of {name}": named[name].grad for name in shared}
    deform = [parameter.grad for name, parameter in named.items() if name not in shared and parameter.grad is not None]
    found["gradient of the warp's weight"] = deform[0] if len(deform) == 1 else torch.stack(deform)
    return found


def compare(size: tuple[int, int] = (96, 72), seed: int = 0) -> tuple[list[Difference], FusionReport]:
    """The head before against the head after, written anew and fused in place."""
    torch.manual_seed(seed)
    five = FiveCalls()
    for weight in five.offset_layers.parameters():
        nn.init.normal_(weight, std=0.3)  # offsets of several pixels
    a, b = torch.rand(2, 1, 17, *size)
    fused = copy.deepcopy(five)
    report = fuse_deform_convs(fused)
    before = results(five, a, b)
    differences = []
    for head in (with_weights_of(five), fused):
        after = results(head, a, b)
        differences.append([Difference.between(name, value, after[name]) for name, value in before.items()])
    return [max(pair, key=lambda one: one.relative) for pair in zip(*differences, strict=True)], report


@dataclass
class Cost:
    """Time and peak extra memory of the warp by peer, or why none is shown."""

    workload: Workload
    mode: Mode
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int | None] = field(default_factory=dict)
    wrong: Difference | None = None


def measure(workload: Workload, mode: Mode, plan: Plan, memory: bool) -> Cost:
    """Both peers on the same inputs, if they give the same numbers."""
    cost, inputs = Cost(workload, mode), make_inputs(workload).for_mode(mode)
    warps = {name: PEERS[name].make(workload) for name in (BEFORE, AFTER)}
    before, after = (call(PEERS[name], warp, inputs, mode) for name, warp in warps.items())
    found = [Difference.between("output", before.output, after.output)]
    found += [Difference.between(name, value, after.gradients[name]) for name, value in before.gradients.items()]
    cost.wrong = next((one for one in found if not one.same), None)
    if cost.wrong is not None:
        return cost
    runs = {name: lambda name=name: call(PEERS[name], warps[name], inputs, mode) for name in warps}
    cost.seconds = {name: timing.median for name, timing in interleaved(runs, plan).items()}
    if memory:
        threads = torch.get_num_threads()
        cost.memory = {name: extra_memory(workload, PEERS[name], mode, threads) for name in warps}
    return cost


def code_change() -> Columns:
    """The two heads' source, side by side."""
    sources = {f"before: five calls of {BEFORE}": FiveCalls, f"after: one layer of {AFTER}": OneLayer}
    return Columns(
        [
            Panel(Syntax(inspect.getsource(kind), "python", theme="ansi_light", word_wrap=True), title=title, width=94)
            for title, kind in sources.items()
        ]
    )


def numbers_table(differences: Sequence[Difference]) -> Table:
    """Largest differences, output first."""
    table = Table("", "largest difference", "relative", "", title="Same numbers (float32, N=1, 17x96x72)")
    for one in differences:
        verdict = "[green]same" if one.same else "[red]DIFFERENT"
        table.add_row(one.name, f"{one.largest:.1e}", f"{one.relative:.1e}", verdict)
    return table


def _mib(value: int | None) -> str:
    return "-" if value is None else f"{value / 2**20:.1f}"


def cost_table(costs: Sequence[Cost]) -> Table:
    """Time and memory side by side."""
    table = Table(
        title=f"The warp alone, offsets given ({torch.get_num_threads()} threads; medians of interleaved runs)",
        caption="extra memory: peak of one call beyond its inputs, output and gradients, in a fresh process",
    )
    for title in ("shape", ""):
        table.add_column(title)
    for title in (f"{BEFORE}, ms", f"{AFTER}, ms", "times as fast", f"{BEFORE}, extra MiB", f"{AFTER}, extra MiB"):
        table.add_column(title, justify="right")
    for cost in costs:
        workload = cost.workload
        shape = f"N={workload.samples}, {workload.channels}x{workload.height}x{workload.width}"
        if cost.wrong is not None:
            table.add_row(
                shape, cost.mode.label, f"[red]no time: {cost.wrong.name} differs by {cost.wrong.relative:.1e}"
            )
            continue
        before, after = cost.seconds[BEFORE], cost.seconds[AFTER]
        memory = [_mib(cost.memory.get(name)) for name in (BEFORE, AFTER)]
        table.add_row(
            shape, cost.mode.label, f"{before * 1e3:.1f}", f"{after * 1e3:.2f}", f"{before / after:.1f}", *memory
        )
    return table


def run(
    console: Console,
    shapes: Sequence[Workload] = SHAPES,
    plan: Plan = Plan(1.0, 3, 15),  # noqa: B008  it is frozen
    memory: bool = True,
    say: Say = lambda text: None,
) -> bool:
    """Prints the comparison; False where the numbers differ, and then without times."""
    console.rule("Drop-in: PoseWarper's head in small")
    console.print(code_change())
    say("comparing the numbers")
    differences, report = compare()
    fused = Panel(str(report), title="or without editing: print(fuse_deform_convs(model))", expand=False)
    console.print(Group(fused, numbers_table(differences)))
    if not all(one.same for one in differences):
        console.print("[red]The numbers differ, so no times are shown.")
        return False
    costs = []
    for workload in shapes:
        for name in ("forward", "backward"):
            say(f"measuring N={workload.samples}, {MODES[name].label}")
            costs.append(measure(workload, MODES[name], plan, memory))
    console.print(cost_table(costs))
    return all(cost.wrong is None for cost in costs)
