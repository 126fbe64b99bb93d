"""The two import tables of docs/architecture.md hold."""

import ast
from collections.abc import Iterator
from pathlib import Path
import sys

import pytest

HOUSE = Path(__file__).parents[1] / "opendesk"
MODULES = {".".join(path.relative_to(HOUSE.parent).with_suffix("").parts): path for path in sorted(HOUSE.rglob("*.py"))}
GROUND = {"errors", "limits", "settings", "supervise"}
ROOMS = {
    "rental": {"rental", "postgres", "web", "ops"},
    "stream": {"stream", "rental", "postgres", "web", "ops"},
    "network": {"network", "postgres", "web", "ops"},
    "console": {"console", "rental", "stream", "network", "postgres", "web", "ops"},
    "web": {"web", "postgres", "ops"},
    "postgres": {"postgres"},
    "ops": {"ops"},
} | {ground: set() for ground in GROUND}
PURE = {
    "rental": ("settlement", "lifecycle", "liveness", "money", "reliability", "closing"),
    "stream": ("tokens", "control", "limits", "events", "frames", "outgoing", "outbox", "presence", "admission"),
    "network": (
        "signatures",
        "routeros.errors",
        "routeros.words",
        "routeros.codec",
        "routeros.session",
        "routeros.console",
        "routers.breaker",
        "addresses",
        "hotspots.place",
        "hotspots.found",
        "hotspots.steps",
        "hotspots.bindings",
        "hotspots.plan",
        "hotspots.requests",
    ),
    "web": ("reading", "strict", "wire"),
    "network.events": ("types", "machine", "ordering"),
    "network.wireguard": ("arguments", "changes", "dump", "keys", "prefixes"),
    "network.tunnels.keeping": ("plan", "presence", "rotation", "thefts"),
    "network.setup": ("script", "steps", "minimal", "redialling", "undo"),
    "console": ("shapes", "texts", "plots", "patches", "told", "sections.kept"),
    "settings": ("addresses", "secret", "values"),
}
PURE_MODULES = {f"opendesk.{room}.{name}" for room, names in PURE.items() for name in names} | {
    "opendesk.limits",
    "opendesk.errors",
}
# Of others: attrs is declarations, and msgspec too (it reads and writes JSON, without a socket or a clock, and is both stricter and faster
# than json); cattrs makes values of values.
PURE_OTHERS = {"attrs", "cattrs", "msgspec"}
# One C function, bytes to bytes: the mask of a WebSocket's frames. The rest of its package does I/O.
PURE_OTHERS |= {"websockets.speedups"}
# Of the standard library: what does something, or is not the same twice.
IMPURE = {"asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "sys", "threading", "time"}
IMPURE_CALLS = {"now", "utcnow", "today", "uuid1", "uuid4", "uuid7", "open"}


def imports(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(MODULES[module].read_bytes())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level or None] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (sub if (sub := f"{origin}.{name.name}") in MODULES else origin for name in node.names)


@pytest.mark.parametrize("module", [module for module in MODULES if module.split(".")[1] in ROOMS])
def test_a_room_imports_only_what_it_may(module: str) -> None:
    room = module.split(".")[1]
    ours = {name for name in imports(module) if name.split(".")[0] == "opendesk"}
    assert {
        name for name in ours if [*name.split("."), ""][1] not in ROOMS[room] | GROUND | {""}
    } == set()  # "": the version


@pytest.mark.parametrize("module", sorted(PURE_MODULES))
def test_a_pure_module_imports_no_doing_and_reads_no_clock(module: str) -> None:
    foreign = {
        name
        for name in imports(module)
        if name not in PURE_MODULES | PURE_OTHERS and name.split(".")[0] not in PURE_OTHERS
    }
    assert {name for name in foreign if name.split(".")[0] not in sys.stdlib_module_names - IMPURE} == set()
    calls = [node.func for node in ast.walk(ast.parse(MODULES[module].read_bytes())) if isinstance(node, ast.Call)]
    names = {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}
    assert names & IMPURE_CALLS == set()


def test_only_the_daemon_its_wiring_and_its_console_import_every_room() -> None:
    rooms = {"rental", "stream", "network"}
    everywhere = {
        m
        for m in MODULES
        if len({name.split(".")[1] for name in imports(m) if name.startswith("opendesk.")} & rooms) == len(rooms)
    }
    assert everywhere <= {"opendesk.daemon", "opendesk.wiring", "opendesk.console.parts", "opendesk.console.gathering"}


def test_only_simulators_have_a_websocket_library() -> None:
    users = {module.split(".")[1] for module in MODULES if "trio_websocket" in imports(module)}
    assert users == {"simulators"}
