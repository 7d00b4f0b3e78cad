"""Every row of the table, by every way to a reply, at a scaled pace."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from conformance.gateway_subject import WAYS, GatewayHost, way_of
from conformance.row import Row
from conformance.rows import ROWS
from conformance.table import measure, scaled

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def host() -> AsyncIterator[GatewayHost]:
    async with GatewayHost() as listening:
        yield listening


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
async def test_one_good_reply_comes_of_every_fault(row: Row, way: str, host: GatewayHost) -> None:
    seen = await measure(way_of(way, host), row, scaled(row))

    assert seen.complaints == (), seen
