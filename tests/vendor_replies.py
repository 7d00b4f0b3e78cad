"""What vendors send, as tables: errors inside a stream, tool calls of every shape."""

import json

Json = dict[str, object]

DONE = b"data: [DONE]\n\n"


def frame(delta: Json | None, finish: str | None = None, **members: object) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m"}
    return raw(json.dumps(chunk | {"choices": choices} | members))


def raw(payload: str) -> bytes:
    return b"data: %b\n\n" % payload.encode("utf-8", "surrogatepass")


def said(text: str, size: int = 1000) -> bytes:
    """Return a text in pieces of so many characters."""
    return b"".join(frame({"content": text[n : n + size]}) for n in range(0, len(text), size))


ROLE = frame({"role": "assistant", "content": ""})
HI = said("Hi there.")
STOP = frame({}, "stop")
END = STOP + DONE
USAGE = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}

ERRORS: tuple[bytes, ...] = (
    b"data: error: the engine is gone\n\ndata: [DONE]\n\n",
    b"data: [ERROR] the engine is gone\n\n",
    b"event: error\ndata: the engine is gone\n\n",
    b'event: error\ndata: {"message": "the engine is gone"}\n\n',
    b"event: error\ndata: <html><body>502</body></html>\n\n",
    b'data: "the engine is gone"\n\n',
    b'data: {"error": "the engine is gone"}\n\n',
    b'data: {"error": {"message": "gone"}, "choices": []}\n\n',
    b'data: {"message": "the engine is gone", "code": 500}\n\n',
    b'data: {"detail": "the engine is gone"}\n\n',
)
"""An error in every dress, as the bytes of a stream."""


def tool(**members: object) -> Json:
    return {"tool_calls": [members]}


def of(name: str | None = None, arguments: object = None) -> Json:
    said = {"name": name, "arguments": arguments}
    return {key: value for key, value in said.items() if value is not None}


CALLS: tuple[tuple[tuple[Json, ...], list[tuple[object, ...]]], ...] = (
    # Two calls with one index and two ids.
    ((tool(index=0, id="a", function=of("f", "{}")),
      tool(index=0, id="b", function=of("g", "{}"))),
     [("a", "f", "{}"), ("b", "g", "{}")]),
    # No index at all.
    ((tool(id="a", function=of("f", "{")), tool(function=of(arguments="}")),
      tool(id="b", function=of("g", "{}"))),
     [("a", "f", "{}"), ("b", "g", "{}")]),
    # Name and id late.
    ((tool(index=0, function=of("f")), tool(index=0, id="a", function=of(arguments="{}"))),
     [("a", "f", "{}")]),
    ((tool(index=0, id="a", function=of(arguments="{")),
      tool(index=0, function=of("f", "}"))),
     [("a", "f", "{}")]),
    # Name and id in every delta.
    ((tool(index=0, id="a", function=of("f", "{")),
      tool(index=0, id="a", function=of("f", "}"))),
     [("a", "f", "{}")]),
    # No id: one of ours.
    ((tool(index=0, function=of("f", "{}")),), [(True, "f", "{}")]),
    ((tool(index=0, function=of("f")),), [(True, "f", "")]),
    # Arguments as an object.
    ((tool(index=0, id="a", function=of("f", {"x": 1})),), [("a", "f", '{"x": 1}')]),
    # The older form, and a custom tool.
    (({"function_call": of("f", "{")}, {"function_call": of(arguments="}")}),
     [(True, "f", "{}")]),
    ((tool(index=0, id="a", type="custom", custom={"name": "f", "input": "hi"}),),
     [("a", "f", "hi")]),
    # Two in one delta.
    (({"tool_calls": [{"id": "a", "function": of("f", "{}")},
                      {"id": "b", "function": of("f", "[]")}]},),
     [("a", "f", "{}"), ("b", "f", "[]")]),
)  # fmt: skip
"""Deltas, and the calls they are: id (True: one of ours), name, arguments."""

_SOURCE = {"url": "https://example.org", "title": "Lamps", "start_index": 0, "end_index": 2}
_CITED = {"type": "url_citation", "url_citation": _SOURCE}
_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
_CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
RICH = (
    ROLE
    + frame({"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]})
    + frame({"reasoning_details": [{"type": "reasoning.encrypted", "data": "q83v"}]})
    + frame({"content": "Hi "})
    + frame({"content": [{"type": "text", "text": "there."}]})
    + frame({"images": [_IMAGE]})
    + frame({"images": [_IMAGE]})
    + frame({"annotations": [_CITED]})
    + frame({"content": "", "annotations": [_CITED, _CITED]})
    + frame({"tool_calls": [_CALL | {"index": 0}]})
    + frame({"tool_calls": [_CALL | {"index": 0, "id": "b"}]})
    + STOP
    + frame(None, usage=USAGE)
    + DONE
)
"""Text, reasoning, images, citations, tools, figures; without members that some vendors omit."""
