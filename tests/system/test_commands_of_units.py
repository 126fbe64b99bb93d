"""The commands of units beside the daemon's, with the settings that docs/operations.md has one write and the secrets that the unit gives."""

from pathlib import Path
import re
from typing import Any, Final

from tests.system.commands import Done, opendesk
from tests.system.daemon import url_of

ROOT: Final = Path(__file__).parents[2]


def first_env_file() -> str:
    """Of "Ten minutes", and what docs/security.md asks for beside it."""
    ten_minutes = (ROOT / "docs/operations.md").read_text("utf-8").partition("## Ten minutes")[2]
    (block,) = re.findall(r"^ *```sh\n((?: *[A-Z_]+=\S+\n)+) *```", ten_minutes.partition("\n## ")[0], re.MULTILINE)
    return "".join(f"{line.strip()}\n" for line in block.splitlines()) + "BACKEND_REQUIRE_HMAC=1\n"


async def as_unit(unit: str, folder: Path, held: dict[str, str], **settings: str) -> Done:
    """Its command, in `folder` instead of the folder of backups, with those of the secrets that are held which it loads."""
    text = (ROOT / "systemd" / unit).read_text("utf-8")
    (command,) = re.findall(r"^ExecStart=/usr/bin/opendesk (.+)$", text, re.MULTILINE)
    credentials, env_file = folder / "credentials", folder / "opendesk.env"
    credentials.mkdir()
    for name in re.findall(r"^LoadCredential=(\w+):", text, re.MULTILINE):
        (credentials / name).write_text(held.get(name, "\n"))
    env_file.write_text(first_env_file())
    words = [word.replace("/var/backups/opendesk", str(folder)) for word in command.split()]
    told: dict[str, Any] = {"OPENDESK_ENV_FILE": str(env_file), "CREDENTIALS_DIRECTORY": str(credentials), **settings}
    return await opendesk(*words, data_dir=folder, **told)


def backups(folder: Path) -> list[Path]:
    return list(folder.glob("opendesk_*.tar"))


async def test_the_nightly_backup_is_made(folder: Path, conninfo: str) -> None:
    assert "RELAY_STRICT_SECURITY=1" in first_env_file()
    done = await as_unit("opendesk-backup.service", folder, {"DATABASE_URL": url_of(conninfo)})
    assert (done.code, done.err) == (0, "")
    assert len(backups(folder)) == 1


async def test_the_interface_for_tunnels_is_made(folder: Path) -> None:
    done = await as_unit("opendesk-tunnel.service", folder, {}, WG_INTERFACE="wg0", RELAY_DRY_RUN="1")
    assert (done.code, done.err) == (0, "")
    assert "wg0" in done.out


async def test_the_daemon_itself_is_still_held_to_what_goes_together(folder: Path) -> None:
    done = await opendesk("serve", data_dir=folder, RELAY_STRICT_SECURITY="1", BACKEND_REQUIRE_HMAC="1")
    assert done.code == 2
    assert done.err.splitlines() == [
        "BACKEND_HMAC_SECRET: is not set; BACKEND_REQUIRE_HMAC=1 needs it",
        "RELAY_API_SECRET: is not set; RELAY_STRICT_SECURITY=1 needs it",
        "RELAY_INTERNAL_TOKEN: is not set; RELAY_STRICT_SECURITY=1 needs it",
    ]
