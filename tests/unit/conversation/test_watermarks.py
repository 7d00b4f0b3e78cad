from conversation_driver import LOUNGE, WEB, message
from understudy.conversation.inbox import Decision, Watermark
from understudy.storage.in_memory_inbox import MemoryInbox

IGNORED = Decision(answer=False, reason="not_addressed")


async def test_watermarks_are_the_newest_messages_of_the_platforms_channels() -> None:
    inbox = MemoryInbox()
    for message_id, place, now in (("1", LOUNGE, 10), ("2", LOUNGE, 20), ("3", WEB, 30)):
        await inbox.add(message(message_id, place=place), IGNORED, now)

    assert await inbox.watermarks("discord", since=15) == (Watermark(LOUNGE, "2"),)
    assert await inbox.watermarks("discord", since=25) == ()
