"""Raw results → tables. Latencies are the best of the rounds, CPU costs their median."""

import statistics
from collections.abc import Callable

Results = dict[str, list[dict]]
FLOOR = "minimal proxy"


def pick(rounds: list[dict], best: Callable, *keys: str) -> float | None:
    values = []
    for results in rounds:
        value: object = results
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            values.append(value)
    return best(values) if values else None


def shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return str(value)


def table(title: str, head: list[str], rows: list[list[object]]) -> str:
    lines = [f"\n### {title}\n", "| " + " | ".join(head) + " |"]
    lines.append("| --- |" + " ---: |" * (len(head) - 1))
    lines += ["| " + " | ".join(shown(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def render(results: Results) -> str:
    servers = {n: r for n, r in results.items() if n not in ("aiohttp", "router")}
    parts = [_whole(servers), _streams(servers)]
    if any("refuse" in found for rounds in servers.values() for found in rounds):
        parts += [_failover(servers)]
    parts += [_footprint(servers)]
    if "router" in results and "aiohttp" in results:
        parts.append(_in_process(results))
    return "\n".join(parts)


def _whole(servers: Results) -> str:
    rows = []
    for name, rounds in servers.items():
        row: list[object] = [name]
        for job, best, keys in (
            ("whole, one CPU", min, ("whole", "p50")),
            ("whole, 64 at once", statistics.median, ("cpu_us",)),
            ("whole of 100 chunks", statistics.median, ("cpu_us",)),
        ):
            own = pick(rounds, best, job, *keys)
            floor = pick(servers.get(FLOOR, []), best, job, *keys)
            row += [own, own / floor if own and floor else None]
        rows.append([*row, pick(rounds, min, "1 MB image", "whole", "p50")])
    head = ["", "one-CPU p50 µs", "× proxy", "CPU µs, 64 at once", "× proxy"]
    head += ["CPU µs, 100 chunks", "× proxy", "1 MB image p50 µs"]
    return table("Whole answers", head, rows)


def _streams(servers: Results) -> str:
    direct = pick(servers.get("direct", []), min, "paced stream", "first", "p50")
    rows = []
    for name, rounds in servers.items():
        first = pick(rounds, min, "paced stream", "first", "p50")
        fast = pick(rounds, statistics.median, "stream of 100 chunks", "cpu_us")
        paced = pick(rounds, statistics.median, "paced stream", "cpu_us")
        rows.append(
            [
                name,
                fast / 100 if fast else None,
                paced / 100 if paced else None,
                pick(rounds, min, "paced stream", "transit", "p50"),
                (first - direct) / 1000 if first and direct else None,
            ]
        )
    head = ["", "CPU µs/chunk, fast", "CPU µs/chunk, paced", "transit p50 µs", "first token + ms"]
    return table("Streams (paced: 8 at once, 50 ms to the first chunk, 5 ms between)", head, rows)


def _failover(servers: Results) -> str:
    rows = []
    for name, rounds in servers.items():
        row: list[object] = [name]
        for job in ("refuse", "e503", "hang"):
            heads = [found[job]["heads_ms"] for found in rounds if job in found]
            if heads:
                first = min(values[0] for values in heads)
                later = min(statistics.median(values[1:]) for values in heads)
                failed = sum(found[job]["failures"] for found in rounds if job in found)
                row.append(f"{first:.1f} / {later:.1f}" + (f", {failed} failed" * (failed > 0)))
            else:
                row.append(None)
        rows.append(row)
    return table(
        "Failover, ms: first request / later ones", ["", "refused", "503", "hang, 1 s"], rows
    )


def _footprint(servers: Results) -> str:
    rows = [
        [
            name,
            pick(rounds, min, "start_s"),
            pick(rounds, max, "memory_mb"),
            pick(rounds, max, "soak", "answers"),
            pick(rounds, max, "soak", "failures"),
        ]
        for name, rounds in servers.items()
        if pick(rounds, min, "start_s") is not None
    ]
    return table("Footprint", ["", "listening s", "memory MB", "soak answers", "failed"], rows)


def _in_process(results: Results) -> str:
    rows = []
    for name in ("aiohttp", "router"):
        row: list[object] = [name]
        for what in ("whole", "tokens"):
            own = pick(results[name], min, what)
            floor = pick(results["aiohttp"], min, what)
            row += [own, own / floor if own and floor else None]
        rows.append(row)
    head = ["", "p50 µs, one chunk", "× aiohttp", "p50 µs, 100 chunks", "× aiohttp"]
    return table("In process, one CPU", head, rows)
