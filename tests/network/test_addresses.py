"""One spelling for each address, and none for what is no device's."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from opendesk.network.addresses import ip_address, mac_address


@given(octets=st.binary(min_size=6, max_size=6), separator=st.sampled_from([":", "-", ".", ""]), is_upper=st.booleans())
def test_all_spellings_of_a_mac_are_one(octets: bytes, separator: str, *, is_upper: bool) -> None:
    octets = bytes([octets[0] & 0xFE]) + octets[1:5] + bytes([octets[5] | 1])
    text = octets.hex(separator, -2 if separator == "." else 1) if separator else octets.hex()
    wanted = ":".join(f"{octet:02X}" for octet in octets)
    assert mac_address(text.upper() if is_upper else text) == wanted
    assert mac_address(wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AA:BB:CC:DD:EE",
        "AA:BB:CC:DD:EE:FF:00",
        "AA:BB:CC-DD:EE:FF",
        "AABB:CCDD:EEFF",
        "GG:BB:CC:DD:EE:FF",
        " AA:BB:CC:DD:EE:FF",
        "AA:BB:CC:DD:EE:FF\n",
        "AA:BB:CC:DD:EE:F",
        "A:B:C:D:E:F",
        "\u0661A:BB:CC:DD:EE:FF",
        "\ufb00:BB:CC:DD:EE:FF",  # FF in upper case
        "00:00:00:00:00:00",  # any, for a router
        "FF:FF:FF:FF:FF:FF",
        "01:00:5E:00:00:01",
    ],
)
def test_what_is_the_mac_of_no_device_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        mac_address(text)


@given(st.ip_addresses(v=4, network="10.0.0.0/8"))
def test_the_canonical_text_of_an_ip_stays(address: object) -> None:
    assert ip_address(str(address)) == str(address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.5.50",
        "10.5.50.256",
        "010.5.50.1",
        "10.5.50.1/32",
        " 10.5.50.1",
        "10.5.50.1\n",
        "10.5.50.1-10.5.50.9",
        "example.com",
        "fe80::1",
        "::ffff:10.5.50.1",
        "0.0.0.0",  # any, for a router
        "255.255.255.255",
        "224.0.0.1",
        "127.0.0.1",
    ],
)
def test_what_is_the_ip_of_no_device_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        ip_address(text)
