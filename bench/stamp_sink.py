"""A small SMTP server for latency.py and large.py: prints its port, then for each message the monotonic time at which its end of data came."""

import asyncio
import time

END = b"\r\n.\r\n"


class Session(asyncio.Protocol):
    """One session; answers pipelined commands one by one, and takes content in pieces as they come."""

    def __init__(self):
        self.transport = None
        # The beginning of a command; or in content, what an end of data may have begun in.
        self.held = b""
        self.in_content = False

    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"220 sink.example ESMTP\r\n")

    def data_received(self, data):
        while data:
            data = self.content(data) if self.in_content else self.command(data)

    def content(self, data):
        """Takes content; returns what comes after its end."""
        seam = (self.held + data[: len(END) - 1]).find(END)
        end = seam - len(self.held) if seam >= 0 else data.find(END)
        if seam < 0 and end < 0:
            self.held = (self.held + data[1 - len(END) :])[1 - len(END) :]
            return b""
        print(f"{time.monotonic():.9f}", flush=True)
        self.held, self.in_content = b"", False
        self.transport.write(b"250 ok\r\n")
        return data[end + len(END) :]

    def command(self, data):
        """Takes one command, if it is there whole; returns what comes after it."""
        line, end, rest = (self.held + data).partition(b"\n")
        if not end:
            self.held = line
            return b""
        self.held = b""
        verb = line[:4].upper()
        if verb == b"DATA":
            # Content may be empty: the end of the command's line is that of the line before the dot.
            self.held, self.in_content = b"\r\n", True
            self.transport.write(b"354 go on\r\n")
        elif verb == b"EHLO":
            self.transport.write(b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n")
        elif verb == b"QUIT":
            self.transport.write(b"221 bye\r\n")
            self.transport.close()
            return b""
        else:
            self.transport.write(b"250 ok\r\n")
        return rest


async def main():
    server = await asyncio.get_running_loop().create_server(Session, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
