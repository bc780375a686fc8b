"""How exact a result must be before its time is told."""

from __future__ import annotations

import torch

#: Largest relative error (Frobenius norms) of output and of each gradient against the reference in float64, by dtype.
#: One wrong pixel in a million exceeds float32's; positions computed in half precision exceed the half types'.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1e-2}
