import hashlib

import pytest
from pydantic import SecretStr

from understudy.config.settings import GatewayKey
from understudy.errors import ConfigError, RequestRefused
from understudy.gateway.auth import Access, make_key

LOCAL = {b"host": b"localhost:8006"}
BEARER = {b"host": b"gate.example", b"authorization": b"Bearer sk-mine"}


def plain(name: str = "tavern", key: str = "sk-mine") -> GatewayKey:
    return GatewayKey(name=name, key=SecretStr(key))


def refusal(access: Access, peer: str | None, headers: dict[bytes, bytes]) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        access.admit(peer, headers)
    return caught.value


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_without_keys_programs_on_this_machine_come_in(peer: str) -> None:
    assert Access([]).admit(peer, LOCAL).key is None


@pytest.mark.parametrize("peer", ["192.0.2.7", "2001:db8::1", "not an address", None])
def test_without_keys_nobody_else_comes_in(peer: str | None) -> None:
    assert refusal(Access([]), peer, LOCAL).status == 401


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via"])
def test_loopback_is_not_free_behind_a_proxy(name: bytes) -> None:
    assert refusal(Access([]), "127.0.0.1", {**LOCAL, name: b"192.0.2.7"}).status == 401


@pytest.mark.parametrize("host", [b"evil.example", b"127.0.0.1.evil.example", b""])
def test_a_page_that_rebinds_its_name_to_loopback_is_refused(host: bytes) -> None:
    assert refusal(Access([]), "127.0.0.1", {b"host": host}).code == "host_refused"


@pytest.mark.parametrize("host", [b"127.0.0.1:8006", b"[::1]:8006", b"LOCALHOST", b"a.localhost"])
def test_every_name_of_loopback_is_good(host: bytes) -> None:
    assert Access([]).admit("127.0.0.1", {b"host": host}).name == "loopback"


def test_a_web_page_needs_its_origin_in_the_settings() -> None:
    page = {**LOCAL, b"origin": b"https://chat.example"}

    assert refusal(Access([]), "127.0.0.1", page).code == "origin_refused"
    assert Access([], ["https://chat.example/"]).admit("127.0.0.1", page).name == "loopback"


def test_once_there_are_keys_loopback_needs_one_too() -> None:
    assert refusal(Access([plain()]), "127.0.0.1", LOCAL).code == "missing_api_key"


def test_a_key_may_be_plain_or_hashed() -> None:
    hashed = GatewayKey(name="hashed", sha256=hashlib.sha256(b"sk-two").hexdigest())
    access = Access([plain(), hashed])

    found = [
        access.admit("192.0.2.7", {b"authorization": b"Bearer " + key}).name
        for key in (b"sk-mine", b"sk-two")
    ]
    assert found == ["tavern", "hashed"]


def test_the_key_may_come_in_x_api_key() -> None:
    assert Access([plain()]).admit("192.0.2.7", {b"x-api-key": b"sk-mine"}).name == "tavern"


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer wrong"},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Basic sk-mine"},
        {b"authorization": b"\xff\xfe"},
        {},
    ],
)
def test_a_wrong_key_is_refused(headers: dict[bytes, bytes]) -> None:
    assert refusal(Access([plain()]), "127.0.0.1", headers).status == 401


def test_who_has_no_key_does_not_come_in_by_the_hash_of_nothing() -> None:
    nothing = GatewayKey(name="empty", sha256=hashlib.sha256(b"").hexdigest())

    assert refusal(Access([plain(key=""), nothing]), "127.0.0.1", LOCAL).status == 401


def test_a_key_from_an_unset_variable_stops_the_start_and_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="THIRD_KEY"):
        Access([GatewayKey(name="named", env="THIRD_KEY")])


def test_a_hash_that_is_none_stops_the_start() -> None:
    with pytest.raises(ConfigError, match="hexadecimal"):
        Access([GatewayKey(name="odd", sha256="sk-mine")])


def test_a_made_key_opens_the_gate_by_its_hash_alone() -> None:
    made = make_key()
    access = Access([GatewayKey(name="new", sha256=made.sha256)])

    assert access.admit(None, {b"authorization": f"Bearer {made.key}".encode()}).name == "new"


def test_only_a_known_origin_may_read_answers() -> None:
    access = Access([plain()], ["https://chat.example"])

    assert access.cors({b"origin": b"https://evil.example"}) == b""
    allowed = b"access-control-allow-origin: https://chat.example\r\n"
    assert allowed in access.cors({b"origin": b"https://chat.example"})


def test_a_star_lets_every_page_read() -> None:
    assert Access([plain()], ["*"]).cors({b"origin": b"null"})


def test_a_request_that_a_foreign_page_caused_is_refused_without_an_origin_too() -> None:
    headers = {b"host": b"127.0.0.1", b"sec-fetch-site": b"cross-site"}

    with pytest.raises(RequestRefused) as refused:
        Access([]).admit("127.0.0.1", headers)

    assert refused.value.code == "origin_refused"
