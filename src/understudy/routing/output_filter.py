"""Makes of a model's raw text what people may see: thoughts apart, leaks and loops cut off.

A client of the gateway gets what the model wrote, thoughts apart: whoever writes their own
prompts may well want the text that we would cut. What goes on from a bare prompt has no thoughts.
"""

from collections.abc import Callable

from understudy.errors import BadReply, ErrorClass
from understudy.llm.messages import ReasoningDelta, TextDelta
from understudy.routing.garbage import LoopWatch
from understudy.routing.markers import Markers

_OPENING = ("<think>", "<thinking>")
_CLOSING = ("</think>", "</thinking>")
_LEAKS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|endoftext|>",
    "[INST]",
    "[/INST]",
    "### Instruction",
)
_OTHER_SPEAKER = "\nUser:"
_PAGES = ("<!doctype html", "<html")
_CLIENTS = Markers(_OPENING + _CLOSING)
_PEOPLES = Markers((*_OPENING, *_CLOSING, *_LEAKS, _OTHER_SPEAKER, *_PAGES))
_NO_ONES = Markers(())
_ENDS_THOUGHT = Markers(_CLOSING)

_WORTH_KEEPING = 20

Clean = TextDelta | ReasoningDelta


class Normaliser:
    """Takes the text of one attempt in pieces. Pieces that nothing is wrong with pass untouched,
    as the very same event."""

    def __init__(
        self, *, for_people: bool, is_bound: Callable[[], bool], bare: bool = False
    ) -> None:
        self._markers = _NO_ONES if bare else _PEOPLES if for_people else _CLIENTS
        self._is_bound = is_bound
        """Whether people or a client have seen text of this attempt."""
        self._loop = LoopWatch()
        self._held = ""
        self._thinking = False
        self._thought = False
        self._visible = False
        self._last = "\n"
        self.cut = False
        """The rest is not wanted: the reply ends here, and well."""
        self.keep: int | None = None
        """How many characters of the text are worth keeping, where not all are."""
        self.forget = False
        """All text before this piece was a thought whose beginning nobody marked."""

    def take(self, event: TextDelta) -> tuple[TextDelta] | list[Clean]:
        """Raises `BadReply` when the text turns out to be no reply."""
        self.forget = False
        plain = not (self._held or self._thinking or self._markers.may_concern(event.text))
        if plain and (self._visible or not self._thought):
            self._see(event.text)
            return (event,)
        text, self._held = self._held + event.text, ""
        clean = self._scan(text)
        if clean == [TextDelta(event.text)]:
            return (event,)
        return clean

    def rest(self) -> list[Clean]:
        """What was held as the beginning of a marker that never came."""
        self.forget = False
        held, self._held = self._held, ""
        clean: list[Clean] = []
        if not self.cut:
            self._emit(clean, held)
        return clean

    def _scan(self, text: str) -> list[Clean]:
        clean: list[Clean] = []
        while text and not self.cut:
            markers = _ENDS_THOUGHT if self._thinking else self._markers
            found = markers.find(text)
            if found is None:
                end = markers.begun(text)
                self._emit(clean, text[:end])
                self._held = text[end:]
                break
            self._emit(clean, text[: found.start()])
            self._meet(found.group(), clean)
            text = text[found.end() :]
        return clean

    def _emit(self, clean: list[Clean], text: str) -> None:
        if self._thinking:
            if text:
                clean.append(ReasoningDelta(text))
            return
        if self._thought and not self._visible:
            text = text.lstrip()
        if text:
            self._see(text)
            clean.append(TextDelta(text))

    def _meet(self, marker: str, clean: list[Clean]) -> None:
        known = marker.lower()
        if known in _OPENING and (not self._visible or self._last == "\n"):
            self._thinking = self._thought = True
        elif known in _CLOSING:
            self._end_thought(clean)
        elif known in _PAGES and not self._visible:
            raise BadReply(ErrorClass.BAD_BODY)
        elif known in _OPENING + _PAGES:
            self._emit(clean, marker)
        elif not self._visible:
            raise BadReply(ErrorClass.GARBAGE)
        else:
            self.cut = True

    def _end_thought(self, clean: list[Clean]) -> None:
        if not self._thinking and not self._thought:
            self.forget = self._visible
            self._visible = False
            self._loop = LoopWatch()
            clean.clear()
        self._thinking = False
        self._thought = True

    def _see(self, text: str) -> None:
        if not text:
            return
        self._visible = self._visible or not text.isspace()
        self._last = text[-1]
        worthless = self._loop.take(text)
        if worthless is None:
            return
        if worthless < _WORTH_KEEPING or not self._is_bound():
            raise BadReply(ErrorClass.GARBAGE)
        self.cut, self.keep = True, worthless
