"""Bytes of an event stream → the payloads of its frames. Pure: no I/O, no clock, no JSON."""

import re

from understudy.errors import BadReply, ErrorClass

DONE = b"[DONE]"

_MAX_LINE_BYTES = 4 * 1024 * 1024
_MAX_LINES = 4096
"""Of one frame. Servers send one or a few; joining an endless number takes quadratic time."""
ERROR_EVENT = b"error: "
"""Put before the data of an event that is named `error`, whatever its data is."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LF, _CR = 10, 13
"""As numbers: CPython 3.11 raises and drops an error where it looks for bytes within bytes."""
_LONE_CR = re.compile(rb"\r[^\n]")
_SILENT_FIELDS = (b"event", b"id", b"retry")


class SseReader:
    """Splits one stream, however its bytes were cut on the way.

    Takes what real servers send: LF and CRLF mixed, comments, no space after `data:`, data over
    several lines, frames without a blank line between, and JSON with no `data:` at all (Chutes
    reports an error in the middle of a stream that way). A line it knows nothing of is handed on
    as a payload, so that its decoder counts one bad frame.
    """

    __slots__ = ("_begun", "_cr", "_data", "_is_error", "_lines", "_rest", "comments")

    def __init__(self) -> None:
        self._rest = b""
        self._data = b""
        self._lines = 0
        self.comments = 0
        """Since they were last taken."""
        self._begun = False
        self._cr = False
        """Whether lines end with CR alone."""
        self._is_error = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that `data` completes; `[DONE]` is one of them.

        Raises `BadReply` (`response_too_large`) for a line or frame past 4 MiB, and for 4096 lines
        in one.
        """
        if self._cr or not self._begun:
            data = self._normalised(data)
        if self._rest:
            data = self._rest + data
        if data[:6] == b"data: " and not (self._data or self._is_error):
            end = data.rfind(b"\n\n")
            frames = data[6:end].split(b"\n\ndata: ")
            rest = data[end + 2 :]
            # Frames of one line of data each; the rest is less than a line.
            if end > 0 and _LF not in b"".join(frames) and _LF not in rest:
                self._rest = rest
                if len(rest) <= _MAX_LINE_BYTES:
                    return [*filter(None, map(bytes.strip, frames))]
        return self._lines_of(data)

    def _lines_of(self, data: bytes) -> list[bytes]:
        """Read data that holds more than frames of one line each, or the beginning of a frame."""
        payloads: list[bytes] = []
        *lines, self._rest = data.split(b"\n")
        self._read_lines(lines, payloads)
        if len(self._rest) > _MAX_LINE_BYTES:
            raise BadReply(ErrorClass.RESPONSE_TOO_LARGE, detail="one line of over 4 MiB")
        return payloads

    def _read_lines(self, lines: list[bytes], payloads: list[bytes]) -> None:
        for line in lines:
            if line[:6] == b"data: " and not self._data:
                self._data = line[6:]
            elif not line and self._data:
                self._flush(payloads)
            else:
                self._odd_line(line, payloads)

    def finish(self) -> list[bytes]:
        """Return what the end of the stream completes: some servers end without a newline."""
        payloads = self.feed(b"\n\n")
        self._rest = b""
        return payloads

    def _normalised(self, data: bytes) -> bytes:
        """Remove a byte-order mark at the start; turn CR as the end of lines into LF."""
        if not self._begun:
            start = self._rest + data
            if start[:6] == b"data: " and _LF in start and _CR not in start:
                self._begun, self._rest = True, b""
                return start
            if len(start) < 3 and _BYTE_ORDER_MARK.startswith(start):
                return data
            self._begun, self._rest = _LF in start or bool(_LONE_CR.search(start)), b""
            data = start.removeprefix(_BYTE_ORDER_MARK)
            self._cr = _CR in data and bool(_LONE_CR.search(data))
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if self._cr else data

    @property
    def is_blank(self) -> bool:
        """Whether no line is half read."""
        return not (self._rest or self._data)

    def take_comments(self) -> int:
        """Return the number of comments since the last call."""
        comments, self.comments = self.comments, 0
        return comments

    def _odd_line(self, line: bytes, payloads: list[bytes]) -> None:
        line = line.rstrip(b"\r")
        if not line:
            self._flush(payloads)
        elif line.startswith(b"data:"):
            self._add(line[6:] if line[5:6] == b" " else line[5:], payloads)
        elif line.startswith(b":"):
            self.comments += 1
        elif line.startswith(b"event:"):
            self._is_error = line[6:].strip().lower() == b"error"
        elif line.partition(b":")[0] not in _SILENT_FIELDS and line.strip():
            self._flush(payloads)
            payloads.append(line.strip())

    def _add(self, piece: bytes, payloads: list[bytes]) -> None:
        # Within one JSON text an object never directly follows another on the next line.
        if self._data.rstrip().endswith(b"}") and piece[:1] in (b"{", b"["):
            self._flush(payloads)
        self._lines += 1
        if self._lines > _MAX_LINES or len(self._data) > _MAX_LINE_BYTES:
            raise BadReply(ErrorClass.RESPONSE_TOO_LARGE, detail="one frame without an end")
        self._data = self._data + b"\n" + piece if self._data else piece

    def _flush(self, payloads: list[bytes]) -> None:
        payload = self._data.strip()
        self._data = b""
        self._lines = 0
        if payload:
            payloads.append(ERROR_EVENT + payload if self._is_error else payload)
        self._is_error = False
