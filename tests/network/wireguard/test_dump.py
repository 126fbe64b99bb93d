import base64

from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st
import pytest

from opendesk.network.wireguard import dump
from opendesk.network.wireguard.dump import Interface, Malformed, Peer, Reading, parse

KEYS = [base64.b64encode(bytes([number]) * 32).decode() for number in range(1, 9)]
PRIVATE, PUBLIC, A, B, SECRET = KEYS[:5]
HEAD = f"{PRIVATE}\t{PUBLIC}\t51820\toff"
FULL = f"{A}\t{SECRET}\t192.0.2.7:4000\t10.200.0.7/32,192.168.4.0/24\t1700000000\t148\t92\t25"
BARE = f"{B}\t(none)\t(none)\t(none)\t0\t0\t0\toff"

texts_of_ips = st.lists(
    st.builds("10.{}.{}.{}/32".format, *[st.integers(0, 255)] * 3) | st.builds("fd00::{:x}/128".format, st.integers(1, 65535)),
    max_size=5,
)  # fmt: skip
keys = st.binary(min_size=32, max_size=32).map(lambda data: base64.b64encode(data).decode())
endpoints = st.none() | st.sampled_from(["192.0.2.7:1", "[2001:db8::1]:65535", "[fe80::1%eth0]:7"])
numbers = st.integers(0, 2**64 - 1)
peers = st.builds(
    Peer, keys, st.none() | keys, endpoints, texts_of_ips.map(tuple), numbers, numbers, numbers, st.integers(0, 65535)
)


def data(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def line(peer: Peer) -> str:
    columns = (
        peer.public_key, peer.preshared_key or "(none)", peer.endpoint or "(none)", ",".join(peer.allowed_ips) or "(none)",
        peer.handshake_unix, peer.rx, peer.tx, peer.keepalive or "off",
    )  # fmt: skip
    return "\t".join(map(str, columns))


def test_a_dump_is_read_without_the_private_key() -> None:
    interface = parse(data(HEAD, FULL, BARE))
    assert interface == Interface(
        PUBLIC,
        51820,
        {
            A: Peer(A, SECRET, "192.0.2.7:4000", ("10.200.0.7/32", "192.168.4.0/24"), 1_700_000_000, 148, 92, 25),
            B: Peer(B, None, None, (), 0, 0, 0, 0),
        },
    )
    assert PRIVATE not in repr(interface)
    assert SECRET not in repr(interface)


def test_an_interface_may_have_no_key_and_a_mark() -> None:
    assert parse(data("(none)\t(none)\t0\t0xca6c")) == Interface(None, 0, {})


@given(st.lists(peers, unique_by=lambda peer: peer.public_key, max_size=8))
def test_whatever_was_printed_is_read(printed: list[Peer]) -> None:
    interface = parse(data(HEAD, *map(line, printed)))
    assert list(interface.peers) == [peer.public_key for peer in printed]
    for peer in printed:
        read = interface.peers[peer.public_key]
        assert sorted(read.allowed_ips) == sorted(peer.allowed_ips)
        assert evolve(read, allowed_ips=peer.allowed_ips) == peer


@given(st.lists(st.sampled_from(["", "x", "x" * 9_000, "x" * 70_000]), max_size=30), st.sampled_from([1, 40]))
def test_portions_are_all_lines_and_none_is_long(few: list[str], times: int) -> None:
    lines = few * times
    parted = list(dump.portions(lines))
    assert [line for portion in parted for line in portion] == lines
    for portion in parted:
        assert len(portion) <= dump.PORTION
        assert len(portion) <= 1 or sum(map(len, portion)) <= dump.PORTION_CHARS


@given(st.lists(st.integers(0, 3), max_size=5))
def test_a_dump_is_the_same_in_one_piece_and_in_portions(sizes: list[int]) -> None:
    whole = data(HEAD, FULL, BARE)
    reading, lines = Reading(), dump.lines_of(whole)
    for size in sizes:
        reading.take(lines[:size])
        lines = lines[size:]
    reading.take(lines)
    assert reading.interface() == parse(whole)


def test_a_peer_may_have_thousands_of_allowed_ips() -> None:
    texts = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(5_000)]
    many = FULL.replace("10.200.0.7/32,192.168.4.0/24", ",".join(reversed(texts)))
    assert parse(data(HEAD, many, BARE)).peers[A].allowed_ips == tuple(texts)


def test_every_cut_but_one_at_the_end_of_a_line_is_malformed() -> None:
    """What those are told by is the exit code of `wg`."""
    whole = data(HEAD, FULL, BARE)
    taken = []
    for end in range(len(whole)):
        try:
            parse(whole[:end])
        except Malformed:
            continue
        taken.append(whole[:end])
    assert taken == [data(HEAD), data(HEAD, FULL)]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\n",
        b"\n" + data(HEAD),
        data(FULL),
        data(HEAD, HEAD),
        data(HEAD, FULL, FULL),
        data(HEAD, "", FULL),
        data(HEAD, f"wg0\t{FULL}"),
        data(HEAD, f"{FULL}\t1"),
        data(HEAD, FULL.replace("\t", " ")),
        data(HEAD, FULL.replace("\n", "\r\n") + "\r"),
        data(HEAD, FULL.replace(A, A[:-1])),
        data(HEAD, FULL.replace(A, f"{A[:-2]}B=")),
        data(HEAD, FULL.replace(A, "(none)")),
        data(HEAD, FULL.replace("1700000000", "-1")),
        data(HEAD, FULL.replace("1700000000", "1e9")),
        data(HEAD, FULL.replace("1700000000", "9" * 21)),
        data(HEAD, FULL.replace("1700000000", "١")),
        data(HEAD, FULL.replace("10.200.0.7/32", "10.200.0.256/32")),
        data(HEAD, FULL.replace("10.200.0.7/32", "10.200.0.7")[:-20] + "x"),
        data(HEAD, FULL.replace("10.200.0.7/32,192.168.4.0/24", "10.200.0.7/33")),
        data(HEAD, FULL.replace("10.200.0.7/32", "")),
        data(HEAD, FULL.replace("10.200.0.7/32", "fd00::/129")),
        data(HEAD, FULL.replace("10.200.0.7/32", "10.200.0.7/24")),
        data(HEAD, FULL.replace("192.0.2.7:4000", "192.0.2.7")),
        data(HEAD, FULL.replace("\t25", "\ton")),
        data(HEAD).replace(b"51820", b"port"),
        data(HEAD).replace(b"off", b"on"),
        data(HEAD, FULL).replace(b"25", b"\xff"),
        data(HEAD, FULL)[:-1] + b"\0\n",
    ],
)
def test_a_hostile_dump_is_malformed_and_not_quoted(bad: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        parse(bad)
    assert caught.value.__cause__ is None
    assert not [key for key in KEYS if key[:20] in str(caught.value)]


fragments = st.sampled_from(
    [HEAD, FULL, BARE, A, "\t", "\n", "(none)", "off", "0", "10.0.0.0/8", ",", "[", "]:1", "\r", "é"]
)


@given(
    st.binary(max_size=300) | st.lists(fragments, max_size=12).map(lambda parts: f"{HEAD}\n{''.join(parts)}\n".encode())
)
@example(data(HEAD, FULL.replace("10.200.0.7/32", "9" * 60_000)))
def test_any_bytes_are_a_dump_or_malformed(text: bytes) -> None:
    try:
        interface = parse(text)
    except Malformed:
        return
    assert data(*map(line, interface.peers.values())).count(b"\n") == text.count(b"\n") - 1


@given(st.integers(0, len(data(HEAD, FULL, BARE)) - 1), st.integers(0, 255))
def test_one_byte_changed_is_a_dump_or_malformed(place: int, byte: int) -> None:
    changed = bytearray(data(HEAD, FULL, BARE))
    changed[place] = byte
    try:
        interface = parse(bytes(changed))
    except Malformed:
        return
    assert len(interface.peers) == 2
