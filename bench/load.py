"""What mail comes from and goes to: Postfix's smtp-source and smtp-sink, programs of our own that do the same at less cost, a sink that stamps the time, and
next hosts that are no good.
Everything listens on a free port of 127.0.0.1 and ends with stop()."""

import os
import socket
import subprocess
import sys
import time

from systems import answers, free_port, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
UNPACKED = os.path.join(ROOT, ".tools", "postfix")
ENVIRONMENT = {**os.environ, "LD_LIBRARY_PATH": os.path.join(UNPACKED, "usr/lib/postfix")}


def tool(name, *arguments):
    """The command line of one of Postfix's programs."""
    return [os.path.join(UNPACKED, "usr/sbin", name), *arguments]


def source(port, messages, sessions, size, recipient="b@sink.example", many=False, recipients=1):
    """smtp-source's command line. `many`: a session carries one message after another instead of one each. `recipients`: of a message; with more than
    one their addresses get a number in front."""
    options = ["-s", str(sessions), "-m", str(messages), "-l", str(size), "-r", str(recipients), *(["-d"] if many else [])]
    return tool("smtp-source", *options, "-f", "a@bench.example", "-t", recipient, f"127.0.0.1:{port}")


class Listening:
    """A next host of its own process, which says first on which port it listens."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


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


def lean_programs(binaries):
    """Our own (source, sink): deliverd/examples/; None when they were not built."""
    programs = [os.path.join(binaries, "examples", name) for name in ("lean_source", "lean_sink")]
    return programs if all(os.path.exists(program) for program in programs) else None


def lean_source(program, port, messages, sessions, size, many=False):
    """The command line of our own source; the meaning of everything as in `source`."""
    form = "many" if many else "one"
    return [program, f"127.0.0.1:{port}", str(sessions), str(messages), str(size), form, "b@sink.example"]


class StampSink(Listening):
    """A next host that tells when (monotonic seconds) each message's end of data has come."""

    def __init__(self):
        super().__init__(sys.executable, os.path.join(HERE, "stamp_sink.py"))

    def stamp(self):
        """The time at which the next message came; waits for it."""
        return float(self.process.stdout.readline())


class Dead:
    """A port that refuses connections, for as long as this is held: bound, never listening."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def stop(self):
        self.socket.close()


class Hanging(Dead):
    """A port that takes connections and says nothing ever."""

    def __init__(self):
        super().__init__()
        self.socket.listen(4096)


class Client:
    """A bare SMTP client that sends one message a connection, so that its own time is small."""

    def __init__(self, port, content=b"Subject: bench\r\n\r\n" + b"x" * 70 + b"\r\n"):
        self.port = port
        # Made once: copying takes its time where content is large.
        self._content = content + b".\r\n"

    def send(self, recipient=b"b@sink.example"):
        """Sends a message: (time before connect, time after the 250)."""
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port)) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.expect(link, b"220")
            for command, code in (
                (b"EHLO client.example\r\n", b"250"),
                (b"MAIL FROM:<a@bench.example>\r\n", b"250"),
                (b"RCPT TO:<" + recipient + b">\r\n", b"250"),
                (b"DATA\r\n", b"354"),
                (self._content, b"250"),
            ):
                link.sendall(command)
                self.expect(link, code)
            end = time.monotonic()
            link.sendall(b"QUIT\r\n")
            self.expect(link, b"221")
        return begin, end

    @staticmethod
    def expect(link, code):
        """Reads one whole reply and insists on its code."""
        reply = b""
        while not (reply.endswith(b"\n") and reply.splitlines()[-1][3:4] == b" "):
            more = link.recv(4096)
            if not more:
                raise ConnectionError(f"connection closed after {reply!r}")
            reply += more
        if not reply.startswith(code):
            raise RuntimeError(f"{code!r} expected: {reply!r}")
