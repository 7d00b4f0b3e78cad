"""Watches a program from its own process: memory of its process tree, delay of its health page.

`python watch.py PID URL`: samples until the process is gone. A line `quiet` on standard input
stops the requests to the health page. A line `ready` says that the first one was answered; at the
end one line of JSON with the peaks is printed.
"""

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

SAMPLE_S = 0.1
_LONGEST_S = 60.0
_GRACE_S = 2.0


def tree(pid: int) -> list[int]:
    """`pid` and all its descendants."""
    found, at = [pid], 0
    while at < len(found):
        for task in Path(f"/proc/{found[at]}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
        at += 1
    return found


def pss_mb(pid: int) -> float:
    """Proportional set size of one process; 0 once it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


class Health:
    """Asks the health page again and again, each time over a new connection."""

    def __init__(self, url: str) -> None:
        self._host, self._port = urlsplit(url).hostname or "", urlsplit(url).port
        self._quiet = threading.Event()
        self._asked_at: float | None = None
        self.delays_s: list[float] = []

    def run(self) -> None:
        while not self._quiet.is_set():
            began = self._asked_at = time.monotonic()
            failed = not self._ask()
            if self._quiet.is_set():
                return
            taken_s, self._asked_at = time.monotonic() - began, None
            self.delays_s.append(_LONGEST_S if failed else taken_s)
            time.sleep(max(0.0, SAMPLE_S - taken_s))

    def be_quiet(self) -> None:
        """Send no further request; one that still waits counts with the time it has waited."""
        if not self._quiet.is_set():
            self._quiet.set()
            if (asked_at := self._asked_at) is not None:
                self.delays_s.append(time.monotonic() - asked_at)

    def _ask(self) -> bool:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_LONGEST_S)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _read_commands(health: Health) -> None:
    for line in sys.stdin:
        if line.strip() == "quiet":
            health.be_quiet()


def main() -> None:
    pid, url = int(sys.argv[1]), sys.argv[2]
    health = Health(url)
    asking = threading.Thread(target=health.run, daemon=True)
    asking.start()
    threading.Thread(target=_read_commands, args=(health,), daemon=True).start()
    while not health.delays_s and asking.is_alive():
        time.sleep(0.01)
    print("ready", flush=True)
    peak_mb = 0.0
    while used_mb := sum(map(pss_mb, tree(pid))):
        peak_mb = max(peak_mb, used_mb)
        time.sleep(SAMPLE_S)
    health.be_quiet()
    asking.join(_GRACE_S)
    delays_s = sorted(health.delays_s) or [0.0]
    print(
        json.dumps(
            {
                "peak_mb": round(peak_mb),
                "health_s": round(delays_s[-1], 3),
                "health_median_s": round(delays_s[len(delays_s) // 2], 4),
                "health_count": len(health.delays_s),
            }
        )
    )


if __name__ == "__main__":
    main()
