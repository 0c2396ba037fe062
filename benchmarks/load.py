"""A client that costs little itself: requests prepared once, kept-alive connections, one answer after the other.

Owns how a run is measured: in the wall's time, and in the processor's time of the server alone.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Connections at once.
CROWD = 8
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What became of one load."""

    requests: int
    errors: int
    seconds: float
    #: Processor time of the server's process.
    server_seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.errors) / self.seconds

    @property
    def each(self) -> float:
        """Processor time of the server for one answer, in seconds."""
        return self.server_seconds / self.requests

    def text(self) -> str:
        """Return the run in one line."""
        return (
            f"{self.rate:8.1f}/s  p50 {self.p50 * 1e3:7.1f} ms  p99 {self.p99 * 1e3:7.1f} ms  "
            f"{self.each * 1e3:6.2f} ms of CPU each  {self.server_seconds / self.seconds:4.0%} busy  "
            f"{self.errors} errors"
        )


def request(path: str, body: bytes, **headers: str) -> bytes:
    """Return a POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def load(port: int, pid: int, requests: Sequence[bytes]) -> Run:
    """Send each of the requests once, `CROWD` at a time."""
    waiting = iter(requests)
    spans: list[float] = []
    errors = 0

    async def one() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for sent in waiting:
            begun = time.perf_counter()
            writer.write(sent)
            good = await _answered(reader)
            spans.append(time.perf_counter() - begun)
            errors += not good
        writer.close()

    begun, before = time.perf_counter(), _processor_seconds(pid)
    await asyncio.gather(*(one() for _ in range(CROWD)))
    seconds = time.perf_counter() - begun
    cut = statistics.quantiles(spans, n=100) if len(spans) > 1 else spans * 99
    return Run(
        requests=len(requests),
        errors=errors,
        seconds=seconds,
        server_seconds=max(_processor_seconds(pid) - before, 1 / _TICKS),  # finer than a tick nothing is told
        p50=cut[49],
        p99=cut[98],
    )


async def receive(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the head of an answer in lower case, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def _answered(reader: asyncio.StreamReader) -> bool:
    head, body = await receive(reader)
    return head.startswith(b"http/1.1 200") and b'"errors"' not in body[-20_000:].replace(b'"errors":[]', b"")


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
