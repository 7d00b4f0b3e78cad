"""Cards and lore on the operator's page of the composed bot."""

import io
import json
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from understudy.app.bot import open_bot
from understudy.app.web import web_page
from understudy.config.load import parse_config
from understudy.conversation.personas.containers import export_png, read_card
from understudy.observability.logs import Logs

pytestmark = pytest.mark.slow

BOOK = {"entries": [{"keys": ["bone"], "content": "Under the oak.", "enabled": True}]}
CARD = {"name": "Rufus", "description": "A dog.", "character_book": BOOK}


async def test_an_imported_card_is_usable_at_once_with_its_lore(tmp_path: Path) -> None:
    made = parse_config(
        f"""\
model: {{provider_order: [a], servers: {{a: {{base_url: "http://127.0.0.1:9"}}}}}}
storage: {{url: "sqlite:///{tmp_path}/bot.db"}}
persona: {{folder: "{tmp_path}/personas"}}
web: {{port: 0, token: operator-of-the-test}}
""",
        {},
    )
    data = json.dumps({"spec": "chara_card_v2", "spec_version": "2.0", "data": CARD})
    async with (
        open_bot(made, Logs(made.settings.logging, io.StringIO())) as bot,
        web_page(bot, tmp_path / "token") as page,
        aiohttp.ClientSession(page.url) as stranger,
        aiohttp.ClientSession(
            page.url, headers={"Authorization": "Bearer operator-of-the-test"}
        ) as http,
    ):
        async with stranger.post("/api/operator/personas", data=data) as answer:
            assert answer.status == 401
        async with http.post("/api/operator/personas", data="no card") as answer:
            assert answer.status == 400
        async with http.post("/api/operator/personas", data=data) as answer:
            assert (await answer.json())["said"] == "Imported Rufus as 'rufus'."
        other = data.replace("A dog.", "Another dog.")
        async with http.post("/api/operator/personas", data=other) as answer:
            assert answer.status == 409
            assert (await answer.json())["free_key"] == "rufus-2"
        async with http.post("/api/operator/personas?existing=number", data=other) as answer:
            assert (await answer.json())["said"] == "Imported Rufus as 'rufus-2'."
        async with http.post("/api/operator/personas?existing=replace", data=other) as answer:
            assert (await answer.json())["said"] == "Imported Rufus as 'rufus'."
        asked = {"text": "a bone!", "persona": "rufus"}
        async with http.post("/api/operator/lore", json=asked) as answer:
            shown = await answer.json()

    assert shown["persona"] == "Rufus"
    assert "named by “bone”" in shown["entries"][0]
    assert "Under the oak." in shown["pieces"][0]["text"]


async def test_the_chat_page_gets_greetings_and_a_picture_without_the_card(
    tmp_path: Path,
) -> None:
    made = parse_config(
        f"""\
model: {{provider_order: [a], servers: {{a: {{base_url: "http://127.0.0.1:9"}}}}}}
storage: {{url: "sqlite:///{tmp_path}/bot.db"}}
persona: {{folder: "{tmp_path}/personas", default: rufus}}
web: {{port: 0, token: operator-of-the-test, choose_order: true}}
""",
        {},
    )
    picture = io.BytesIO()
    Image.new("RGB", (640, 900), "red").save(picture, "PNG")
    card = CARD | {"first_mes": "Woof, {{user}}!", "alternate_greetings": ["Grr."]}
    data = {"spec": "chara_card_v2", "spec_version": "2.0", "data": card}
    parsed = read_card(json.dumps(data).encode()).card
    (tmp_path / "personas").mkdir()
    (tmp_path / "personas" / "rufus.png").write_bytes(export_png(parsed, picture.getvalue()))
    async with (
        open_bot(made, Logs(made.settings.logging, io.StringIO())) as bot,
        web_page(bot, tmp_path / "token") as page,
        aiohttp.ClientSession(page.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
    ):
        async with http.get("/"):
            pass
        async with http.get("/api/chats/conversation-1/persona") as answer:
            personas = await answer.json()
        async with http.get("/api/personas/rufus/picture") as answer:
            shown = await answer.read()
        async with http.get("/api/personas/..%2Frufus/picture") as answer:
            assert answer.status == 404
        async with http.get("/api/chats/conversation-1/server") as answer:
            servers = await answer.json()

    greetings = [['<p dir="auto">Woof, You!</p>\n'], ['<p dir="auto">Grr.</p>\n']]
    rufus = {"key": "rufus", "name": "Rufus", "greetings": greetings, "picture": True}
    assert personas == {"persona": None, "default": rufus, "personas": [rufus]}
    assert b"chara" not in shown
    assert max(Image.open(io.BytesIO(shown)).size) == 256
    assert [name.partition("/")[0] for name in servers["servers"]] == ["a"]
