"""Part "commit": the disk's own limit, beside what the systems accept: commits per second of the real queue with nothing around it (spool's example
commit_limit), each message synced as a file of its own (unnamed file, write, sync, link, shared folder sync), and through the commit log; then rename
and unlink, as a message's life goes on."""

import os
import re
import statistics
import subprocess

from throughput import spread

THREADS = [1, 10, 50, 200]
MODES = {"file": "each synced as a file", "log": "through the commit log"}


def measure(bench):
    program = os.path.join(bench.binaries, "examples", "commit_limit")
    if not os.access(program, os.X_OK):
        print(f"\nthe disk's own limit is left out: no {program} (cargo build --release -p spool --example commit_limit)")
        return
    rows = {(mode, threads): [] for mode in MODES for threads in THREADS}
    for _ in range(bench.arguments.runs):
        for (mode, threads), found in rows.items():
            folder = bench.folder()
            os.mkdir(folder)
            count = 500 if threads == 1 else 4000
            output = subprocess.run([program, folder, str(threads), str(count), mode], check=True, text=True, stdout=subprocess.PIPE)
            found.append([float(figure) for figure in re.findall(r"[\d.]+", output.stdout)])
    for mode, title in MODES.items():
        print(f"\nthe disk's own limit: messages of 4 KiB committed per second with nothing around it, {title}")
        print(f"  {'threads':>8} {'commits/s':>22} {'ms a commit':>12} {'CPU s per 1,000':>16} {'as files':>10}")
        for threads in THREADS:
            rate, latency, cpu, as_files = zip(*rows[mode, threads])
            print(f"  {threads:>8} {spread(rate):>22} {statistics.median(latency):>12.2f} {statistics.median(cpu):>16.3f} "
                  f"{statistics.median(as_files):>10.0f}", flush=True)
