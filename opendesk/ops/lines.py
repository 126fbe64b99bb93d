"""A stream that log lines are written to without ever waiting for whoever reads it."""

from collections.abc import Iterator
import os
import select
import threading
from typing import Final, TextIO

# A pipe that is ready takes this much at once without blocking (POSIX): what is longer goes in pieces.
PIECE_BYTES: Final = select.PIPE_BUF


class LineSink:
    """Writes whole lines to a stream's descriptor; drops and counts them when it is full, or gone.

    The descriptor is asked before each write instead of being made non-blocking, which would do that to everybody
    else who has it: the shell, for a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self.dropped = 0
        self._stream = stream
        self._fd = _descriptor(stream)
        self._torn = False
        # Reentrant: the garbage collector may run something that logs in the middle of a write.
        self._lock = threading.RLock()

    def write(self, line: bytes) -> bool:
        """Return whether it was taken."""
        with self._lock:
            # A line that was cut short is ended first, so that the next one stands alone.
            taken = self._write_all(b"\n" + line if self._torn else line)
            self.dropped += not taken
            return taken

    def _write_all(self, line: bytes) -> bool:
        if self._fd is None:
            self._stream.write(line.decode("utf-8", "replace"))
            return True
        written = 0
        try:
            for piece in _pieces(line):
                if not _is_ready(self._fd):
                    break
                written += os.write(self._fd, piece)
        except OSError:
            # Whoever read it is gone. There is nowhere to say so; the count is in the metrics.
            return False
        finally:
            self._torn = 0 < written < len(line) or (self._torn and written == 0)
        return written == len(line)


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # io.UnsupportedOperation, of streams in memory, is both
        return None


def _pieces(line: bytes) -> Iterator[bytes]:
    for start in range(0, len(line), PIECE_BYTES):
        yield line[start : start + PIECE_BYTES]


def _is_ready(fd: int) -> bool:
    # Not poll(), which on macOS knows no terminals.
    return bool(select.select([], [fd], [], 0)[1])
