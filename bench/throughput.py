"""Part "throughput": messages per second, accepted and through. Load comes from Postfix's smtp-source and goes to its smtp-sink; for the cases
named "lean load" from and to programs of our own that do the same at less cost, since those two take half of a small machine's processors from a
fast mail system.

A run starts a system with an empty queue, sends it a few messages and lets it come to rest, then sends the messages, waits until the last one has left
the queue, and stops the system. From each run come messages accepted per second (until the source ends) and through per second (until the queue is
empty), CPU seconds of all processes of the system, and what was written to the disk, the file system's own journal included, and how often the disk
was told to flush."""

import statistics
import subprocess
import time

from load import ENVIRONMENT, Listening, Sink, lean_programs, lean_source, source
from systems import wait_for


class Case:
    """What is sent, whether it goes on to a sink, and whether load and sink are our own."""

    def __init__(self, name, messages, sessions, size, to_sink, many=False, lean=False):
        self.name, self.messages, self.sessions, self.size = name, messages, sessions, size
        self.to_sink, self.many, self.lean = to_sink, many, lean

    def with_lean_load(self):
        return Case(f"{self.name}, lean load", self.messages, self.sessions, self.size, self.to_sink, self.many, lean=True)


# So many that the faster of the two is at it for more than a second, where it can be had in reasonable time.
CASES = [
    Case("accept, 1 session", 500, 1, 4096, False),
    Case("accept, 10 sessions", 3000, 10, 4096, False),
    Case("accept, 10 sessions, many a connection", 3000, 10, 4096, False, many=True),
    Case("accept, 50 sessions", 12000, 50, 4096, False),
    Case("accept, 50 sessions, many a connection", 12000, 50, 4096, False, many=True),
    Case("accept, 200 sessions", 12000, 200, 4096, False),
    Case("accept, 200 sessions, many a connection", 12000, 200, 4096, False, many=True),
    Case("accept of 100 KiB, 50 sessions, many a connection", 600, 50, 100 * 1024, False, many=True),
    Case("accept to delivery, 50 sessions", 20000, 50, 4096, True),
    Case("accept to delivery, 50 sessions, many a connection", 20000, 50, 4096, True, many=True),
]
# Where source and sink weigh as much as the mail system.
CASES += [case.with_lean_load() for case in CASES if case.sessions >= 50 and case.size == 4096]

WARMING = 100
# Postfix's default_process_limit, by which its listening socket's queue goes, too: with more sessions connections are dropped, and a run measures the seconds
# after which TCP tries again. Cases with more sessions give Postfix so many processes as there are sessions, and some.
LIMIT = 100


def dropped():
    """Connections that the kernel has dropped since the machine started, because a listening socket's queue was full."""
    with open("/proc/net/netstat", encoding="ascii") as file:
        names, values = (line.split() for line in file if line.startswith("TcpExt:"))
    return int(dict(zip(names, values))["ListenOverflows"])


def run(make, case, disk, lean=None):
    """One run: (accepted per second, through per second, CPU seconds per 1,000 messages, KiB written and flushes for each message). `lean`: the programs
    of lean_programs(), for cases that want them."""
    sink = None
    if case.to_sink:
        sink = Listening(lean[1]) if case.lean else Sink()
    system = make(sink.port if sink else None)
    warming = max(WARMING, case.sessions)
    try:
        subprocess.run(source(system.port, warming, case.sessions, case.size), env=ENVIRONMENT, check=True)
        wait_for(f"{system.name}: not all messages left the queue", lambda: system.removed() >= warming, 60)
        system.wait_until_quiet()
        used, written, lost = system.cpu_seconds(), disk.written(), dropped()
        begin = time.monotonic()
        what = (system.port, case.messages, case.sessions, case.size)
        command = lean_source(lean[0], *what, many=case.many) if case.lean else source(*what, many=case.many)
        subprocess.run(command, env=ENVIRONMENT, check=True)
        accepted = time.monotonic() - begin
        all_gone = lambda: system.removed() >= warming + case.messages
        wait_for(f"{system.name}: not all messages left the queue", all_gone, 300)
        through = time.monotonic() - begin
        cpu = system.cpu_seconds() - used
        if dropped() > lost:
            print(f"{system.name}, {case.name}: {dropped() - lost} connections were dropped by the kernel; this run measures how long they waited", flush=True)
        octets, flushes = (after - before for after, before in zip(disk.written(), written)) if written else (0, 0)
    finally:
        system.stop()
        if sink:
            sink.stop()
    count = case.messages
    return count / accepted, count / through, cpu * 1000 / count, octets / 1024 / count, flushes / count


def spread(values, form="{:.0f}"):
    """Median, and least and most in parentheses."""
    return f"{form.format(statistics.median(values))} ({form.format(min(values))}-{form.format(max(values))})"


def report(case, results):
    print(f"\n{case.name}: {case.messages} messages of {case.size} octets")
    print(f"  {'':10} {'accepted/s':>22} {'through/s':>22} {'CPU s per 1,000':>22} {'KiB written a message':>22} {'flushes a message':>22}")
    for name, runs in results.items():
        accepted, through, cpu, octets, flushes = zip(*runs)
        print(f"  {name:10} {spread(accepted):>22} {spread(through):>22} {spread(cpu, '{:.3f}'):>22} {spread(octets, '{:.1f}'):>22} "
              f"{spread(flushes, '{:.3f}'):>22}")
    if len(results) == 2:
        ours, theirs = ([statistics.median(column) for column in zip(*runs)] for runs in results.values())
        ratios = [mine / other if other else 0 for mine, other in zip(ours, theirs)]
        print(f"  {'ratio':10} " + " ".join(f"{ratio:>22.2f}" for ratio in ratios), flush=True)


def report_rates(results, unit, cost):
    """A table of pairs: so many a second, and CPU seconds."""
    print(f"  {'':10} {unit:>22} {cost:>22}")
    for name, runs in results.items():
        rates, cpu = zip(*runs)
        print(f"  {name:10} {spread(rates):>22} {spread(cpu, '{:.2f}'):>22}")
    if len(results) == 2:
        ours, theirs = ([statistics.median(column) for column in zip(*runs)] for runs in results.values())
        print(f"  {'ratio':10} {ours[0] / theirs[0]:>22.2f} {ours[1] / theirs[1]:>22.2f}", flush=True)


def interleaved(bench, run, systems=None):
    """What `run(make)` gives for each system, the systems in turn. The first run of each warms caches and does not count."""
    systems = systems or bench.systems
    results = {name: [] for name in systems}
    for number in range(bench.arguments.runs + 1):
        for name, make in systems.items():
            figures = run(make)
            if number > 0:
                results[name].append(figures)
    return results


def measure(bench):
    """All cases that were asked for, runs of the systems interleaved."""
    lean = lean_programs(bench.binaries)
    cases = [case for case in CASES if bench.arguments.case in case.name]
    if not lean and any(case.lean for case in cases):
        print("\nlean load: left out, because its programs are not there: cargo build --release -p deliverd --example lean_source --example lean_sink")
        cases = [case for case in cases if not case.lean]
    for case in cases:
        systems = dict(bench.systems)
        if case.sessions > LIMIT and "Postfix" in systems:
            systems["Postfix"] = lambda sink_port, case=case: bench.postfix(sink_port, processes=case.sessions + 50)
        results = interleaved(bench, lambda make, case=case: run(make, case, bench.disk, lean), systems)
        report(case, results)
