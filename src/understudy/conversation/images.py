"""What the bot sees: which images of a batch are shown to a model, and words for all the others.

Images of the batch being answered travel as image parts to candidates that can see. Everything
else - history, candidates without vision, images beyond the limit - is put into words: the cached
caption where there is one, else the file's name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from understudy.config.settings import Vision as VisionSettings
from understudy.conversation.delivery import Addressed, ImageRef
from understudy.conversation.inbox import Line, Stored
from understudy.conversation.prompt.builder import Depicted
from understudy.conversation.speakers import safe_name
from understudy.llm.messages import ImagePart, Part, TextPart
from understudy.routing.request import Fit

_CAPTION_CHARS = 600


class ImageLibrary(Protocol):
    """Stored images and their captions, by content hash."""

    async def get(self, digest: str, name: str) -> ImagePart | None:
        """The image, or `None` once it has expired."""
        ...

    async def caption(self, digest: str) -> str | None: ...

    async def put_caption(self, digest: str, caption: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of the images of one conversation, ready for the prompt."""

    parts: Mapping[str, ImagePart] = field(default_factory=dict)
    """By digest: the images that are shown to candidates that can see."""
    captions: Mapping[str, str] = field(default_factory=dict)

    def depict(self, images: Sequence[ImageRef], fit: Fit, current: bool) -> Depicted:  # noqa: FBT001 - the seam of the prompt
        """One message's images for one candidate."""
        parts: list[Part] = []
        blind = False
        for image in images:
            part = self.parts.get(image.digest) if current else None
            if part is not None and fit.vision:
                parts.append(part)
            else:
                blind = blind or part is not None
                parts.append(TextPart(self._in_words(image, unseen=part is not None)))
        # Text before images is what every server takes.
        parts.sort(key=lambda part: isinstance(part, ImagePart))
        return Depicted(tuple(parts), degraded=blind)

    def _in_words(self, image: ImageRef, *, unseen: bool) -> str:
        caption = self.captions.get(image.digest)
        if caption is not None:
            return f'[image "{safe_name(image.name)}", described by a program: {caption}]'
        if unseen:
            return f'[image "{safe_name(image.name)}", which you cannot see: say so if it matters]'
        return f'[image "{safe_name(image.name)}"]'


class Eyes:
    """Decides what is looked at, and fetches it before the prompt is built."""

    def __init__(self, library: ImageLibrary, settings: Callable[[], VisionSettings]) -> None:
        self._library = library
        self._settings = settings

    async def look(self, batch: Sequence[Stored], lines: Sequence[Line]) -> Sight:
        """Read the images of `batch` that are to be shown, and the captions of all others."""
        images = {image.digest: image for line in lines for image in line.images}
        if not images or not self._settings().enabled:
            return Sight()
        found: dict[str, ImagePart] = {}
        for image in chosen_images(batch, self._settings()):
            part = await self._library.get(image.digest, image.name)
            if part is not None:
                found[image.digest] = part
        captions: dict[str, str] = {}
        for digest in images:
            caption = await self._library.caption(digest)
            if caption is not None:
                captions[digest] = caption
        return Sight(found, captions)


def chosen_images(batch: Sequence[Stored], settings: VisionSettings) -> tuple[ImageRef, ...]:
    """The images to show: those in scope, of the newest messages first, up to the limit."""
    chosen: dict[str, ImageRef] = {}
    for message in reversed(batch):
        if scope_of(message, batch[-1]) in settings.scopes:
            for image in message.inbound.images:
                chosen.setdefault(image.digest, image)
    return tuple(chosen.values())[: settings.max_images]


def scope_of(message: Stored, trigger: Stored) -> str:
    """The word of `vision.scopes` that a message's images fall under."""
    addressed = message.inbound.addressed
    if addressed is Addressed.REPLY:
        return "replies"
    if addressed is not None:
        return "mentions"
    return "general_chat" if message is trigger else "batch"


def caption_text(text: str) -> str:
    """A model's description as it may stand in later prompts: one line, no brackets that could
    close the frame around it."""
    return safe_frame(" ".join(text.split()))[:_CAPTION_CHARS]


def safe_frame(text: str) -> str:
    return text.replace("[", "(").replace("]", ")")
