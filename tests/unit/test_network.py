"""Which requests count as coming from this machine itself."""

import pytest

from understudy.network import FORWARDING_HEADERS, client_network, host_name, is_direct, is_loopback


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True),
        ("localhost", True), ("LocalHost.", True), ("app.localhost", True), ("notlocalhost", False),
        ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False),
        ("10.0.0.1", False), ("localhost.evil.example", False), ("", False),
    ],
)  # fmt: skip
def test_loopback_is_only_what_cannot_be_reached_from_outside(host: str, *, local: bool) -> None:
    assert is_loopback(host) is local


def test_a_peer_without_an_address_is_not_this_machine() -> None:
    assert not is_loopback(None)


@pytest.mark.parametrize("header", sorted(FORWARDING_HEADERS))
def test_a_forwarded_request_is_not_direct_however_the_proxy_writes_its_header(header: str) -> None:
    assert not is_direct("127.0.0.1", ["Host", header.title()])


def test_a_request_without_forwarding_headers_from_loopback_is_direct() -> None:
    assert is_direct("127.0.0.1", ["Host", "User-Agent"])
    assert not is_direct("192.0.2.7", ["Host", "User-Agent"])


@pytest.mark.parametrize(
    ("header", "name"),
    [("127.0.0.1:8000", "127.0.0.1"), ("[::1]:8000", "::1"), ("Example.ORG", "example.org"),
     ("[::1", ""), ("", "")],
)  # fmt: skip
def test_a_host_header_is_reduced_to_its_name(header: str, name: str) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "network"),
    [("93.184.216.34", [], "93.184.216.34"),
     # A client writes the header itself; a proxy of this network appends to it.
     ("93.184.216.34", ["198.51.100.1"], "93.184.216.34"),
     ("127.0.0.1", ["198.51.100.1, 93.184.216.35"], "93.184.216.35"),
     ("10.0.0.2", ["198.51.100.1", "93.184.216.35"], "93.184.216.35"),
     ("10.0.0.2", ["unknown"], "10.0.0.2"),
     ("::ffff:93.184.216.34", [], "93.184.216.34"),
     ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
     ("a socket", [], "a socket")],
)  # fmt: skip
def test_a_client_is_known_by_its_network(
    peer: str, forwarded_for: list[str], network: str
) -> None:
    assert client_network(peer, forwarded_for) == network
