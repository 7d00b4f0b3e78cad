"""Pauses between attempts to reconnect."""

from structlog.testing import capture_logs

from understudy.platforms.discord.reconnect import ReconnectDelay


def test_pauses_grow_to_half_a_minute_at_most_and_are_logged() -> None:
    delay = ReconnectDelay(3)

    with capture_logs() as logs:
        pauses = [delay.delay() for _ in range(200)]

    assert max(pauses) == 30
    assert max(pauses[:2]) <= 4
    assert [round(pause, 1) for pause in pauses] == [log["pause_s"] for log in logs]
    assert {log["shard"] for log in logs} == {3}
