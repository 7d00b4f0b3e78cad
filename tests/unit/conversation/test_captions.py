"""Words for images: made once, in the background, only by a model that sees."""

from understudy.conversation.images import Captioner
from understudy.conversation.messages import ImageRef
from understudy.errors import ErrorClass, Rejected
from understudy.llm.capabilities import Capabilities
from understudy.llm.messages import ImagePart
from understudy.llm.testing import Script, ScriptedClient, saying
from understudy.routing.candidates import Candidate
from understudy.routing.router import ModelRouter

CAT = ImageRef("cat", "image/jpeg", 56, 56, "cat.jpg")


class Library:
    """One image, and the captions it is given."""

    def __init__(self) -> None:
        self.captions: dict[str, str] = {}

    async def get(self, digest: str, name: str) -> ImagePart | None:
        return ImagePart(b"jpeg", "image/jpeg", 56, 56, name, digest) if digest == "cat" else None

    async def caption(self, digest: str) -> str | None:
        return self.captions.get(digest)

    async def put_caption(self, digest: str, caption: str) -> None:
        self.captions[digest] = caption


def candidate(provider: str, *scripts: Script, vision: bool) -> tuple[Candidate, ScriptedClient]:
    client = ScriptedClient(scripts)
    made = Candidate(
        provider=provider,
        model="m",
        label=provider,
        engine="openai",
        client=client,
        capabilities=Capabilities(vision=vision),
    )
    return made, client


async def captioned(library: Library, *candidates: Candidate, images: int = 1) -> None:
    captioner = Captioner(library, ModelRouter(candidates).reply, lambda: "caption-1")
    try:
        captioner.schedule([CAT] * images, "discord")
        await captioner.idle()
    finally:
        await captioner.aclose()


async def test_an_image_is_described_once_by_a_candidate_that_sees() -> None:
    library = Library()
    seeing, client = candidate("seeing", saying("A cat ", "on a [wall]."), vision=True)

    await captioned(library, seeing, images=3)

    assert library.captions == {"cat": "A cat on a (wall)."}
    (call,) = client.calls
    assert any(isinstance(part, ImagePart) for part in call.request.messages[0].parts)


async def test_a_blind_candidate_is_never_asked_to_describe() -> None:
    library = Library()
    blind, client = candidate("blind", saying("A dog."), vision=False)

    await captioned(library, blind)

    assert client.calls == []
    assert library.captions == {}


async def test_a_failure_leaves_no_caption_and_the_next_image_gets_its_turn() -> None:
    library = Library()
    seeing, _ = candidate(
        "seeing",
        (Rejected(ErrorClass.BAD_REQUEST),),
        saying("A cat."),
        vision=True,
    )

    await captioned(library, seeing, images=2)

    assert library.captions == {"cat": "A cat."}


async def test_an_expired_image_is_passed_over() -> None:
    library = Library()
    seeing, client = candidate("seeing", saying("x"), vision=True)
    captioner = Captioner(library, ModelRouter([seeing]).reply, lambda: "caption-1")

    captioner.schedule([ImageRef("gone", "image/jpeg", 1, 1, "gone.jpg")], "web")
    await captioner.idle()
    await captioner.aclose()

    assert client.calls == []
