"""Which messages are answered together, and when."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation_driver import ANN, BOB, LOUNGE, message
from understudy.config.settings import Conversation
from understudy.conversation.batching import BatchRules, Plan, plan
from understudy.conversation.inbox import Batch, BatchState, PendingWork, StoredMessage
from understudy.conversation.messages import Author

RULES = BatchRules()
CEE = Author("3", "Cee")


def came(
    at: float, author: Author = ANN, *, directed: bool = True, **fields: object
) -> StoredMessage:
    text = str(fields.get("text", "hi"))
    seq = int(at * 1000)
    return StoredMessage(seq, message(f"m{seq}", text, author, LOUNGE), at, directed)


def a_batch(author: Author = ANN, **fields: object) -> Batch:
    base = Batch(
        id="b1",
        reply_id="r1",
        nonce="n1",
        state=BatchState.CLAIMED,
        directed=True,
        messages=(came(0.001, author),),
        attempt=1,
        lease_until=1000.0,
        created_at=0.0,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def at(
    now: float, *waiting: StoredMessage, batches: tuple[Batch, ...] = (), **typing: float
) -> Plan:
    seen = {key.removeprefix("author"): when for key, when in typing.items()}
    return plan(PendingWork(waiting, batches), seen, RULES, now)


def starts(planned: Plan) -> list[list[float]]:
    return [[m.arrived_at for m in ready.messages] for ready in planned.ready]


@pytest.mark.parametrize(
    ("waiting", "due"),
    [
        pytest.param((came(0),), 1.2, id="one message waits for quiet"),
        pytest.param((came(0), came(1)), 2.2, id="the next message starts the quiet anew"),
        pytest.param((came(0, text="x" * 1900),), 2.5, id="the rest of a long paste may follow"),
        pytest.param(tuple(came(i * 0.9) for i in range(9)), 8.0, id="nobody is waited for longer"),
        pytest.param((came(0, directed=False),), 5.0, id="general chat waits for its interval"),
        pytest.param(
            (came(0, directed=False), came(4.5, BOB, directed=False)),
            5.7,
            id="a burst at the end of the interval is not cut",
        ),
        pytest.param(
            (came(0, directed=False), came(1)), 2.2, id="a mention takes its author's words along"
        ),
    ],
)
def test_a_batch_is_due_when(waiting: tuple[StoredMessage, ...], due: float) -> None:
    before, then = at(due - 0.01, *waiting), at(due, *waiting)

    assert before.ready == ()
    assert before.wake_at == pytest.approx(due)
    assert [ready.messages for ready in then.ready] == [waiting]


def test_typing_lets_a_burst_go_on_but_not_past_its_cap() -> None:
    assert at(3.0, came(0), author1=1.0).wake_at == 6.0
    assert at(7.0, came(0), author1=6.5).wake_at == 8.0
    assert starts(at(8.0, came(0), author1=7.5)) == [[0]]
    assert starts(at(1.2, came(0), author2=1.0)) == [[0]]


def test_typing_before_the_message_was_for_that_message() -> None:
    assert starts(at(3.2, came(2.0), author1=1.0)) == [[2.0]]


def test_a_mention_never_waits_for_the_channels_interval() -> None:
    waiting = (came(0, BOB, directed=False), came(1))

    planned = at(2.2, *waiting)
    assert starts(planned) == [[1]]
    assert planned.wake_at == 5.0


def test_general_chat_of_all_authors_is_one_batch() -> None:
    waiting = (came(0, directed=False), came(1, BOB, directed=False))

    (ready,) = at(5.0, *waiting).ready
    assert (ready.messages, ready.directed) == (waiting, False)


def test_batches_start_in_the_order_of_their_first_message_as_far_as_there_is_room() -> None:
    waiting = (came(0, CEE), came(0.1, BOB), came(0.2, ANN))

    assert starts(at(9.0, *waiting)) == [[0], [0.1]]
    assert starts(at(9.0, *waiting, batches=(a_batch(Author("9", "Dee")),))) == [[0]]


def test_an_authors_next_burst_waits_for_the_reply_to_the_first() -> None:
    assert starts(at(9.0, came(1), came(2, BOB), batches=(a_batch(),))) == [[2]]


def test_one_reply_to_general_chat_is_made_at_a_time() -> None:
    busy = a_batch(directed=False)

    assert starts(at(9.0, came(1, BOB, directed=False), batches=(busy,))) == []
    assert starts(at(9.0, came(1, BOB), batches=(busy,))) == [[1]]


def test_what_a_crash_interrupted_comes_first_and_alone() -> None:
    expired = a_batch(lease_until=5.0)

    planned = at(9.0, came(1, BOB), batches=(expired,))
    assert (planned.ready, planned.reclaim) == ((), ("b1",))
    again = a_batch(attempt=2)
    assert at(9.0, came(1, BOB), batches=(again,)).ready == ()


def test_a_batch_that_waits_for_a_late_answer_blocks_no_other() -> None:
    waiting = a_batch(state=BatchState.WAITING, retry_at=60.0)
    running = a_batch(attempt=2, retry_at=60.0)

    assert starts(at(9.0, came(1), batches=(waiting,))) == [[1]]
    assert at(9.0, batches=(waiting,)).wake_at == 60.0
    assert starts(at(70.0, came(1), batches=(running,))) == [[1]]


def test_late_answers_of_a_channel_are_tried_one_after_the_other_oldest_first() -> None:
    young = a_batch(id="b2", state=BatchState.WAITING, retry_at=50.0, created_at=2.0)
    old = a_batch(state=BatchState.WAITING, retry_at=55.0, created_at=1.0)

    assert at(60.0, batches=(young, old)).reclaim == ("b1",)
    busy = replace(old, state=BatchState.CLAIMED)
    assert at(60.0, batches=(young, busy)).reclaim == ()


def test_a_clock_that_was_set_back_holds_nothing() -> None:
    assert starts(at(10.0, came(4000.0))) == [[4000.0]]


def test_where_each_message_is_sent_on_purpose_nothing_is_waited_for() -> None:
    rules = BatchRules.at_once(Conversation())

    assert plan(PendingWork((came(5.0),)), {"1": 5.0}, rules, 5.0).ready[0].messages == (came(5.0),)


def test_the_rules_are_the_configured_ones() -> None:
    settings = Conversation(quiet_seconds=0.8, interval_seconds=9, parallel_replies=4)

    assert BatchRules.of(settings) == BatchRules(0.8, 2.5, 8.0, 9.0, 4)


MESSAGES = st.lists(
    st.tuples(st.floats(0, 60), st.sampled_from([ANN, BOB, CEE]), st.booleans()), max_size=20
).map(
    lambda drawn: tuple(
        StoredMessage(seq, message(f"m{seq}", "hi", author, LOUNGE), when, directed)
        for seq, (when, author, directed) in enumerate(sorted(drawn, key=lambda d: d[0]))
    )
)


@pytest.mark.slow
@given(MESSAGES, st.floats(0, 200))
def test_no_message_is_in_two_batches_and_order_is_kept(
    waiting: tuple[StoredMessage, ...], now: float
) -> None:
    ready = plan(PendingWork(waiting), {}, RULES, now).ready

    taken = [m.seq for r in ready for m in r.messages]
    assert len(taken) == len(set(taken))
    assert all(list(r.messages) == sorted(r.messages, key=lambda m: m.seq) for r in ready)
    firsts = [r.messages[0].seq for r in ready]
    assert firsts == sorted(firsts)
    assert len(ready) <= RULES.parallel


@given(MESSAGES, st.dictionaries(st.sampled_from(["1", "2", "3"]), st.floats(0, 70)))
def test_waking_when_told_answers_everybody_in_the_end(
    waiting: tuple[StoredMessage, ...], typing: dict[str, float]
) -> None:
    now = max((m.arrived_at for m in waiting), default=0.0)
    while waiting:
        planned = plan(PendingWork(waiting), typing, RULES, now)
        done = {m.seq for r in planned.ready for m in r.messages}
        waiting = tuple(m for m in waiting if m.seq not in done)
        if not done:
            assert planned.wake_at is not None
            assert now < planned.wake_at <= now + RULES.interval_s + RULES.cap_s
            now = planned.wake_at


@given(MESSAGES, st.floats(0, 200))
def test_a_batch_never_mixes_a_mention_with_the_words_of_others(
    waiting: tuple[StoredMessage, ...], now: float
) -> None:
    for ready in plan(PendingWork(waiting), {}, RULES, now).ready:
        if ready.directed:
            assert len({m.inbound.author.id for m in ready.messages}) == 1
        else:
            assert not any(m.directed for m in ready.messages)
