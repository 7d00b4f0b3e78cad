import asyncio
import re
import sys
import urllib.request
from pathlib import Path

from understudy.config.load import load_config


async def test_a_rehearsal_prints_servers_that_answer_and_fit_the_configuration(
    tmp_path: Path,
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "understudy", "rehearse", "e429", "ok", "--port", "0",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [(await process.stdout.readline()).decode() for _ in range(9)]
    config = tmp_path / "config.yaml"
    config.write_text("".join(lines))
    urls = re.findall(r"http://\S+", "".join(lines))
    models = await asyncio.to_thread(_fetch, f"{urls[1]}/models")
    process.terminate()
    await process.wait()

    order = load_config(config, {}).settings.model.provider_order
    assert order == ("rehearsal-1", "rehearsal-2")
    assert b"rehearsal/eliza" in models


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())


async def test_an_unknown_behaviour_is_told_with_all_known_ones() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "understudy", "rehearse", "sleepy",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, stderr = await process.communicate()

    assert process.returncode == 2
    assert b"midstall" in stderr
