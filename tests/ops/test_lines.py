import io
import os
import threading

from opendesk.ops.lines import PIECE_BYTES, LineSink


def test_lines_go_to_a_stream_without_a_descriptor() -> None:
    stream = io.StringIO()
    assert LineSink(stream).write(b"a\n")
    assert stream.getvalue() == "a\n"


def test_lines_go_to_a_pipe_whatever_their_length() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as out, os.fdopen(writer, "w") as stream:
        lines = [b"x" * size + b"\n" for size in (0, 1, PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES)]
        sink = LineSink(stream)
        assert all(map(sink.write, lines))
        stream.close()
        assert out.read() == b"".join(lines)
        assert sink.dropped == 0


def test_a_full_pipe_drops_and_counts_and_never_waits() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as out, os.fdopen(writer, "w") as stream:
        sink = LineSink(stream)
        # More than any pipe holds (macOS 64 KiB, Linux up to 1 MiB).
        taken = [sink.write(b"%07d\n" % number + b"x" * 9990 + b"y\n") for number in range(300)]
        assert taken[0]
        assert not taken[-1]
        assert sink.dropped == taken.count(False)
        os.read(reader, 2**20)
        assert sink.write(b"after\n")
        stream.close()
        # A line that was cut short is ended: the next one stands alone.
        assert out.read().endswith(b"\nafter\n")


def test_a_reader_that_is_gone_is_counted_and_does_not_raise() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        sink = LineSink(stream)
        assert not sink.write(b"a\n")
        assert sink.dropped == 1


def test_lines_of_many_threads_do_not_mix() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as out, os.fdopen(writer, "w") as stream:
        sink = LineSink(stream)
        line = b"z" * (PIECE_BYTES + 100) + b"\n"

        def write() -> None:
            for _ in range(3):
                sink.write(line)

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        stream.close()
        assert set(out.read().splitlines(keepends=True)) <= {line}
