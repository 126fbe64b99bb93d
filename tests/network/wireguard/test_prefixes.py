from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.wireguard import prefixes

GOOD = st.builds(
    lambda address, length: str(ip_network((address, length), strict=False)),
    st.integers(0x0B000000, 0x0FFFFFFF),
    st.integers(10, 32),
) | st.builds(
    lambda address, length: str(ip_network((address, length), strict=False)),
    st.integers(0x20010DB8 << 96, (0x20010DB9 << 96) - 1),
    st.integers(40, 128),
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.200.0.7", "10.200.0.7/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.168.4.0/24", "192.168.4.0/24"),
        ("FD00:0:0::1", "fd00::1/128"),
        ("2001:DB8::/032", "2001:db8::/32"),
    ],
)
def test_a_prefix_gets_its_canonical_text(text: str, canonical: str) -> None:
    assert prefixes.prefix(text) == canonical


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is not"),
        ("x", "is not"),
        ("10.0.0.0/33", "is not"),
        ("10.0.0.0/24/24", "is not"),
        ("10.0.0.0/255.255.255.0", "is not"),
        ("10.0.0.0/-8", "is not"),
        ("10.0.0.0/ 8", "is not"),
        ("010.0.0.1", "is not"),
        ("2001:db8::1%eth0", "is not"),
        ("१०.0.0.1", "is not"),
        ("10.200.0.7/24", r"the network is 10\.200\.0\.0/24"),
        ("fd00::1/64", "the network is fd00::/64"),
        ("8.0.0.0/7", "shorter than /8"),
        ("0.0.0.0/0", "shorter than /8"),
        ("2000::/3", "shorter than /16"),
        ("::/0", "shorter than /16"),
        ("0.0.0.0", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("169.254.0.0/17", "link-local"),
        ("169.0.0.0/8", "link-local"),
        ("224.0.0.5", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::ffff:10.0.0.1", "IPv4 in IPv6"),
        ("::10.0.0.1", "IPv4 in IPv6"),
        ("fe80::1", "link-local"),
        ("ff02::1", "multicast"),
    ],
)
def test_a_prefix_that_leads_nowhere_or_too_far_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        prefixes.prefix(text)
    with pytest.raises(ValueError, match=fault):
        prefixes.allowed_ips(["10.1.0.0/16", text])


def test_allowed_ips_are_ordered_and_have_none_within_another() -> None:
    texts = ["fd00::1", "10.9.0.0/16", "10.200.0.7", "10.9.1.0/24", "10.10.0.0/24", "fd00::/64", "10.9.0.0/16"]
    assert prefixes.allowed_ips(texts) == ("10.9.0.0/16", "10.10.0.0/24", "10.200.0.7/32", "fd00::/64")
    assert prefixes.allowed_ips([]) == ()


def test_there_are_only_so_many_of_them() -> None:
    texts = [f"10.0.0.{number}" for number in range(prefixes.MAX)]
    assert len(prefixes.allowed_ips(texts)) == prefixes.MAX
    with pytest.raises(ValueError, match="more than 64"):
        prefixes.allowed_ips(f"10.0.{number >> 8}.{number & 255}" for number in range(10**9))


def test_a_fault_repeats_no_more_than_the_start_of_a_part() -> None:
    with pytest.raises(ValueError, match="has a part 'xxx") as caught:
        prefixes.allowed_ips(["x" * 10_000])
    assert len(str(caught.value)) < 200


@given(st.lists(GOOD, max_size=prefixes.MAX))
def test_their_order_does_not_matter_and_nothing_is_lost(texts: list[str]) -> None:
    found = prefixes.allowed_ips(texts)
    assert found == prefixes.allowed_ips(reversed(texts)) == prefixes.allowed_ips(found)
    networks = [ip_network(text) for text in found]
    assert all(
        any(one.version == other.version and one.subnet_of(other) for other in networks)  # type: ignore[arg-type]  # same
        for one in map(ip_network, texts)
    )
    assert not [(one, other) for one in networks for other in networks if one is not other and one.overlaps(other)]


@given(st.text(max_size=50) | st.from_regex(r"[0-9a-f:./%]{0,40}", fullmatch=True))
def test_any_text_is_canonical_or_a_value_error(text: str) -> None:
    for parse in (prefixes.prefix, prefixes.tunnel_ip, prefixes.endpoint):
        try:
            canonical = parse(text)
        except ValueError:
            continue
        assert parse(canonical) == canonical


@pytest.mark.parametrize(("text", "canonical"), [("10.200.0.7", "10.200.0.7"), ("FD00::0:7", "fd00::7")])
def test_a_tunnel_ip_is_a_hosts_address(text: str, canonical: str) -> None:
    assert prefixes.tunnel_ip(text) == canonical
    assert prefixes.prefix(canonical) == str(ip_network(ip_address(text)))


@pytest.mark.parametrize(
    "text", ["", "10.200.0.7/32", "host", "127.0.0.1", "0.0.0.0", "224.0.0.1", "::", "fe80::1", "fd00::1%x", "::ffff:1.2.3.4"]
)  # fmt: skip
def test_what_no_host_in_a_tunnel_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is not|has)"):
        prefixes.tunnel_ip(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.7:13231", "192.0.2.7:13231"),
        ("[2001:DB8::1]:51820", "[2001:db8::1]:51820"),
        ("Bus7.Example.net:1", "bus7.example.net:1"),
    ],
)
def test_an_endpoint_gets_its_canonical_text(text: str, canonical: str) -> None:
    assert prefixes.endpoint(text) == canonical


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:0", "host:65536", "host:99999", "2001:db8::1:5", "[fe80::1%eth0]:5", "a b:5"]
)  # fmt: skip
def test_what_is_not_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has)"):
        prefixes.endpoint(text)


def test_a_keepalive_has_16_bits() -> None:
    assert [prefixes.keepalive(value) for value in (0, 25, 65_535)] == [0, 25, 65_535]
    for value in (-1, 65_536):
        with pytest.raises(ValueError, match="out of range"):
            prefixes.keepalive(value)
