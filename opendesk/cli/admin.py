"""`opendesk admin`: the first admin comes from here, never from the API."""

import sys

import click

from opendesk.cli.common import load_settings, with_connection
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import users
from opendesk.web.auth import Passwords

# The API's (contracts/rental-http.md).
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1000


@click.group()
def admin() -> None:
    """Make admins; ban and unban users."""


@admin.command()
@click.argument("email")
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input.")
@click.option("--username", help="3 to 30 characters; made of the e-mail address otherwise.")
@click.pass_context
def create(context: click.Context, email: str, *, password_stdin: bool, username: str | None) -> None:
    """Make an admin who logs in with EMAIL."""
    settings = load_settings(context)
    password = _password(from_stdin=password_stdin)
    if "@" not in email.strip("@"):
        raise click.BadParameter("is not an e-mail address", param_hint="EMAIL")
    name = username or email.partition("@")[0][:20].ljust(3, "_") + "-admin"

    async def work(conn: TrioConnection) -> users.Account:
        password_hash = await Passwords().hash(password)
        return await users.add(
            conn, email=email, username=name, display_name=None, role="ADMIN", password_hash=password_hash
        )

    made = with_connection(settings, work)
    click.echo(f"admin {made.email} ({made.id})")


@admin.command()
@click.argument("email")
@click.pass_context
def ban(context: click.Context, email: str) -> None:
    """Keep EMAIL out; their tokens end at once."""
    _set_banned(context, email, banned=True)


@admin.command()
@click.argument("email")
@click.pass_context
def unban(context: click.Context, email: str) -> None:
    """Let EMAIL log in again."""
    _set_banned(context, email, banned=False)


def _set_banned(context: click.Context, email: str, *, banned: bool) -> None:
    async def work(conn: TrioConnection) -> bool:
        return await users.set_banned(conn, email, banned=banned)

    if not with_connection(load_settings(context), work):
        raise click.ClickException(f"there is no user {email}")
    click.echo(f"{email} is {'banned' if banned else 'admitted again'}")


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline(LONGEST_PASSWORD + 2).rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise click.ClickException(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    return password
