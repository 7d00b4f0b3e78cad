"""Limits per day: counted from the ledger, for one user and for all together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sample_records import NOON, answered, failed, reply
from understudy.config.settings import Limits, UserLimits
from understudy.errors import ErrorClass
from understudy.llm.messages import Usage
from understudy.routing.quotas import QuotaGuard
from understudy.routing.records import Origin
from understudy.storage.database import Database
from understudy.storage.ledger import Ledger

ANN, BOB = Origin("discord:c", "discord:ann"), Origin("discord:c", "discord:bob")
MIDNIGHT = 1_790_035_200.0
"""The end of NOON's day in UTC."""


@dataclass
class Wall:
    now: float = NOON

    def __call__(self) -> float:
        return self.now


def guard(wall: Wall, **limits: object) -> QuotaGuard:
    settings = Limits.model_validate(limits)
    return QuotaGuard(lambda: settings, wall)


def test_past_the_daily_money_nobody_may_spend_until_the_next_day_in_utc() -> None:
    wall = Wall()
    spending = guard(wall, daily_usd=0.5)
    spending.reply_ended(reply(answered(cost_usd=0.25), origin=ANN))
    assert spending.may_spend(BOB)

    spending.reply_ended(reply(answered(cost_usd=0.25), origin=ANN))

    assert not spending.may_spend(BOB)
    assert spending.limited_until("discord:bob") is None
    wall.now = MIDNIGHT - 1
    assert not spending.may_spend(BOB)
    wall.now = MIDNIGHT
    assert spending.may_spend(BOB)


def test_one_users_money_does_not_stop_another() -> None:
    spending = guard(Wall(), per_user={"usd_per_day": 0.2})

    spending.reply_ended(reply(answered(cost_usd=0.25), origin=ANN))

    assert not spending.may_spend(ANN)
    assert spending.may_spend(BOB)


def test_a_user_past_their_requests_hears_when_to_come_back() -> None:
    spending = guard(Wall(), per_user={"requests_per_day": 2})

    for _ in range(2):
        assert spending.limited_until("discord:ann") is None
        spending.reply_ended(reply(answered(), origin=ANN))

    assert spending.limited_until("discord:ann") == MIDNIGHT
    assert spending.limited_until("discord:bob") is None
    assert spending.limited_until("") is None


def test_a_reply_that_never_came_costs_no_request_but_its_tokens_count() -> None:
    spending = guard(Wall(), per_user={"requests_per_day": 1, "tokens_per_day": 100})
    broken = failed("openrouter", ErrorClass.TRUNCATED_STREAM, usage=Usage(40, 10))

    spending.reply_ended(reply(broken, origin=ANN))
    assert spending.limited_until("discord:ann") is None

    spending.reply_ended(reply(broken, origin=ANN))
    assert spending.limited_until("discord:ann") == MIDNIGHT


def test_an_unknown_cost_is_not_counted_as_money() -> None:
    spending = guard(Wall(), daily_usd=0.01)

    spending.reply_ended(reply(answered(cost_usd=None), origin=ANN))

    assert spending.may_spend(ANN)


def test_limits_that_a_reload_changed_hold_at_once() -> None:
    limits: Sequence[Limits] = [Limits(), Limits(per_user=UserLimits(requests_per_day=1))]
    asked = iter(limits)
    spending = QuotaGuard(lambda: next(asked), Wall())
    spending.reply_ended(reply(answered(), origin=ANN))

    assert spending.limited_until("discord:ann") is None
    assert spending.limited_until("discord:ann") == MIDNIGHT


def test_what_the_bot_asks_for_itself_costs_no_request_but_its_tokens_count() -> None:
    spending = guard(Wall(), per_user={"requests_per_day": 1, "tokens_per_day": 100})
    title = answered(usage=Usage(40, 10))

    spending.reply_ended(reply(title, origin=ANN, purpose="title"))
    assert spending.limited_until("discord:ann") is None

    spending.reply_ended(reply(title, origin=ANN, purpose="caption"))
    assert spending.limited_until("discord:ann") == MIDNIGHT


async def test_a_restart_forgets_nothing_of_today_and_all_of_yesterday(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "ledger.db")
    ledger = Ledger(database)
    yesterday = {"ts": NOON - 86_400, "request_id": "r0"}
    await ledger.add(
        (
            reply(answered(cost_usd=0.3), origin=ANN),
            reply(answered(cost_usd=9.0, **yesterday), origin=BOB, **yesterday),
            reply(
                answered(cost_usd=0.0, request_id="r2"),
                origin=BOB,
                request_id="r2",
                purpose="caption",
            ),
        )
    )
    restarted = guard(Wall(), daily_usd=0.5, per_user={"requests_per_day": 1})

    await restarted.recall(ledger)
    await database.aclose()

    assert restarted.limited_until("discord:ann") == MIDNIGHT
    assert restarted.limited_until("discord:bob") is None
    assert restarted.may_spend(ANN)
    restarted.reply_ended(reply(answered(cost_usd=0.2), origin=BOB))
    assert not restarted.may_spend(ANN)


def test_many_users_of_one_network_have_the_limits_of_one() -> None:
    spending = guard(Wall(), per_user={"requests_per_day": 3, "usd_per_day": 0.5})
    users = [f"web:cookie-{number}" for number in range(5)]
    for user in users:
        spending.note_network(user, "198.51.100.7")
    spending.note_network("web:neighbour", "198.51.100.8")

    for user in users[:3]:
        assert spending.limited_until(user) is None
        spending.reply_ended(reply(answered(cost_usd=0.2), origin=Origin("web:c", user)))

    assert spending.limited_until("web:cookie-4") == MIDNIGHT
    assert not spending.may_spend(Origin("web:c", "web:cookie-4"))
    assert spending.limited_until("web:neighbour") is None
    assert spending.may_spend(Origin("web:c", "web:neighbour"))


def test_a_user_without_a_network_has_their_own_limits_alone() -> None:
    spending = guard(Wall(), per_user={"requests_per_day": 1})
    spending.note_network("web:one", "198.51.100.7")
    spending.note_network("web:operator", "198.51.100.7")
    spending.note_network("web:operator", "")

    spending.reply_ended(reply(answered(), origin=Origin("web:c", "web:one")))

    assert spending.limited_until("web:one") == MIDNIGHT
    assert spending.limited_until("web:operator") is None
