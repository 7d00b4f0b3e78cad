"""Prompts are written to owner-only files, and only when enabled."""

import json
import stat
from contextlib import aclosing
from pathlib import Path

from structlog.testing import capture_logs

from reply_events import RouterEvent, reply_events
from sample_records import NOON
from understudy.config.settings import Logging
from understudy.llm.messages import ChatRequest, Message, TextPart
from understudy.llm.testing import ScriptedClient, saying
from understudy.observability.prompt_log import PromptLog
from understudy.routing.candidates import Candidate
from understudy.routing.request import Fit, Prompt, ReplyRequest
from understudy.routing.router import ModelRouter

ASKED = ChatRequest((Message("user", (TextPart("what is my secret?"),)),))


def build(_: Fit) -> Prompt:
    return Prompt(ASKED, 10)


async def answer(folder: Path, *, prompts: bool, reply_id: str = "r1") -> list[RouterEvent]:
    client = ScriptedClient([saying("it is ", "safe")])
    router = ModelRouter([Candidate("a", "m", "a", "openai", client)])
    settings = Logging(prompts=prompts)
    log = PromptLog(router.reply, lambda: settings, folder, lambda: NOON)
    request = ReplyRequest(id=reply_id, sink="web", build=build)
    log.announce()
    async with aclosing(reply_events(log.reply, request)) as told:
        return [event async for event in told]


async def test_a_reply_is_written_to_a_dated_folder_with_owner_only_permissions(
    tmp_path: Path,
) -> None:
    await answer(tmp_path, prompts=True)

    (file,) = (tmp_path / "prompts").rglob("*.json")
    page = json.loads(file.read_text(encoding="utf-8"))
    assert file.parent.name == "2026-09-21"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert page["prompts"] == [{"messages": [{"role": "user", "text": "what is my secret?"}]}]
    assert page["reply"] == "it is safe"
    assert page["route"].startswith("answered: a")


async def test_nothing_is_written_or_logged_by_default(tmp_path: Path) -> None:
    with capture_logs() as logged:
        told = await answer(tmp_path, prompts=False)

    assert told
    assert list(tmp_path.iterdir()) == []
    assert logged == []


async def test_the_log_warns_that_prompts_are_written_and_holds_none_of_them(
    tmp_path: Path,
) -> None:
    with capture_logs() as logged:
        await answer(tmp_path, prompts=True)

    assert logged == [
        {
            "event": "prompts.logged",
            "log_level": "warning",
            "folder": str(tmp_path / "prompts"),
        }
    ]


async def test_an_id_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    await answer(tmp_path, prompts=True, reply_id="../../etc/passwd")

    (file,) = (tmp_path / "prompts").rglob("*.json")
    assert file.parent.parent == tmp_path / "prompts"


async def test_a_folder_that_cannot_be_written_costs_the_file_and_not_the_reply(
    tmp_path: Path,
) -> None:
    (tmp_path / "prompts").write_text("in the way")

    with capture_logs() as logged:
        told = await answer(tmp_path, prompts=True)

    assert told
    assert "prompts.lost" in [event["event"] for event in logged]
    assert "secret" not in str(logged)
