"""Those who ask: two people in each channel, who take turns, and one who talks to others."""

import asyncio
from itertools import cycle

from chaos.observations import Question
from chaos.run import Run
from discord_double.payloads import Json

_PER_SECOND = 20.0
_TALK = 0.1


async def ask_all(run: Run) -> None:
    """Until every question of the run is asked. Numbers ascend within each channel."""
    guild = run.double.state.add_guild()
    count = run.size.channels
    channels = [run.double.state.add_channel(guild, f"room-{n}") for n in range(count)]
    shares = [range(n, run.size.messages, count) for n in range(count)]
    await run.bot.start()
    await run.double.until(lambda: run.double.gateway.sessions)
    async with asyncio.TaskGroup() as group:
        for channel, share in zip(channels, shares, strict=True):
            group.create_task(_ask_in(run, channel, share))


async def _ask_in(run: Run, channel: Json, numbers: range) -> None:
    state, name = run.double.state, channel["name"]
    people = cycle([state.add_user(f"ann of {name}"), state.add_user(f"bob of {name}")])
    other = state.add_user(f"eve of {name}")
    last: dict[str, int] = {}
    for number, person in zip(numbers, people, strict=False):
        if person["id"] in last:
            # Else the two would be one burst, with one answer.
            await run.recorder.until_taken_up(last[person["id"]])
        last[person["id"]] = number
        if run.chance.random() < _TALK:
            await run.double.say(channel, other, "that is between us")
        text = run.double.mention(f"q{number}?")
        # The bot can be as quick as its hearing of it.
        made = state.write(channel["id"], person, text)
        run.recorder.asked(Question(number, made, person["id"]))
        await run.double.gateway.dispatch("MESSAGE_CREATE", made)
        await asyncio.sleep(run.chance.uniform(0, 2 * run.size.channels / _PER_SECOND))
