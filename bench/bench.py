#!/usr/bin/env python3
"""Messages per second of Ironpost beside Postfix: the same disk, the same run, runs of the two interleaved. `make bench`.

Load comes from Postfix's smtp-source and goes to its smtp-sink. A run starts a system with an empty queue, sends the messages, waits until the last one has
left the queue, and stops the system. Two figures come from each run: accepted per second (until smtp-source ends) and through per second (until the queue is empty).
Prints medians, the spread, CPU seconds per 1,000 messages and the ratio of the medians. Asserts nothing."""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

from disk import Disk
from systems import Ironpost, Postfix, free_port, answers, wait_for

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
UNPACKED = os.path.join(ROOT, ".tools", "postfix")


class Case:
    """What is sent, and whether it goes on to a sink."""

    def __init__(self, name, messages, sessions, size, to_sink, many=False):
        self.name, self.messages, self.sessions, self.size = name, messages, sessions, size
        self.to_sink, self.many = to_sink, many

    def source(self, port):
        options = ["-s", str(self.sessions), "-m", str(self.messages), "-l", str(self.size)]
        # -d: a session carries one message after another instead of one each.
        options += ["-d"] if self.many else []
        return tool("smtp-source", *options, "-f", "a@bench.example", "-t", "b@sink.example", f"127.0.0.1:{port}")


CASES = [
    Case("accept, 1 session", 500, 1, 4096, False),
    Case("accept, 50 sessions", 3000, 50, 4096, False),
    Case("accept, 50 sessions, many a connection", 3000, 50, 4096, False, many=True),
    Case("accept to delivery, 50 sessions", 3000, 50, 4096, True),
    Case("accept to delivery, 50 sessions, many a connection", 3000, 50, 4096, True, many=True),
]


def tool(name, *arguments):
    return [os.path.join(UNPACKED, "usr/sbin", name), *arguments]


ENVIRONMENT = {**os.environ, "LD_LIBRARY_PATH": os.path.join(UNPACKED, "usr/lib/postfix")}


class Sink:
    """smtp-sink on a free port."""

    def __init__(self):
        self.port = free_port()
        command = tool("smtp-sink", *(["-u", "nobody"] if os.geteuid() == 0 else []), f"127.0.0.1:{self.port}", "1000")
        self.process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("smtp-sink does not start", lambda: answers(self.port))

    def stop(self):
        self.process.terminate()
        self.process.wait()


def run(make, case):
    """One run: (accepted per second, through per second, CPU seconds per 1,000 messages)."""
    sink = Sink() if case.to_sink else None
    system = make(sink.port if sink else None)
    try:
        begin = time.monotonic()
        subprocess.run(case.source(system.port), env=ENVIRONMENT, check=True)
        accepted = time.monotonic() - begin
        wait_for(f"{system.name}: not all messages left the queue", lambda: system.removed() >= case.messages, 300)
        through = time.monotonic() - begin
        cpu = system.cpu_seconds()
    finally:
        system.stop()
        if sink:
            sink.stop()
    return case.messages / accepted, case.messages / through, cpu * 1000 / case.messages


def spread(values, form="{:.0f}"):
    return f"{form.format(statistics.median(values))} ({form.format(min(values))}-{form.format(max(values))})"


def report(case, results):
    print(f"\n{case.name}: {case.messages} messages of {case.size} octets")
    print(f"  {'':10} {'accepted/s':>22} {'through/s':>22} {'CPU s per 1,000':>22}")
    for name, runs in results.items():
        accepted, through, cpu = zip(*runs)
        print(f"  {name:10} {spread(accepted):>22} {spread(through):>22} {spread(cpu, '{:.2f}'):>22}")
    if len(results) == 2:
        ours, theirs = ([statistics.median(column) for column in zip(*runs)] for runs in results.values())
        ratios = [mine / other for mine, other in zip(ours, theirs)]
        print(f"  {'ratio':10} {ratios[0]:>22.2f} {ratios[1]:>22.2f} {ratios[2]:>22.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", default=os.path.join(ROOT, "target/release"), help="folder of Ironpost's binaries")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each system and case")
    parser.add_argument("--dir", default="/var/tmp", help="where the disk image or the queues go")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    arguments = parser.parse_args()
    binaries = os.path.abspath(arguments.bin)

    disk = Disk(arguments.dir)
    try:
        counter = iter(range(1_000_000))
        folder = lambda: os.path.join(disk.path, f"run{next(counter)}")
        systems = {"Ironpost": lambda sink: Ironpost(folder(), sink, binaries)}
        if os.geteuid() == 0:
            systems["Postfix"] = lambda sink: Postfix(folder(), sink, UNPACKED)
        else:
            print("Postfix is left out: its master insists on root")
        print(f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}; {disk.description}")
        for system in (Ironpost, Postfix):
            print(f"{system.name}: {system.durability}")
        for case in (case for case in CASES if arguments.case in case.name):
            results = {name: [] for name in systems}
            for number in range(arguments.runs + 1):
                for name, make in systems.items():
                    figures = run(make, case)
                    # The first of each warms caches and does not count.
                    if number > 0:
                        results[name].append(figures)
            report(case, results)
    finally:
        disk.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
