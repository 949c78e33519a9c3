"""A Redis server of the benchmark's own, on a loopback port, and its client."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arrays import library
from bench.rows import NotMeasurableError
from bench_peers.embedded import Unordered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench_peers.peer import Payload

PROGRAM = "redis-server"
PATIENCE = 10
"""Seconds that the server has to answer."""


class Redis(Unordered):
    """redis-py to a server that this object starts, where there is none at ``place`` yet; then it ends it, too."""

    def __init__(self, place: Path, payload: Payload, *, flushed: bool) -> None:
        redis = library("redis", "peers")
        directory = place / "redis"
        self._server: subprocess.Popen[bytes] | None = None
        address = directory / "port"
        if not address.exists():
            directory.mkdir(exist_ok=True)
            self._server, port = _started(directory, flushed=flushed)
            address.write_text(f"{port} {self._server.pid}", encoding="ascii")
        self._address = address
        port, pid = map(int, address.read_text(encoding="ascii").split())
        self.process = Path(f"/proc/{pid}")
        """Where the system tells of the server."""
        self._client = client = redis.Redis(host="127.0.0.1", port=port)
        self._pack, self._unpack = pack, unpack = payload.pack, payload.unpack
        self._wait(redis.ConnectionError)
        ask, put = client.get, client.set

        def get(key: str) -> Any:
            raw = ask(key)
            return None if raw is None else unpack(raw)

        self.get = get
        self.set = lambda key, value: put(key, pack(value))

    def _wait(self, refused: type[Exception]) -> None:
        """Until it answers; with an append-only file to load it refuses at first."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self._client.ping()
                return
            except refused as error:
                if time.monotonic() > end:
                    self.close()
                    raise NotMeasurableError(f"{PROGRAM} doesn't answer: {error}") from error
                time.sleep(0.02)

    def set_many(self, items: Mapping[str, Any]) -> None:
        pack = self._pack
        self._client.mset({key: pack(value) for key, value in items.items()})

    def delete(self, key: str) -> None:
        self._client.delete(key)

    def scan(self) -> Iterator[tuple[Any, Any]]:
        unpack = self._unpack
        cursor = None
        while cursor != 0:
            cursor, names = self._client.scan(cursor or 0, count=1_000)
            for name, raw in zip(names, self._client.mget(names), strict=True):
                yield name.decode(), unpack(raw)

    def close(self) -> None:
        self._client.close()
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
            self._address.unlink(missing_ok=True)
            self._server = None


def _started(directory: Path, *, flushed: bool) -> tuple[subprocess.Popen[bytes], int]:
    if shutil.which(PROGRAM) is None:
        raise NotMeasurableError(f"there is no {PROGRAM}; apt-get install redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    persistence = ["--appendonly", "yes", "--appendfsync", "always" if flushed else "no"]
    command = [PROGRAM, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory), "--save", "", *persistence]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), port
