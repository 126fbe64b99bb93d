"""Settings as they may be shown: a table for `opendesk settings`, and the page docs/settings.md."""

from collections.abc import Iterator

from attrs import frozen

from opendesk.settings.table import DECLARED, Settings
from opendesk.settings.values import show


@frozen
class Row:
    """A line of `opendesk settings`; `value` is masked where it is secret, None where there is none."""

    name: str
    value: str | None
    source: str
    default: str | None
    meaning: str
    secret: bool


def describe(settings: Settings) -> tuple[Row, ...]:
    """Every setting as it may be shown: value, where it came from, default, meaning."""
    return tuple(
        Row(
            name=declared.name,
            value=show(declared.kind, getattr(settings, declared.name.lower())),
            source=settings.sources.get(declared.name, "default"),
            default=declared.default,
            meaning=declared.meaning,
            secret=declared.kind.secret,
        )
        for declared in DECLARED
    )


_PAGE = """# Settings

Made from `opendesk/settings/table.py` by `opendesk settings --markdown`; a test says that it is current.

Each comes from the environment, from the file given with `--env-file`, or, where it is marked as secret, from a file of
its name in `$CREDENTIALS_DIRECTORY` (systemd's `LoadCredential=`). The environment wins over the file, the file over
credentials. An empty value counts as not set. `opendesk settings` shows what holds and where it came from, secrets masked.

The file has a line `NAME=value` for each; `export`, comments with `#`, `'text as it is'` and `"text with \\n"` are understood.
A value that does not fit stops the start, with all faults at once.

| name | default | meaning | allowed |
| --- | --- | --- | --- |
"""


def markdown() -> str:
    """The page docs/settings.md. It depends on the declarations only."""
    return _PAGE + "".join(f"{line}\n" for line in _table_lines())


def _table_lines() -> Iterator[str]:
    for declared in DECLARED:
        default = "–" if declared.default is None else declared.default
        meaning = f"{declared.meaning} (secret)" if declared.kind.secret else declared.meaning
        yield f"| `{declared.name}` | {default} | {meaning} | {declared.kind.allowed} |"
