"""`scripts/package [--output FOLDER] [--revision NUMBER] [--json]`."""

import json
from pathlib import Path
import tempfile

from attrs import asdict
import click

from scripts.debian.building import build
from scripts.debian.control import package_version, read_release
from scripts.debian.program import CannotBuild, make_program
from scripts.debian.tree import ROOT, make_tree


@click.command()
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Where it goes; this folder."
)
@click.option("--revision", type=click.IntRange(1), default=1, help="Counts packages of one version.")
@click.option("--json", "as_json", is_flag=True, help="Print what was built as JSON.")
def main(output: Path, *, revision: int, as_json: bool) -> None:
    """Build opendesk_VERSION-REVISION_ARCHITECTURE.deb for Debian 12, with all that it needs inside.

    It takes the wheels of requirements/run.txt from the index that pip is set up with, checks their hashes, and packs them
    with this checkout. Nothing is compiled, and nobody needs to be root. On the server:

    dpkg -i opendesk_0.1.0-1_amd64.deb
    """
    version = package_version(read_release(ROOT / "pyproject.toml"), revision)
    try:
        with tempfile.TemporaryDirectory(prefix="opendesk-package-") as made:
            root = Path(made, "root")
            make_tree(root)
            make_program(root, version)
            built = build(root, version, output)
    except CannotBuild as exc:
        raise click.ClickException(str(exc)) from exc
    if as_json:
        click.echo(json.dumps(asdict(built)))
    else:
        click.echo(
            f"{built.package}  ({built.bytes // 1_000_000} MB; {built.installed_bytes // 1_000_000} MB installed)"
        )


main(prog_name="scripts/package")
