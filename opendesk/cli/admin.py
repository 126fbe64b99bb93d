"""`opendesk admin`: the first admin comes from here, never from the API."""

import json
import sys
from typing import Final

import click

from opendesk.cli.common import AS_JSON, TEXT, asked_password, checked, load_settings, say, with_connection
from opendesk.postgres.driver import TrioConnection
from opendesk.rental import users
from opendesk.rental.api.users import Register
from opendesk.rental.errors import UsernameTaken
from opendesk.web.auth import Passwords

# More than the longest password takes in UTF-8 (contracts/rental-http.md).
_MAX_LINE_BYTES: Final = 8192


@click.group()
def admin() -> None:
    """Make admins; ban and unban users."""


@admin.command()
@click.argument("email", type=TEXT)
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input.")
@click.option("--username", type=TEXT, help="3 to 30 characters; made of the e-mail address otherwise.")
@AS_JSON
@click.pass_context
def create(context: click.Context, email: str, *, password_stdin: bool, username: str | None, as_json: bool) -> None:
    """Make an admin who logs in with EMAIL.

    The password has 8 characters at least; it is asked for, unless it comes on standard input.
    """
    settings = load_settings(context)
    name = username if username is not None else f"{email.partition('@')[0][:20]}-admin"
    wanted = checked(Register, email=email, username=name, password=_password(from_stdin=password_stdin))

    async def work(conn: TrioConnection) -> users.Account:
        password_hash = await Passwords().hash(wanted.password)
        try:
            return await users.add(
                conn,
                email=wanted.email,
                username=wanted.username,
                display_name=None,
                role="ADMIN",
                password_hash=password_hash,
            )
        except UsernameTaken:
            raise click.ClickException(f"the name {wanted.username} is taken: give another with --username") from None

    made = with_connection(settings, work)
    if as_json:
        click.echo(json.dumps({"id": str(made.id), "email": made.email, "username": wanted.username, "role": "ADMIN"}))
    else:
        say(f"admin {made.email} ({made.id})")


@admin.command()
@click.argument("email", type=TEXT)
@AS_JSON
@click.pass_context
def ban(context: click.Context, email: str, *, as_json: bool) -> None:
    """Keep EMAIL out; their tokens end at once."""
    _set_banned(context, email, banned=True, as_json=as_json)


@admin.command()
@click.argument("email", type=TEXT)
@AS_JSON
@click.pass_context
def unban(context: click.Context, email: str, *, as_json: bool) -> None:
    """Let EMAIL log in again."""
    _set_banned(context, email, banned=False, as_json=as_json)


def _set_banned(context: click.Context, email: str, *, banned: bool, as_json: bool) -> None:
    async def work(conn: TrioConnection) -> bool:
        return await users.set_banned(conn, email, banned=banned)

    if not with_connection(load_settings(context), work):
        raise click.ClickException(f"there is no user {email}")
    if as_json:
        click.echo(json.dumps({"email": email, "banned": banned}))
    else:
        say(f"{email} is {'banned' if banned else 'admitted again'}")


def _password(*, from_stdin: bool) -> str:
    if not from_stdin:
        return asked_password()
    try:
        return sys.stdin.buffer.readline(_MAX_LINE_BYTES).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("the password is not UTF-8") from None
