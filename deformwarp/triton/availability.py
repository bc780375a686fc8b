"""Whether the Triton kernels can run here, and take a problem; and why not. Imports no Triton before it is asked."""

from __future__ import annotations

import functools
import os

import torch

from deformwarp import rules

OLDEST = (3, 6)  # that of torch 2.11
OLDEST_ON_AMD = (3, 9)  # 3.6 fails to compile the forward; those between were not tried
OLDEST_CAPABILITY = (8, 0)  # the first that knows bfloat16 and TF32
# Kernels have a few arguments for every branch, and CUDA passes at most 4 KiB of them.
MOST_BRANCHES = 32


def interpreted() -> bool:
    """Whether ``TRITON_INTERPRET=1``: kernels then run on CPU tensors, slowly, in Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def _why_no_triton() -> str | None:
    try:
        import triton
    except ImportError:
        return "Triton is not installed: pip install triton"
    except Exception as error:  # whatever a broken installation raises, importing deformwarp must not
        return f"Triton does not load: {error}"
    version = getattr(triton, "__version__", "0")
    oldest = OLDEST if torch.version.hip is None else OLDEST_ON_AMD
    if tuple(int(part) for part in version.split(".")[:2]) < oldest:
        return f"Triton {version} is older than {'.'.join(map(str, oldest))}"
    return None


def _why_not_on(device: torch.device | int) -> str | None:
    if torch.version.hip is not None:
        return None
    capability = torch.cuda.get_device_capability(device)
    if capability >= OLDEST_CAPABILITY:
        return None
    needed, found = (".".join(map(str, version)) for version in (OLDEST_CAPABILITY, capability))
    return f"its kernels need compute capability {needed}, and the GPU has {found}"


def why_not_here() -> str | None:
    """Why no GPU of this machine can run the kernels, or None."""
    reason = _why_no_triton()
    if reason is not None or interpreted():
        return reason
    if not torch.cuda.is_available():
        return "torch sees no NVIDIA or AMD GPU"
    reasons = [_why_not_on(index) for index in range(torch.cuda.device_count())]
    return None if None in reasons else reasons[0]


def why_not(problem: rules.Problem) -> str | None:
    """Why the kernels cannot take a valid problem, or None."""
    reason = _why_no_triton()
    if reason is not None:
        return reason
    device, dtype = problem.input.device, problem.input.dtype
    needed = "cpu" if interpreted() else "cuda"
    if device.type != needed:
        return f"its tensors are on {device}, and these kernels run on {needed}"
    if dtype == torch.float64:
        return "its tensors are float64, and these kernels compute in float32"
    if dtype == torch.bfloat16 and interpreted():
        return "its tensors are bfloat16, which Triton's interpreter computes wrongly"
    if problem.branches > MOST_BRANCHES:
        return f"it has {problem.branches} branches, and these kernels take at most {MOST_BRANCHES}"
    height, width = problem.output_shape[2:]
    if height * width >= 2**31:
        return f"its output is {height} x {width} pixels, and these kernels count them in 32 bits"
    return _why_not_on(device) if needed == "cuda" else None
