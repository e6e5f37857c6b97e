"""The address of the client behind the proxies that the installation trusts. Pure."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

WITH_PORT = re.compile(r"(?P<v4>[\d.]+):\d+|\[(?P<v6>[^\]]+)\](?::\d+)?")


def parse(text: str) -> Address | None:
    """Return the address that TEXT holds (IPv4-mapped IPv6 as IPv4), or None; some proxies write a port with it."""
    with_port = WITH_PORT.fullmatch(text.strip())
    try:
        address = ip_address((with_port["v4"] or with_port["v6"]) if with_port else text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(address: Address | None) -> str:
    """Return what counts as one client: an IPv4 address, the /64 of an IPv6 one, or nothing where it is unknown."""
    if address is None:
        return ""
    return str(address) if address.version == 4 else f"{int(address) >> 64:x}::/64"


def within(address: Address, networks: Sequence[Network]) -> bool:
    """Tell whether an address lies in one of the networks."""
    return any(address.version == network.version and address in network for network in networks)


def find(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> Address | None:
    """Return the client's address: the last one in X-Forwarded-For that no trusted proxy wrote itself.

    PEER is the other end of the connection. Nothing that an untrusted peer says is believed.
    """
    address = parse(peer)
    hops = [hop for hop in forwarded_for.split(",") if hop.strip()]
    while address is not None and hops and within(address, trusted):
        address = parse(hops.pop())
    return address
