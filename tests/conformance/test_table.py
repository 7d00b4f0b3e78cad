"""Every row of the table for every kind of sink, at a scaled pace."""

import pytest

from conformance.subject import Sink
from conformance.table import ROWS, Row, measure, scaled
from conformance.understudy_subject import UnderstudyRouter


@pytest.mark.parametrize("sink", Sink)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
async def test_one_good_reply_comes_of_every_fault(row: Row, sink: Sink) -> None:
    seen = await measure(UnderstudyRouter, row, sink, scaled(row.fault))

    assert seen.complaints == (), seen
