"""Fetches an image or another file by its link, once, with limits on time, bytes and redirects.

Imported with the first image that is fetched: aiohttp takes a sixth of the time of a start.
"""

import asyncio
import socket
from collections.abc import Collection

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from understudy.errors import ImageRefusal, ImageRefused
from understudy.images.address_guard import (
    Resolve,
    check_addresses,
    check_url,
    system_resolve,
)

_MAX_REDIRECTS = 4
_LINK_TIMEOUT_S = 4.0
_REDIRECTS = {301, 302, 303, 307, 308}
# No compressed bodies: a small body must not decompress into a large one.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "Understudy"}


class GuardedResolver(AbstractResolver):
    """Returns checked addresses only; aiohttp connects to exactly these."""

    def __init__(self, allowed: Collection[str], resolve: Resolve = system_resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family  # both families are resolved and checked
        addresses = await self._resolve(host, port)
        check_addresses(host, port, addresses, self._allowed)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in dict.fromkeys(addresses)
        ]

    async def close(self) -> None:
        """There is nothing to close."""


class ImageFetcher:
    """Fetches the bytes of a link from a public address. Owns its HTTP session."""

    def __init__(
        self,
        *,
        timeout_s: float,
        max_bytes: int,
        allowed_hosts: Collection[str] = (),
        resolve: Resolve = system_resolve,
        accept: str = "image/*",
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._allowed = frozenset(allowed_hosts)
        self._resolve = resolve
        self._headers = {"Accept": accept, **_HEADERS}
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, link: str, *, from_text: bool = False) -> bytes:
        """The body behind `link`; raises ImageRefused with the reason in words.

        A link found in a text may lead anywhere: the body is read only where the content type is
        an image, and the timeout is shorter, because the reply waits for it.
        """
        limit_s = min(self._timeout_s, _LINK_TIMEOUT_S) if from_text else self._timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._preferring_https(link, named_only=from_text)
        except TimeoutError:
            raise ImageRefused(ImageRefusal.TIMEOUT, "it took too long to load") from None

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _preferring_https(self, link: str, *, named_only: bool) -> bytes:
        try:
            url = URL(link)
            check_url(url, self._allowed)
        except ValueError:
            raise ImageRefused(ImageRefusal.ADDRESS, "its link cannot be read") from None
        if url.scheme == "http" and url.port == 80:
            try:
                return await self._follow(url.with_scheme("https"), named_only=named_only)
            except ImageRefused as refused:
                if refused.reason is not ImageRefusal.UNREACHABLE:
                    raise
        return await self._follow(url, named_only=named_only)

    async def _follow(self, url: URL, *, named_only: bool) -> bytes:
        for _ in range(_MAX_REDIRECTS + 1):
            check_url(url, self._allowed)
            answer = await self._get(url, named_only=named_only)
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise ImageRefused(ImageRefusal.UNREACHABLE, "its link redirects too often")

    async def _get(self, url: URL, *, named_only: bool) -> bytes | URL:
        try:
            async with self._http().get(
                url, allow_redirects=False, headers=self._headers
            ) as response:
                if response.status in _REDIRECTS and "Location" in response.headers:
                    return url.join(URL(response.headers["Location"]))
                if response.status != 200:
                    raise _unreachable(f"its link answers with status {response.status}")
                if named_only and not response.content_type.startswith("image/"):
                    raise ImageRefused(ImageRefusal.NOT_AN_IMAGE, "its link is no image")
                return await self._body(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refusal = _refusal_within(error)
            raise refusal or _unreachable("its link cannot be reached") from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        if (response.content_length or 0) > self._max_bytes:
            raise self._too_large()
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > self._max_bytes:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> ImageRefused:
        megabytes = self._max_bytes / 1e6
        return ImageRefused(ImageRefusal.TOO_MANY_BYTES, f"it is larger than {megabytes:g} MB")

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=GuardedResolver(self._allowed, self._resolve),
                    use_dns_cache=False,
                    force_close=True,
                    limit=8,
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                # A proxy would resolve names itself and so bypass the guard.
                trust_env=False,
            )
        return self._session


def _unreachable(why: str) -> ImageRefused:
    return ImageRefused(ImageRefusal.UNREACHABLE, why)


def _refusal_within(error: BaseException) -> ImageRefused | None:
    """The guard's refusal inside an exception of aiohttp."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ImageRefused):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
