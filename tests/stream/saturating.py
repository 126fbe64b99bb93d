"""Load for rooms of a relay, in a process of its own: each host writes as much as is taken, each client reads all that comes.

Its arguments: the size of a message, and the descriptors of sockets that are welcome, a host's and a client's by turns.
"""

import selectors
import socket
import sys

from tests.stream.framing import BINARY, sent

CHUNK_BYTES = 2**17
READ_BYTES = 2**18


class Host:
    def __init__(self, sock: socket.socket, chunk: bytes) -> None:
        self._sock = sock
        self._size = len(chunk)
        self._chunk = memoryview(chunk * 2)  # as much is offered wherever the last turn ended
        self._at = 0

    def turn(self) -> None:
        self._at += self._sock.send(self._chunk[self._at : self._at + self._size])
        self._at %= self._size


class Client:
    def __init__(self, sock: socket.socket, buffer: bytearray) -> None:
        self._sock = sock
        self._buffer = buffer

    def turn(self) -> None:
        if not self._sock.recv_into(self._buffer):
            raise SystemExit("a client was closed")


def main(size: int, *descriptors: int) -> None:
    """Until it is killed, or a socket ends."""
    frame = sent(BINARY, bytes(size))
    chunk, buffer = frame * (CHUNK_BYTES // len(frame)), bytearray(READ_BYTES)
    selector = selectors.DefaultSelector()
    for number, descriptor in enumerate(descriptors):
        sock = socket.socket(fileno=descriptor)
        if number % 2:
            selector.register(sock, selectors.EVENT_READ, Client(sock, buffer))
        else:
            selector.register(sock, selectors.EVENT_WRITE, Host(sock, chunk))
    while True:
        for key, _ in selector.select():
            key.data.turn()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
