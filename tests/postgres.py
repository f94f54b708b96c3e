"""A private PostgreSQL server for the tests of one process: on loopback, started and stopped by them."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


def binaries() -> Path | None:
    """Where the server's programs are; None when none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    which = shutil.which("initdb")
    return None if which is None else Path(which).parent


class Server:
    """A running server: its data folder, its port, and its process."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._programs = programs
        self.data = folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs as its owner; root may not."""
        user, group = _owner() or (None, None)
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user,
            group=group,
        )

    def start(self) -> None:
        options = f"-p {self.port} -k '' -c listen_addresses=127.0.0.1 -c max_connections=200"
        self.run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.data / "log"), "-o", options, "start")  # fmt: skip

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    def is_running(self) -> bool:
        try:
            self.run("pg_ctl", "-D", str(self.data), "status")
        except subprocess.CalledProcessError:
            return False
        return True

    def restart(self) -> None:
        """Stop it as a power cut does, when it runs, and start it again."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        self.start()


def _owner() -> tuple[int, int] | None:
    """Who runs the server, when root may not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise RuntimeError("root may not run PostgreSQL, and there is no user postgres or nobody")


class Pooler(NamedTuple):
    """A running PgBouncer."""

    url: str
    pid: int


@contextmanager
def running_pooler(server: Server) -> Iterator[Pooler]:
    """A PgBouncer before *server*, in transaction mode with few sessions."""
    program = pooler()
    assert program is not None
    folder = Path(tempfile.mkdtemp(prefix="durably-pooler-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "pooler.ini"
    users = folder / "users"
    users.write_text('"postgres" ""\n')
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\npool_mode=transaction\n"
        f"listen_addr=127.0.0.1\nlisten_port={port}\nauth_type=trust\nauth_file={users}\n"
        "unix_socket_dir=\ndefault_pool_size=20\nmax_client_conn=1000\n"
    )
    owner = _owner()
    for path in (folder, settings, users):
        if owner:
            os.chown(path, *owner)
    user, group = owner or (None, None)
    process = subprocess.Popen(
        [program, "-q", str(settings)],
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=user,
        group=group,
    )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, "the pooler has not started"
                time.sleep(0.01)
        yield Pooler(f"postgresql://postgres@127.0.0.1:{port}/postgres", process.pid)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def pooler() -> str | None:
    """The program of PgBouncer; None when it is not installed."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def running_server(programs: Path, folder: Path | None = None) -> Iterator[Server]:
    """A new server with an empty database in *folder*, gone afterwards."""
    folder = folder or Path(tempfile.mkdtemp(prefix="durably-pg-"))
    try:
        if owner := _owner():
            os.chown(folder, *owner)
        server = Server(folder, programs)
        server.run("initdb", "-D", str(server.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")  # fmt: skip
        server.start()
        try:
            yield server
        finally:
            if server.is_running():
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
