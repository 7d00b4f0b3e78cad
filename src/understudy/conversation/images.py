"""Images in prompts: which are sent to a model, and placeholders for all others.

Images of the current batch are sent as image parts to candidates with vision. All others (history,
candidates without vision, images beyond the limit) become a placeholder: the cached caption if
there is one, else the file name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from understudy.config.settings import Vision as VisionSettings
from understudy.conversation.inbox import Line, StoredMessage
from understudy.conversation.messages import Addressed, ImageRef
from understudy.conversation.prompt.builder import Depicted
from understudy.conversation.speakers import safe_name
from understudy.llm.messages import ImagePart, Part, TextPart
from understudy.routing.request import Fit


class ImageLibrary(Protocol):
    """Stored images and their captions, by content hash."""

    async def get(self, digest: str, name: str) -> ImagePart | None:
        """The image, or `None` once it has expired."""
        ...

    async def caption(self, digest: str) -> str | None: ...

    async def put_caption(self, digest: str, caption: str) -> None: ...


@dataclass(frozen=True, slots=True)
class PromptImages:
    """The images of one conversation, ready for the prompt."""

    parts: Mapping[str, ImagePart] = field(default_factory=dict)
    """By digest: the images that are sent to candidates with vision."""
    captions: Mapping[str, str] = field(default_factory=dict)

    def depict(self, images: Sequence[ImageRef], fit: Fit, current: bool) -> Depicted:  # noqa: FBT001 - the seam of the prompt
        """One message's images for one candidate."""
        parts: list[Part] = []
        hidden = False
        for image in images:
            part = self.parts.get(image.digest) if current else None
            if part is not None and fit.vision:
                parts.append(part)
            else:
                hidden = hidden or part is not None
                parts.append(TextPart(self._placeholder(image, unseen=part is not None)))
        # Every server accepts text before images.
        parts.sort(key=lambda part: isinstance(part, ImagePart))
        return Depicted(tuple(parts), degraded=hidden)

    def _placeholder(self, image: ImageRef, *, unseen: bool) -> str:
        caption = self.captions.get(image.digest)
        if caption is not None:
            return f'[image "{safe_name(image.name)}", described by a program: {caption}]'
        if unseen:
            return f'[image "{safe_name(image.name)}", which you cannot see: say so if it matters]'
        return f'[image "{safe_name(image.name)}"]'


class ImageSelector:
    """Selects the images of a prompt and loads them before the prompt is built."""

    def __init__(self, library: ImageLibrary, settings: Callable[[], VisionSettings]) -> None:
        self._library = library
        self._settings = settings

    async def select(self, batch: Sequence[StoredMessage], lines: Sequence[Line]) -> PromptImages:
        """Load the images of `batch` to be sent, and the captions of all others."""
        images = {image.digest: image for line in lines for image in line.images}
        if not images or not self._settings().enabled:
            return PromptImages()
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
        return PromptImages(found, captions)


def chosen_images(batch: Sequence[StoredMessage], settings: VisionSettings) -> tuple[ImageRef, ...]:
    """The images to send: those in scope, of the newest messages first, up to the limit."""
    chosen: dict[str, ImageRef] = {}
    for message in reversed(batch):
        if scope_of(message, batch) in settings.scopes:
            for image in message.inbound.images:
                chosen.setdefault(image.digest, image)
    return tuple(chosen.values())[: settings.max_images]


def scope_of(message: StoredMessage, batch: Sequence[StoredMessage]) -> str:
    """The item of `vision.scopes` that applies to a message's images."""
    addressed = message.inbound.addressed
    if addressed is Addressed.REPLY:
        return "replies"
    if addressed is not None:
        return "mentions"
    directed = any(other.inbound.addressed is not None for other in batch)
    return "general_chat" if message is batch[-1] and not directed else "batch"
