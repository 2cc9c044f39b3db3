"""A small SMTP server for latency.py: prints its port, then for each message the monotonic time at which its end of data came."""

import asyncio
import time


async def serve(reader, writer):
    """One session; answers pipelined commands one by one."""
    writer.write(b"220 sink.example ESMTP\r\n")
    while line := await reader.readline():
        verb = line[:4].upper()
        if verb == b"DATA":
            writer.write(b"354 go on\r\n")
            await writer.drain()
            while (text := await reader.readline()) not in (b".\r\n", b""):
                pass
            if text:
                print(f"{time.monotonic():.9f}", flush=True)
        if verb == b"EHLO":
            writer.write(b"250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n")
        elif verb == b"QUIT":
            writer.write(b"221 bye\r\n")
            break
        else:
            writer.write(b"250 ok\r\n")
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
