"""The stage of `demo`: stand-in model servers, and a configuration that leads to them."""

import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from understudy.config.load import Config, parse_config
from understudy.config.masking import as_yaml
from understudy.rehearsal.server import Cast, RehearsalServer

ACTS = (("rehearsal-a", "e429", 0.0), ("rehearsal-b", "cut", 0.15), ("rehearsal-c", "ok", 0.04))
"""Name, part, and seconds per word: what breaks off is slow enough to be seen before it goes."""


@asynccontextmanager
async def staged(*, port: int) -> AsyncGenerator[Config]:
    """Servers that live as long as this context; what the bot keeps is thrown away after it."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-demo-")))
        servers: dict[str, object] = {}
        for name, part, pause_s in ACTS:
            cast = Cast(word_pause_s=pause_s)
            server = await stack.enter_async_context(RehearsalServer(part, cast=cast))
            servers[name] = {"engine": "openai", "base_url": server.base_url}
        text = as_yaml(
            {
                "model": {"provider_order": list(servers), "servers": servers},
                "web": {"port": port},
                "storage": {"url": f"sqlite:///{folder}/understudy.db"},
                "persona": {"folder": str(folder / "personas")},
            }
        )
        yield parse_config(text, {})
