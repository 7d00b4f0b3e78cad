"""The real program, its page in a browser, real HTTP to model servers."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, FilePayload, Locator, Page, expect

from attached_files import HOSTILE
from command import plain_environment
from llama_server import llama_server
from pdf_files import pdf_of
from scripted_memory import FactModel
from tiny_model import make_tiny_model
from tiny_projector import make_tiny_projector
from understudy.rehearsal.server import RehearsalServer
from waiting import LIMIT_S

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

DEAD = "http://127.0.0.1:9"
PASTE_PICTURE = """async () => {
  const canvas = new OffscreenCanvas(300, 200);
  canvas.getContext("2d").fillRect(20, 20, 100, 100);
  const picture = new File([await canvas.convertToBlob()], "box.png", { type: "image/png" });
  const data = new DataTransfer();
  data.items.add(picture);
  const pasting = new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
  document.getElementById("text").dispatchEvent(pasting);
}"""


@dataclass(slots=True)
class Program:
    process: asyncio.subprocess.Process
    url: str = ""
    login: str = ""
    said: list[str] = field(default_factory=list)

    async def read_until_open(self) -> None:
        while not self.login:
            line = await self._line()
            for found in re.findall(r"http://127\S+", line):
                self.url, self.login = (self.url, found) if "login" in found else (found, "")

    async def read_on(self) -> None:
        while await self._line():
            pass

    async def _line(self) -> str:
        assert self.process.stdout is not None
        line = (await self.process.stdout.readline()).decode()
        assert line or self.url, "\n".join(self.said)
        self.said.append(line)
        return line


@asynccontextmanager
async def started(*words: str, folder: Path) -> AsyncIterator[Program]:
    """`understudy WORDS`, its pages open; ends it politely and expects it to agree."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "understudy", *words, cwd=folder, env=plain_environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    program = Program(process)
    try:
        async with asyncio.timeout(LIMIT_S):
            await program.read_until_open()
        reading = asyncio.create_task(program.read_on())
        yield program
        process.terminate()
        async with asyncio.timeout(LIMIT_S):
            await reading
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = make_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")
    with llama_server(model) as base_url:
        yield base_url


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("seeing")
    model = make_tiny_model(folder / "tiny.gguf")
    with llama_server(model, projector=make_tiny_projector(folder / "images.gguf")) as base_url:
        yield base_url


def configure(folder: Path, model: dict[str, object], **more: object) -> None:
    config = {"model": model, "web": {"port": 0}, **more}
    (folder / "config.yaml").write_text(json.dumps(config))


async def opened(profile: BrowserContext, url: str) -> Page:
    page = await profile.new_page()
    await page.goto(url)
    await page.wait_for_selector("body[data-ready]")
    return page


async def say(page: Page, text: str) -> None:
    await page.fill("#text", text)
    await page.keyboard.press("Enter")


async def test_the_demo_shows_a_failover_on_its_page(
    profile: BrowserContext, tmp_path: Path
) -> None:
    async with started("demo", "--port", "0", "--no-browser", folder=tmp_path) as program:
        page = await opened(profile, program.url)
        await say(page, "Please give me a list")

        reply = page.locator(".reply[data-state=done]")
        await expect(reply.locator(".route li")).to_have_text(
            [
                "rate-limited: rehearsal-a",
                "broke off: rehearsal-b",
                re.compile(r"answered: rehearsal-c · \d+\.\d s, \d+→\d+ tokens"),
            ]
        )
        await expect(reply.locator(".prose ol li")).to_have_count(3)


async def test_a_real_engine_answers_on_the_page_after_a_dead_provider(
    profile: BrowserContext, tmp_path: Path, llama: str
) -> None:
    configure(
        tmp_path,
        {
            "provider_order": ["dead", "local"],
            "servers": {"dead": {"engine": "openai", "base_url": DEAD, "name": "m"}},
            "local": {
                "enabled": True,
                "engine": "llama.cpp",
                "base_url": llama,
                "max_tokens": 24,
            },
        },
    )
    async with started("run", folder=tmp_path) as program:
        page = await opened(profile, program.url)
        await say(page, "What did you see?")

        reply = page.locator(".reply[data-state=done]")
        await expect(reply.locator(".route li").nth(0)).to_have_text("not running: dead")
        answered = await reply.locator(".route li").nth(1).inner_text()
        text = await reply.locator(".prose").inner_text()
        await page.reload()
        await expect(reply.locator(".prose")).to_have_text(text)

    tokens = re.search(r"local/llama\.cpp\s· \d+\.\d s, (\d+)→(\d+) tokens", answered)
    assert tokens is not None, answered
    assert int(tokens[1]) > 20
    assert 0 < int(tokens[2]) <= 24
    assert text.split()


async def test_stop_reaches_the_model_server_and_a_restart_keeps_the_reply(
    profile: BrowserContext, tmp_path: Path
) -> None:
    async with RehearsalServer("midstall, say:All well again") as server:
        configure(tmp_path, {"provider_order": ["a"], "servers": {"a": _openai(server)}})
        async with started("run", folder=tmp_path) as program:
            page = await opened(profile, program.url)
            await say(page, "Tell me a story")
            await expect(page.locator(".reply[data-state=writing] .prose p")).to_be_visible()
            await page.keyboard.press("Escape")
            await server.until(lambda seen: len(seen.disconnects) == 1)
            await expect(page.locator(".reply[data-state=stopped]")).to_be_visible()
            await page.click(".regenerate")
            await expect(page.locator(".reply .prose")).to_have_text("All well again")
            address = page.url
        configure(
            tmp_path,
            {"provider_order": ["a"], "servers": {"a": _openai(server)}},
            web={"port": int(program.url.rpartition(":")[2])},
        )
        async with started("run", folder=tmp_path):
            await page.goto(address)
            await page.reload()

            await expect(page.locator(".bubble")).to_have_text("Tell me a story")
            await expect(page.locator(".reply .prose")).to_have_text("All well again")


async def test_the_operator_sees_a_provider_fail_and_opens_the_trace(
    profile: BrowserContext, tmp_path: Path
) -> None:
    async with RehearsalServer("e429long") as rate_limited, RehearsalServer("say:Here I am") as fit:
        servers = {"rate_limited": _openai(rate_limited), "fit": _openai(fit)}
        configure(
            tmp_path,
            {"provider_order": ["rate_limited", "fit"], "servers": servers},
            web={"port": 0, "titles": False},
        )
        async with started("run", folder=tmp_path) as program:
            operator = await profile.new_page()
            await operator.goto(program.login)
            await expect(operator.locator("#candidates li[data-state=usable]")).to_have_count(2)
            chat = await opened(profile, program.url)
            await say(chat, "Hello?")
            await expect(chat.locator(".reply[data-state=done]")).to_be_visible()

            cooling = operator.locator(
                "#candidates li[data-provider=rate_limited][data-state=cooldown] .how"
            )
            await expect(cooling).to_contain_text("rate-limited · cooldown ends in 0:")
            await expect(operator.locator("#live tbody tr")).to_have_count(2)
            await operator.locator("#live .trace-link").first.click()
            await expect(operator.locator(".try .name")).to_have_text(
                ["rate-limited: rate_limited", "answered: fit"]
            )
            await expect(operator.locator("[data-plot=failures] .bar")).to_have_count(1)
            await operator.get_by_role("button", name="End cooldown", exact=True).click()
            await expect(operator.locator("#candidates li[data-state=usable]")).to_have_count(2)


async def test_thoughts_in_tags_of_a_real_stream_are_folded(
    profile: BrowserContext, tmp_path: Path
) -> None:
    async with RehearsalServer("thinktags") as server:
        configure(tmp_path, {"provider_order": ["a"], "servers": {"a": _openai(server)}})
        async with started("run", folder=tmp_path) as program:
            page = await opened(profile, program.url)
            await say(page, "Hello?")
            await expect(page.locator(".reply[data-state=done]")).to_be_visible()

            await expect(page.locator(".thoughts p")).to_have_text("A line, quickly.")
            await expect(page.locator(".prose")).not_to_contain_text("quickly")


async def test_the_login_command_prints_a_link_for_the_running_program(
    profile: BrowserContext, tmp_path: Path
) -> None:
    servers = {"dead": {"engine": "openai", "base_url": DEAD, "name": "m"}}
    configure(tmp_path, {"provider_order": ["dead"], "servers": servers})
    async with started("run", folder=tmp_path) as program:
        port = int(program.url.rpartition(":")[2])
        configure(tmp_path, {"provider_order": ["dead"], "servers": servers}, web={"port": port})
        command = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "understudy", "login", cwd=tmp_path, env=plain_environment(),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await command.communicate()
        page = await profile.new_page()
        await page.goto(output.decode().strip())

        await expect(page.locator("#candidates li")).to_have_count(1)


def _openai(server: RehearsalServer) -> dict[str, object]:
    return {"engine": "openai", "base_url": server.base_url, "name": "m"}


async def test_a_pasted_picture_reaches_a_server_that_sees(
    profile: BrowserContext, tmp_path: Path, seeing: str
) -> None:
    local = {"enabled": True, "engine": "llama.cpp", "base_url": seeing, "max_tokens": 16}
    configure(
        tmp_path,
        {"provider_order": ["local"], "local": local},
        vision={"enabled": True, "caption": False},
    )
    async with started("run", folder=tmp_path) as program:
        page = await opened(profile, program.url)
        replies = page.locator(".reply[data-state=done]")
        await say(page, "look")
        await expect(replies).to_have_count(1)
        without = await _input_tokens(replies.nth(0))
        await page.click("#new")
        await page.evaluate(PASTE_PICTURE)
        await say(page, "look")
        await expect(replies).to_have_count(1)
        await expect(page.locator(".thumbs img")).to_be_visible()
        shown = await _input_tokens(replies.nth(0))

    # The projector makes four tokens of any image; the template frames them.
    assert 4 <= shown - without <= 12


async def _input_tokens(reply: Locator) -> int:
    line = await reply.locator(".route li").last.inner_text()
    found = re.search(r"(\d+)→", line)
    assert found is not None, line
    return int(found[1])


async def test_memory_is_kept_shown_searched_and_deleted_by_commands_on_the_page(
    profile: BrowserContext, tmp_path: Path
) -> None:
    model = FactModel()
    async with RehearsalServer(model.behaviour) as server:
        servers = {"a": {"base_url": server.base_url}}
        configure(
            tmp_path,
            {"provider_order": ["a"], "servers": servers},
            web={"port": 0, "titles": False},
        )
        async with started("run", folder=tmp_path) as program:
            page = await opened(profile, program.url)
            for number, text in enumerate(("my pet is rex", "one", "two", "three"), 1):
                await say(page, text)
                await expect(page.locator(".reply[data-state=done]")).to_have_count(number)
            answers = page.locator(".command p")
            commands: tuple[tuple[str, str | re.Pattern[str]], ...] = (
                ("/remember I like tea", "I remember that as note 1."),
                ("/memories", "Your notes in our private chats:\n1. I like tea"),
                ("/compact", re.compile("^Done: ")),
                ("/memory", re.compile("You's pet is rex")),
                ("/search pet", re.compile("You: my pet is rex$")),
                ("/forget note 1", "I forgot note 1."),
                ("/forget", re.compile("^The commands are:")),
                ("/memory forget", "I forgot my summary of this conversation."),
            )
            for number, (command, answer) in enumerate(commands):
                await say(page, command)
                await expect(answers.nth(number)).to_have_text(answer)
            await page.locator(".command button").first.click()
            await expect(answers).to_have_count(7)
            await page.fill("#search", "pet")
            await expect(page.locator("#chats .excerpt")).to_have_text("my pet is rex")
            await page.fill("#search", "elephant")
            await expect(page.locator("#chats")).to_have_text("Nothing found")

            await say(page, "/forget me")
            await expect(answers.last).to_have_text(re.compile("^Done. I deleted the text of 4 "))
            await expect(page.locator(".reply, .bubble")).to_have_count(0)
            await expect(answers.last).to_be_visible()
            await page.reload()
            await expect(page.locator("#chats a")).to_have_count(0)

    assert len(model.prompts) == 4
    assert len(model.summaries) == 1


async def test_a_proposed_note_waits_on_the_page_for_its_persons_choice(
    profile: BrowserContext, tmp_path: Path
) -> None:
    model = FactModel(note="I am allergic to peanuts.")
    async with RehearsalServer(model.behaviour) as server:
        configure(
            tmp_path,
            {"provider_order": ["a"], "servers": {"a": {"base_url": server.base_url}}},
            web={"port": 0, "titles": False},
            memory={"propose": True},
        )
        async with started("run", folder=tmp_path) as program:
            page = await opened(profile, program.url)
            await say(page, "I am allergic to peanuts, so what can I eat?")
            proposal = page.locator(".command[data-proposal]")
            await expect(proposal).to_contain_text("“I am allergic to peanuts.”")
            await page.reload()
            await expect(proposal).to_contain_text("“I am allergic to peanuts.”")
            await proposal.get_by_role("button", name="Remember").click()
            await expect(proposal).to_contain_text("I remember that as note 1.")
            await expect(proposal.get_by_role("button", name="Remember")).to_have_count(0)
            await page.reload()
            await say(page, "What is for lunch?")
            await expect(page.locator(".reply[data-state=done]")).to_have_count(2)
            await expect(proposal).to_have_count(0)

    assert "- You: I am allergic to peanuts." in model.prompts[-1]
    assert len(model.proposals) == 1


async def test_a_new_conversation_gets_a_title_from_a_model(
    profile: BrowserContext, tmp_path: Path
) -> None:
    async with RehearsalServer("say:Cats of the house") as server:
        configure(tmp_path, {"provider_order": ["a"], "servers": {"a": _openai(server)}})
        async with started("run", folder=tmp_path) as program:
            page = await opened(profile, program.url)
            await say(page, "Tell me about my cats, please")

            await expect(page.locator(".chat-row a")).to_have_text("Cats of the house")
            await page.reload()
            await expect(page.locator("#title")).to_have_text("Cats of the house")


async def test_a_pdf_file_from_the_page_reaches_the_model_as_text(
    profile: BrowserContext, tmp_path: Path
) -> None:
    async with RehearsalServer("say:A kettle") as server:
        servers = {"a": _openai(server)}
        configure(
            tmp_path,
            {"provider_order": ["a"], "servers": servers},
            web={"port": 0, "titles": False},
        )
        async with started("run", folder=tmp_path) as program:
            page = await opened(profile, program.url)
            file = FilePayload(
                name="page.pdf",
                mimeType="application/pdf",
                buffer=pdf_of("The second word is kettle"),
            )
            locked = HOSTILE["a PDF that needs a password"]
            archive = HOSTILE["a ZIP archive named .pdf"]
            more = [
                FilePayload(name=one.name, mimeType="application/pdf", buffer=one.make())
                for one in (locked, archive)
            ]
            await page.set_input_files("#picker", [file, *more])
            names = ["page.pdf", "locked.pdf", "zip.pdf"]
            await expect(page.locator("#pictures button")).to_have_text(names)
            await say(page, "Which word is it?")
            await expect(page.locator(".reply[data-state=done]")).to_be_visible()
            notes = page.locator(".user .note")
            await expect(notes.first).to_contain_text("locked.pdf: it is encrypted")
            await expect(notes.last).to_have_text("zip.pdf is no text or PDF file.")
            await page.reload()

            await expect(page.locator(".files li")).to_have_text(names)
            asked = str(server.last_body["messages"])
            assert "The second word is kettle" in asked
            assert '[file "locked.pdf", which was not read]' in asked
            assert '[file "zip.pdf", which was not read]' in asked
