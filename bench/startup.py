"""Part "startup": Ironpost with 100,000 deferred messages (--million: 1,000,000). Time from `ironpost run` to `ready`, to a new message at its next
host and to the end of the scan; memory then, of all daemons together; mail relayed to a sink beside the backlog and, in turn, by an instance with an empty
queue; time and memory of the list. Caches of the disk are cold at the start where it is a disk of its own.

A million files of one block take 4 GiB and 1,000,000 inodes, their folders 60 MiB, the inodes themselves 320 MiB: MILLION_DISK has room for twice that."""

import os
import statistics
import time

from backlog import MESSAGES, SESSIONS, healthy, listing
from clone import clone
from load import Client, Dead, Sink, StampSink
from systems import wait_for
from throughput import spread

MILLION_DISK = {"size": 8 << 30, "inodes": 1_300_000}
LATER = 86_400
RELAYS = 3


def measure(bench):
    count = 1_000_000 if bench.arguments.million else 100_000
    dead, sink, stamps = Dead(), Sink(), StampSink()
    routes = {"bad.example": dead.port, "stamp.example": stamps.port}
    system = bench.ironpost(sink.port, routes=routes)
    try:
        deferred = os.path.join(system.folder, "spool/deferred")
        Client(system.port).send(b"b@bad.example")
        wait_for("nothing was deferred", lambda: any(files for _, _, files in os.walk(deferred)))
        system.stop(keep=True)
        clone(deferred, count, int(time.time()) + LATER)
        runs = [start(bench, system, stamps) for _ in range(bench.arguments.runs)]
        print(f"\nIronpost started with {count} deferred messages, caches {'cold' if bench.disk.loop else 'as they are'}, seconds to")
        columns = list(zip(*runs))
        for title, column in zip(("ready", "new message delivered", "queue read"), columns):
            print(f"  {title:24} {spread(column, '{:.2f}')}")
        memory = system.memory()
        programs = ", ".join(f"{program} {size / 2**20:.1f}" for program, size in sorted(memory.items()))
        print(f"  memory then, MiB: {programs}; all together {sum(memory.values()) / 2**20:.1f}", flush=True)
        ratio = relay(system, bench.ironpost(sink.port, routes=routes))
        after = sum(system.memory().values())
        print(f"  with {count} deferred messages: memory of all daemons {sum(memory.values()) / 2**20:.1f} MiB ({after / 2**20:.1f} after the relay); "
              f"new mail at its next host {spread(columns[1], '{:.2f}')} s after the start; relay {ratio:.2f} of that with an empty queue", flush=True)
        # The first list reads every file from the disk, where caches are cold.
        for title, times in (("list, first", 1), ("list", bench.arguments.runs), ("list --json", bench.arguments.runs)):
            command = system.command("queue", *title.removesuffix(", first").split())
            lists = [listing(command) for _ in range(times)]
            first, last, lines, peak = zip(*lists)
            print(f"  {title}: first line after {spread(first, '{:.3f}')} s, all {lines[0]} lines after {spread(last, '{:.2f}')} s, "
                  f"peak {max(peak) / 2**20:.1f} MiB", flush=True)
    finally:
        system.stop()
        for end in (sink, stamps, dead):
            end.stop()


def relay(system, empty):
    """Relays through both in turn, and ends `empty`: the ratio of medians, with the backlog to without."""
    try:
        with_backlog, without = [], []
        for number in range(RELAYS + 1):
            for each, found in ((empty, without), (system, with_backlog)):
                rate, stuck = healthy(each)
                if stuck:
                    print(f"  {stuck} messages were not relayed in time")
                each.wait_until_quiet()
                # The first warms caches and does not count.
                if number > 0:
                    found.append(rate)
    finally:
        empty.stop()
    print(f"  relay, {MESSAGES} messages, {SESSIONS} sessions, messages/s: with the backlog {spread(with_backlog)}, with an empty queue {spread(without)}")
    return statistics.median(with_backlog) / statistics.median(without)


def start(bench, system, stamps):
    """Starts it: seconds to ready, to the delivery of a message sent then, and to the end of the scan. It runs afterwards."""
    if system.process.poll() is None:
        system.stop(keep=True)
    os.remove(system.log)
    bench.disk.forget_caches()
    begin = time.monotonic()
    system.start()
    ready = time.monotonic()
    Client(system.port).send(b"b@stamp.example")
    delivered = stamps.stamp()
    wait_for("the queue is not read", lambda: scanned(system.log), 600)
    return ready - begin, delivered - begin, time.monotonic() - begin


def scanned(log):
    with open(log, "rb") as file:
        return b"queue read:" in file.read()
