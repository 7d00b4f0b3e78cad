"""A model server that has a few pages, and answers 404 to all others."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager


class PagedServer:
    """Notes each path it is asked for, with its query."""

    def __init__(self, pages: Mapping[str, str], status: int = 200, headers: str = "") -> None:
        """`headers` are added to every answer, each with its line end."""
        self.pages, self.status, self.headers = pages, status, headers
        self.asked: list[str] = []
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1].decode()
        self.asked.append(path)
        body = self.pages.get(path)
        status = 404 if body is None else self.status
        data = (body or '{"detail": "Not Found"}').encode()
        line = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{self.headers}"
        line += f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(line.encode() + data)
        writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["PagedServer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
