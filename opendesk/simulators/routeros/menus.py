"""The menus that are simulated: their commands and arguments, as RouterOS 7.12.2 and 7.24 list them."""

from collections.abc import Iterable, Mapping
from typing import Final

from attrs import field, frozen

from opendesk.simulators.routeros import values
from opendesk.simulators.routeros.values import Kind
from opendesk.simulators.routeros.versions import PEER_NAMES_SINCE, RESPONDER_SINCE, Number

ADDRESS_LIST: Final = "/ip/firewall/address-list"
BINDING: Final = "/ip/hotspot/ip-binding"
HOST: Final = "/ip/hotspot/host"
ACTIVE: Final = "/ip/hotspot/active"
WIREGUARD: Final = "/interface/wireguard"
PEER: Final = "/interface/wireguard/peers"
USER: Final = "/user"
GROUP: Final = "/user/group"
IDENTITY: Final = "/system/identity"
RESOURCE: Final = "/system/resource"
SCHEDULER: Final = "/system/scheduler"
IP_ADDRESS: Final = "/ip/address"
FILTER: Final = "/ip/firewall/filter"
ROUTE: Final = "/ip/route"

# What RouterOS takes at most for an address-list's timeout (35w3d13h13m56s) and for a peer's keepalive (18h12m15s).
LONGEST_TIMEOUT_S: Final = 21_474_836
LONGEST_KEEPALIVE_S: Final = 65_535


@frozen
class Argument:
    kind: Kind = values.string
    required: bool = False
    secret: bool = False  # never printed
    default: str | None = None  # held and printed if nothing was said
    left_out: str | None = None  # means the same as nothing, and isn't printed
    since: Number = (7, 0)
    until: Number = (99, 0)


@frozen
class Menu:
    path: str
    arguments: Mapping[str, Argument] = field(factory=dict)
    verbs: frozenset[str] = frozenset()
    unique: tuple[str, ...] = ()
    taken: str = ""  # what is said of a second one
    is_one: bool = False  # settings without rows
    writing: str = "write"  # the policy that a change needs


_ROWS: Final = frozenset({"print", "getall", "listen", "add", "set", "remove", "comment", "get", "reset"})
_SWITCHED: Final = _ROWS | {"enable", "disable"}
_SEEN: Final = frozenset({"print", "getall", "listen", "get"})

# What `print` takes besides queries; most of it changes how a console shows rows, which the API has no use for.
PRINT: Final = frozenset(
    {
        "append",
        "as-value",
        "brief",
        "count-only",
        "detail",
        "file",
        "follow",
        "follow-only",
        "from",
        "interval",
        "proplist",
        "show-ids",
    }
    | {"terse", "value-list", "where", "without-paging", "stats", "status", "bytes", "packets", "oid"}
)
PRINT_LATER: Final = frozenset({"comments", "group-by", "on-event", "order-by", "timestamp", "show-sensitive"})
PRINT_EARLIER: Final = frozenset({"follow-strict"})
# Neither of the two versions whose commands are known lies between: later arguments are taken to have come in the midst.
LATER: Final = (7, 18)

_COMMON: Final = {"comment": Argument(), "disabled": Argument(values.boolean, default="false")}
_KEEPALIVE: Final = Argument(values.duration(LONGEST_KEEPALIVE_S))
_PORT: Final = Argument(values.integer(0, 65535))

_MENUS: Final[Iterable[Menu]] = (
    Menu(
        ADDRESS_LIST,
        {
            "address": Argument(values.ip_range_or_name, required=True),
            "list": Argument(required=True),
            "timeout": Argument(values.duration(LONGEST_TIMEOUT_S), left_out="0s"),
            "dynamic": Argument(values.boolean, default="false"),
            **_COMMON,
        },
        _SWITCHED,
        ("address", "list"),
        "already have such entry",
    ),
    Menu(
        BINDING,
        {
            "address": Argument(values.ip_range),
            "mac-address": Argument(values.mac_address),
            "to-address": Argument(values.ip_address),
            "server": Argument(left_out="all"),
            "type": Argument(values.choice("regular", "bypassed", "blocked"), left_out="regular"),
            **_COMMON,
        },
        _SWITCHED | {"move"},
        ("mac-address", "address"),
        "such client already exists",
    ),
    Menu(HOST, {"comment": Argument()}, _SEEN | {"remove", "reset"}),
    Menu(ACTIVE, {"comment": Argument(until=LATER)}, _SEEN | {"remove"}),
    Menu(
        WIREGUARD,
        {
            "name": Argument(),
            "listen-port": _PORT,
            "mtu": Argument(values.integer(0, 65536), default="1420"),
            "private-key": Argument(values.key),
            "vrf": Argument(since=LATER),
            **_COMMON,
        },
        _SWITCHED,
        ("name",),
        "already have interface with such name",
    ),
    Menu(
        PEER,
        {
            "interface": Argument(required=True),
            "public-key": Argument(values.key),
            "private-key": Argument(),
            "allowed-address": Argument(values.prefixes),
            "endpoint-address": Argument(),
            "endpoint-port": Argument(values.integer(0, 65535), left_out="0"),
            "persistent-keepalive": Argument(values.duration(LONGEST_KEEPALIVE_S), left_out="0s"),
            "preshared-key": Argument(values.key),
            "client-address": Argument(),
            "client-dns": Argument(),
            "client-endpoint": Argument(),
            "client-keepalive": _KEEPALIVE,
            "client-listen-port": _PORT,
            "client-allowed-address": Argument(values.prefixes, since=LATER),
            "name": Argument(since=PEER_NAMES_SINCE),
            "responder": Argument(values.boolean, since=RESPONDER_SINCE),
            **_COMMON,
        },
        _SWITCHED | {"move"},
        ("interface", "public-key"),
        "entry already exists",
    ),
    Menu(
        USER,
        {
            "name": Argument(required=True),
            "group": Argument(required=True),
            "address": Argument(values.prefixes),
            "password": Argument(secret=True),
            "inactivity-policy": Argument(values.choice("none", "lockscreen", "logout"), since=LATER),
            "inactivity-timeout": Argument(values.duration(), since=LATER),
            **_COMMON,
        },
        _SWITCHED,
        ("name",),
        "user with the same name already exists",
        writing="policy",
    ),
    Menu(
        GROUP,
        {
            "name": Argument(required=True),
            "policy": Argument(values.policies, default=values.policies("policy", "")),
            "skin": Argument(default="default"),
            "comment": Argument(),
        },
        _ROWS,
        ("name",),
        "group with the same name already exists",
        writing="policy",
    ),
    Menu(IDENTITY, {"name": Argument()}, frozenset({"print", "getall", "get", "set"}), is_one=True),
    Menu(RESOURCE, {}, frozenset({"print", "getall", "get"}), is_one=True),
    Menu(
        SCHEDULER,
        {
            "name": Argument(),
            "on-event": Argument(),
            "interval": Argument(values.duration(), default="0s"),
            "start-date": Argument(),
            "start-time": Argument(),
            "days": Argument(since=LATER),
            "policy": Argument(),
            **_COMMON,
        },
        _SWITCHED,
        ("name",),
        "item with this name already exists",
    ),
    Menu(
        IP_ADDRESS,
        {
            "address": Argument(values.ip_interface, required=True),
            "interface": Argument(required=True),
            "network": Argument(values.ip_address),
            "netmask": Argument(values.ip_address),
            "broadcast": Argument(values.ip_address),
            **_COMMON,
        },
        _SWITCHED,
        ("address", "interface"),
        "already have such address",
    ),
    Menu(
        FILTER,
        {
            "chain": Argument(required=True),
            "action": Argument(default="accept"),
            "protocol": Argument(),
            "dst-port": Argument(),
            "in-interface": Argument(),
            "src-address": Argument(values.prefixes),
            "dynamic": Argument(values.boolean, default="false"),
            **_COMMON,
        },
        _SWITCHED | {"move"},
    ),
    Menu(
        ROUTE,
        {
            "dst-address": Argument(values.prefixes, default="0.0.0.0/0"),
            "gateway": Argument(),
            "distance": Argument(values.integer(1, 255), default="1"),
            "pref-src": Argument(),
            "routing-table": Argument(default="main"),
            "scope": Argument(values.integer(0, 255), default="30"),
            "target-scope": Argument(values.integer(0, 255), default="10"),
            "vrf-interface": Argument(),
            "check-gateway": Argument(values.choice("none", "arp", "ping", "bfd")),
            "blackhole": Argument(),
            "suppress-hw-offload": Argument(values.boolean, until=LATER),
            **_COMMON,
        },
        _SWITCHED | {"unset"},
    ),
)
MENUS: Final = {menu.path: menu for menu in _MENUS}
