"""Which addresses this installation may connect to. Pure but for `resolve`.

The decision is made on the address that is about to be connected to, never on a name: whoever connects takes an
address that `screen` let through and resolves no second time. (The demo's own address is never screened.) The policy
is that of whoever controls the URL:

* an operator's provider may live on loopback and private networks, unless APERTURE_PRIVATE_UPSTREAMS narrows that;
* a URL that a user can influence reaches public addresses only.

An IPv6 address that only wraps an IPv4 one (`::ffff:0:0/96`, NAT64's `64:ff9b::/96`) is judged as what it wraps, for
that is where its packets go.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where an operator's upstream may live with `allow`.
PRIVATE = [
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
        "::1/128", "fc00::/7",
    )
]  # fmt: skip

# Never public (IANA's special-purpose registries). Link-local holds the clouds' metadata services.
SPECIAL_V4 = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip
PUBLIC_V6 = ipaddress.ip_network("2000::/3")
SPECIAL_V6 = [
    ipaddress.ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
]
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class ForbiddenAddress(ValueError):
    """A host has no address that this policy allows; the message names the host."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Networks that may be reached besides the public ones."""

    networks: tuple[Network, ...] = ()


PUBLIC_ONLY = Policy()


def operator_policy(words: Sequence[str]) -> Policy:
    """Return the policy that APERTURE_PRIVATE_UPSTREAMS means; raise ValueError for a word that is no network."""
    if list(words) == ["allow"]:
        return Policy(tuple(PRIVATE))
    if list(words) == ["forbid"]:
        return PUBLIC_ONLY
    return Policy(tuple(ipaddress.ip_network(word, strict=False) for word in words))


def allowed(address: str, policy: Policy) -> bool:
    """Tell whether this IP address, as text, may be connected to; what is no IP address may not."""
    try:
        target = _unwrapped(ipaddress.ip_address(address))
    except ValueError:
        return False
    return _public(target) or any(target in network for network in policy.networks)


def is_literal(host: str) -> bool:
    """Tell whether HOST is an IP address, which clients connect to without asking a resolver.

    The C library's old spellings count too (`2130706433`, `0x7f.1`, `127.1`): no policy lets them through `screen`,
    which reads none of them.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            socket.inet_aton(host)
        except OSError:
            return False
    return True


def screen(host: str, addresses: Iterable[str], policy: Policy) -> list[str]:
    """Return those of HOST's addresses that may be connected to, in order; raise ForbiddenAddress if none may.

    A client that skips its resolver for IP literals (aiohttp does) calls this with the literal itself.
    """
    good = [address for address in addresses if allowed(address, policy)]
    if not good:
        raise ForbiddenAddress(
            f"{host} is at no address that may be reached from here: private, local and special networks are "
            "refused by this installation's policy."
        )
    return good


async def resolve(host: str, port: int, policy: Policy) -> list[str]:
    """Return the addresses of HOST that may be connected to; raise ForbiddenAddress, or OSError where there are none.

    The system's resolver also reads `0x7f.1` and `2130706433` as addresses: its answer is what is judged.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return screen(host, dict.fromkeys(str(entry[4][0]) for entry in found), policy)


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in SPECIAL_V4)
    return address in PUBLIC_V6 and not any(address in network for network in SPECIAL_V6)
