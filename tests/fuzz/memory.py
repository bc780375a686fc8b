"""Tensors between two pages that nobody may touch: a read beyond either end stops the process, in any library."""

from __future__ import annotations

import ctypes
import mmap

import torch
from torch import Tensor

PAGE = mmap.PAGESIZE
PROT_NONE = 0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def _forbid(address: int) -> None:
    if _libc.mprotect(address, PAGE, PROT_NONE) != 0:
        raise OSError(ctypes.get_errno(), "mprotect failed")


def fenced(shape: tuple[int, ...], dtype: torch.dtype, at_the_end: bool) -> Tensor:
    """A contiguous tensor of zeros whose first byte follows a forbidden page, or whose last one precedes one.

    >>> fenced((2, 3), torch.float16, at_the_end=True).shape
    torch.Size([2, 3])
    """
    count = torch.Size(shape).numel()
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    room = -(-count * dtype.itemsize // PAGE) * PAGE
    block = mmap.mmap(-1, room + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(block))
    _forbid(start)
    _forbid(start + PAGE + room)
    skipped = room - count * dtype.itemsize if at_the_end else 0
    return torch.frombuffer(block, dtype=dtype, count=count, offset=PAGE + skipped).view(shape)


def fenced_copy(tensor: Tensor, layout: str, at_the_end: bool) -> Tensor:
    """The same numbers in fenced memory, in one of the layouts that tensors [N, ...] come in.

    ``dense``; ``channels_last`` where there are four dimensions; ``part`` of a larger tensor, one element off any
    alignment; ``repeated``, the first sample for all of the batch.
    """
    shape, dtype = tuple(tensor.shape), tensor.dtype
    if layout == "channels_last" and tensor.dim() == 4:
        n, c, h, w = shape
        return fenced((n, h, w, c), dtype, at_the_end).permute(0, 3, 1, 2).copy_(tensor)
    if layout == "part" and tensor.numel() > 0:
        area = tensor[0].numel()
        whole = fenced((shape[0] * (area + 3) + 1,), dtype, at_the_end)
        return whole.as_strided(shape, (area + 3, *tensor.contiguous().stride()[1:]), 1).copy_(tensor)
    if layout == "repeated" and shape[0] > 1:
        return fenced(shape[1:], dtype, at_the_end).copy_(tensor[0]).expand(shape)
    return fenced(shape, dtype, at_the_end).copy_(tensor)
