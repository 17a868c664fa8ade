"""Memory that goes back to the system as soon as a tensor does."""

from __future__ import annotations

import ctypes

M_MMAP_THRESHOLD = -3
"""Of glibc's mallopt: from how many bytes on an allocation has pages of its own."""
OWN_PAGES = 2**22


def return_tensors() -> None:
    """Let every tensor of some megabytes have pages of its own, which are given back with it.

    By default glibc puts tensors of up to 32 MB into one heap once the first of them is freed, and one that lives on
    keeps the pages of all that lay below it. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, OWN_PAGES)
