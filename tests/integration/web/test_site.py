import asyncio
import base64
import json
import re
from collections.abc import Sequence

import pytest
from starlette.applications import Starlette
from yarl import URL

from understudy.conversation.messages import ImageRef
from understudy.errors import ConfigError
from understudy.http_server.asgi import AsgiApplication
from understudy.http_server.server import WebServer
from understudy.llm.messages import ImagePart
from understudy.platforms.web.api import MAX_BODY
from understudy.platforms.web.chat import BROWSER_COOKIE, MAX_TEXT, ImageActions, Upload
from understudy.platforms.web.templates import PageContext
from understudy.routing.records import Outcome
from web_double import BROKE_OFF, RATE_LIMITED, ScriptedReply, reply_text
from web_setup import CHAT, open_client


async def test_a_reply_streams_and_ends_with_its_route() -> None:
    play = ScriptedReply(
        (("openrouter", *RATE_LIMITED, ""), ("local/kobold", Outcome.OK, None, "Hi *you*"))
    )
    async with open_client(play) as page, page.listening() as events:
        assert await events.next() == ("conversation", {"entries": []})
        assert await page.say("hello") == 202
        done = await events.until_state("done")

    assert done["text"] == "Hi *you*"
    steps = done["steps"]
    assert isinstance(steps, list)
    assert [(step["verdict"], step["label"]) for step in steps] == [
        ("rate-limited", "openrouter"),
        ("answered", "local/kobold"),
    ]
    assert steps[1]["figures"] == "1.3 s, 412→57 tokens"


async def test_only_changed_blocks_are_sent() -> None:
    play = reply_text("One.\n\nTwo.\n\nThree.", pause_s=0.08)
    async with open_client(play) as page, page.listening() as events:
        await page.say("hello")
        done = await events.until_state("done")

    assert done["keep"] == 3
    assert done["blocks"] == []


async def test_a_page_opened_during_a_reply_receives_the_text_so_far() -> None:
    play = ScriptedReply(reply_text("Half a line").attempts, never_ends=True)
    async with open_client(play) as page:
        async with page.listening() as events:
            await page.say("hello")
            await events.until_state("writing")
        async with page.listening() as again:
            name, data = await again.next()

    entries = data["entries"]
    assert isinstance(entries, list)
    assert name == "conversation"
    assert [entry["kind"] for entry in entries] == ["user", "reply"]
    assert entries[1]["state"] == "writing"
    assert entries[1]["keep"] == 0


async def test_a_reload_restores_the_stored_conversation() -> None:
    async with open_client(reply_text("Hi there")) as page:
        async with page.listening() as events:
            await page.say("hello")
            await events.until_state("done")
        async with page.listening() as again:
            _, data = await again.next()
        async with page.http.get(f"{page.url}/api/chats") as answer:
            chats = (await answer.json())["chats"]

    entries = data["entries"]
    assert isinstance(entries, list)
    assert [entry["text"] for entry in entries] == ["hello", "Hi there"]
    assert entries[1]["blocks"] == ['<p dir="auto">Hi there</p>\n']
    assert [(chat["id"], chat["title"]) for chat in chats] == [(CHAT, "hello")]


async def test_a_second_provider_replaces_the_text_of_the_first() -> None:
    acts = (("chutes", *BROKE_OFF, "It was a dark"), ("local", Outcome.OK, None, "Hello instead"))
    async with open_client(ScriptedReply(acts, pause_s=0.08)) as page, page.listening() as events:
        await page.say("hello")
        done = await events.until_state("done")

    assert done["text"] == "Hello instead"
    assert done["blocks"] == [] or done["keep"] == 0


async def test_stop_ends_the_reply_and_keeps_its_text() -> None:
    play = ScriptedReply(reply_text("Half a line").attempts, never_ends=True)
    async with open_client(play) as page, page.listening() as events:
        await page.say("hello")
        writing = await events.until_state("writing")
        status, _ = await page.post(f"/api/chats/{CHAT}/stop", {"reply": writing["id"]})
        stopped = await events.until_state("stopped")

    assert status == 202
    assert stopped["text"] == "Half a line"


async def test_a_reply_is_stopped_only_from_its_own_conversation() -> None:
    play = ScriptedReply(reply_text("Half a line").attempts, never_ends=True)
    async with open_client(play) as page, page.listening() as events:
        await page.say("hello")
        writing = await events.until_state("writing")
        await page.post("/api/chats/conversation-2/stop", {"reply": writing["id"]})

        assert page.site.conversations.router.stop(str(writing["id"]))


async def test_regenerate_puts_a_new_reply_in_place_of_the_last() -> None:
    async with (
        open_client(reply_text("First"), reply_text("Second")) as page,
        page.listening() as events,
    ):
        await page.say("hello")
        first = await events.until_state("done")
        status, _ = await page.post(f"/api/chats/{CHAT}/regenerate", {"reply": first["id"]})
        _, second = await events.until_stored()

    assert status == 202
    assert second["text"] == "Second"
    assert second["versions"] == [first["id"], second["id"]]


async def test_only_the_last_reply_can_be_regenerated() -> None:
    async with open_client(reply_text("First")) as page:
        status, answer = await page.post(f"/api/chats/{CHAT}/regenerate", {"reply": "other"})

    assert status == 409
    assert "last" in str(answer["error"])


async def test_a_message_sent_twice_is_answered_once() -> None:
    async with open_client(reply_text("Hi")) as page, page.listening() as events:
        assert await page.say("hello") == 202
        assert await page.say("hello") == 202
        await events.until_state("done")

        assert len(page.inbox.inbounds) == 1


async def test_a_message_that_cannot_be_stored_is_removed_with_an_error() -> None:
    async with open_client(reply_text("Hi")) as page:
        page.inbox.fails = True
        status, answer = await page.post(
            f"/api/chats/{CHAT}/messages", {"id": "message-1", "text": "hello"}
        )
        page.inbox.fails = False
        async with page.listening() as events:
            assert await events.next() == ("conversation", {"entries": []})
            assert await page.say("hello") == 202
            assert (await events.until_state("done"))["text"] == "Hi"

    assert status == 503
    assert "Try again" in str(answer["error"])


async def test_a_rate_limited_message_is_refused_with_the_seconds_to_wait() -> None:
    async with (
        open_client(reply_text("Hi"), chat_token="chat", messages_per_minute=1) as page,
        page.http.post(f"{page.url}/login", data={"token": "chat"}),
    ):
        assert await page.status("/") == 200
        assert await page.say("hello") == 202
        status, answer = await page.post(
            f"/api/chats/{CHAT}/messages", {"id": "message-2", "text": "again"}
        )

    assert (status, answer["retry_after"]) == (429, 60)
    assert answer["error"] == "Too many messages. Send again in 60 s."
    assert [inbound.text for inbound in page.inbox.inbounds] == ["hello"]


async def test_a_person_with_many_browsers_has_the_limit_of_one() -> None:
    async with (
        open_client(reply_text("Hi"), chat_token="chat", messages_per_minute=1) as page,
        page.http.post(f"{page.url}/login", data={"token": "chat"}),
    ):
        assert await page.status("/") == 200
        assert await page.say("hello") == 202
        page.http.cookie_jar.clear(lambda cookie: cookie.key == BROWSER_COOKIE)
        assert await page.status("/") == 200

        assert await page.say("again", message="message-2") == 429


async def test_rate_limits_do_not_apply_on_this_machine() -> None:
    async with open_client(reply_text("Hi"), messages_per_minute=1) as page:
        assert await page.say("hello") == 202
        assert await page.say("again", message="message-2") == 202


async def test_two_browsers_can_use_the_same_conversation_and_message_id() -> None:
    async with open_client(reply_text("Hi")) as page:
        assert await page.say("hello") == 202
        page.http.cookie_jar.clear()
        assert await page.status("/") == 200
        async with page.listening() as events:
            assert await page.say("hello") == 202
            assert (await events.until_state("done"))["text"] == "Hi"


async def test_a_reply_stopped_before_its_first_text_can_be_regenerated() -> None:
    starts = asyncio.Event()
    slow = ScriptedReply(reply_text("Never").attempts, starts=starts)
    async with open_client(slow, reply_text("Second")) as page, page.listening() as events:
        await page.say("hello")
        writing = await events.until_state("writing")
        await page.post(f"/api/chats/{CHAT}/stop", {"reply": writing["id"]})
        stopped = await events.until_stored()
        path = f"/api/chats/{CHAT}/regenerate"
        status, _ = await page.post(path, {"reply": stopped[-1]["reply"]})
        done = await events.until_state("done")

    assert [(entry["kind"], entry["state"]) for entry in stopped] == [("user", "stopped")]
    assert (status, done["text"], done["after"]) == (202, "Second", stopped[0]["id"])


async def test_stopping_a_new_version_before_its_first_text_restores_the_old_one() -> None:
    slow = ScriptedReply(reply_text("Never").attempts, starts=asyncio.Event())
    async with open_client(reply_text("First"), slow) as page, page.listening() as events:
        await page.say("hello")
        first = await events.until_state("done")
        await page.post(f"/api/chats/{CHAT}/regenerate", {"reply": first["id"]})
        writing = await events.until_state("writing", after=str(first["id"]))
        await page.post(f"/api/chats/{CHAT}/stop", {"reply": writing["id"]})
        entries = await events.until_stored()

    assert [entry["text"] for entry in entries] == ["hello", "First"]


async def test_a_conversation_is_exported_as_json() -> None:
    async with open_client(reply_text("Hi")) as page, page.listening() as events:
        await page.say("hello")
        await events.until_state("done")
        async with page.http.get(f"{page.url}/api/chats/{CHAT}/export?format=json") as answer:
            exported = json.loads(await answer.text())
        missing = await page.status("/api/chats/conversation-9/export")

    assert [(one["role"], one["text"]) for one in exported["messages"]] == [
        ("user", "hello"),
        ("assistant", "Hi"),
    ]
    assert missing == 404


async def test_a_message_of_another_conversation_cannot_be_edited() -> None:
    async with open_client(reply_text("Hi")) as page:
        await page.say("hello")
        body = {"message": f"{CHAT}.message-1", "id": "message-2", "text": "x"}
        status, _ = await page.post("/api/chats/conversation-2/edit", body)

    assert status == 404


BAD_MESSAGES: tuple[tuple[object, int], ...] = (
    ({"id": "message-1", "text": ""}, 400),
    ({"id": "message-1", "text": "   "}, 400),
    ({"id": "message-1", "text": 5}, 400),
    ({"id": "message-1"}, 400),
    ({"id": "../../etc", "text": "x"}, 400),
    ({"id": "message-1", "text": "x" * (MAX_TEXT + 1)}, 413),
    ({"id": "message-1", "text": "x" * MAX_BODY}, 413),
    ({"id": "message-1", "text": "x", "images": [{"name": "a", "data": "%%%"}]}, 400),
    ({"id": "message-1", "text": "x", "images": [3]}, 400),
    ([], 400),
    ("text", 400),
)


async def test_a_bad_message_is_refused_with_a_sentence() -> None:
    async with open_client(reply_text("Hi")) as page:
        for body, status in BAD_MESSAGES:
            got, answer = await page.post(f"/api/chats/{CHAT}/messages", body)

            assert (got, str(body)[:60]) == (status, str(body)[:60])
            assert answer["error"]
        assert page.inbox.inbounds == []


async def test_a_lone_surrogate_is_replaced_before_it_reaches_anything() -> None:
    async with open_client(reply_text("Hi")) as page:
        await page.say("a\ud800b")

        assert page.inbox.inbounds[0].text == "a\ufffdb"


async def test_a_lone_surrogate_in_a_file_name_does_not_end_the_stream() -> None:
    async def store(
        uploads: Sequence[Upload], text: str
    ) -> tuple[tuple[ImageRef, ...], tuple[str, ...]]:
        return tuple(ImageRef("d" * 64, "image/png", 1, 1, u.name) for u in uploads), ()

    async def find(digest: str) -> ImagePart | None:
        return None

    async with (
        open_client(reply_text("Hi"), images=ImageActions(store, find)) as page,
        page.listening() as events,
    ):
        await events.next()
        assert await page.say("look", images=[{"name": "\ud83d.png", "data": ""}]) == 202
        _, entry = await events.next()

    assert entry["images"] == [{"digest": "d" * 64, "name": "\ufffd.png"}]


async def test_without_vision_an_image_is_left_out_with_a_note() -> None:
    picture = {"name": "cat.png", "data": base64.b64encode(b"x").decode()}
    async with open_client(reply_text("Hi")) as page:
        await page.say("look", images=[picture])

        assert page.inbox.inbounds[0].images == ()
        assert "vision" in page.inbox.inbounds[0].notes[0]


async def test_conversations_of_another_browser_are_out_of_reach() -> None:
    async with open_client(reply_text("Hi")) as page:
        async with page.listening() as events:
            await page.say("secret")
            await events.until_state("done")
        page.http.cookie_jar.clear()
        assert await page.status(f"/api/chats/{CHAT}/events") == 401
        assert await page.status("/") == 200
        async with page.listening() as events:
            assert await events.next() == ("conversation", {"entries": []})


async def test_a_reload_replaces_an_invalid_browser_cookie() -> None:
    async with open_client(reply_text("Hi")) as page:
        page.http.cookie_jar.update_cookies({BROWSER_COOKIE: "odd!"}, URL(page.url))
        assert await page.status("/api/chats") == 401
        assert await page.status("/") == 200
        assert await page.status("/api/chats") == 200


async def test_no_stored_id_contains_the_browser_cookie() -> None:
    async with open_client(reply_text("Hi")) as page:
        await page.say("hello")
        cookie = next(morsel.value for morsel in page.http.cookie_jar)

        assert cookie not in str(page.inbox.inbounds)


async def test_delete_removes_the_conversation() -> None:
    async with open_client(reply_text("Hi")) as page:
        async with page.listening() as events:
            await page.say("hello")
            await events.until_state("done")
        async with page.http.delete(f"{page.url}/api/chats/{CHAT}") as answer:
            assert answer.status == 200
        async with page.listening() as events:
            assert await events.next() == ("conversation", {"entries": []})


async def test_a_conversation_is_deleted_on_every_page_that_shows_it() -> None:
    async with open_client(reply_text("Hi")) as page, page.listening() as other:
        await page.say("my secret")
        await other.until_state("done")
        async with page.http.delete(f"{page.url}/api/chats/{CHAT}"):
            pass

        assert await other.next() == ("conversation", {"entries": []})
        async with page.listening() as again:
            assert await again.next() == ("conversation", {"entries": []})


async def test_an_offline_message_shows_who_failed() -> None:
    play = ScriptedReply((("openrouter", *RATE_LIMITED, ""),), offline=True)
    async with open_client(play) as page, page.listening() as events:
        await page.say("hello")
        offline = await events.until_state("offline")

    assert "Give me a moment" in str(offline["text"])
    assert "rate-limited" in str(offline["steps"])


async def test_readiness_follows_the_model_servers() -> None:
    async with open_client(reply_text("Hi")) as page:
        assert await page.status("/readyz") == 200
        page.site.operator.candidates.clear()
        assert await page.status("/readyz") == 503
        assert await page.status("/healthz") == 200


async def test_every_answer_carries_the_headers_that_protect_it() -> None:
    async with open_client(reply_text("Hi")) as page:
        for path in ("/", "/static/chat.js", "/api/chats", "/nowhere", "/healthz"):
            async with page.http.get(f"{page.url}{path}") as answer:
                assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
                assert "unsafe" not in answer.headers["Content-Security-Policy"]
                assert answer.headers["X-Frame-Options"] == "DENY"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert "server" not in {name.lower() for name in answer.headers}


@pytest.mark.parametrize(
    "path", ["/static/../pages/chat.html", "/static/%2e%2e/pages/chat.html", "/static/..%2fsite.py"]
)
async def test_nothing_but_assets_is_served_as_asset(path: str) -> None:
    async with open_client(reply_text("Hi")) as page:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(page.url).port)
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        status = await reader.readline()
        writer.close()

    assert b"404" in status


async def test_an_unknown_host_name_is_refused() -> None:
    async with open_client(reply_text("Hi")) as page:
        assert await page.status("/", {"Host": "evil.example"}) == 421
        assert await page.status("/", {"Host": "localhost:1"}) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_change_from_another_site_is_refused(headers: dict[str, str]) -> None:
    async with open_client(reply_text("Hi")) as page:
        body = {"id": "message-1", "text": "x"}
        url = f"{page.url}/api/chats/{CHAT}/messages"
        async with page.http.post(url, json=body, headers=headers) as answer:
            assert answer.status == 403
        assert page.inbox.inbounds == []


async def test_a_change_from_the_same_origin_is_accepted() -> None:
    async with open_client(reply_text("Hi")) as page:
        url = f"{page.url}/api/chats/{CHAT}/messages"
        headers = {"Origin": page.url, "Sec-Fetch-Site": "same-origin"}
        body = {"id": "message-1", "text": "x"}
        async with page.http.post(url, json=body, headers=headers) as answer:
            assert answer.status == 202


async def test_behind_a_proxy_the_chat_asks_for_a_token() -> None:
    async with open_client(reply_text("Hi")) as page:
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        assert await page.status("/", forwarded) == 303
        assert await page.status("/api/chats", forwarded) == 401
        assert await page.status("/metrics") == 200
        assert await page.status("/metrics", forwarded) == 401
        assert (
            await page.status("/metrics", {**forwarded, "Authorization": "Bearer operator"}) == 200
        )
        assert await page.status("/healthz", forwarded) == 200


async def test_the_login_link_works_once_and_sets_a_strict_cookie() -> None:
    async with open_client(reply_text("Hi"), chat_token="chat") as page:
        assert await page.status("/") == 303
        link = page.site.platform.new_login_link()
        async with page.http.get(link) as answer:
            cookie = answer.headers["Set-Cookie"]
        assert await page.status("/") == 200
        page.http.cookie_jar.clear()
        async with page.http.get(link) as answer:
            assert "expired" in await answer.text()
            assert "Set-Cookie" not in answer.headers

    assert "HttpOnly" in cookie
    assert re.search("samesite=strict", cookie, re.IGNORECASE)


async def test_a_typed_token_logs_in_and_a_wrong_one_does_not() -> None:
    async with open_client(reply_text("Hi"), chat_token="chat") as page:
        async with page.http.post(f"{page.url}/login", data={"token": "wrong"}) as answer:
            assert answer.status == 403
        async with page.http.post(f"{page.url}/login", data={"token": "chat"}) as answer:
            assert answer.status == 200
        assert await page.status("/") == 200


async def test_the_name_of_the_bot_is_text_on_the_page() -> None:
    async with open_client(reply_text("Hi")) as page, page.http.get(page.url) as answer:
        text = await answer.text()

    assert "Under&lt;b&gt;study" in text
    assert "Under<b>" not in text


async def test_each_page_shows_the_present_configuration() -> None:
    async with open_client(reply_text("Hi")) as page:
        page.site.page_context = PageContext("Bessie", max_images=3)
        async with page.http.get(page.url) as answer:
            text = await answer.text()

    assert 'data-name="Bessie"' in text
    assert 'data-max-images="3"' in text


async def test_a_port_in_use_raises_an_error_with_advice() -> None:
    async with open_client(reply_text("Hi")) as page:
        port = int(page.url.rpartition(":")[2])
        with pytest.raises(ConfigError, match="Choose another port"):
            WebServer(AsgiApplication(build_site_of_nothing()), "127.0.0.1", port)


def build_site_of_nothing() -> Starlette:
    return Starlette()
