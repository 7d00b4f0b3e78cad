"""Every row of the table."""

from conformance.row import Row
from conformance.server_rows import SERVER_ROWS

ROWS: tuple[Row, ...] = SERVER_ROWS
