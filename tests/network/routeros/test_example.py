"""The example in the package's docstring works as it stands there."""

import re

from opendesk.network import routeros
from opendesk.settings.secret import Secret
from opendesk.simulators.routeros.router import PASSWORD, USER, Router
from opendesk.simulators.routeros.server import simulated

[EXAMPLE] = re.findall(r"```python\n(.*?)```", routeros.__doc__ or "", re.DOTALL)
TARGET = 'Target("192.168.88.1", 8728, "api", Secret("…"))'


async def test_the_example_lets_a_device_in_once() -> None:
    assert TARGET in EXAMPLE
    names: dict[str, object] = {"_user": USER, "_password": Secret(PASSWORD)}
    async with simulated(Router()) as (names["_host"], names["_port"]):
        exec(EXAMPLE.replace(TARGET, "Target(_host, _port, _user, _password)"), names)  # that is the test
        let_in = names["let_in"]
        assert callable(let_in)
        row_id = await let_in("0A:00:00:00:00:01")
        assert row_id == await let_in("0A:00:00:00:00:01")
