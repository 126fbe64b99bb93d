"""`opendesk tunnel list`: what is known of each peer, as a row."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Literal

from attrs import evolve, frozen

from opendesk.network.tunnels.keeping.presence import Status, age_of, status_of
from opendesk.network.tunnels.registry.device import Device
from opendesk.network.wireguard.dump import Peer

# Whose a key is: a device's present or next one, one that we removed and that is to go, one that somebody bound, or nobody's.
Known = Literal["device", "rotation", "removed", "bound", "unknown"]

_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_THOUSAND: Final = 1000
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400


@frozen(kw_only=True)
class Row:
    """What of the interface isn't known is None. Rates are bytes a second."""

    device: str | None = None
    public_key: str
    known: Known
    tunnel_ip: str | None = None
    status: Status | None = None
    handshake_age: int | None = None
    endpoint: str | None = None
    allowed_ips: tuple[str, ...] = ()
    rx: int | None = None
    tx: int | None = None
    rx_rate: int | None = None
    tx_rate: int | None = None


@frozen
class Seen:
    """Two looks at the peers, `apart_s` one after the other; the same one twice where no rates are asked for."""

    first: Mapping[str, Peer]
    last: Mapping[str, Peer]
    apart_s: float
    now_unix: float
    online_s: float


def rows_of(
    devices: Sequence[Device], removed: Collection[str], bound: Collection[str], seen: Seen | None
) -> list[Row]:
    """All devices, and then what else is on the interface."""
    ours = [_row(device, key, seen) for device in devices for key in device.keys]
    owned = {row.public_key for row in ours}
    return ours + [_foreign(key, removed, bound, seen) for key in sorted(seen.last.keys() - owned)] if seen else ours


def _row(device: Device, key: str, seen: Seen | None) -> Row:
    known: Known = "device" if key == device.public_key else "rotation"
    row = Row(device=device.id, public_key=key, known=known, tunnel_ip=device.tunnel_ip, allowed_ips=device.allowed_ips)
    return _with_peer(row, seen) if seen else row


def _foreign(key: str, removed: Collection[str], bound: Collection[str], seen: Seen) -> Row:
    known: Known = "removed" if key in removed else "bound" if key in bound else "unknown"
    return _with_peer(Row(public_key=key, known=known), seen)


def _with_peer(row: Row, seen: Seen) -> Row:
    peer = seen.last.get(row.public_key)
    if peer is None:
        return row
    age_s = age_of(peer.handshake_unix, seen.now_unix)
    rx_rate, tx_rate = _rates(seen.first.get(row.public_key), peer, seen.apart_s)
    return evolve(
        row,
        status=status_of(peer.handshake_unix, seen.now_unix, seen.online_s),
        handshake_age=None if age_s is None else int(age_s),
        endpoint=peer.endpoint,
        allowed_ips=peer.allowed_ips,
        rx=peer.rx,
        tx=peer.tx,
        rx_rate=rx_rate,
        tx_rate=tx_rate,
    )


def _rates(first: Peer | None, last: Peer, apart_s: float) -> tuple[int | None, int | None]:
    if (
        first is None or apart_s <= 0 or last.rx < first.rx or last.tx < first.tx
    ):  # made anew in between, it counts from 0
        return None, None
    return int((last.rx - first.rx) / apart_s), int((last.tx - first.tx) / apart_s)


def lines_of(rows: Sequence[Row], *, with_rates: bool) -> Iterator[str]:
    """As a table; the last column is the key, in full: one wants to search for it."""
    cells = [_TITLES, *(_cells(row) for row in rows)]
    shown = [line if with_rates else (*line[:7], line[9]) for line in cells]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for line in shown:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


_TITLES: Final = ("DEVICE", "TUNNEL IP", "STATUS", "HANDSHAKE", "ENDPOINT", "RX", "TX", "RX/s", "TX/s", "KEY")


def _cells(row: Row) -> tuple[str, ...]:
    who = row.device or ""
    if row.known != "device":
        who = f"{who} ({row.known})".strip()
    amounts = (size(amount) for amount in (row.rx, row.tx, row.rx_rate, row.tx_rate))
    return (
        who,
        row.tunnel_ip or "-",
        row.status or "-",
        ago(row.handshake_age),
        row.endpoint or "-",
        *amounts,
        row.public_key,
    )


def ago(age_s: int | None) -> str:
    if age_s is None:
        return "-"
    if age_s < _HOUR_S:
        return f"{age_s // _MINUTE_S}m{age_s % _MINUTE_S:02d}s" if age_s >= _MINUTE_S else f"{age_s}s"
    return f"{age_s // _HOUR_S}h{age_s % _HOUR_S // _MINUTE_S:02d}m" if age_s < _DAY_S else f"{age_s // _DAY_S}d"


def size(amount: int | None) -> str:
    """1.2 MB: in thousands."""
    if amount is None:
        return "-"
    value, units = float(amount), iter(_UNITS)
    unit = next(units)
    while value >= _THOUSAND and (larger := next(units, None)) is not None:
        value, unit = value / _THOUSAND, larger
    return f"{amount} B" if unit == "B" else f"{value:.1f} {unit}"
