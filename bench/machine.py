"""What Linux tells about processes: CPU, memory, and on which CPUs they run."""

import os
import pathlib
import signal
import socket
import subprocess
import time

_TICK = os.sysconf("SC_CLK_TCK")
ALL_CPUS = os.sched_getaffinity(0)
ONE_CPU = {max(ALL_CPUS)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen) -> None:
    """Until something listens on `port`; the interpreter's own start counts."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.002)
        else:
            return
    raise SystemExit(f"nothing listens on port {port}")


def stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _processes(session: int) -> list[tuple[int, float]]:
    """(pid, CPU seconds) of every process of a session."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(stat[3]) == session:
            found.append((int(entry.name), (int(stat[11]) + int(stat[12])) / _TICK))
    return found


def cpu_s(session: int) -> float:
    return sum(cpu for _, cpu in _processes(session))


def memory_mb(session: int) -> float:
    """Proportional set size, as the kernel shares it out among processes."""
    return round(sum(_memory_mb(str(pid)) for pid, _ in _processes(session)), 1)


def own_memory_mb() -> float:
    return _memory_mb("self")


def _memory_mb(pid: str) -> float:
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def pin(session: int, cpus: set[int]) -> None:
    for pid, _ in _processes(session):
        for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cpus)
