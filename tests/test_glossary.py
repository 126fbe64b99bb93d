"""docs/glossary.md explains the words of the wire that English readers don't have, and none that isn't sent."""

from pathlib import Path
import re
from typing import Final

ROOT: Final = Path(__file__).parents[1]
GLOSSARY: Final = (ROOT / "docs" / "glossary.md").read_text("utf-8")
WIRE: Final = "".join((ROOT / "schemas" / name).read_text("utf-8") for name in ("openapi.json", "events.schema.json"))
PORTUGUESE: Final = re.compile(r"\b[\w-]*(?:pedido|PEDIDO|Atual|mik[A-Z]|mikrotik[A-Z]|NOVO|CONFIAVEL|INSTAVEL)\w*")


def explained() -> set[str]:
    section = GLOSSARY.partition("## Portuguese on the wire")[2].partition("\n## ")[0]
    firsts = (line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    return {word for first in firsts for word in re.findall(r"`([^`]+)`", first)} - {"R$"}


def test_each_portuguese_word_of_the_wire_is_explained() -> None:
    assert set(PORTUGUESE.findall(WIRE)) <= explained()


def test_each_word_that_is_explained_is_sent() -> None:
    assert {word for word in explained() if not re.search(rf"\b{word}\b", WIRE)} == set()


def test_its_links_lead_somewhere() -> None:
    named = set(re.findall(r"\]\(([\w./-]+)", GLOSSARY))
    assert named
    assert {name for name in named if not (ROOT / "docs" / name).exists()} == set()
