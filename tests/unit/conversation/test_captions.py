"""Words for images: made once, in the background, only by a model that sees."""

from conversation_driver import WEB, Models, message
from understudy.conversation.captions import Captioner
from understudy.conversation.follow_ups import Answered, FollowUpModels
from understudy.conversation.inbox import StoredMessage
from understudy.conversation.messages import ImageRef
from understudy.conversation.orders import Order
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


def answered(*images: ImageRef, order: Order = None) -> Answered:
    asked = message("m1", "What is this?", place=WEB, images=images)
    return Answered((StoredMessage(1, asked, 100.0, directed=True),), "A picture.", order=order)


def captioner(library: Library, *candidates: Candidate, enabled: bool = True) -> Captioner:
    models = FollowUpModels(
        ModelRouter(candidates).reply,
        lambda own: own or tuple(one.name for one in candidates),
        lambda: enabled,
        lambda _: True,
        lambda: "caption-1",
    )
    return Captioner(library, models)


async def captioned(captions: Captioner, after: Answered) -> None:
    try:
        captions.follow_up(after)
        await captions.idle()
    finally:
        await captions.aclose()


async def test_an_image_is_described_once_by_a_candidate_that_sees() -> None:
    library = Library()
    seeing, client = candidate("seeing", saying("A cat ", "on a [wall]."), vision=True)

    await captioned(captioner(library, seeing), answered(CAT, CAT, CAT))

    assert library.captions == {"cat": "A cat on a (wall)."}
    (call,) = client.calls
    assert any(isinstance(part, ImagePart) for part in call.request.messages[0].parts)


async def test_a_blind_candidate_is_never_asked_to_describe() -> None:
    library = Library()
    blind, client = candidate("blind", saying("A dog."), vision=False)

    await captioned(captioner(library, blind), answered(CAT))

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

    await captioned(captioner(library, seeing), answered(CAT, CAT))

    assert library.captions == {"cat": "A cat."}


async def test_an_expired_image_is_passed_over() -> None:
    library = Library()
    seeing, client = candidate("seeing", saying("x"), vision=True)
    gone = ImageRef("gone", "image/jpeg", 1, 1, "gone.jpg")

    await captioned(captioner(library, seeing), answered(gone))

    assert client.calls == []


async def test_an_image_goes_only_to_servers_of_the_order_of_its_conversation() -> None:
    library = Library()
    usual, usual_client = candidate("usual", saying("A dog."), vision=True)
    chosen, _ = candidate("chosen", saying("A cat."), vision=True)

    await captioned(captioner(library, usual, chosen), answered(CAT, order=("chosen",)))

    assert library.captions == {"cat": "A cat."}
    assert usual_client.calls == []


async def test_a_caption_counts_for_the_person_who_sent_the_image() -> None:
    models = Models(script=["A cat."])
    follow_up = FollowUpModels(
        models.reply, lambda own: own or ("seeing",), lambda: True, lambda _: True, lambda: "c1"
    )

    await captioned(Captioner(Library(), follow_up), answered(CAT))

    (request,) = models.requests
    assert (request.origin.user, request.purpose) == ("web:1", "caption")


async def test_without_captions_no_request_is_made() -> None:
    seeing, client = candidate("seeing", saying("A cat."), vision=True)

    await captioned(captioner(Library(), seeing, enabled=False), answered(CAT))

    assert client.calls == []
