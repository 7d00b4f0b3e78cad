"""Going on from a bare prompt: the same servers, an older page of theirs, another shape."""

from collections.abc import Iterator
from contextlib import contextmanager

from understudy.errors import ErrorClass, ProviderError, Rejected
from understudy.llm.openai_wire import DECODE_CHUNK, Chunk, Delta

_NO_SUCH_PAGE = frozenset((404, 405, 501))


def decode_completion(payload: bytes) -> Chunk:
    """One frame of a text completion, its text where a chat's would stand."""
    chunk = DECODE_CHUNK(payload)
    for choice in chunk.choices or ():
        if choice.delta is None and choice.text is not None:
            choice.delta = Delta(content=choice.text)
    return chunk


@contextmanager
def missing_page() -> Iterator[None]:
    """Says `unsupported_input` for a 404: the model is not gone, and chats with it go on."""
    try:
        yield
    except ProviderError as error:
        if error.http_status not in _NO_SUCH_PAGE:
            raise
        raise Rejected(ErrorClass.UNSUPPORTED_INPUT, http_status=error.http_status) from None
