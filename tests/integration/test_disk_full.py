"""A server whose database's disk gets full under load, on a real file system of few bytes, again and again.

Nothing new begins then; what a client has had the last byte of is in the ledger, once; and it goes on when there is room.
"""

import contextlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import pytest

import kill_server
from test_metering import Metered

ROOT = pathlib.Path(__file__).resolve().parents[2]
DISK_MIB = {"sqlite": 16, "postgresql": 64}  # of which PostgreSQL itself takes 28
TIMES = {"sqlite": 6, "postgresql": 3}  # that the disk gets full


@contextlib.contextmanager
def small_disk(size_mib):
    """An empty file system that every user may write to; making one is for root alone."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ridge-disk-"))
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", folder], text=True,
                                 capture_output=True)
        if mounted.returncode != 0:
            pytest.skip(f"NOT TESTED: a small file system cannot be mounted here: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
    finally:
        folder.rmdir()


@contextlib.contextmanager
def postgres_on(disk):
    """The URL of a PostgreSQL with its data there, which is started again where it ends for want of room."""
    server = subprocess.Popen([sys.executable, ROOT / "tests/fixtures/postgres_server.py", "--small-disk", disk],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        place = json.loads(server.stdout.readline())
        if "missing" in place:
            pytest.skip(f"NOT TESTED on PostgreSQL: {place['missing']}")
        yield place["url"]
    finally:
        server.stdin.close()
        server.wait(timeout=90)
        server.stdout.close()


class Ballast:
    """Takes what is free on a disk, but for some bytes."""

    def __init__(self, disk):
        self.disk, self.path = disk, disk / "ballast"

    def free_bytes(self):
        figures = os.statvfs(self.disk)
        return figures.f_bavail * figures.f_frsize

    def fill(self, leaves=0):
        with open(self.path, "ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while (free := self.free_bytes()) > leaves:
                    file.write(b"x" * min(free - leaves, 1 << 20))

    def drop(self):
        self.path.unlink()


class Full(Metered):
    def __init__(self, binary, environment, query, disk, times, breaks_log):
        super().__init__(binary, environment, query)
        self.times = times
        self.ballast = Ballast(disk)
        self.breaks_log = breaks_log
        self.key = self.run("key", "create", "k")["key"]

    def fill(self, leaves=0):
        self.ballast.fill(leaves)
        if self.breaks_log:
            # A record that its log has no room for ends PostgreSQL, which does not come back before there is some.
            with contextlib.suppress(subprocess.CalledProcessError):
                self.query("SELECT 1 FROM pg_logical_emit_message(false, 'ridge', repeat('x', 100000000))")

    def free(self):
        """Makes room, and waits for a PostgreSQL that comes back from its log."""
        self.ballast.drop()
        until = time.monotonic() + 60
        while True:
            try:
                return self.query("SELECT 1")
            except subprocess.CalledProcessError as failure:
                assert time.monotonic() < until, failure.stderr
            time.sleep(0.05)

    def ask(self, server):
        return server.request("POST", "/v1/completions", json.dumps({"model": server.greeting["models"][0], "prompt": "a",
                                                                     "max_tokens": 1}),
                              {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})

    def wait_for(self, server, wanted, most_s=90):
        """An answer with this status; where it is a refusal, one that nothing was begun for."""
        until = time.monotonic() + most_s
        while True:
            status, headers, body = self.ask(server)
            if status == 503:
                message = json.loads(body)["error"]["message"]
                # What had begun before the disk was full says that its own usage could not be recorded.
                assert "usage cannot be recorded at the moment; try again soon" in message or (
                    "the usage of this request could not be recorded" in message), message
                assert int(headers["Retry-After"]) >= 1
            if status == wanted and (status == 200 or "at the moment" in message):
                return
            assert status in (200, 503), body
            assert time.monotonic() < until, f"still {status} after {most_s} s: {server.read_log()[-3000:]}"
            time.sleep(0.01)


@pytest.fixture(params=["sqlite", "postgresql", "postgresql-log"])
def full(request, ridge_binary, clean_environment):
    with contextlib.ExitStack() as stack:
        database, _, log = request.param.partition("-")
        disk = stack.enter_context(small_disk(DISK_MIB[database]))
        if database == "postgresql":
            url = stack.enter_context(postgres_on(disk))
            environment = {**clean_environment, "RIDGE_DATABASE": url}
            query = kill_server.postgres_query(url)
        else:
            environment = {**clean_environment, "RIDGE_HOME": str(disk / "data")}
            query = kill_server.sqlite_query(disk / "data/platform.db")
        made = Full(ridge_binary, environment, query, disk, TIMES[database], breaks_log=log != "")
        stack.callback(made.stop)
        yield made


@pytest.mark.parametrize("keeps", [False, True], ids=["", "with-prompts-kept"])
def test_nothing_acknowledged_is_lost_or_doubled(full, keeps):
    if keeps:
        full.run("project", "change", "default", "--keep-prompts", "1")
    server = full.serve(*(["--max-project-kept-mib", "2"] if keeps else []))
    rng = random.Random(1)
    acknowledged = {}
    for turn in range(full.times):
        with kill_server.Clients(server, full.key, turn) as clients:
            time.sleep(rng.uniform(0.1, 0.5))
            full.fill(leaves=rng.choice([0, 0, 4096, 65536, 500_000]))
            full.wait_for(server, 503)
            time.sleep(rng.uniform(0.2, 1.5))
            status, _, _ = server.request("GET", "/v1/health/live")
            assert status == 200
            full.free()
            full.wait_for(server, 200)
            time.sleep(0.3)
        assert not clients.failures, clients.failures
        assert clients.acknowledged, "nothing was answered"
        acknowledged.update(clients.acknowledged)
    assert server.stop() == 0
    kill_server.check_ledger(full.query, acknowledged)
    again = full.serve()
    full.wait_for(again, 200)
    assert again.stop() == 0
    kill_server.check_ledger(full.query, acknowledged)
    if keeps:
        assert full.query("SELECT COUNT(*) FROM kept_requests")[0][0] > 0


def test_a_kill_while_it_is_full_loses_nothing_either(full):
    acknowledged = {}
    for turn in range(full.times):
        server = full.serve()
        with kill_server.Clients(server, full.key, turn) as clients:
            time.sleep(0.2)
            full.fill()
            full.wait_for(server, 503)
            server.process.kill()
            server.process.wait()
        assert not clients.failures, clients.failures
        acknowledged.update(clients.acknowledged)
        full.free()
    last = full.serve()
    full.wait_for(last, 200)
    assert last.stop() == 0
    kill_server.check_ledger(full.query, acknowledged)


def test_commands_and_a_start_say_that_the_disk_is_full(full):
    def run(*words):
        return subprocess.run([full.binary, *words], env=full.environment, text=True, capture_output=True, timeout=60)

    full.ballast.fill()
    refused = run("project", "create", "x")
    for number in range(5000):  # PostgreSQL has room within its files for some
        if refused.returncode != 0:
            break
        refused = run("project", "create", f"x{number}")
    for done in (refused, run("serve", kill_server.MODEL, "--port", "0")):
        assert done.returncode != 0 and ("disk is full" in done.stderr or "No space left" in done.stderr), done.stderr
    full.free()
    server = full.serve()
    full.wait_for(server, 200)
    assert server.stop() == 0
