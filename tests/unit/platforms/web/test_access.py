from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from understudy.config.settings import Web
from understudy.errors import ConfigError
from understudy.platforms.web.auth import (
    LINK_S,
    SESSION_COOKIE,
    SESSION_S,
    Access,
    Level,
    UseOnce,
    check_host,
    load_operator_token,
)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def make_access(
    *,
    chat_token: str | None = None,
    free_chat: bool = True,
    clock: Clock | None = None,
    use_once: UseOnce | None = None,
) -> Access:
    return Access(
        operator_token="operator-token",
        chat_token=chat_token,
        free_chat=free_chat,
        clock=clock or Clock(),
        use_once=use_once,
    )


def level(
    access: Access,
    *,
    peer: str = "127.0.0.1",
    headers: Mapping[str, str] | None = None,
    cookie: str = "",
) -> Level:
    return access.level_of(peer, headers or {}, {SESSION_COOKIE: cookie})


def test_the_chat_is_free_on_loopback_only() -> None:
    assert level(make_access()) is Level.CHAT
    assert level(make_access(), peer="::1") is Level.CHAT
    assert level(make_access(), peer="192.168.1.9") is Level.ANONYMOUS


@pytest.mark.parametrize("header", ["X-Forwarded-For", "forwarded", "via", "cf-connecting-ip"])
def test_a_forwarded_request_is_not_free(header: str) -> None:
    assert level(make_access(), headers={header: "127.0.0.1"}) is Level.ANONYMOUS


def test_a_chat_token_ends_free_access_and_opens_the_chat_only() -> None:
    access = make_access(chat_token="chat-token")

    assert level(access) is Level.ANONYMOUS
    assert level(access, headers={"authorization": "Bearer chat-token"}) is Level.CHAT
    assert level(access, headers={"authorization": "bearer operator-token"}) is Level.OPERATOR


def test_a_wrong_bearer_token_has_no_access_even_on_loopback() -> None:
    assert level(make_access(), headers={"authorization": "Bearer wrong"}) is Level.ANONYMOUS
    assert level(make_access(), headers={"authorization": "Bearer "}) is Level.ANONYMOUS


async def test_a_login_link_works_once() -> None:
    access = make_access()
    code = access.new_link_code()

    assert await access.redeem(code) is Level.OPERATOR
    assert await access.redeem(code) is Level.ANONYMOUS


async def test_a_login_link_works_once_at_all_processes_together() -> None:
    used: set[str] = set()

    async def use_once(name: str, _until: float) -> bool:
        is_first = name not in used
        used.add(name)
        return is_first

    one, other = make_access(use_once=use_once), make_access(use_once=use_once)
    code = one.new_link_code()

    assert await other.redeem(code) is Level.OPERATOR
    assert await one.redeem(code) is Level.ANONYMOUS


async def test_a_login_link_of_an_earlier_start_is_worth_nothing_in_one_process() -> None:
    code = make_access().new_link_code()

    assert await make_access().redeem(code) is Level.ANONYMOUS


@pytest.mark.parametrize("code", ["", "a.b", "a.b.c", "a.2000000000.", "a.2000000000.ff"])
async def test_an_invented_login_link_is_worth_nothing(code: str) -> None:
    assert await make_access().redeem(code) is Level.ANONYMOUS


async def test_a_login_link_expires() -> None:
    clock = Clock()
    access = make_access(clock=clock)
    code = access.new_link_code()
    clock.now += LINK_S

    assert await access.redeem(code) is Level.ANONYMOUS


def test_processes_that_start_together_make_one_token(tmp_path: Path) -> None:
    together = Barrier(4)

    def start(_: int) -> str:
        together.wait()
        return load_operator_token(Web(), tmp_path / "token")

    with ThreadPoolExecutor(4) as threads:
        tokens = set(threads.map(start, range(4)))

    assert len(tokens) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["token"]


def test_a_session_lasts_and_ends() -> None:
    clock = Clock()
    access = make_access(clock=clock, free_chat=False)
    cookie = access.session(Level.OPERATOR)

    assert level(access, cookie=cookie, peer="10.0.0.9") is Level.OPERATOR
    clock.now += SESSION_S
    assert level(access, cookie=cookie, peer="10.0.0.9") is Level.ANONYMOUS


def test_a_session_ends_when_its_token_changes() -> None:
    cookie = make_access().session(Level.OPERATOR)
    changed = Access(operator_token="new", chat_token=None, free_chat=False, clock=Clock())

    assert level(changed, cookie=cookie) is Level.ANONYMOUS


@pytest.mark.parametrize(
    "forged", ["", "2", "2.9999999999.", "2.9999999999.00", "9.1.x", "2.x.y", "2.1.é", "a.b.c.d"]
)
def test_a_forged_session_has_no_access(forged: str) -> None:
    assert level(make_access(free_chat=False), cookie=forged) is Level.ANONYMOUS


def test_a_chat_session_cannot_be_raised_to_operator() -> None:
    access = make_access(chat_token="chat-token", free_chat=False)
    _, until, signature = access.session(Level.CHAT).split(".")

    assert level(access, cookie=f"2.{until}.{signature}") is Level.ANONYMOUS


def test_a_reachable_host_without_a_token_is_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match="UNDERSTUDY_WEB_TOKEN"):
        check_host(Web(host="0.0.0.0"))
    check_host(Web(host="0.0.0.0", token="t"))  # type: ignore[arg-type]
    check_host(Web(host="127.0.0.1"))


def test_the_token_is_generated_once_and_readable_by_its_owner_only(tmp_path) -> None:  # type: ignore[no-untyped-def]
    kept = tmp_path / "web-token"

    first = load_operator_token(Web(), kept)

    assert len(first) >= 40
    assert load_operator_token(Web(), kept) == first
    assert kept.stat().st_mode & 0o777 == 0o600
    assert load_operator_token(Web(token="mine"), kept) == "mine"  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["folder", "binary"])
def test_a_token_file_that_is_no_text_is_refused_with_advice(tmp_path: Path, kind: str) -> None:
    kept = tmp_path / "token"
    if kind == "folder":
        kept.mkdir()
    else:
        kept.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigError, match="Delete it"):
        load_operator_token(Web(), kept)
