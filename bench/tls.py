"""Part "tls": handshakes per second, full and resumed, and messages per second over TLS: sessions with STARTTLS of our own generator
(deliverd/examples/tls_source.rs) against both systems with the same certificate. A run starts a system with an empty queue. A handshake is a whole
connection: connect, EHLO, STARTTLS, handshake, EHLO, QUIT."""

import json
import os
import subprocess
import tempfile
import time

from systems import wait_for
from throughput import interleaved, report_rates


class Case:
    """`connections` in all, `sessions` at once, with so many messages in each."""

    def __init__(self, name, kind, connections, sessions, messages=0, size=4096):
        self.name, self.kind, self.connections, self.sessions = name, kind, connections, sessions
        self.messages, self.size = messages, size


CASES = [
    Case("TLS handshakes, full, 20 sessions", "full", 2000, 20),
    Case("TLS handshakes, resumed, 20 sessions", "resumed", 2000, 20),
    Case("accept over TLS, 50 sessions", "full", 2000, 50, messages=1),
    Case("accept over TLS, 50 sessions, many a connection", "full", 50, 50, messages=60),
]


def make_certificate(folder):
    """A self-signed certificate for an EC key (P-256), as today's are."""
    certificate, key = os.path.join(folder, "bench.pem"), os.path.join(folder, "bench.key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
    command += ["-subj", "/CN=bench.example", "-addext", "subjectAltName=DNS:bench.example", "-out", certificate, "-keyout", key]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return certificate, key


def run(make, generator, certificate, case):
    """One run: (connections or messages per second, CPU seconds of the system per 1,000 of them)."""
    system = make(tls=certificate)
    try:
        numbers = [case.connections, case.sessions, case.messages, case.size]
        command = [generator, f"127.0.0.1:{system.port}", case.kind, *map(str, numbers)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as source:
            if source.stdout.readline() != "ready\n":
                raise RuntimeError("the generator does not start")
            before = system.cpu_seconds()
            source.stdin.write("\n")
            source.stdin.flush()
            done = json.loads(source.stdout.readline())
        if case.kind == "resumed" and done["resumed"] < 0.95 * case.connections:
            raise RuntimeError(f"{system.name}: only {done['resumed']} sessions were resumed")
        if case.kind == "full" and done["resumed"]:
            raise RuntimeError(f"{system.name}: sessions were resumed")
        count = case.connections * max(case.messages, 1)
        if case.messages:
            wait_for(f"{system.name}: not all messages left the queue", lambda: system.removed() >= count, 300)
        else:
            # The last sessions' ends.
            time.sleep(0.5)
        cpu = system.cpu_seconds() - before
    finally:
        system.stop()
    return count / done["seconds"], cpu * 1000 / count


def report(case, results):
    unit = "messages/s" if case.messages else "handshakes/s"
    what = f"{case.connections * case.messages} messages of {case.size} octets" if case.messages else f"{case.connections} connections"
    print(f"\n{case.name}: {what}")
    report_rates(results, unit, "CPU s per 1,000")


def measure(bench):
    """All cases that were asked for, runs of the systems interleaved."""
    generator = os.path.join(bench.binaries, "examples", "tls_source")
    if not os.path.exists(generator):
        print("\ntls: left out, because its generator is not there: cargo build --release -p deliverd --example tls_source")
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        certificate = make_certificate(folder)
        for case in (case for case in CASES if bench.arguments.case in case.name):
            results = interleaved(bench, lambda make, case=case: run(make, generator, certificate, case))
            report(case, results)
