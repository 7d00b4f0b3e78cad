from sample_records import NOON, answered, reply
from understudy.gateway.auth import KeyQuota
from understudy.gateway.key_limits import KeyLimits
from understudy.routing.records import Origin

DAY_START = NOON // 86_400 * 86_400


def test_a_key_without_limits_is_never_full() -> None:
    limits = KeyLimits()

    assert {limits.take(KeyQuota(name="k"), NOON) for _ in range(1000)} == {None}


def test_the_minute_is_full_after_so_many_requests_and_empties_at_its_end() -> None:
    key, limits = KeyQuota(name="k", requests_per_minute=2), KeyLimits()

    waits = [limits.take(key, DAY_START + second) for second in (10, 20, 30, 60)]
    assert waits == [None, None, 30, None]


def test_the_day_is_full_until_midnight_utc() -> None:
    key, limits = KeyQuota(name="k", requests_per_day=1), KeyLimits()
    limits.take(key, DAY_START)

    assert limits.take(key, DAY_START + 86_000) == 400


def test_a_refused_request_is_not_counted() -> None:
    key, limits = KeyQuota(name="k", requests_per_minute=1, requests_per_day=2), KeyLimits()
    for second in (0, 1, 2):
        limits.take(key, DAY_START + second)

    assert limits.take(key, DAY_START + 61) is None


def test_tokens_of_a_reply_count_when_it_ends() -> None:
    key, limits = KeyQuota(name="k", tokens_per_day=400), KeyLimits()
    assert limits.take(key, NOON) is None

    limits.reply_ended(reply(answered(), origin=Origin(user="key:k")))  # 412 + 57 tokens
    assert limits.take(key, NOON) is not None


def test_what_others_use_is_not_counted() -> None:
    key, limits = KeyQuota(name="k", tokens_per_minute=1), KeyLimits()
    limits.take(key, NOON)

    limits.reply_ended(reply(answered(), origin=Origin(user="key:other")))
    limits.reply_ended(reply(answered(), origin=Origin(user="discord:k")))
    assert limits.take(key, NOON) is None


def test_the_longest_wait_of_several_full_limits_is_told() -> None:
    key = KeyQuota(name="k", requests_per_minute=1, requests_per_day=1)
    limits = KeyLimits()
    limits.take(key, DAY_START)

    assert limits.take(key, DAY_START + 30) == 86_370
