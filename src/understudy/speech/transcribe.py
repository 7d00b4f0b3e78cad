"""Sends one recording to one server and returns the words.

OpenAI's shape: https://platform.openai.com/docs/api-reference/audio/createTranscription
koboldcpp's own: `/api/extra/transcribe` in the API page of every koboldcpp (`/api`).
"""

import base64
import json

import aiohttp

from understudy.config.providers import Server
from understudy.errors import NOT_JSON, NotTranscribed
from understudy.llm.addresses import api_root, is_local, server_root
from understudy.llm.registry import base_url_of, engine_of

_MAX_ANSWER = 2_000_000


async def transcribe(
    http: aiohttp.ClientSession, server: Server, model: str, name: str, data: bytes
) -> str:
    """The words of a recording; empty where nothing is said.

    Raises NotTranscribed for whatever else the server does, and nothing else.
    """
    kobold = engine_of(server) == "koboldcpp"
    base = base_url_of(server)
    headers = {"Authorization": f"Bearer {server.secret}"} if server.secret else {}
    headers |= server.extra_headers
    try:
        if kobold:
            body = {"audio_data": base64.b64encode(data).decode(), "langcode": "auto"}
            url = f"{server_root(base)}/api/extra/transcribe"
            request = http.post(url, json=body, headers=headers, allow_redirects=False)
        else:
            form = aiohttp.FormData({"model": model, "response_format": "json"})
            form.add_field("file", data, filename=name, content_type="audio/ogg")
            url = f"{api_root(base)}/audio/transcriptions"
            request = http.post(url, data=form, headers=headers, allow_redirects=False)
        async with request as response:
            if response.status != 200:
                raise NotTranscribed(f"status {response.status}")
            return _text_of(await _body(response))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        where = "the server" if is_local(base) else "the service"
        raise NotTranscribed(f"{where} cannot be reached ({type(error).__name__})") from None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_ANSWER:
            raise NotTranscribed("its answer is too large")
    return bytes(body)


def _text_of(body: bytes) -> str:
    try:
        answer = json.loads(body)
    except NOT_JSON:
        raise NotTranscribed("its answer is not JSON") from None
    text = answer.get("text") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise NotTranscribed("its answer has no text")
    return " ".join(text.split())
