"""The client's address is what the nearest proxy that is trusted saw, and nothing that a stranger says."""

from ipaddress import ip_address, ip_network

import pytest

from accounts.client_address import find, network_of, parse, within

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.66, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.66, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("10.0.0.1", "10.1.1.1, 10.2.2.2", "10.1.1.1"),
        ("10.0.0.1", " , ,", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1,rubbish", None),
        ("10.0.0.1", "rubbish, 198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("fd00::1", "[2001:db8::7]", "2001:db8::7"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("fd00::1", "[2001:db8::7]:443", "2001:db8::7"),
        ("", "198.51.100.1", None),
        ("/run/socket", "198.51.100.1", None),
    ],
)
def test_the_last_hop_that_no_trusted_proxy_wrote_itself(peer: str, forwarded_for: str, address: str | None) -> None:
    found = find(peer, forwarded_for, TRUSTED)
    assert found == (None if address is None else ip_address(address))


def test_without_trusted_proxies_only_the_peer_counts() -> None:
    assert find("10.0.0.1", "198.51.100.1", []) == ip_address("10.0.0.1")


def test_an_address_of_another_family_lies_in_no_network() -> None:
    assert within(ip_address("10.1.2.3"), TRUSTED)
    assert not within(ip_address("::1"), [ip_network("0.0.0.0/0")])
    assert parse("127.0.0.1") == parse("::ffff:127.0.0.1")
    assert parse("999.0.0.1") is None


def test_an_ipv6_client_is_its_64() -> None:
    addresses = ("2001:db8:1:2::7", "2001:db8:1:2:ffff::1", "2001:db8::1", "::ffff:192.0.2.7", "nonsense")
    one, neighbour, other, mapped, unknown = (network_of(parse(each)) for each in addresses)
    assert one == neighbour != other
    assert (mapped, unknown) == ("192.0.2.7", "")
