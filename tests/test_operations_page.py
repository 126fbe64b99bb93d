"""Pages for operators are held to the code: what they name is there, links lead somewhere, shell blocks are shell."""

from collections.abc import Iterator
from pathlib import Path
import re
import shutil
import subprocess
from typing import Final

import click
import pytest

from opendesk.cli import group
from opendesk.console import board, seals
from opendesk.rental import users
from opendesk.settings.table import DECLARED, SECRET_NAMES
from opendesk.web.http.limits import Limits

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted([*DOCS.glob("*.md"), *DOCS.glob("monitoring/*.md"), ROOT / "README.md"])
OURS: Final = [DOCS / name for name in ("operations.md", "environment.md", "security.md")]
TEXT: Final = "\n".join(page.read_text("utf-8") for page in OURS)
OPERATIONS: Final = (DOCS / "operations.md").read_text("utf-8")

UNITS: Final = {path.name: path.read_text("utf-8") for path in (ROOT / "systemd").glob("opendesk*") if path.is_file()}
SOURCES: Final = "".join(path.read_text("utf-8") for path in (ROOT / "opendesk").rglob("*.py"))
PACKAGING: Final = "".join(
    path.read_text("utf-8")
    for path in sorted((ROOT / "scripts" / "debian").rglob("*"))
    if path.is_file() and path.suffix != ".pyc"
)

# One of each benchmark that is told.
FIGURES: Final = {
    "sessions-http": "154",
    "http": "1,804",
    "heartbeats": "471",
    "expiry": "28",
    "relay": "277",
    "routers": "4.4",
    "events": "535",
    "tunnels": "131",
    "start": "87",
    "console": "1.8",
}
# Made by whoever follows a page, not by us: the operator's drop-ins and hook, the instance's file.
MADE_PATHS: Final = (
    "/etc/opendesk/tls",
    "/etc/letsencrypt/",
    "/etc/opendesk/333",
    "/etc/systemd/system/",
    "/usr/local/",
    "/usr/share/opendesk/systemd/",
    "/var/lib/opendesk/wireguard",
    "/var/backups/opendesk/before",
)
FOREIGN_VARIABLES: Final = re.compile(
    r"(?:LISTEN|NOTIFY|WATCHDOG|XDG|JOURNAL)_[A-Z_]+|CREDENTIALS_DIRECTORY|CAP_NET_ADMIN|PIPX_\w+|OPENDESK_ENV_FILE|RENEWED_LINEAGE"
)


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


def outside_blocks(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them."""
    heads = re.findall(r"^#+ +(.+?) *$", outside_blocks(page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_blocks(page.read_text("utf-8"))):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            yield target


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def command_lines(text: str) -> Iterator[list[str]]:
    """`opendesk …`, and of blocks also what comes after an assignment or `cd`."""
    spans = re.findall(r"`((?:\w+=\S+ )*opendesk [^`\n]+)`", outside_blocks(text))
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    for line in [*spans, *lines]:
        if match := re.search(r"(?:^|\s|&& )(?:scripts/run|opendesk) +([a-z][^#&|;]*)", line):
            yield match[1].split()


def understood(words: list[str]) -> bool:
    command: click.Command = group
    context = click.Context(group)
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z]+", words[0]):
        inner = command.get_command(context, words[0])
        if inner is None:
            # `events` is a command and a group.
            return command.invoke_without_command and command is not group
        command, words = inner, words[1:]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return {word for word in words if word.startswith("--")} <= options


# ---- links and blocks, of all pages


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_shell_blocks_are_shell(page: Path) -> None:
    for block in blocks(page, "sh"):
        done = subprocess.run(["sh", "-n"], input=block, text=True, capture_output=True, check=False, timeout=10)
        assert done.returncode == 0, f"{done.stderr}\n{block}"


def test_each_page_is_led_to_from_the_readme_or_another_page() -> None:
    led_to = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    }
    assert {relative(page) for page in PAGES if page.name != "README.md"} - {
        relative(page) for page in led_to if page in PAGES
    } == set()


# ---- what pages for operators name


@pytest.mark.parametrize("page", OURS, ids=relative)
def test_commands_are_commands(page: Path) -> None:
    found = list(command_lines(page.read_text("utf-8")))
    assert [words for words in found if not understood(words)] == []


def test_operations_names_commands() -> None:
    named = {words[0] for words in command_lines(OPERATIONS)}
    assert {"admin", "backup", "restore", "doctor", "migrate", "settings", "router", "tunnel", "why"} <= named


def test_the_readme_has_each_command_in_its_table() -> None:
    table = (ROOT / "README.md").read_text("utf-8").partition("## Running it")[2]
    assert {
        name
        for name in group.list_commands(click.Context(group))
        if not re.search(rf"^\|.*`{name}\b", table, re.MULTILINE)
    } == set()


def test_settings_are_settings() -> None:
    known = {declared.name for declared in DECLARED}
    named = set(re.findall(r"`(?:\d+\s)?([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", TEXT))
    named |= set(re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)=", TEXT))
    unknown = {name for name in named if name not in known and not FOREIGN_VARIABLES.fullmatch(name)}
    # The rest are codes of errors, words of the audit and fields of the journal: the code has them.
    assert {name for name in unknown if f'"{name}"' not in SOURCES and not name.startswith("OPENDESK_")} == set()


def test_fields_of_the_journal_are_the_monitoring_pages_ones() -> None:
    explained = (DOCS / "monitoring" / "README.md").read_text("utf-8")
    fields = set(re.findall(r"\b(OPENDESK_[A-Z_]+)", TEXT)) - {"OPENDESK_DATA_DIR", "OPENDESK_ENV_FILE"}
    assert fields
    assert {name for name in fields if name not in explained} == set()


def test_metrics_are_metrics() -> None:
    metrics = set(re.findall(r"`(opendesk_[a-z_]+)`", TEXT)) - {"opendesk_console", "opendesk_serve", "opendesk_owner"}
    assert metrics
    assert {name for name in metrics if name.removeprefix("opendesk_").removesuffix("_total") not in SOURCES} == set()


def test_events_of_the_log_are_logged() -> None:
    events = set(re.findall(r"`((?:http|network|tunnel|router|daemon|database)\.[a-z_]+)`", TEXT))
    assert {name for name in events if f'"{name}"' not in SOURCES} == set()


def test_units_and_their_drop_ins_are_there() -> None:
    named = set(re.findall(r"\b(opendesk(?:-[a-z]+|@(?:3333|3334)?)?\.(?:service|socket|timer))\b(?!\.d)", TEXT))
    known = set(UNITS)
    assert {name for name in named if re.sub(r"@\d+", "@", name) not in known} == set()
    assert (ROOT / "systemd" / "opendesk.service.d" / "tunnels.conf").is_file()


def test_each_path_is_one_that_units_or_the_package_know() -> None:
    known = PACKAGING + "".join(UNITS.values()) + SOURCES
    paths = set(
        re.findall(r"(?:(?<=[\s`(=\"'])|^)(/(?:usr|var|etc|run)/(?:[a-z/]*)opendesk[\w./-]*)", OPERATIONS, re.MULTILINE)
    )
    assert "/etc/opendesk/credentials" in paths
    placed = {path.rstrip("/.").removeprefix("/") for path in paths if not path.startswith(MADE_PATHS)}
    assert {path for path in placed if path not in known} == set()


def test_what_is_said_of_the_unit_stands_in_it() -> None:
    unit = UNITS["opendesk.service"]
    for said, stands in {
        "after 15 s without a sign": "WatchdogSec=15",
        "tried again every 2 s": "RestartSec=2",
        "exit code 2, a wrong setting: systemd leaves it down": "RestartPreventExitStatus=2",
        "tried again for ever": "StartLimitIntervalSec=0",
        "20,480 descriptors": "LimitNOFILE=20480",
        "`CAP_NET_ADMIN`": "CapabilityBoundingSet=\n",
        "`ProtectHome=`": "ProtectHome=yes",
    }.items():
        assert said in OPERATIONS
        assert stands in unit
    for name in ("NoNewPrivileges", "CapabilityBoundingSet", "MemoryDenyWriteExecute"):
        assert f"`{name}`" in TEXT
        assert f"{name}=" in unit
    assert "--keep 14" in UNITS["opendesk-backup.service"]


def test_limits_are_the_codes() -> None:
    limits = Limits()
    assert f"{limits.connections:,} kept connections for calls, {limits.upgraded:,} sockets of the relay" in OPERATIONS
    assert f"{board.WATCHERS_MOST} pages at once" in OPERATIONS
    assert f"A log-in lasts {seals.LIFETIME.total_seconds() / 3600:.0f} hours" in OPERATIONS
    assert (users.LOGIN_FAILURES, users.LOGIN_WINDOW_S) == (5, 300)
    assert "five wrong passwords lock an account for five minutes" in OPERATIONS


def test_each_secret_is_told_what_it_opens_and_how_it_is_changed() -> None:
    opens = (DOCS / "security.md").read_text("utf-8").partition("## What each secret opens")[2].partition("\n## ")[0]
    changed = OPERATIONS.partition("## Secrets")[2].partition("\n## ")[0]
    assert {name for name in SECRET_NAMES if name not in opens} == set()
    assert {name for name in SECRET_NAMES if name not in changed} - {"RELAY_DATABASE_URL"} == set()
    assert len(SECRET_NAMES) == 11  # "Eleven settings are secret"
    assert "Eleven settings are secret" in TEXT


def test_figures_are_the_benchmarks() -> None:
    told = OPERATIONS.partition("## How much it carries")[2].partition("\n## ")[0]
    told_of = {name: "\n".join(line for line in told.splitlines() if f"`{name}`" in line) for name in FIGURES}
    rows = (DOCS / "benchmarks.md").read_text("utf-8").partition("## Figures")[2].partition("\n## ")[0]
    for name, figure in FIGURES.items():
        assert re.search(rf"^\| `{name}`: .*\| {re.escape(figure)} \|", rows, re.MULTILINE), (name, figure)
        assert re.search(rf"^\|.*\b{re.escape(figure)}\b.*\|$", told_of[name], re.MULTILINE), (name, figure)


def test_scripts_and_options_that_are_named_are_there() -> None:
    for script in set(re.findall(r"\bscripts/[a-z]+", TEXT)):
        assert (ROOT / script).exists(), script
    assert "--output" in (ROOT / "scripts" / "debian" / "__main__.py").read_text("utf-8")


def test_systemd_understands_the_drop_ins(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("NO SYSTEMD-ANALYZE HERE: THE DROP-INS OF docs/operations.md ARE UNTESTED")
    for name, text in UNITS.items():
        program = shutil.which("true")
        assert program is not None
        (tmp_path / name).write_text(text.replace("/usr/bin/opendesk serve", program), "utf-8")
    for block in blocks(DOCS / "operations.md", "ini"):
        unit = re.search(r"^# .*?(opendesk[\w@-]*\.(?:service|socket))", block, re.MULTILINE)
        assert unit is not None
        (tmp_path / f"{unit[1]}.d").mkdir(exist_ok=True)
        drop_in = re.sub(r"/(?:srv|usr/local/bin)/opendesk\S*", "/bin/true", block)
        (tmp_path / f"{unit[1]}.d" / "page.conf").write_text(drop_in, "utf-8")
    done = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", "opendesk.service", "opendesk.socket"],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert [line for line in (done.stdout + done.stderr).splitlines() if str(tmp_path) in line] == []
