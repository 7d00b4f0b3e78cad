"""The gateway keeps what its published OpenAPI document says, whatever it is sent.

Schemathesis makes the requests, right and wrong ones, and holds every answer and every event of
every stream against the document. `SCHEMATHESIS_EXAMPLES` is the number of requests per operation.
"""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_setup import gateway_and_servers
from understudy.config.settings import Gateway as GatewaySettings
from understudy.config.settings import GatewayKey
from understudy.rehearsal.script import Part, at_random

KEYED = GatewaySettings(keys=(GatewayKey(name="fuzzer", key=SecretStr("sk-fuzzer")),))
LONG_S = 3600.0
# None that rests a server at its first failure: then no server would be asked any more.
FAULTS = ("e400", "e403mod", "ctx", "cut", "miderr")
WORLDS: dict[str, tuple[tuple[Part, ...], tuple[str, ...]]] = {
    "healthy": (("tool, think, ok",), ()),
    # Every server may then answer a good request with 400, 403 or 503.
    "failing": (
        tuple(at_random(seed, share=0.3, among=FAULTS) for seed in (7, 8)),
        ("--exclude-checks", "not_a_server_error,positive_data_acceptance"),
    ),
}


async def fuzzed(url: str, *options: str) -> tuple[int | None, str]:
    """Exit code and report of one run; 0 is a run without findings."""
    command = Path(sys.executable).with_name("schemathesis")
    run = await asyncio.create_subprocess_exec(
        *(command, "run", url, "--header", "Authorization: Bearer sk-fuzzer"),
        *("--seed", os.environ.get("SCHEMATHESIS_SEED", "1")),
        *("--max-examples", os.environ.get("SCHEMATHESIS_EXAMPLES", "5")),
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        report, _ = await run.communicate()
    finally:
        if run.returncode is None:
            run.kill()
            await run.wait()
    return run.returncode, report.decode()


@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize("state", WORLDS)
async def test_no_request_finds_an_answer_that_the_document_does_not_tell(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, options = WORLDS[state]
    monkeypatch.chdir(tmp_path)  # it leaves a folder where it runs
    async with gateway_and_servers(*parts, settings=KEYED) as here:
        code, report = await fuzzed(f"{here.url.removesuffix('/v1')}/openapi.json", *options)

        assert code == 0, report
        assert here.servers[0].calls > 10
