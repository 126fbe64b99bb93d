"""What the server says itself; the mask; the handshake's answer."""

import importlib.util
import sys

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.stream import frames as parser_module
from opendesk.stream import outgoing
from opendesk.stream.outgoing import (
    MAX_REASON_BYTES,
    accept_key,
    apply_mask,
    close_frame,
    encode_header,
    mask_in_python,
    ping_frame,
    pong_frame,
    text_frame,
)
from tests.stream.framing import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frames, passed_on, pieces_of, run, sent


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_the_mask_in_python_equals_the_one_in_c(data: bytes, mask: bytes) -> None:
    expected = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    assert mask_in_python(data, mask) == mask_in_python(memoryview(data), mask) == apply_mask(data, mask) == expected


def test_the_mask_is_the_one_in_c_where_there_is_one() -> None:
    assert apply_mask.__module__ != outgoing.__name__


def test_without_the_c_extension_the_mask_is_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    spec = importlib.util.spec_from_file_location("outgoing_without_c", outgoing.__file__)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.apply_mask is module.mask_in_python


def test_the_parser_is_the_same_with_the_mask_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser_module, "apply_mask", mask_in_python)
    data = (
        sent(BINARY, bytes(range(200))) + sent(BINARY, b"ab", fin=False) + sent(PING, b"p") + sent(CONTINUATION, b"c")
    )
    told = run(frames(), [data])
    assert told[0] == passed_on(BINARY, bytes(range(200)))
    assert all(run(frames(), pieces_of(data, [cut])) == told for cut in range(len(data)))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, (1 << 63) - 1])
@pytest.mark.parametrize("opcode", [CONTINUATION, BINARY])
@pytest.mark.parametrize("fin", [False, True])
def test_headers_have_the_least_length(size: int, opcode: int, *, fin: bool) -> None:
    header = encode_header(opcode, fin, size)
    assert header[0] == opcode | 0x80 * fin
    assert len(header) == (2 if size < 126 else 4 if size < 65_536 else 10)
    assert int.from_bytes(header[2:] or header[1:], "big") == size


def test_frames_of_our_own_are_whole_and_unmasked() -> None:
    assert text_frame("ä".encode()) == passed_on(TEXT, "ä".encode())
    assert text_frame(b"x" * 300) == passed_on(TEXT, b"x" * 300)
    assert ping_frame() == passed_on(PING)
    assert ping_frame(b"p" * 125) == passed_on(PING, b"p" * 125)
    assert pong_frame(b"hi") == passed_on(PONG, b"hi")
    assert close_frame(1008, "session_closed") == passed_on(CLOSE, b"\x03\xf0session_closed")
    assert close_frame(1000, "r" * MAX_REASON_BYTES) == passed_on(CLOSE, b"\x03\xe8" + b"r" * 123)
    assert close_frame(None) == passed_on(CLOSE)


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 5000])
def test_a_close_frame_holds_no_code_that_may_not_be_sent(code: int) -> None:
    with pytest.raises(ValueError, match="no close code"):
        close_frame(code)


def test_a_control_frame_holds_no_more_than_it_may() -> None:
    with pytest.raises(ValueError, match="holds 125 bytes"):
        close_frame(1000, "ä" * 62)
    with pytest.raises(ValueError, match="holds 125 bytes"):
        ping_frame(bytes(126))
    with pytest.raises(ValueError, match="holds 125 bytes"):
        pong_frame(bytes(126))


def test_the_handshake_of_the_rfc_is_answered() -> None:
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
