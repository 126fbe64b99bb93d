"""docs/relay.md tells all that operators see, and nothing else."""

from pathlib import Path
import re

from opendesk.ops.metrics import Metrics
from opendesk.stream.counts import CLIENT_DROPS, REFUSALS
from opendesk.stream.figures import RelayFigures
from tests.stream.relaying import Relaying

PAGE = (Path(__file__).parents[2] / "docs" / "relay.md").read_text()


async def test_every_metric_is_there(on: Relaying) -> None:
    metrics = Metrics()
    metrics.registry.register(RelayFigures(on.relay))
    names = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    assert set(re.findall(r"opendesk_relay_\w+", PAGE)) == {
        name for name in names if name.startswith("opendesk_relay_")
    }


def test_every_word_is_explained() -> None:
    assert [word for word in (*REFUSALS, *CLIENT_DROPS) if f"`{word}`" not in PAGE] == []
