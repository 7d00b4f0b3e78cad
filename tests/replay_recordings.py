"""Replays recordings of model servers through the gateway: what clients get equals what was sent.

`make replay RECORDINGS="FOLDER ..."` reads every chat answer in the folders: `*.yaml` cassettes of
VCR, `*.json` answers in one piece, `*.chunks.txt` with one frame a line, `*.sse` streams. A client
requests each one streamed and in one piece. `reason_for` knows the permitted differences.
"""

import asyncio
import gzip
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from openai import (
    APIError,
    AsyncOpenAI,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gateway_setup import candidate_at, gateway_over
from understudy.llm.http.endpoint import HttpSessions

Json = dict[str, object]

_THOUGHT = re.compile(r"\A\s*<think>(.*?)(?:</think>\s*|\Z)", re.DOTALL)
_SAME_WORD = {"end_turn": "stop", "eos": "stop", "function_call": "tool_calls"}
_QUESTION: Json = {"model": "understudy", "messages": [{"role": "user", "content": "hi"}]}


@dataclass(frozen=True, slots=True)
class Recording:
    name: str
    status: int
    streamed: bool
    body: bytes


@dataclass(slots=True)
class Answer:
    """What a client makes of an answer, by the rules of OpenAI's SDKs."""

    text: str = ""
    reasoning: str = ""
    calls: dict[int, list[str]] = field(default_factory=dict)
    """Index → id, name, arguments. The gateway counts from 0, whatever a server does."""
    finish: str | None = None
    usage: tuple[object, object] | None = None
    """Tokens of prompt and completion."""
    failed: bool = False

    def add(self, frame: Json) -> None:
        if _present(frame.get("error")):
            self.failed = True
        usage = frame.get("usage")
        if isinstance(usage, dict) and usage.get("prompt_tokens") is not None:
            self.usage = usage["prompt_tokens"], usage.get("completion_tokens")
        choices = frame.get("choices")
        if isinstance(choices, list) and choices and not choices[0].get("index"):
            self._choose(choices[0])

    def _choose(self, choice: Json) -> None:
        piece = choice.get("delta") or choice.get("message") or {}
        assert isinstance(piece, dict)
        said = piece.get("content") or (not piece and choice.get("text"))
        self.text += _text(said, "text") or str(piece.get("refusal") or "")
        self.reasoning += _reasoning(piece)
        for number, call in enumerate(piece.get("tool_calls") or ()):
            known = self.calls.setdefault(call.get("index", number), ["", "", ""])
            function = call.get("function") or call.get("custom") or {}
            known[0] += call.get("id") or ""
            known[1] += function.get("name") or ""
            known[2] += function.get("arguments") or function.get("input") or ""
        finish = choice.get("finish_reason")
        self.finish = str(finish) if finish else self.finish


def _present(value: object) -> bool:
    return value not in (None, "", {}, [])


def _text(content: object, kind: str) -> str:
    if isinstance(content, str):
        return content if kind == "text" else ""
    pieces = content if isinstance(content, list) else []
    return "".join(
        piece[kind] if isinstance(piece[kind], str) else _text(piece[kind], "text")
        for piece in pieces
        if piece.get("type") == kind
    )


def _reasoning(piece: Json) -> str:
    named = piece.get("reasoning") or piece.get("reasoning_content")
    if named:
        return str(named)
    details = piece.get("reasoning_details")
    said = (d.get("text") or d.get("summary") or "" for d in details or ())  # type: ignore[attr-defined]
    return "".join(said) or _text(piece.get("content"), "thinking")


def answer_of(body: bytes, *, streamed: bool) -> Answer:
    answer = Answer()
    if not streamed:
        answer.add(json.loads(body))
        return answer
    for line in body.decode("utf-8", "replace").splitlines():
        data = line.removeprefix("data:").strip()
        if line.startswith("data:") and data.startswith("{"):
            answer.add(json.loads(data))
    return answer


def recordings_in(folder: Path) -> Iterator[Recording]:
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix in (".yaml", ".yml"):
            yield from _cassette(name, path)
        elif path.name.endswith(".chunks.txt"):
            frames = path.read_bytes().strip().splitlines()
            body = b"".join(b"data: %b\n\n" % frame for frame in frames) + b"data: [DONE]\n\n"
            yield Recording(name, 200, True, body)
        elif path.suffix == ".sse":
            yield Recording(name, 200, True, path.read_bytes())
        elif path.suffix == ".json":
            body = path.read_bytes()
            yield Recording(name, 400 if b'"error"' in body[:40] else 200, False, body)


def _cassette(name: str, path: Path) -> Iterator[Recording]:
    try:
        document = YAML(typ="safe").load(path)
    except YAMLError as error:
        print(f"unreadable {name}: {str(error).splitlines()[0]}")  # noqa: T201
        return
    for number, exchange in enumerate(document["interactions"]):
        if not exchange["request"]["uri"].split("?")[0].endswith("/chat/completions"):
            continue
        response = exchange["response"]
        if "parsed_body" in response:
            body = json.dumps(response["parsed_body"]).encode()
        else:
            said = response["body"]["string"]
            body = said if isinstance(said, bytes) else said.encode()
            body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        kind = str(response.get("headers", {}).get("content-type", ""))
        streamed = "event-stream" in kind or body.lstrip()[:5] in (b"data:", b": OPE")
        yield Recording(f"{name}#{number}", response["status"]["code"], streamed, body)


def is_chat(recording: Recording) -> bool:
    """Whether it is an answer of the chat format; the folders hold others too."""
    if recording.status >= 400:
        return b'"error"' in recording.body
    mark = b"chat.completion" if b"chat.completion" in recording.body else b'"choices"'
    return mark in recording.body


@asynccontextmanager
async def replaying(recording: Recording, preset: str) -> AsyncIterator[str]:
    """The base URL of a gateway in front of a server that always gives one recording."""
    kind = b"text/event-stream" if recording.streamed else b"application/json"
    head = b"HTTP/1.1 %d X\r\nContent-Type: %b\r\nConnection: close\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        length = int(asked.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(head % (recording.status, kind) + recording.body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    sessions = HttpSessions()
    try:
        async with server, gateway_over([candidate_at("lab", address, sessions, preset)]) as url:
            yield url
    finally:
        await sessions.aclose()


async def ask(url: str, *, stream: bool) -> Answer:
    body = _QUESTION | {"stream": stream, "stream_options": {"include_usage": True}}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/chat/completions", json=body) as response,
    ):
        return answer_of(await response.read(), streamed=stream and response.status == 200)


async def read_by_sdk(url: str) -> str | None:
    """Return what the `openai` SDK raises over the stream, `None` where it reads it."""
    messages = [{"role": "user", "content": "hi"}]
    async with AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as sdk:
        try:
            async with sdk.chat.completions.stream(model="m", messages=messages) as stream:  # type: ignore[arg-type]
                await stream.get_final_completion()
        except (APIError, LengthFinishReasonError, ContentFilterFinishReasonError):
            return None  # what the recording says, as an exception
        except Exception as error:  # noqa: BLE001
            return f"{type(error).__name__}: {error}"
    return None


def reason_for(recorded: Answer, got: Answer) -> str | None:
    """Return why an answer may differ from its recording, `None` where it may not."""
    if recorded.failed or got.failed:
        return "it reports an error" if recorded.failed and got.failed else None
    reasons = [compare(recorded, got) for compare in (_words, _calls, _end, _usage)]
    if None in reasons:
        return None
    return ", ".join(reason for reason in reasons if reason) or "the same"


def _words(recorded: Answer, got: Answer) -> str | None:
    if (got.text, got.reasoning) == (recorded.text, recorded.reasoning):
        return ""
    thought = _THOUGHT.match(recorded.text)
    if thought is None or got.text != recorded.text[thought.end() :]:
        return None
    same = got.reasoning.strip() == thought.group(1).strip()
    return "a thought in tags is reasoning" if same else None


def _calls(recorded: Answer, got: Answer) -> str | None:
    sent, received = list(recorded.calls.values()), list(got.calls.values())
    if received == sent or len(received) != len(sent):
        return "" if received == sent else None
    named = [call[0] or new[0] for call, new in zip(sent, received, strict=False)]
    sent = [[call_id, *rest] for call_id, (_, *rest) in zip(named, sent, strict=False)]
    return "a call gets an id" if received == sent else None


def _end(recorded: Answer, got: Answer) -> str | None:
    if got.finish == recorded.finish:
        return ""
    word = recorded.finish
    meant = _SAME_WORD.get(word or "stop", word or "stop")
    if got.finish != ("tool_calls" if recorded.calls and meant == "stop" else meant):
        return None
    return f"{word} is {got.finish}" if word else "no finish reason: the preset is lenient"


def _usage(recorded: Answer, got: Answer) -> str | None:
    if got.usage == recorded.usage:
        return ""
    return "usage is estimated" if recorded.usage is None else None


async def replay(recordings: Iterable[Recording]) -> tuple[Counter[str], list[str]]:
    """Return how often each reason was met, and a line for each difference without one."""
    reasons: Counter[str] = Counter()
    wrong: list[str] = []
    for recording in filter(is_chat, recordings):
        recorded = answer_of(recording.body, streamed=recording.streamed)
        recorded.failed = recorded.failed or recording.status >= 400
        async with replaying(recording, "generic" if recorded.finish else "lenient") as url:
            for stream in (True, False):
                got = await ask(url, stream=stream)
                reason = reason_for(recorded, got)
                reasons[reason or "different"] += 1
                if reason is None:
                    wrong.append(f"{recording.name} ({stream=}): {recorded} -> {got}")
            raised = await read_by_sdk(url)
        if raised is not None:
            wrong.append(f"{recording.name}: the SDK raises {raised}")
    return reasons, wrong


def main() -> int:
    reasons: Counter[str] = Counter()
    failed = False
    for folder in sys.argv[1:]:
        found, wrong = asyncio.run(replay(recordings_in(Path(folder))))
        reasons += found
        failed = failed or bool(wrong)
        for line in wrong:
            print(line)  # noqa: T201
    for reason, count in reasons.most_common():
        print(f"{count:6} {reason}")  # noqa: T201
    return int(failed or not reasons)


if __name__ == "__main__":
    sys.exit(main())
