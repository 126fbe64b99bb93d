'''The API of RouterOS (MikroTik) on Trio: port 8728, or 8729 in TLS.

```python
from opendesk.network.routeros.client import connect
from opendesk.network.routeros.errors import TimedOut, Trap, Unreachable
from opendesk.network.routeros.session import Command
from opendesk.network.routeros.transport import Target
from opendesk.settings.secret import Secret

BINDINGS = "/ip/hotspot/ip-binding"

async def let_in(mac: str) -> str:
    """Let the device past the login page, and return the id of the row."""
    async with connect(Target("192.168.88.1", 8728, "api", Secret("…"))) as router:
        found = await router.run(Command(f"{BINDINGS}/print", queries=(f"?mac-address={mac}",), proplist=(".id",)))
        if found.rows:
            return found.rows[0][".id"]
        attributes = {"mac-address": mac, "type": "bypassed", "comment": 'any "text" = goes through unharmed'}
        added = await router.run(Command(f"{BINDINGS}/add", attributes))
        assert added.ret is not None
        return added.ret
```

What there is to know:

- **Commands are words, never text**: a path, attributes, queries (`?name=x`, `?#|`; without an operator all must hold), the properties
  wanted. The API has no scripting: rows are found with `print` and changed by their `.id`. What a row doesn't have isn't in its dict.
- **One connection serves any number of tasks.** `run_all` sends several commands at once and tells the answer of each, in the order asked:
  many round trips for the price of one. MAX_IN_FLIGHT are on the way; who comes then waits for the first to return.
- **Trap is an answer**, and the router is well. `Unreachable` and `TimedOut` are none: whether the router did it has to be looked up. Their
  texts differ between versions of RouterOS: never decide by them. Print, compare, act, print again.
- **Nothing is left running.** A command whose time is up, or whose task is cancelled, is cancelled on the router, and the router is given
  DRAIN_S to say so; else the connection ends. So a command that raised TimedOut does nothing later.
- **Whoever sends the password knows to whom** where there is TLS: the certificate must be valid for the host, or be the one whose SHA-256
  `Target.tls_sha256` has. A router without a certificate has only anonymous TLS, which is refused. Plain 8728 is for inside a tunnel.
- **What it was told isn't told on.** The password is struck out of whatever a router says in errors; until it has let us in, only texts
  that routers are known to say are shown.
- **A connection isn't mended.** `wait_closed` tells its end; connecting again is for who has the router.
- `listen` gives rows as they change: `async with router.listen(Command("/log/listen")) as rows: async for row in rows: …`

The layers can be used alone: `codec` (bytes and sentences), `session` (commands, answers, tags; no I/O), `client` (Trio). `console` quotes
text for the one thing that has to be text: what a scheduler runs.
'''
