import asyncio
import re
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from understudy.cli.main import build
from understudy.config.load import load_config
from understudy.errors import ConfigError
from waiting import LIMIT_S

RUNNER = CliRunner()


@pytest.mark.slow
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
    with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
        return bytes(answer.read())


@pytest.mark.slow
async def test_an_unknown_behaviour_is_told_with_all_known_ones() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "understudy", "rehearse", "sleepy",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, stderr = await process.communicate()

    assert process.returncode == 2
    assert b"midstall" in stderr


def test_servers_that_run_out_of_ports_are_told_in_words() -> None:
    with pytest.raises(ConfigError, match="65536 is no port"):
        RUNNER.invoke(
            build(["rehearse"]),
            ["rehearse", "ok", "ok", "--port", "65535"],
            catch_exceptions=False,
        )


@pytest.mark.parametrize("command", ["demo", "rehearse"])
def test_a_port_that_cannot_be_is_told_by_the_option_and_not_by_a_file(command: str) -> None:
    result = RUNNER.invoke(build([command]), [command, "--port", "65536"])

    assert result.exit_code == 2
    assert "--port" in result.stderr
