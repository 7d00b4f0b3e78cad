"""Naming, branching, importing and continuing conversations over the page's API."""

import pytest

from understudy.platforms.web.persona_choice import PersonaView
from web_double import reply_text
from web_setup import CHAT, Client, open_client

MESSAGES = [
    {"role": "user", "name": "You", "at": "2026-01-02T03:04:05+00:00", "text": "Hello"},
    {"role": "assistant", "name": "Ada", "text": "Hi", "thoughts": "Polite."},
]


async def replied(page: Client, *, message: str = "message-1") -> str:
    """Send a message; the id of its stored reply."""
    async with page.listening() as events:
        await page.say("hello", message=message)
        shown = await events.until_state("done")
    return str(shown["id"])


async def entries(page: Client, chat: str = CHAT) -> list[dict[str, object]]:
    async with page.listening(chat) as events:
        _, data = await events.next()
    return data["entries"]  # type: ignore[return-value]


async def test_an_imported_conversation_has_its_messages_times_and_thoughts() -> None:
    async with open_client(reply_text("Yes")) as page:
        status, _ = await page.post(
            f"/api/chats/{CHAT}/import", {"title": " Old  talk ", "messages": MESSAGES}
        )
        again, _ = await page.post(f"/api/chats/{CHAT}/import", {"messages": MESSAGES})
        asked, answered = await entries(page)
        async with page.http.get(f"{page.url}/api/chats") as answer:
            chats = (await answer.json())["chats"]

    assert (status, again) == (201, 409)
    assert (asked["text"], asked["at"]) == ("Hello", 1767323045.0)
    assert (answered["text"], answered["name"]) == ("Hi", "Ada")
    assert answered["thoughts"] == "Polite."
    assert [row["title"] for row in chats] == ["Old talk"]


@pytest.mark.parametrize(
    "messages",
    [None, [], ["hello"], [{"role": "system", "name": "x", "text": "y"}], [{"role": "user"}]],
)
async def test_a_file_that_is_no_conversation_is_refused(messages: object) -> None:
    async with open_client(reply_text("Yes")) as page:
        status, _ = await page.post(f"/api/chats/{CHAT}/import", {"messages": messages})

        assert status == 400
        assert await entries(page) == []


async def test_a_branch_has_the_same_texts_under_new_ids() -> None:
    async with open_client(reply_text("Yes")) as page:
        reply = await replied(page)
        body = {"reply": reply, "id": "conversation-2"}
        status, _ = await page.post(f"/api/chats/{CHAT}/branch", body)
        taken, _ = await page.post(f"/api/chats/{CHAT}/branch", body)
        first, second = await entries(page), await entries(page, "conversation-2")

    assert (status, taken) == (201, 409)
    assert [entry["text"] for entry in second] == ["hello", "Yes"]
    assert {entry["id"] for entry in first}.isdisjoint({entry["id"] for entry in second})


@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("branch", {"reply": "unknown", "id": "conversation-2"}, 404),
        ("branch", {"reply": "", "id": "../x"}, 404),
        ("version", {"reply": "unknown"}, 409),
        ("continue", {"reply": "unknown"}, 409),
        ("title", {"title": "  "}, 400),
        ("server", {"server": "local/b"}, 403),
        ("persona", {"persona": "unknown"}, 404),
    ],
)
async def test_what_does_not_exist_is_refused(
    action: str, body: dict[str, object], status: int
) -> None:
    async with open_client(reply_text("Yes")) as page:
        await replied(page)

        assert (await page.post(f"/api/chats/{CHAT}/{action}", body))[0] == status


async def test_a_conversation_that_does_not_exist_gets_no_name() -> None:
    async with open_client(reply_text("Yes")) as page:
        assert (await page.post(f"/api/chats/{CHAT}/title", {"title": "Mine"}))[0] == 404


async def test_a_chosen_server_must_be_in_the_order() -> None:
    async with open_client(reply_text("Yes")) as page:
        page.site.servers.append("local/b")
        path = f"/api/chats/{CHAT}/server"

        assert (await page.post(path, {"server": "local/x"}))[0] == 404
        assert (await page.post(path, {"server": "local/b"}))[0] == 200
        async with page.http.get(f"{page.url}{path}") as answer:
            assert await answer.json() == {"server": "local/b", "servers": ["local/b"]}


@pytest.mark.parametrize("number", [-1, 7, "0", None])
async def test_a_greeting_that_the_persona_does_not_have_is_not_stored(number: object) -> None:
    async with open_client(reply_text("Yes")) as page:
        page.site.personas.append(PersonaView("ada", "Ada", ("I am Ada.",)))
        await page.post(f"/api/chats/{CHAT}/persona", {"persona": "ada"})
        async with page.listening() as events:
            await page.say("hello", greeting=number)
            await events.until_state("done")

        assert [entry["text"] for entry in await entries(page)] == ["hello", "Yes"]


async def test_a_persona_without_picture_has_none() -> None:
    async with open_client(reply_text("Yes")) as page:
        page.site.personas.append(PersonaView("ada", "Ada", has_picture=True))

        assert await page.status("/api/personas/ada/picture") == 200
        assert await page.status("/api/personas/rufus/picture") == 404
