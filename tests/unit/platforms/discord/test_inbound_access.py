import pytest

from understudy.config.settings import Access, Discord
from understudy.conversation.messages import Author, Place
from understudy.platforms.discord.inbound import refusal

ANN = Author("1", "Ann", roles=frozenset({"r1"}))
GENERAL = Place("discord", "c1", guild_id="g1")
THREAD = Place("discord", "t1", parent_id="c1", guild_id="g1")
DM = Place("discord", "d1", private=True)


@pytest.mark.parametrize(
    ("settings", "place", "expected"),
    [
        (Discord(), GENERAL, None),
        (Discord(allow=Access(servers=("g1",))), GENERAL, None),
        (Discord(allow=Access(servers=("g2",))), GENERAL, "place_not_allowed"),
        (Discord(allow=Access(channels=("c1",))), THREAD, None),
        (Discord(allow=Access(channels=("c2",))), THREAD, "place_not_allowed"),
        (Discord(allow=Access(roles=("r1",), users=("9",))), GENERAL, None),
        (Discord(allow=Access(roles=("r2",), users=("9",))), GENERAL, "person_not_allowed"),
        (Discord(allow=Access(users=("1",)), deny=Access(roles=("r1",))), GENERAL, "denied"),
        (Discord(deny=Access(channels=("c1",))), THREAD, "denied"),
        (Discord(deny=Access(users=("1",))), DM, "denied"),
        (Discord(deny=Access(servers=("g1",)), admins=("1",)), GENERAL, None),
        (Discord(), DM, None),
        (Discord(dms="members"), DM, "not_a_member"),
        (Discord(dms="admins"), DM, "dms_off"),
        (Discord(dms="admins", admins=("1",)), DM, None),
        (Discord(dms="off"), DM, "dms_off"),
        (Discord(allow=Access(users=("9",))), DM, "person_not_allowed"),
    ],
)
def test_access_follows_the_lists(settings: Discord, place: Place, expected: str | None) -> None:
    assert refusal(settings, place, ANN, member=False) == expected


def test_a_member_may_write_where_dms_are_for_members() -> None:
    assert refusal(Discord(dms="members"), DM, ANN, member=True) is None
