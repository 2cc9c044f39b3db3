"""Part "backlog": does mail that cannot be delivered hold up mail that can?

Each system runs twice at the same time, once with an empty queue and once with 20,000 messages that were really submitted to a domain whose only
host is no good: it refuses connections ("dead"), or takes them and never speaks ("hang"). Healthy mail goes through the two in turn, 50 sessions,
to a sink. Three states: the backlog waits for its next attempt; all of it has just been made due; its host hangs. The figure that counts is the ratio with to
without, of medians. Then the backlog is listed."""

import statistics
import subprocess
import time

from load import ENVIRONMENT, Dead, Hanging, Sink, source
from systems import wait_for
from throughput import spread

MESSAGES, SESSIONS, SIZE = 2000, 50, 4096
# What is not through by then counts as stuck: the run ends with what was done.
PATIENCE = 60


def healthy(system):
    """Sends healthy mail: (messages per second through, messages stuck)."""
    before, begin = system.removed(), time.monotonic()
    command = source(system.port, MESSAGES, SESSIONS, SIZE)
    try:
        subprocess.run(command, env=ENVIRONMENT, check=True, timeout=PATIENCE)
        wait_for("", lambda: system.removed() - before >= MESSAGES, max(0, begin + PATIENCE - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        pass
    done = min(system.removed() - before, MESSAGES)
    return done / (time.monotonic() - begin), MESSAGES - done


def fill(systems, count):
    """Submits the backlog to all at once, and waits until they have come to rest with it."""
    sources = [
        subprocess.Popen(source(system.port, count, 50, SIZE, "b@bad.example", many=True), env=ENVIRONMENT)
        for system in systems
    ]
    for process in sources:
        if process.wait() != 0:
            raise RuntimeError("the backlog was not taken")
    for system in systems:
        system.wait_until_quiet(600)
        if system.queued() < count:
            raise RuntimeError(f"{system.name}: {system.queued()} messages queued, {count} expected")


def listing(command, environment=None):
    """Runs a listing: (seconds to the first line, to the last one, lines, peak of resident octets)."""
    begin, first, lines, peak = time.monotonic(), None, 0, 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            first = first or time.monotonic() - begin
            lines += 1
            # Read while it is still there; its peak can only grow.
            if lines % 2000 == 0:
                peak = max(peak, peak_memory(process.pid))
    return first or 0.0, time.monotonic() - begin, lines, peak


def peak_memory(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def beside(bench, kind, host, states):
    """One kind of bad host; `states`: (name, make all due first?)."""
    sink, count = Sink(), bench.arguments.backlog
    running = []
    try:
        pairs = {}
        for name, make in bench.systems.items():
            pairs[name] = make(sink.port, routes={"bad.example": host.port}), make(sink.port)
            running.extend(pairs[name])
        fill([loaded for loaded, _ in pairs.values()], count)
        for name, (loaded, _) in pairs.items():
            memory = ", ".join(f"{program} {size / 2**20:.1f}" for program, size in sorted(loaded.memory().items()))
            print(f"\n{name} at rest with {count} messages for a host that is {kind}, MiB: {memory}")
            if kind == "dead":
                # Listed before it is made due, while nothing moves.
                first, last, lines, peak = min((listing(*loaded.list_command()) for _ in range(3)), key=lambda r: r[1])
                print(f"  list: first line {first * 1000:.0f} ms, {lines} lines in {last:.2f} s, peak {peak / 2**20:.1f} MiB")
        for state, due in states:
            rounds(bench, pairs, state, due)
    finally:
        for system in running:
            system.stop()
        sink.stop()


def rounds(bench, pairs, state, due):
    results = {name: ([], []) for name in pairs}
    stuck = dict.fromkeys(pairs, 0)
    for number in range(bench.arguments.runs + 1):
        for name, (loaded, empty) in pairs.items():
            if stuck[name]:
                continue
            without, _ = healthy(empty)
            if due:
                loaded.flush()
            rate, stuck[name] = healthy(loaded)
            loaded.wait_until_quiet()
            # The first warms caches and does not count, unless it is the only one there will be.
            if number > 0 or stuck[name]:
                results[name][0].append(without)
                results[name][1].append(rate)
    print(f"\nhealthy mail beside {bench.arguments.backlog} messages: {state} ({MESSAGES} messages, {SESSIONS} sessions)")
    print(f"  {'':10} {'without/s':>22} {'with/s':>22} {'with / without':>16}")
    for name, (without, rate) in results.items():
        ratio = statistics.median(rate) / statistics.median(without)
        note = f"   {stuck[name]} not through within {PATIENCE} s" if stuck[name] else ""
        print(f"  {name:10} {spread(without):>22} {spread(rate):>22} {ratio:>16.2f}{note}", flush=True)


def measure(bench):
    for kind, make, states in (
        ("dead", Dead, [("waiting for its next attempt", False), ("all made due just before", True)]),
        ("hanging", Hanging, [("its host takes connections and says nothing", False)]),
    ):
        host = make()
        try:
            beside(bench, kind, host, states)
        finally:
            host.stop()
