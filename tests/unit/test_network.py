"""Which requests count as coming from this machine itself."""

import pytest

from understudy.network import FORWARDING_HEADERS, host_name, is_direct, is_loopback


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
