"""The addresses that images may be fetched from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from understudy.errors import ImageRefusal, ImageRefused
from understudy.images.address_guard import check_url, is_public
from understudy.images.fetch import GuardedResolver


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2002:c0a8:101::",
        "::7f00:1",
        "::10.0.0.1",
        "::ffff:0:127.0.0.1",
        "fec0::1",
        "2001:db8::1",
        "64:ff9b::a9fe:a9fe",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
        "not an address",
        "",
    ],
)
def test_private_and_wrapped_private_addresses_are_not(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=4, network="10.0.0.0/8"))
def test_no_wrapping_makes_a_private_address_public(address: object) -> None:
    assert not is_public(f"::ffff:{address}")


@pytest.mark.parametrize(
    "link",
    [
        "ftp://example.com/a.png",
        "file:///etc/passwd",
        "https://user:secret@example.com/a.png",
        "http://example.com:22/a.png",
        "http://127.0.0.1/a.png",
        "http://[::1]/a.png",
        "https://169.254.169.254/latest/meta-data",
        "data:image/png;base64,AAAA",
        "http://[::ffff:169.254.169.254]/a.png",
        "http://[fe80::1%25eth0]/a.png",
        "gopher://example.com/a.png",
        "https://example.com:8443/a.png",
        "http://2130706433/a.png",
        "http://0x7f000001/a.png",
        "http://127.1/a.png",
        "http://017700000001/a.png",
        "http://[64:ff9b:1::8.8.8.8]/a.png",
    ],
)
def test_links_to_private_addresses_are_refused(link: str) -> None:
    with pytest.raises(ImageRefused) as caught:
        check_url(URL(link), ())

    assert caught.value.reason is ImageRefusal.ADDRESS


async def test_a_host_that_is_a_number_is_checked_by_its_resolved_address() -> None:
    with pytest.raises(ImageRefused):
        await GuardedResolver((), _answers("127.0.0.1")).resolve("2130706433", 80)


def test_an_allowed_host_may_have_any_address() -> None:
    check_url(URL("http://127.0.0.1:9000/a.png"), {"127.0.0.1:9000"})
    check_url(URL("http://nas.lan:5000/a.png"), {"nas.lan"})


async def test_one_private_answer_among_public_ones_refuses_them_all() -> None:
    resolver = GuardedResolver((), _answers("1.1.1.1", "10.0.0.1"))

    with pytest.raises(ImageRefused):
        await resolver.resolve("pictures.example", 443)


async def test_the_resolver_answers_with_the_addresses_it_checked() -> None:
    resolver = GuardedResolver((), _answers("1.1.1.1", "2606:4700:4700::1111"))

    found = await resolver.resolve("pictures.example", 443)

    assert [entry["host"] for entry in found] == ["1.1.1.1", "2606:4700:4700::1111"]


def _answers(*addresses: str):  # type: ignore[no-untyped-def]
    async def resolve(_host: str, _port: int) -> list[str]:
        return list(addresses)

    return resolve
