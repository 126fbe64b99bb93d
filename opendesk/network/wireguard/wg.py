"""The `wg` program: reads the interface, applies changes. What is secret goes to it by stdin or memory files, never in arguments."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import re
from subprocess import CompletedProcess
from typing import Any, Final

from attrs import define, field
import trio

from opendesk.network.wireguard import dump
from opendesk.network.wireguard.arguments import chunks, words
from opendesk.network.wireguard.changes import Change
from opendesk.network.wireguard.dump import Interface
from opendesk.settings.secret import Secret

Run = Callable[..., Awaitable[CompletedProcess[bytes]]]

# 10,000 peers take 50 ms to print; whoever needs 200 times that hangs.
READ_S: Final = 10
# A chunk takes 0.2 s. It is killed in the midst of its work only if nothing else helps.
SET_S: Final = 60
# Of what `wg` complains of, to people.
_TOLD_CHARS: Final = 300
# Whatever may be a key, or most of one.
_KEYLIKE: Final = re.compile(r"[A-Za-z0-9+/=]{32,}")
# Linux' number of the capability.
_CAP_NET_ADMIN: Final = 12


class WgError(Exception):
    """`wg` did not do what it was asked to. How much of it was done is unknown: read again."""


class ProgramMissing(WgError):
    """`wg` can't be started."""


class NotPermitted(WgError):
    """`wg` failed, and this process has no CAP_NET_ADMIN."""


class Refused(WgError):
    """`wg` failed: most often there is no such interface."""


class TimedOut(WgError):
    """`wg` hung and was killed."""


class Unreadable(WgError):
    """`wg` printed what is no whole dump."""


def has_net_admin(status: str) -> bool:
    """Whether a /proc/…/status tells of CAP_NET_ADMIN."""
    match = re.search(r"^CapEff:\s*([0-9a-f]{1,16})$", status, re.MULTILINE)
    return match is not None and bool(int(match[1], 16) >> _CAP_NET_ADMIN & 1)


def _own_status() -> str:
    """Empty where the system has no such file, which is any but Linux."""
    path = Path("/proc/self/status")
    return path.read_text() if path.exists() else ""


@define(eq=False)
class Wg:
    """`command` is how `wg` is called: `ip netns exec NAME wg` for an interface in a network namespace."""

    interface: str
    run: Run = trio.run_process
    command: tuple[str, ...] = ("wg",)
    status: Callable[[], str] = field(default=_own_status, repr=False)

    async def read(self) -> Interface:
        """What the interface holds, whole; parsed in portions, so that others get their turn."""
        done = await self._call(READ_S, "show", self.interface, "dump")
        try:
            reading = dump.Reading()
            for lines in dump.portions(dump.lines_of(done.stdout)):
                reading.take(lines)
                await trio.lowlevel.checkpoint()
            return reading.interface()
        except dump.Malformed as exc:
            raise Unreadable(f"wg show {self.interface} dump: {exc}") from None

    async def apply(self, changes: Sequence[Change]) -> None:
        """Do them in their order; endpoints are addresses. After a `WgError` some may have been done."""
        for chunk in chunks(changes):
            with _secret_files() as files:
                told = [word for change in chunk for word in words(change, files.add)]
                await self._call(SET_S, "set", self.interface, *told, pass_fds=tuple(files.descriptors))

    async def set_private_key(self, key: Secret[str]) -> None:
        await self._call(
            SET_S, "set", self.interface, "private-key", "/dev/stdin", stdin=f"{key.reveal()}\n".encode("ascii")
        )

    async def set_listen_port(self, port: int) -> None:
        await self._call(SET_S, "set", self.interface, "listen-port", str(port))

    async def _call(self, limit_s: float, *arguments: str, **options: Any) -> CompletedProcess[bytes]:
        what = f"wg {arguments[0]} {self.interface}"
        try:
            with trio.fail_after(limit_s):
                done = await self.run(
                    [*self.command, *arguments],
                    capture_stdout=True, capture_stderr=True, check=False, deliver_cancel=_kill, **options,
                )  # fmt: skip
        except trio.TooSlowError:
            raise TimedOut(f"{what}: no end within {limit_s:.0f} s") from None
        except OSError as exc:
            # Not its text: on some systems it repeats the arguments.
            raise ProgramMissing(
                f"{what}: {self.command[0]} can't be started ({os.strerror(exc.errno or 0)})"
            ) from None
        if done.returncode != 0:
            raise self._failure(what, done)
        return done

    def _failure(self, what: str, done: CompletedProcess[bytes]) -> WgError:
        complaint = _without_keys(done.stderr)
        status = self.status()
        if status and not has_net_admin(status):
            return NotPermitted(f"{what}: this process has no CAP_NET_ADMIN, without which it can't: {complaint}")
        return Refused(f"{what}: exit code {done.returncode}: {complaint}")


def _without_keys(stderr: bytes) -> str:
    text = _KEYLIKE.sub("…", stderr.decode("utf-8", "replace"))
    return " ".join(text.split())[:_TOLD_CHARS] or "without a word"


async def _kill(process: trio.Process) -> None:
    process.kill()


@define
class _SecretFiles:
    """Files that are only in memory, and only this process' and its child's."""

    descriptors: list[int] = field(factory=list)

    def add(self, secret: str) -> str:
        self.descriptors.append(descriptor := os.memfd_create("preshared-key"))
        os.write(descriptor, f"{secret}\n".encode("ascii"))
        return f"/dev/fd/{descriptor}"


@contextmanager
def _secret_files() -> Iterator[_SecretFiles]:
    files = _SecretFiles()
    try:
        yield files
    finally:
        for descriptor in files.descriptors:
            os.close(descriptor)
