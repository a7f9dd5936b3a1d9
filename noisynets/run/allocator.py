"""What the C library does with memory that tensors free."""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's <malloc.h>


def keep_freed() -> bool:
    """Keep freed memory for the next tensor instead of giving it back to the system.

    By default glibc gives large blocks back, and every step then pays for being handed empty pages
    anew: on a convolutional network a fifth of its time. For processes of our own; a library does
    not decide this for its host. Settings in the environment (MALLOC_TRIM_THRESHOLD_) come first.

    Returns:
        Whether it was done: other C libraries than glibc have no such setting.

    Source: mallopt(3).
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    # One alone would fix the other where it is, which is small. Older glibc takes 32 MiB at most.
    large = mallopt(_M_MMAP_THRESHOLD, 2**30) or mallopt(_M_MMAP_THRESHOLD, 2**25)
    return bool(large and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
