#!/usr/bin/env python3
"""Stands for a daemon under `ironpost run`. What it does is told by a file with its name in the folder `behave`
beside the configuration; what happens to it goes to standard error, one line each: NAME PID EVENT."""

import os
import signal
import socket
import subprocess
import sys
import threading

# Waited for, not handled: a handler may run just before a pause() that then lasts.
SIGNALS = {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
role = [word for word in sys.argv[1:] if word in ("smtp", "local")]
name = " ".join([os.path.basename(sys.argv[0])] + role)
folder = os.path.dirname(sys.argv[sys.argv.index("-c") + 1])


def tell(event):
    os.write(2, f"{name} {os.getpid()} {event}\n".encode())


def notify():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect("\0" + os.environ["NOTIFY_SOCKET"][1:])
    s.send(b"READY=1")


def handle():
    number = signal.sigwait(SIGNALS)
    if number == signal.SIGTERM:
        tell("term")
        if behaviour != "deaf":
            os._exit(0)
    if number == signal.SIGHUP:
        tell("hup")


def end_with_supervisor():
    if os.environ["IRONPOST_SUPERVISED"] == "1" and os.read(0, 1) == b"":
        tell("orphaned")
        os._exit(0)


try:
    with open(os.path.join(folder, "behave", name)) as file:
        behaviour = file.read().strip()
except FileNotFoundError:
    behaviour = ""

threading.Thread(target=end_with_supervisor, daemon=True).start()
tell("start")
if behaviour.startswith("exit "):
    os._exit(int(behaviour.split()[1]))
if behaviour == "once 75":
    os.unlink(os.path.join(folder, "behave", name))
    os._exit(75)
if behaviour == "stranger":
    code = "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);" \
        "s.connect('\\0' + os.environ['NOTIFY_SOCKET'][1:]); s.send(b'READY=1')"
    subprocess.run([sys.executable, "-c", code], check=True)
    tell("stranger spoke")
    handle()
    tell("speaks itself")
notify()
while True:
    handle()
