"""`understudy doctor` as its user runs it."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from understudy.rehearsal.server import RehearsalServer


async def doctor(folder: Path, *words: str, columns: int = 100) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "understudy", "doctor", *words, cwd=folder,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": str(columns)},
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode, out.decode()


def configure(folder: Path, url: str) -> None:
    (folder / "config.yaml").write_text(
        "model:\n  provider_order: [stage]\n  servers:\n"
        f'    stage: {{base_url: "{url}", name: rehearsal/eliza}}\n'
    )


@pytest.mark.slow
async def test_all_well_is_exit_code_0_and_json_for_scripts(tmp_path: Path) -> None:
    async with RehearsalServer() as server:
        configure(tmp_path, server.base_url)
        code, out = await doctor(tmp_path, "--json")

    told = json.loads(out)
    assert (code, told["ok"]) == (0, True)
    assert [provider["name"] for provider in told["providers"]] == ["stage"]


@pytest.mark.slow
async def test_a_sick_provider_is_exit_code_1_with_a_table_and_advice(tmp_path: Path) -> None:
    configure(tmp_path, "http://127.0.0.1:9")
    code, out = await doctor(tmp_path)

    assert code == 1
    assert "unreachable" in out
    assert "nothing listens at http://127.0.0.1:9/v1" in out


@pytest.mark.slow
async def test_at_80_columns_each_server_is_a_block_with_its_whole_model_name(
    tmp_path: Path,
) -> None:
    name = "some-vendor/a-model-with-a-rather-long-name:free"
    (tmp_path / "config.yaml").write_text(
        "model:\n  provider_order: [stage]\n  servers:\n"
        f'    stage: {{base_url: "http://127.0.0.1:9", name: "{name}"}}\n'
    )

    _, out = await doctor(tmp_path, columns=80)

    assert f"✗ stage\n    {name}\n    unreachable" in out
    assert "┏" not in out
