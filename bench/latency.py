"""Part "latency": one message at a time, a connection each: milliseconds from connect to the 250, and to its end of data at the next host."""

import statistics

from load import Client, StampSink

MESSAGES = 200


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def measure(bench):
    figures = {name: ([], []) for name in bench.systems}
    sink = StampSink()
    try:
        for _ in range(bench.arguments.runs):
            for name, make in bench.systems.items():
                system = make(sink.port)
                try:
                    client = Client(system.port)
                    for number in range(MESSAGES + 10):
                        begin, accepted = client.send()
                        arrived = sink.stamp()
                        # The first ones start processes and open connections.
                        if number >= 10:
                            figures[name][0].append((accepted - begin) * 1000)
                            figures[name][1].append((arrived - begin) * 1000)
                finally:
                    system.stop()
    finally:
        sink.stop()
    print(f"\nlatency of {MESSAGES} messages in sequence, {bench.arguments.runs} runs, milliseconds from connect")
    print(f"  {'':10} {'to 250: median':>16} {'p99':>8} {'to next host: median':>22} {'p99':>8}")
    for name, (accepted, arrived) in figures.items():
        print(f"  {name:10} {statistics.median(accepted):>16.2f} {percentile(accepted, 0.99):>8.2f} "
              f"{statistics.median(arrived):>22.2f} {percentile(arrived, 0.99):>8.2f}")
    if len(figures) == 2:
        ours, theirs = ([statistics.median(column) for column in columns] for columns in figures.values())
        print(f"  {'ratio':10} {ours[0] / theirs[0]:>16.2f} {'':>8} {ours[1] / theirs[1]:>22.2f}", flush=True)
