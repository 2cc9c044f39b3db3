#!/usr/bin/env python3
"""Ironpost beside Postfix: the same disk, the same run, runs of the two interleaved. `make bench`.

Parts: commit (the disk's own limit, by files and by the commit log), throughput (messages per second), large (messages of 10 MiB, beside `cat`), recipients
(messages to 1,000 recipients), maildir (delivery to Maildirs), writer (beside somebody who writes a great deal to the same file system), tls (handshakes, full
and resumed, and messages per second over TLS), latency (one client after the other), idle (memory of idle sessions), backlog (healthy mail beside 20,000 deferred
messages, listing), startup (start, memory and relay with 100,000 or a million deferred messages). Prints medians, the spread and ratios. Asserts nothing."""

import argparse
import os
import platform
import sys

import backlog
import commit
import idle
import large
import latency
import maildir
import recipients
import startup
import throughput
import tls
import writer
from disk import Disk
from load import ROOT, UNPACKED
from systems import Ironpost, Postfix

PARTS = {
    "commit": commit.measure,
    "throughput": throughput.measure,
    "large": large.measure,
    "recipients": recipients.measure,
    "maildir": maildir.measure,
    "writer": writer.measure,
    "tls": tls.measure,
    "latency": latency.measure,
    "idle": idle.measure,
    "backlog": backlog.measure,
    "startup": startup.measure,
}


class Bench:
    """What every part gets: the arguments, the disk, and how to make each system in a fresh folder."""

    def __init__(self, arguments, disk):
        self.arguments, self.disk = arguments, disk
        self.binaries = os.path.abspath(arguments.bin)
        self._folders = 0
        self.systems = {"Ironpost": self.ironpost}
        if os.geteuid() == 0 and not arguments.alone:
            self.systems["Postfix"] = self.postfix

    def folder(self):
        self._folders += 1
        return os.path.join(self.disk.path, f"run{self._folders}")

    def ironpost(self, sink_port=None, **options):
        return Ironpost(self.folder(), sink_port, self.binaries, **options)

    def postfix(self, sink_port=None, **options):
        return Postfix(self.folder(), sink_port, UNPACKED, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", default=os.path.join(ROOT, "target/release"), help="folder of Ironpost's binaries")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each system and case")
    parser.add_argument("--alone", action="store_true", help="without Postfix beside it: no ratios")
    parser.add_argument("--dir", default="/var/tmp", help="where the disk image or the queues go")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--case", default="", help="throughput, tls: only cases whose name contains this")
    parser.add_argument("--backlog", type=int, default=20_000, help="backlog: deferred messages")
    parser.add_argument("--million", action="store_true", help="startup: with 1,000,000 deferred messages (needs 8 GiB)")
    arguments = parser.parse_args()

    disk = Disk(arguments.dir, **startup.MILLION_DISK if arguments.million else {})
    try:
        bench = Bench(arguments, disk)
        if "Postfix" not in bench.systems and not arguments.alone:
            print("Postfix is left out: its master insists on root")
        print(f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}; {disk.description}")
        print(f"load average at the start: {os.getloadavg()[0]:.1f}")
        for system in (Ironpost, Postfix):
            print(f"{system.name}: {system.durability}", flush=True)
        for name, measure in PARTS.items():
            if name in (arguments.part or PARTS):
                measure(bench)
        print(f"\nload average at the end: {os.getloadavg()[0]:.1f}")
    finally:
        disk.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
