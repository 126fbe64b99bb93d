"""`schemas/schema.sql`, which is published, is the schema that the migrations make. UPDATE_SCHEMA=1 writes it anew."""

import os
from pathlib import Path
import subprocess

import pytest

from opendesk.postgres.embedded import binaries
from opendesk.postgres.embedded.account import Account

PUBLISHED = Path(__file__).parents[2] / "schemas" / "schema.sql"

# What pg_dump writes differently every time, or with every minor version.
VOLATILE = ("-- Dumped from ", "-- Dumped by ", "\\restrict ", "\\unrestrict ")


def dump(conninfo: str, pg_dump: str) -> str:
    command = [pg_dump, "--schema-only", "--schema=opendesk", "--no-owner", "--no-privileges", f"--dbname={conninfo}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(VOLATILE))


def test_published_schema_is_what_the_migrations_make(conninfo: str, tmp_path: Path) -> None:
    if binaries.wheel_package() is None:
        pytest.skip("another version's pg_dump would write it differently")
    found = binaries.find(Account(os.geteuid(), os.getegid()), tmp_path)
    made = dump(conninfo, found.path("pg_dump"))
    if os.environ.get("UPDATE_SCHEMA") == "1":
        PUBLISHED.write_text(made)
    published = PUBLISHED.read_text() if PUBLISHED.exists() else ""
    assert made == published, "run this test with UPDATE_SCHEMA=1 and look at the difference"
