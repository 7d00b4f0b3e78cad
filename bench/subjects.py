"""What is measured: who answers, and what each is asked."""

import json
import pathlib
import sys
from dataclasses import dataclass, field

from machine import free_port

HERE = pathlib.Path(__file__).parent

ROUTES = {
    "ok": ["ok"],
    "tokens": ["n100"],
    "paced": ["d50-g5-n100"],
    "refuse": ["refuse", "ok"],
    "e503": ["e503", "ok"],
    "hang": ["hang", "ok"],
}
"""Model name → how the servers behind it behave, in the order they are tried (upstream.c)."""

MESSAGES = [
    {"role": "system", "content": "You are a patient lighthouse keeper. Answer briefly."},
    {"role": "user", "content": "Who came to see you last, and what did they bring?"},
]


@dataclass(frozen=True)
class Job:
    name: str
    route: str = "ok"
    stream: bool = False
    connections: int = 1
    count: int = 1000
    seconds: float = 8.0
    one_cpu: bool = False
    """Client, subject and model server share one CPU: latency without wake-ups across CPUs."""
    warm: int = 50
    image: bool = False

    def body(self) -> bytes:
        ask = {"model": self.route, "stream": self.stream, "messages": list(MESSAGES)}
        if self.image:
            url = "data:image/png;base64," + "A" * 2**20
            image = {"type": "image_url", "image_url": {"url": url}}
            ask["messages"].append({"role": "user", "content": [image]})
        ask |= {"max_tokens": 200, "temperature": 0.7}
        return json.dumps(ask, separators=(",", ":")).encode()


JOBS = (
    Job("whole, one CPU", one_cpu=True, count=2000),
    Job("whole, 64 at once", connections=64, count=6000),
    Job("whole of 100 chunks", "tokens", connections=64, count=1500),
    Job("stream of 100 chunks", "tokens", stream=True, connections=16, count=600),
    Job("paced stream", "paced", stream=True, connections=8, count=32, warm=8),
    Job("1 MB image", count=60, warm=5, image=True),
)
FAILOVERS = (
    Job("refuse", "refuse", count=30, warm=0),
    Job("e503", "e503", count=30, warm=0),
    Job("hang", "hang", count=4, warm=0),
)
SOAK = Job("soak", connections=32, count=20_000, seconds=240, warm=0)


@dataclass
class Subject:
    name: str
    port: int
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    direct: bool = False
    """The model server itself: the route is in the path instead of the model's name."""
    fails_over: bool = True


@dataclass
class Upstreams:
    port: int
    dead: int
    """A port that nothing listens on."""

    def base_url(self, words: str) -> str:
        port = self.dead if words == "refuse" else self.port
        return f"http://127.0.0.1:{port}/{words}"

    def environment(self) -> dict[str, str]:
        order = {name: [self.base_url(w) for w in words] for name, words in ROUTES.items()}
        return {"BENCH_ROUTES": json.dumps(order)}


def subjects(upstreams: Upstreams, folder: pathlib.Path) -> list[Subject]:
    ports = [free_port() for _ in range(3)]
    routes = upstreams.environment()
    return [
        Subject("direct", upstreams.port, direct=True, fails_over=False),
        Subject("minimal proxy", ports[0], _proxy(ports[0]), routes),
        Subject(
            "streaming proxy",
            ports[1],
            _proxy(ports[1]),
            routes | {"PROXY_STREAMS": "1"},
        ),
        Subject("gateway", ports[2], _gateway(ports[2], upstreams, folder)),
    ]


def _proxy(port: int) -> list[str]:
    uvicorn = [sys.executable, "-m", "uvicorn", "proxy:app", "--app-dir", str(HERE)]
    return [*uvicorn, "--port", str(port), "--no-access-log", "--log-level", "warning"]


def _gateway(port: int, upstreams: Upstreams, folder: pathlib.Path) -> list[str]:
    """The product as its user runs it, with its ledger and its logs."""
    file = write_config(upstreams, folder, gateway={"enabled": True, "port": port})
    return [sys.executable, "-m", "understudy", "run", "--config", str(file)]


def write_config(
    upstreams: Upstreams, folder: pathlib.Path, gateway: dict[str, object]
) -> pathlib.Path:
    words = sorted({word for order in ROUTES.values() for word in order})
    config = {
        "model": {
            "provider_order": words,
            "servers": {word: _server(word, upstreams) for word in words},
        },
        "web": {"enabled": False},
        "discord": {"enabled": False},
        "gateway": gateway | {"orders": ROUTES},
        "storage": {"url": f"sqlite:///{folder / 'bench.db'}"},
        "logging": {"format": "json"},
    }
    file = folder / "config.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML too
    return file


def _server(words: str, upstreams: Upstreams) -> dict[str, object]:
    return {
        "engine": "openai",
        "base_url": upstreams.base_url(words) + "/v1",
        "name": "bench-model",
        "timeout_seconds": 1 if words == "hang" else 20,
        "max_concurrency": 256,
    }
