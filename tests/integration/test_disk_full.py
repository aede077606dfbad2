"""A server whose disk gets full under load, on a real file system of few bytes, again and again.

Nothing new begins then; what a client has had the last byte of is in the ledger, once; and it goes on when there is room.
"""

import collections
import contextlib
import json
import os
import random
import subprocess
import time

import pytest

import kill_server
from ridge_process import RidgeServer

DISK_MIB = 16
TIMES = 6  # that the disk gets full


@pytest.fixture
def small_disk(tmp_path):
    """An empty file system; making one is for root alone."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", folder], text=True,
                             capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"NOT TESTED: a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


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


class Full:
    def __init__(self, binary, environment, disk):
        self.binary = binary
        self.environment = {**environment, "RIDGE_HOME": str(disk / "data")}
        self.ballast = Ballast(disk)
        self.query = kill_server.sqlite_query(disk / "data/platform.db")
        self.key = self.run("key", "create", "k", "--json")["key"]

    def run(self, *words):
        done = subprocess.run([self.binary, *words], env=self.environment, text=True, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def serve(self, *options):
        return RidgeServer(self.binary, self.environment, str(kill_server.MODEL), ["--threads", "1", *options],
                           asks_for_keys=True)

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

    def check_ledger(self, acknowledged):
        records = collections.defaultdict(list)
        for request_id, prompt, completion in self.query(
                "SELECT request_id, prompt_tokens, completion_tokens FROM usage_records"):
            records[request_id].append((prompt, completion))
        lost = [each for each, used in acknowledged.items() if used not in records[each]]
        assert not lost, f"of {len(acknowledged)} acknowledged answers {len(lost)} have no such record: {lost[:5]}"
        doubled = [each for each, rows in records.items() if len(rows) > 1 and each in acknowledged]
        assert not doubled, f"{len(doubled)} requests have several records: {doubled[:5]}"
        assert self.query("SELECT COUNT(*) FROM reservations") == [(0,)]
        [[tokens]] = self.query("SELECT SUM(prompt_tokens + completion_tokens) FROM usage_records")
        [[summed]] = self.query("SELECT SUM(tokens) FROM usage_sums WHERE subject LIKE 'org%' AND model = '' AND "
                                "LENGTH(period) = 7")
        assert tokens == summed, f"the sums have {summed} tokens, the records {tokens}"


@pytest.fixture
def full(ridge_binary, clean_environment, small_disk):
    return Full(ridge_binary, clean_environment, small_disk)


@pytest.mark.parametrize("keeps", [False, True], ids=["", "with-prompts-kept"])
def test_nothing_acknowledged_is_lost_or_doubled(full, keeps):
    if keeps:
        full.run("project", "change", "default", "--keep-prompts", "1", "--json")
    server = full.serve(*(["--max-project-kept-mib", "2"] if keeps else []))
    rng = random.Random(1)
    acknowledged = {}
    for turn in range(TIMES):
        clients = kill_server.Clients(server, full.key, turn)
        time.sleep(rng.uniform(0.1, 0.5))
        full.ballast.fill(leaves=rng.choice([0, 0, 4096, 65536, 500_000]))
        full.wait_for(server, 503)
        time.sleep(rng.uniform(0.2, 1.5))
        status, _, _ = server.request("GET", "/v1/health/live")
        assert status == 200
        full.ballast.drop()
        full.wait_for(server, 200)
        time.sleep(0.3)
        clients.stop()
        assert not clients.failures, clients.failures
        assert clients.acknowledged, "nothing was answered"
        acknowledged.update(clients.acknowledged)
    assert server.stop() == 0
    full.check_ledger(acknowledged)
    again = full.serve()
    full.wait_for(again, 200)
    assert again.stop() == 0
    full.check_ledger(acknowledged)
    if keeps:
        assert full.query("SELECT COUNT(*) FROM kept_requests")[0][0] > 0


def test_a_kill_while_it_is_full_loses_nothing_either(full):
    acknowledged = {}
    for turn in range(TIMES):
        server = full.serve()
        clients = kill_server.Clients(server, full.key, turn)
        time.sleep(0.2)
        full.ballast.fill()
        full.wait_for(server, 503)
        server.process.kill()
        server.process.wait()
        clients.stop()
        server.stop()
        assert not clients.failures, clients.failures
        acknowledged.update(clients.acknowledged)
        full.ballast.drop()
    last = full.serve()
    full.wait_for(last, 200)
    assert last.stop() == 0
    full.check_ledger(acknowledged)


def test_commands_and_a_start_say_that_the_disk_is_full(full):
    full.ballast.fill()
    for words in (["project", "create", "x"], ["serve", kill_server.MODEL, "--port", "0"]):
        done = subprocess.run([full.binary, *words], env=full.environment, text=True, capture_output=True, timeout=60)
        assert done.returncode != 0 and ("disk is full" in done.stderr or "No space left" in done.stderr), done.stderr
    full.ballast.drop()
    server = full.serve()
    full.wait_for(server, 200)
    assert server.stop() == 0
