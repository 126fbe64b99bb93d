"""The C library's `malloc`, set for a daemon that hashes passwords.

glibc takes the first large block that is freed for a sign that such blocks come often, and keeps the next ones: argon2's 19 MiB, once for
every arena in which a thread ever hashed. With eight threads that was 150 MiB which nobody used.
"""

from contextlib import suppress
import ctypes
from typing import Final

# Larger blocks come from the system and go back to it at once. What the daemon takes for one request or message is mostly smaller.
LARGE: Final = 1024 * 1024
# What an arena, of which threads have some, may keep at its end: enough that a page or an answer isn't asked of the system each time.
KEPT: Final = LARGE // 2

# From <malloc.h>. Setting either of them ends the guessing.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def give_back_large_blocks() -> None:
    """Where `malloc` is glibc's. Others, such as musl's and macOS's, don't guess, and have no `mallopt`."""
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, LARGE)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
