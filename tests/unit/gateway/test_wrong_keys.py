"""Keys can be guessed only slowly from one address."""

from pydantic import SecretStr

from gateway_call import LOCAL, Client
from sample_records import NOON
from understudy.config.settings import Gateway as GatewaySettings
from understudy.config.settings import GatewayKey
from understudy.gateway.app import Gateway
from understudy.gateway.key_limits import KeyLimits
from understudy.gateway.reply_call import Source
from understudy.http_server.auth_throttle import FAILURES, WINDOW_S, AuthFailures
from understudy.routing.request import ReplyEnded, ReplyRequest, ReplySink

KEYS = GatewaySettings(keys=(GatewayKey(name="tavern", key=SecretStr("sk-mine")),))


async def no_reply(request: ReplyRequest, sink: ReplySink) -> ReplyEnded:
    raise AssertionError("no request gets this far")


class ProtectedGateway:
    def __init__(self) -> None:
        self.now = 100.0
        self.gateway = Gateway(
            KEYS,
            Source(no_reply, ("a",), lambda _: True),
            KeyLimits(),
            new_id=lambda: "r1",
            failures=AuthFailures(lambda: self.now),
            wall=lambda: NOON,
        )

    async def status(self, key: str | None, peer: str = "10.0.0.1") -> int:
        headers = LOCAL if key is None else {**LOCAL, "authorization": f"Bearer {key}"}
        client = Client(self.gateway, peer=peer)
        return (await client.call("/v1/models", b"", method="GET", headers=headers)).status


async def test_after_many_wrong_keys_an_address_has_to_wait_with_the_right_one_too() -> None:
    gateway = ProtectedGateway()

    guesses = [await gateway.status(f"sk-{n}") for n in range(FAILURES)]
    refused = await gateway.status("sk-mine")
    gateway.now += WINDOW_S
    assert (set(guesses), refused) == ({401}, 429)
    assert await gateway.status("sk-mine") == 200


async def test_other_addresses_and_requests_without_a_key_are_not_affected() -> None:
    gateway = ProtectedGateway()
    for n in range(FAILURES):
        await gateway.status(f"sk-{n}")

    assert await gateway.status("sk-mine", peer="10.0.0.2") == 200
    assert await gateway.status(None) == 401
