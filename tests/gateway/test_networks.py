"""Which addresses may be reached, and by whose URLs."""

import socket

import pytest

from gateway import networks

OPERATOR = networks.operator_policy(["allow"])

HOSTILE = [
    "127.0.0.1", "127.1.2.3", "127.255.255.255", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1",
    "172.31.255.255", "192.168.0.1", "192.168.255.255", "100.64.0.1", "100.127.255.255", "169.254.169.254",
    "169.254.0.1", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b:1::1",
    "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:db8::1", "2001:10::1", "2002:7f00:1::",
    "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fe80::1%eth0",
    "fec0::1", "ff02::1", "ff0e::1", "4000::1",
]  # fmt: skip
NO_ADDRESS = [
    "",
    "localhost",
    "0x7f.1",
    "2130706433",
    "127.1",
    "0177.0.0.1",
    "127.0.0.1:80",
    "[::1]",
    "1.2.3.4.5",
    "١.1.1.1",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1"]


@pytest.mark.parametrize("address", HOSTILE + NO_ADDRESS)
def test_a_user_s_url_never_reaches_a_special_address(address: str) -> None:
    assert not networks.allowed(address, networks.PUBLIC_ONLY)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_open_to_all(address: str) -> None:
    assert networks.allowed(address, networks.PUBLIC_ONLY)
    assert networks.allowed(address, OPERATOR)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.20.0.1", "192.168.1.4", "100.100.1.1", "::1", "fd00::1", "::ffff:192.168.1.4"],
)
def test_an_operator_s_provider_may_live_on_private_networks(address: str) -> None:
    assert networks.allowed(address, OPERATOR)
    assert not networks.allowed(address, networks.operator_policy(["forbid"]))


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "::", "fe80::1", "ff02::1", "2002:7f00:1::"],
)
def test_metadata_multicast_and_nowhere_are_closed_to_operators_too(address: str) -> None:
    assert not networks.allowed(address, OPERATOR)


def test_listed_networks_are_all_that_a_narrowed_operator_reaches() -> None:
    policy = networks.operator_policy(["10.1.0.0/16", "fd00::/8"])
    assert [networks.allowed(address, policy) for address in ("10.1.2.3", "fd00::1", "10.2.0.1", "127.0.0.1")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_a_word_that_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="perhaps"):
        networks.operator_policy(["perhaps"])


def test_forbidden_addresses_are_left_out_and_an_empty_rest_names_the_host() -> None:
    assert networks.screen("mixed.example", ["127.0.0.1", "1.1.1.1"], networks.PUBLIC_ONLY) == ["1.1.1.1"]
    with pytest.raises(networks.ForbiddenAddress, match=r"inside\.example"):
        networks.screen("inside.example", ["10.0.0.1", "::1"], networks.PUBLIC_ONLY)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "0", "::1"]
)
async def test_every_spelling_of_this_machine_resolves_to_a_refusal(host: str) -> None:
    with pytest.raises((networks.ForbiddenAddress, socket.gaierror)):
        await networks.resolve(host, 80, networks.PUBLIC_ONLY)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2130706433", "0x7f.1", "127.1", "0177.0.0.1"])
def test_every_spelling_of_an_address_is_a_literal_and_odd_ones_pass_no_policy(host: str) -> None:
    assert networks.is_literal(host)
    if host not in ("127.0.0.1", "::1"):
        with pytest.raises(networks.ForbiddenAddress):
            networks.screen(host, [host], networks.operator_policy(["allow"]))


@pytest.mark.parametrize("host", ["localhost", "ollama", "api.openai.com", "7f.example"])
def test_a_name_is_no_literal(host: str) -> None:
    assert not networks.is_literal(host)
