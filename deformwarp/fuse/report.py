"""What fusing a model did, for programs and for people."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class FusedSum:
    """One sum of deformable convolutions that became one layer."""

    parent: str  # the module whose forward summed them; "" is the model itself
    convs: tuple[str, ...]
    layer: str  # the FusedDeformWarp that took their place
    scale: float


@dataclass(frozen=True)
class Skipped:
    """One module that was left as it was, wholly or in one of the two steps."""

    name: str
    reason: str


@dataclass
class FusionReport:
    """What :func:`fuse_deform_convs` did, by the names of ``named_modules``; ``str(report)`` is a summary for people.

    >>> print(FusionReport(replaced=["head.conv"]))
    fused: no sum of deformable convolutions
    replaced by deformwarp.DeformConv2d: 1
      head.conv
    """

    fused: list[FusedSum] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"fused: {len(self.fused) or 'no'} sum{'s' * (len(self.fused) > 1)} of deformable convolutions"]
        lines += [f"  {', '.join(one.convs)} -> {one.layer} (scale {one.scale:g})" for one in self.fused]
        lines.append(f"replaced by deformwarp.DeformConv2d: {len(self.replaced) or 'none'}")
        lines += [f"  {name}" for name in self.replaced]
        if self.skipped:
            lines.append(f"skipped: {len(self.skipped)}")
            lines += [f"  {one.name or 'the model itself'}: {one.reason}" for one in self.skipped]
        return "\n".join(lines)
