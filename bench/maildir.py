"""Part "maildir": delivery to Maildirs: 25 users, for each a smtp-source with two sessions, 120 messages of 4 KiB. Both systems sync what they deliver, as
they do by default. A run starts a system with an empty queue, sends the messages, waits until the last one has left the queue, and counts what lies in
the Maildirs."""

import subprocess
import time

from load import ENVIRONMENT, source
from systems import MAIL_DOMAIN, wait_for
from throughput import interleaved, report_rates

USERS = [f"user{number}" for number in range(25)]
EACH, SESSIONS, SIZE = 120, 2, 4096
MESSAGES = len(USERS) * EACH


def run(make):
    """One run: (messages per second until the queue is empty, CPU seconds per 1,000 messages)."""
    system = make(users=USERS)
    try:
        begin = time.monotonic()
        commands = [source(system.port, EACH, SESSIONS, SIZE, f"{user}@{MAIL_DOMAIN}", many=True) for user in USERS]
        sources = [subprocess.Popen(command, env=ENVIRONMENT) for command in commands]
        if any([process.wait() for process in sources]):
            raise RuntimeError(f"{system.name}: not all messages were taken")
        wait_for(f"{system.name}: not all messages left the queue", lambda: system.removed() >= MESSAGES, 300)
        seconds = time.monotonic() - begin
        cpu = system.cpu_seconds()
        wrong = {user: count for user, count in system.mailboxes().items() if count != EACH}
        if wrong:
            raise RuntimeError(f"{system.name}: {EACH} messages expected in each Maildir, found {wrong}")
    finally:
        system.stop()
    return MESSAGES / seconds, cpu * 1000 / MESSAGES


def measure(bench):
    """Runs of the systems interleaved."""
    results = interleaved(bench, run)
    print(f"\ndelivery to {len(USERS)} Maildirs: {MESSAGES} messages of {SIZE} octets, {SESSIONS} sessions for each, many a connection")
    report_rates(results, "messages/s", "CPU s per 1,000")
