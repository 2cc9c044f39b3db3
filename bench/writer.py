"""Part "writer": mail beside somebody who writes a great deal to the same file system: a process that writes blocks of 1 MiB to a file of 512 MiB, over and
over, as fast as it can, without sync. Ironpost with the commit log and with `commit = "file"`, and Postfix, each without and with the writer: messages
accepted per second, 50 sessions, many a connection; and milliseconds from connect to the 250 of one client in sequence.

Run as a program, `writer.py FILE`, it is the writer: prints a line when the file is written for the first time, and goes on until it is ended."""

import functools
import itertools
import os
import statistics
import subprocess
import sys

from latency import percentile
from load import Client
from throughput import Case, run, spread

CASE = Case("", 3000, 50, 4096, False, many=True)
IN_SEQUENCE = 100
BLOCK, BLOCKS = 1 << 20, 512


class Writer:
    """The writer, in a process of its own."""

    def __init__(self, folder):
        self.folder, self.file = folder, os.path.join(folder, "writer")
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), self.file], stdout=subprocess.PIPE)
        self.process.stdout.readline()

    def stop(self):
        """Ends it and takes its file away; returns when nothing of it is left to be written."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        os.remove(self.file)
        subprocess.run(["sync", "-f", self.folder], check=True)


def sequence(make):
    """Milliseconds from connect to the 250, of each message."""
    system = make()
    try:
        client = Client(system.port)
        times = [client.send() for _ in range(IN_SEQUENCE + 10)]
    finally:
        system.stop()
    # The first ones start processes.
    return [(accepted - begin) * 1000 for begin, accepted in times[10:]]


class Figures:
    """Of one system, without or with the writer."""

    def __init__(self):
        self.rates, self.times = [], []

    def add(self, make, disk):
        rate, *_ = run(lambda _: make(), CASE, disk)
        self.rates.append(rate)
        self.times.extend(sequence(make))


def measure(bench):
    """Runs of the systems interleaved, each first without the writer and then with it."""
    makes = {"Ironpost, log": bench.ironpost, "Ironpost, file": functools.partial(bench.ironpost, commit="file")}
    if "Postfix" in bench.systems:
        makes["Postfix"] = bench.postfix
    results = {name: (Figures(), Figures()) for name in makes}
    for _ in range(bench.arguments.runs):
        for name, make in makes.items():
            without, beside = results[name]
            without.add(make, bench.disk)
            writer = Writer(bench.disk.path)
            try:
                beside.add(make, bench.disk)
            finally:
                writer.stop()
    print(f"\nbeside a large writer: {CASE.messages} messages of {CASE.size} octets accepted per second, {CASE.sessions} sessions, many a connection")
    print(f"  {'':16} {'without/s':>22} {'with/s':>22} {'with / without':>16}")
    for name, (without, beside) in results.items():
        ratio = statistics.median(beside.rates) / statistics.median(without.rates)
        print(f"  {name:16} {spread(without.rates):>22} {spread(beside.rates):>22} {ratio:>16.2f}")
    print(f"\nbeside a large writer: {IN_SEQUENCE} messages in sequence, {bench.arguments.runs} runs, milliseconds from connect to 250")
    print(f"  {'':16} {'without: median':>16} {'p99':>8} {'with: median':>16} {'p99':>8}")
    for name, pair in results.items():
        columns = [f"{statistics.median(each.times):>16.2f} {percentile(each.times, 0.99):>8.2f}" for each in pair]
        print(f"  {name:16} {' '.join(columns)}", flush=True)


def write(path):
    """Writes until it is ended."""
    block = b"w" * BLOCK
    with open(path, "wb", buffering=0) as file:
        for number in itertools.count(1):
            file.write(block)
            if number == BLOCKS:
                print("written", flush=True)
            if number % BLOCKS == 0:
                file.seek(0)


if __name__ == "__main__":
    write(sys.argv[1])
