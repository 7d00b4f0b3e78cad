"""The floor: as little as a proxy of this kind can do, on the same server and the same client.

An ordered list of upstreams per model, a cooldown after a failure, usage read from the end. No
limits on time, no records, no ledger, no keys: what a gateway adds to this is its price.
`PROXY_STREAMS=1` asks the upstream for a stream always and puts whole answers together from it.
"""

import json
import os
import time

import aiohttp
import msgspec

ALWAYS_STREAM = bool(os.environ.get("PROXY_STREAMS"))
COOLDOWN_S = 30.0
ROUTES = json.loads(os.environ["BENCH_ROUTES"])


class Upstream:
    def __init__(self, base: str) -> None:
        self.url = f"{base}/v1/chat/completions"
        self.rests_until = 0.0


def usage_in(tail: bytes) -> int:
    for event in tail.split(b"\n\n"):
        if event.startswith(b"data: {") and b'"usage":{' in event:
            return msgspec.json.decode(event[6:])["usage"]["total_tokens"]
    return 0


def put_together(body: bytes) -> bytes:
    text, usage = [], None
    for event in body.split(b"\n\n"):
        if event.startswith(b"data: {"):
            chunk = msgspec.json.decode(event[6:])
            usage = chunk.get("usage")
            text += [c["delta"].get("content", "") for c in chunk["choices"]]
    message = {"role": "assistant", "content": "".join(text)}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return msgspec.json.encode({"object": "chat.completion", "choices": choices, "usage": usage})


class Proxy:
    def __init__(self) -> None:
        self.routes = {name: [Upstream(base) for base in order] for name, order in ROUTES.items()}
        self.tokens = 0
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            await self.answer(receive, send)
            return
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.startup":
                self.session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0),
                    timeout=aiohttp.ClientTimeout(total=None, sock_read=1.0),
                    cookie_jar=aiohttp.DummyCookieJar(),
                )
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                await self.session.close()
                return

    async def answer(self, receive, send) -> None:
        raw, more = b"", True
        while more:
            message = await receive()
            raw += message.get("body", b"")
            more = message.get("more_body", False)
        ask = msgspec.json.decode(raw)
        streams = ask.get("stream", False)
        order = self.routes[ask["model"]]
        ask |= {"model": "bench-model", "stream": streams or ALWAYS_STREAM}
        response = await self.first_good(order, msgspec.json.encode(ask))
        if response is None:
            await whole(send, 503, b'{"error":{"message":"offline"}}')
        elif streams:
            await self.stream(response, send)
        else:
            body = await response.read()
            if ALWAYS_STREAM:
                body = put_together(body)
            self.tokens += msgspec.json.decode(body)["usage"]["total_tokens"]
            await whole(send, 200, body)

    async def stream(self, response: aiohttp.ClientResponse, send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        tail = b""
        async for piece in response.content.iter_any():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            tail = (tail + piece)[-1024:]
        self.tokens += usage_in(tail)
        await send({"type": "http.response.body", "body": b""})

    async def first_good(self, order: list[Upstream], body: bytes) -> aiohttp.ClientResponse | None:
        now = time.monotonic()
        for upstream in [u for u in order if u.rests_until <= now] or order:
            try:
                response = await self.session.post(
                    upstream.url, data=body, headers={"Content-Type": "application/json"}
                )
                if response.status == 200:
                    return response
                response.release()
            except (aiohttp.ClientError, TimeoutError):
                pass
            upstream.rests_until = time.monotonic() + COOLDOWN_S
        return None


async def whole(send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


app = Proxy()
