"""Part "large": messages of 10 MiB, one after the other, in and out again, beside what `cat` reaches in the same run: `cat FILE` into a TCP connection
on 127.0.0.1, `cat` from it into a file on the same disk, and a sync of that file, one file after the other. Two figures come from each run: MB/s until
the last 250 ("in"), and until the last end of data has come to the next host ("in and out"). One client, a connection a message."""

import os
import shutil
import socket
import statistics
import subprocess
import time

from load import Client, StampSink
from throughput import spread

MESSAGES, SIZE = 10, 10 << 20
LINE = b"x" * 76 + b"\r\n"
CONTENT = b"Subject: bench\r\n\r\n" + LINE * (SIZE // len(LINE))
MEGABYTES = MESSAGES * len(CONTENT) / 1e6
# Its default does not let 10 MiB through; this is what Ironpost's lets through.
OPTIONS = {"Postfix": {"settings": ["message_size_limit = 52428800"]}}


def cat(folder):
    """MB/s of the reference."""
    os.mkdir(folder)
    original = os.path.join(folder, "original")
    with open(original, "wb") as file:
        file.write(CONTENT)
        file.flush()
        os.fsync(file.fileno())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begin = time.monotonic()
        for number in range(MESSAGES):
            copy(listener, original, os.path.join(folder, str(number)))
        seconds = time.monotonic() - begin
    shutil.rmtree(folder)
    return MEGABYTES / seconds


def copy(listener, original, target):
    with socket.create_connection(listener.getsockname()) as link, open(target, "wb") as file:
        there, _ = listener.accept()
        with there, subprocess.Popen(["cat"], stdin=there, stdout=file) as receiver:
            subprocess.run(["cat", original], stdout=link, check=True)
            link.shutdown(socket.SHUT_WR)
            if receiver.wait() != 0:
                raise RuntimeError("cat failed")
        os.fsync(file.fileno())


def run(make, options):
    """One run: (MB/s in, MB/s in and out, CPU seconds per GB)."""
    sink = StampSink()
    system = make(sink.port, **options)
    try:
        # The first message starts processes and opens connections.
        Client(system.port).send()
        sink.stamp()
        client, before = Client(system.port, CONTENT), system.cpu_seconds()
        begin = time.monotonic()
        for _ in range(MESSAGES):
            _, accepted = client.send()
        arrived = [sink.stamp() for _ in range(MESSAGES)]
        cpu = system.cpu_seconds() - before
    finally:
        system.stop()
        sink.stop()
    return MEGABYTES / (accepted - begin), MEGABYTES / (max(arrived) - begin), cpu * 1000 / MEGABYTES


def measure(bench):
    """The reference and the systems in turn."""
    results = {"cat": [], **{name: [] for name in bench.systems}}
    for number in range(bench.arguments.runs + 1):
        reference = cat(bench.folder())
        figures = {"cat": (reference, reference)}
        for name, make in bench.systems.items():
            figures[name] = run(make, OPTIONS.get(name, {}))
        # The first of each warms caches and does not count.
        if number > 0:
            for name, found in figures.items():
                results[name].append(found)
    print(f"\nlarge messages: {MESSAGES} of {len(CONTENT)} octets, one client; for Postfix message_size_limit is raised to Ironpost's default, 50 MiB")
    print(f"  {'':14} {'in, MB/s':>22} {'in and out, MB/s':>22} {'CPU s per GB':>22}")
    for name, runs in results.items():
        into, through, *cpu = zip(*runs)
        print(f"  {name:14} {spread(into):>22} {spread(through):>22} {spread(cpu[0], '{:.2f}') if cpu else '':>22}")
    medians = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in results.items()}
    ours = medians["Ironpost"]
    for name, theirs in medians.items():
        if name != "Ironpost":
            ratios = "".join(f" {mine / other:>22.2f}" for mine, other in zip(ours, theirs))
            print(f"  {'ratio to ' + name:<14.17}{ratios}", flush=True)
