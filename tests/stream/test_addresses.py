"""Whose attempts to connect are counted together."""

from ipaddress import ip_network
from typing import Any, cast

import pytest

from opendesk.web.http.door import Upgrade
from opendesk.web.http.request import Head
from opendesk.web.responder import UNIX, Proxies
from opendesk.wiring import _relay_caller

PROXIES = Proxies((ip_network("10.0.0.0/8"), ip_network("127.0.0.1"), ip_network("fd00::/8")))
NONE = Proxies(())


def counted_as(proxies: Proxies, peer: str | None, forwarded: str | None) -> str:
    fields = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode("latin-1"))]
    head = Head("GET", "1.1", b"/stream/relay", b"", fields, keep_alive=True, wants_websocket=True)
    upgrade = Upgrade(cast("Any", None), head, b"", None if peer is None else (peer, 4711))
    return _relay_caller(proxies, upgrade)


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "expected"),
    [
        (NONE, "203.0.113.1", None, "203.0.113.1"),
        (NONE, "::ffff:203.0.113.1", None, "203.0.113.1"),
        (NONE, "::1", None, "::/64"),
        # Any subscriber has a /64 to move about in.
        (NONE, "2001:db8:1:2:3:4:5:6", None, "2001:db8:1:2::/64"),
        (NONE, "2001:db8:1:2::", None, "2001:db8:1:2::/64"),
        (NONE, "2001:DB8:1:2:ffff:ffff:ffff:ffff", None, "2001:db8:1:2::/64"),
        (NONE, "2001:db8:1:3::", None, "2001:db8:1:3::/64"),
        # By which interface it came doesn't matter.
        (NONE, "fe80::1%eth0", None, "fe80::/64"),
        (NONE, "fe80::2%12", None, "fe80::/64"),
        # What anybody may claim.
        (NONE, "203.0.113.1", "198.51.100.1", "203.0.113.1"),
        (PROXIES, "203.0.113.1", "198.51.100.1", "203.0.113.1"),
        (PROXIES, "2001:db8::1", "198.51.100.1", "2001:db8::/64"),
        # What a proxy of ours says.
        (PROXIES, "10.0.0.1", "203.0.113.1", "203.0.113.1"),
        (PROXIES, "::ffff:10.0.0.1", "203.0.113.1", "203.0.113.1"),
        (PROXIES, "10.0.0.1", "198.51.100.1, 203.0.113.1, 10.0.0.2", "203.0.113.1"),
        (PROXIES, "fd00::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (PROXIES, "10.0.0.1", "::ffff:203.0.113.1", "203.0.113.1"),
        (PROXIES, "10.0.0.1", "fe80::1%eth0", "fe80::/64"),
        (PROXIES, "10.0.0.1", None, "10.0.0.1"),
        (PROXIES, "10.0.0.1", "nonsense", "10.0.0.1"),
        (PROXIES, "10.0.0.1", "\xff", "10.0.0.1"),
        # A local program is a proxy of ours.
        (NONE, None, None, UNIX),
        (NONE, None, "203.0.113.1", "203.0.113.1"),
        (NONE, None, "2001:db8:1:2:3::", "2001:db8:1:2::/64"),
        (NONE, None, "nonsense", UNIX),
    ],
)
def test_attempts_are_counted_by_who_is_behind_them(
    proxies: Proxies, peer: str | None, forwarded: str | None, expected: str
) -> None:
    assert counted_as(proxies, peer, forwarded) == expected
