"""Part "recipients": messages to 1,000 recipients of one domain each, to a sink. A run starts a system with an empty queue, sends the messages, and waits
until the last one has left the queue."""

import subprocess
import time

from load import ENVIRONMENT, Sink, source
from systems import wait_for
from throughput import interleaved, report_rates

MESSAGES, RECIPIENTS, SESSIONS, SIZE = 20, 1000, 4, 4096


def run(make):
    """One run: (recipients per second until the queue is empty, CPU seconds per 1,000 recipients)."""
    sink = Sink()
    system = make(sink.port)
    try:
        begin = time.monotonic()
        subprocess.run(source(system.port, MESSAGES, SESSIONS, SIZE, recipients=RECIPIENTS), env=ENVIRONMENT, check=True)
        wait_for(f"{system.name}: not all messages left the queue", lambda: system.removed() >= MESSAGES, 300)
        seconds = time.monotonic() - begin
        cpu = system.cpu_seconds()
        with open(system.log, "rb") as log:
            sent = log.read().count(b"status=sent")
        if sent != MESSAGES * RECIPIENTS:
            raise RuntimeError(f"{system.name}: sent to {sent} recipients")
    finally:
        system.stop()
        sink.stop()
    return MESSAGES * RECIPIENTS / seconds, cpu / (MESSAGES * RECIPIENTS / 1000)


def measure(bench):
    """Runs of the systems interleaved."""
    results = interleaved(bench, run)
    print(f"\nmany recipients: {MESSAGES} messages of {SIZE} octets to {RECIPIENTS} recipients each, {SESSIONS} sessions")
    report_rates(results, "recipients/s", "CPU s per 1,000")
