"""Every row of the table."""

from conformance.http_rows import HTTP_ROWS
from conformance.proxy_rows import PROXY_ROWS
from conformance.row import Row
from conformance.server_rows import SERVER_ROWS
from conformance.tls_rows import TLS_ROWS

ROWS: tuple[Row, ...] = (*SERVER_ROWS, *HTTP_ROWS, *TLS_ROWS, *PROXY_ROWS)
