"""Which servers do the bot's own work for a conversation."""

import io
import json

import pytest

from understudy.app.background_order import free_first
from understudy.app.bot import open_bot_without_history
from understudy.config.load import parse_config
from understudy.conversation.orders import Order
from understudy.observability.logs import Logs

CONFIG = {
    "model": {
        "provider_order": ["paid", "local"],
        "orders": {"private": ["mine"]},
        "servers": {
            "paid": {"base_url": "https://api.example.com/v1", "name": "big"},
            "mine": {"base_url": "https://mine.example.com/v1", "name": "small"},
        },
        "local": {"enabled": True, "base_url": "http://127.0.0.1:9"},
    }
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("own", "asked"),
    [
        (None, ["local", "paid/big"]),
        (("mine",), ["mine/small"]),
        (("paid", "local"), ["local", "paid/big"]),
        (("gone",), []),
    ],
)
async def test_only_servers_of_the_conversations_order_are_asked_and_free_ones_first(
    own: Order, asked: list[str]
) -> None:
    config = parse_config(json.dumps(CONFIG), {})
    async with open_bot_without_history(
        config, Logs(config.settings.logging, io.StringIO())
    ) as bot:
        names = free_first(bot, own)

    assert [name.removesuffix("/") for name in names] == asked
