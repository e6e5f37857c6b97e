"""Where a client's address is looked for, several X-Forwarded-For lines included."""

from ipaddress import ip_network

import pytest

from gateway.authentication import check_address
from gateway.errors import Fault
from tests.gateway.scenery import a_caller

OFFICE = a_caller(networks=(ip_network("198.51.100.0/24"),))
PROXIES = [ip_network("10.0.0.0/8")]


def admitted(*forwarded_for: bytes) -> bool:
    headers = [(b"host", b"a"), *((b"x-forwarded-for", line) for line in forwarded_for)]
    try:
        check_address(OFFICE, {"client": ("10.0.0.1", 40_000), "headers": headers}, PROXIES)
    except Fault as fault:
        assert fault.code == "ip_restricted"
        return False
    return True


def test_several_lines_of_hops_are_one_list() -> None:
    assert admitted(b"198.51.100.1", b"10.0.0.2")
    assert admitted(b"203.0.113.5", b"198.51.100.1, 10.0.0.3", b"10.0.0.2")


@pytest.mark.parametrize("lines", [[b"198.51.100.1", b"203.0.113.5"], [b"198.51.100.1, 203.0.113.5", b"10.0.0.2"], []])
def test_a_hop_that_a_stranger_wrote_is_not_believed(lines: list[bytes]) -> None:
    assert not admitted(*lines)
