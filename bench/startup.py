"""Part "startup": Ironpost with 100,000 deferred messages (--million: 1,000,000). Time from `ironpost run` to `ready`, to a new message at its next
host and to the end of the scan; memory then; time and memory of the list. Caches of the disk are cold at the start where it is a disk of its own."""

import os
import time

from backlog import listing
from clone import clone
from load import Client, Dead, StampSink
from systems import wait_for
from throughput import spread

MILLION_DISK = {"size": 8 << 30, "inodes": 1_300_000}
LATER = 86_400


def measure(bench):
    count = 1_000_000 if bench.arguments.million else 100_000
    dead, sink = Dead(), StampSink()
    system = bench.ironpost(sink.port, routes={"bad.example": dead.port})
    try:
        deferred = os.path.join(system.folder, "spool/deferred")
        Client(system.port).send(b"b@bad.example")
        wait_for("nothing was deferred", lambda: any(files for _, _, files in os.walk(deferred)))
        system.stop(keep=True)
        clone(deferred, count, int(time.time()) + LATER)
        runs = [start(bench, system, sink) for _ in range(bench.arguments.runs)]
        print(f"\nIronpost started with {count} deferred messages, caches {'cold' if bench.disk.loop else 'as they are'}, seconds to")
        for title, column in zip(("ready", "new message delivered", "queue read"), zip(*runs)):
            print(f"  {title:24} {spread(column, '{:.2f}')}")
        memory = ", ".join(f"{program} {size / 2**20:.1f}" for program, size in sorted(system.memory().items()))
        print(f"  memory then, MiB: {memory}")
        # The first list reads every file from the disk, where caches are cold.
        for title, times in (("list, first", 1), ("list", bench.arguments.runs), ("list --json", bench.arguments.runs)):
            command = system.command("queue", *title.removesuffix(", first").split())
            lists = [listing(command) for _ in range(times)]
            first, last, lines, peak = zip(*lists)
            print(f"  {title}: first line after {spread(first, '{:.3f}')} s, all {lines[0]} lines after {spread(last, '{:.2f}')} s, "
                  f"peak {max(peak) / 2**20:.1f} MiB", flush=True)
    finally:
        system.stop()
        sink.stop()
        dead.stop()


def start(bench, system, sink):
    """Starts it: seconds to ready, to the delivery of a message sent then, and to the end of the scan. It runs afterwards."""
    if system.process.poll() is None:
        system.stop(keep=True)
    os.remove(system.log)
    bench.disk.forget_caches()
    begin = time.monotonic()
    system.start()
    ready = time.monotonic()
    Client(system.port).send()
    delivered = sink.stamp()
    wait_for("the queue is not read", lambda: scanned(system.log), 600)
    return ready - begin, delivered - begin, time.monotonic() - begin


def scanned(log):
    with open(log, "rb") as file:
        return b"queue read:" in file.read()
