"""What a look at the servers tells the router, now and at the next start."""

from dataclasses import dataclass, field
from pathlib import Path

from structlog.testing import capture_logs

from understudy.llm.capabilities import Capabilities, CapabilityBook, ModelKey
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.model_list import model_report, read_models
from understudy.llm.pricing import Price, PriceBook
from understudy.llm.testing import ScriptedClient, saying
from understudy.routing.candidates import Candidate
from understudy.routing.monitoring import CapabilityProber

KEY = ModelKey("a", "m")
SEEING = ProbeReport(ProbeState.READY, vision=True, context_length=4096, price=Price(1e-6, 2e-6))
GONE = ProbeReport(ProbeState.MODEL_MISSING, advice="the model 'm' is not there")
DOWN = ProbeReport(ProbeState.UNREACHABLE)


@dataclass
class ProbedCandidate:
    """One candidate, the books, and a clock."""

    file: Path | None = None
    local: bool = False
    now: float = 1000.0
    book: CapabilityBook = field(default_factory=lambda: CapabilityBook(lambda: 0.0))
    prices: PriceBook = field(default_factory=PriceBook)
    client: ScriptedClient = field(default_factory=lambda: ScriptedClient([saying("x")]))

    def __post_init__(self) -> None:
        candidate = Candidate("a", "m", "a", "openrouter", self.client, local=self.local)
        self.scout = CapabilityProber(
            lambda: [candidate],
            self.book,
            self.prices,
            file=self.file,
            wall=lambda: self.now,
        )

    async def look(self, report: ProbeReport) -> None:
        self.client.report = report
        await self.scout.look()

    @property
    def known(self) -> Capabilities:
        return self.book.of(KEY, Capabilities())


async def test_a_look_tells_capabilities_and_prices() -> None:
    probed = ProbedCandidate()

    await probed.look(SEEING)

    assert (probed.known.vision, probed.known.n_ctx) == (True, 4096)
    assert probed.prices.price("a", "openrouter", ("m", "m")) == Price(1e-6, 2e-6)


async def test_the_next_start_knows_it_without_the_server(tmp_path: Path) -> None:
    await ProbedCandidate(tmp_path / "scout.json").look(SEEING)
    later = ProbedCandidate(tmp_path / "scout.json")

    await later.scout.recall()

    assert (later.known.vision, later.known.n_ctx) == (True, 4096)
    assert later.client.probes == 0


async def test_the_next_start_knows_how_many_tokens_a_byte_costs(tmp_path: Path) -> None:
    before, later = (
        ProbedCandidate(tmp_path / "scout.json"),
        ProbedCandidate(tmp_path / "scout.json"),
    )
    before.book.set_tokens_per_char(KEY, 0.62)

    await before.scout.save()
    await later.scout.recall()

    assert later.book.tokens_per_char(KEY) == 0.62


async def test_a_ratio_learned_between_two_probes_is_saved(tmp_path: Path) -> None:
    probed, later = (
        ProbedCandidate(tmp_path / "scout.json"),
        ProbedCandidate(tmp_path / "scout.json"),
    )
    await probed.look(SEEING)
    probed.book.learn_tokens(KEY, tokens=620, chars=1000)

    await probed.look(SEEING)
    await later.scout.recall()

    assert probed.client.probes == 1
    assert later.book.tokens_per_char(KEY) == 0.62


async def test_hosted_models_are_looked_at_once_a_day_and_local_ones_more_often() -> None:
    hosted, local = ProbedCandidate(), ProbedCandidate(local=True)
    for probed in (hosted, local):
        for now in (0.0, 10.0, 400.0, 90_000.0):
            probed.now = 1e6 + now
            await probed.look(SEEING)

    assert (hosted.client.probes, local.client.probes) == (2, 3)


async def test_a_server_that_is_down_is_tried_again_each_minute() -> None:
    probed = ProbedCandidate()
    for now in (0.0, 30.0, 61.0):
        probed.now = 1e6 + now
        await probed.look(DOWN)

    assert probed.client.probes == 2
    assert probed.known == Capabilities()


async def test_a_model_that_is_gone_is_named_once_with_advice() -> None:
    probed = ProbedCandidate()
    with capture_logs() as logs:
        for now in (0.0, 100.0):
            probed.now = 1e6 + now
            await probed.look(GONE)

    assert [log["event"] for log in logs] == ["model.missing"]
    assert logs[0]["advice"] == "the model 'm' is not there"


async def test_what_it_keeps_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "bot.db-models"

    await ProbedCandidate(file).look(SEEING)

    assert file.stat().st_mode & 0o077 == 0


async def test_a_damaged_file_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "scout.json"
    file.write_text("{")
    probed = ProbedCandidate(file)

    await probed.scout.recall()
    await probed.look(SEEING)

    assert probed.known.vision is True


def test_prices_are_read_per_token_whichever_way_they_are_written() -> None:
    listed = b"""{"data": [
        {"id": "text", "pricing": {"prompt": "0.000001", "completion": "0.000002"}},
        {"id": "number", "pricing": {"prompt": 1, "completion": 2}},
        {"id": "auto", "pricing": {"prompt": "-1", "completion": "-1"}},
        {"id": "free", "pricing": {"prompt": "0", "completion": "0"}},
        {"id": "odd", "pricing": {"prompt": "cheap", "completion": null}}
    ]}"""

    models = read_models(listed)
    prices = [model_report(models, name).price for name in models.ids]

    assert prices == [Price(1e-6, 2e-6), Price(1e-6, 2e-6), None, Price(0.0, 0.0), None]
