"""Part "idle": memory for sessions that have said EHLO and then nothing: proportional set size of all of the system's processes, so without the
kernel's sockets, which are the same for all."""

import resource
import socket

from load import Client

OURS = [0, 100, 1000, 10_000]
# A process each: more would be a test of the machine.
THEIRS = [0, 100, 200]


def connect(port, number):
    """An idle session, from one of 200 source addresses."""
    link = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(f"127.0.1.{number % 200 + 1}", 0))
    Client.expect(link, b"220")
    link.sendall(b"EHLO client.example\r\n")
    Client.expect(link, b"250")
    return link


def measure(bench):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print("\nidle sessions: memory of all processes, MiB")
    for name, make in bench.systems.items():
        steps = OURS if name == "Ironpost" else THEIRS
        steps = [step for step in steps if step <= most - 100]
        system = make(**({} if name == "Ironpost" else {"processes": 300}))
        links, sizes = [], []
        try:
            for step in steps:
                while len(links) < step:
                    links.append(connect(system.port, len(links)))
                sizes.append(sum(system.memory().values()))
        finally:
            for link in links:
                link.close()
            system.stop()
        print(f"  {name:10} " + "   ".join(f"{step}: {size / 2**20:.1f}" for step, size in zip(steps, sizes)))
        # From the second step on: the first sessions bring up what all share.
        each = (sizes[-1] - sizes[1]) / (steps[-1] - steps[1]) / 1024
        print(f"  {'':10} {each:.1f} KiB for each session beyond the first {steps[1]}", flush=True)
