"""Every row of the table, by every way to a reply, at a scaled pace."""

import pytest

from conformance.gateway_subject import WAYS
from conformance.row import Row
from conformance.rows import ROWS
from conformance.table import Way, measure, scaled


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
async def test_one_good_reply_comes_of_every_fault(row: Row, way: Way) -> None:
    seen = await measure(way, row, scaled(row))

    assert seen.complaints == (), seen
