"""Setting of the C library's memory allocator for processes of this package."""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's <malloc.h>


def keep_freed() -> bool:
    """Let the C library keep freed memory for the next tensors.

    By default glibc returns large freed blocks to the operating system, and each step then waits
    for new pages: a fifth of the time of a step on a convolutional network. Only the package's own
    programs call this function, as a library should not change its host process. The environment
    variables MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ take precedence.

    Returns:
        True if the setting was changed; False with a C library other than glibc.

    Source: mallopt(3).
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return False
    # Setting only one threshold would fix the other at its small default. Older versions of glibc
    # accept at most 32 MiB.
    large = mallopt(_M_MMAP_THRESHOLD, 2**30) or mallopt(_M_MMAP_THRESHOLD, 2**25)
    return bool(large and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
