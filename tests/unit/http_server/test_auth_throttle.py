"""Guessing tokens is slowed down by address."""

from starlette.types import Message, Receive, Scope, Send

from understudy.http_server.auth_throttle import FAILURES, WINDOW_S, AuthThrottle
from understudy.http_server.refusal import refuse


async def app(scope: Scope, _receive: Receive, send: Send) -> None:
    right = (b"authorization", b"Bearer right") in scope["headers"]
    status = 200 if right or not scope["headers"] else 401
    await send({"type": "http.response.start", "status": status, "headers": []})


class Site:
    def __init__(self) -> None:
        self.now = 100.0

        async def refused(send: Send, retry_after_s: int) -> None:
            await refuse(send, "Too many wrong tokens.", retry_after_s)

        self.throttle = AuthThrottle(app, refused, login_path="/login", clock=lambda: self.now)

    async def ask(self, token: bytes | None, address: str = "1.2.3.4", path: str = "/") -> int:
        headers = [] if token is None else [(b"authorization", b"Bearer " + token)]
        scope = {
            "type": "http", "path": path, "method": "GET", "query_string": b"",
            "headers": headers, "client": (address, 1),
        }  # fmt: skip
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        await self.throttle(scope, receive, send)
        return int(sent[0]["status"])


async def test_after_ten_wrong_tokens_no_token_of_that_address_is_checked() -> None:
    site = Site()
    statuses = [await site.ask(b"wrong") for _ in range(FAILURES + 1)]

    assert statuses == [401] * FAILURES + [429]
    assert await site.ask(b"right") == 429
    site.now += WINDOW_S
    assert await site.ask(b"right") == 200


async def test_the_right_token_is_taken_from_another_address() -> None:
    site = Site()
    for _ in range(FAILURES):
        await site.ask(b"wrong")

    assert await site.ask(b"right", "1.2.3.5") == 200
    assert await site.ask(None) == 200


async def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    site = Site()
    for at in range(FAILURES):
        await site.ask(b"wrong", f"2001:db8::{at:x}")

    assert await site.ask(b"right", "2001:db8::ffff") == 429
    assert await site.ask(b"right", "2001:db8:1::1") == 200


async def test_right_tokens_are_never_slowed_down() -> None:
    site = Site()

    assert {await site.ask(b"right") for _ in range(100)} == {200}
