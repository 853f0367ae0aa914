"""Messages between a program and its worker processes, over pairs of sockets. Imports nothing of
lampion.

A message is pickled with protocol 5, the arrays beside it. Large ones lie in memory that both
processes map: the worker writes them into a file without a name and sends its descriptor, so they
are copied once, and nothing is left behind if a process is killed.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

MAPPABLE = hasattr(os, "memfd_create") and hasattr(socket, "recv_fds")
HEADER = struct.Struct("<QII")  # bytes of the pickle, number of buffers, whether they are mapped
SHARED_FROM = 1 << 16  # bytes; smaller messages go through the socket
ALIGNMENT = 64


def send(channel: socket.socket, message: Any) -> None:
    """Sends a message; raises what pickling it raises, and OSError when nobody is listening."""
    pickled: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=pickled.append)
    buffers = [buffer.raw() for buffer in pickled]
    sizes = struct.pack(f"<{len(buffers)}Q", *(b.nbytes for b in buffers))
    shared = MAPPABLE and sum(b.nbytes for b in buffers) >= SHARED_FROM
    head = HEADER.pack(len(body), len(buffers), shared) + sizes
    if not shared:
        channel.sendall(b"".join([head, body, *buffers]))
        return
    *begins, end = starts([b.nbytes for b in buffers])
    file = os.memfd_create("lampion-batch")
    try:
        os.ftruncate(file, end)
        for buffer, begin in zip(buffers, begins, strict=True):
            write(file, buffer, begin)
        socket.send_fds(channel, [head[:1]], [file])
    finally:
        os.close(file)
    channel.sendall(head[1:] + body)


def receive(channel: socket.socket) -> Any:
    """Waits for a message; raises EOFError when there will be none."""
    files: list[int] = []
    if MAPPABLE:
        head, files, _, _ = socket.recv_fds(channel, 1, 1)
    else:
        head = channel.recv(1)
    if not head:
        raise EOFError
    head += read(channel, HEADER.size - 1)
    length, count, shared = HEADER.unpack(head)
    sizes = struct.unpack(f"<{count}Q", read(channel, 8 * count))
    body = read(channel, length)
    if not shared:
        return pickle.loads(body, buffers=[read(channel, size) for size in sizes])
    *begins, end = starts(sizes)
    try:
        memory = mmap.mmap(files[0], end, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
    finally:
        os.close(files[0])
    view = memoryview(memory)
    parts = [view[begin : begin + size] for begin, size in zip(begins, sizes, strict=True)]
    return pickle.loads(body, buffers=parts)


def starts(sizes: Sequence[int]) -> list[int]:
    """Where each buffer begins in the shared memory, and where the last one ends."""
    places = [0]
    for size in sizes:
        places.append(places[-1] + -(-size // ALIGNMENT) * ALIGNMENT)
    return places


def write(file: int, buffer: memoryview, begin: int) -> None:
    """Writes all of a buffer at a place of a file."""
    done = 0
    while done < buffer.nbytes:
        done += os.pwrite(file, buffer[done:], begin + done)


def read(channel: socket.socket, size: int) -> bytearray:
    """Exactly so many bytes; raises EOFError if the channel is closed before."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = channel.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return data
