#!/usr/bin/env python3
"""Ends a loaded server with kill -9, again and again, and then looks for usage that was lost or counted twice.

    build/venv/bin/python tests/integration/kill_server.py --kills 1000 [--database postgresql] [--seed 1]

Clients ask for answers, streamed and whole, and write down the id and the tokens of each whose last byte they got. After
each kill a new server starts on the same data. At the end: every answer that was written down has one record with its
tokens, no request has two, and no reservation is open. test_metering.py runs a short form.
"""

import argparse
import collections
import contextlib
import http.client
import json
import os
import pathlib
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

from ridge_process import RidgeServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/goldens/llama-f32.gguf"  # random weights, which load at once
CLIENTS = 6


class Clients:
    """Ask in a `with` block; `acknowledged` has {request id: tokens of the answer} of whole answers."""

    def __init__(self, server, key, seed):
        self.server, self.key = server, key
        self.acknowledged = {}
        self.failures = []
        self.ends = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(random.Random(f"{seed}/{i}"),)) for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends.set()
        for thread in self.threads:
            thread.join()

    def work(self, rng):
        while not self.ends.is_set():
            try:
                self.ask(rng)
            except (OSError, http.client.HTTPException):
                pass  # the server was killed
            except Exception as failure:  # a test must not end without this thread's word
                self.failures.append(repr(failure))
                return

    def ask(self, rng):
        request_id = f"{rng.getrandbits(64):016x}"
        streams = rng.random() < 0.5
        body = {"model": self.server.greeting["models"][0], "prompt": "a" * rng.randint(1, 20), "ignore_eos": True,
                "max_tokens": rng.randint(1, 30), "stream": streams}
        if streams:
            body["stream_options"] = {"include_usage": True}
        status, _, answer = self.server.request(
            "POST", "/v1/completions", json.dumps(body),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", "x-request-id": request_id}, 20)
        if status != 200:
            if status not in (429, 503):
                self.failures.append(f"{status}: {answer[:300]!r}")
            return
        if streams:
            if not answer.endswith(b"data: [DONE]\n\n"):
                return
            events = [json.loads(line[6:]) for line in answer.split(b"\n\n") if line.startswith(b"data: {")]
            usage = events[-1]["usage"]
        else:
            usage = json.loads(answer)["usage"]
        self.acknowledged[request_id] = (usage["prompt_tokens"], usage["completion_tokens"])


def check_ledger(query, acknowledged):
    """Nothing is lost, doubled or open, and the sums add up. Returns {request id: [(prompt, completion, reason)]}."""
    records = collections.defaultdict(list)
    for request_id, prompt, completion, reason in query(
            "SELECT request_id, prompt_tokens, completion_tokens, finish_reason FROM usage_records"):
        records[request_id].append((prompt, completion, reason))
    lost = [each for each, used in acknowledged.items() if used not in [row[:2] for row in records[each]]]
    doubled = [each for each, rows in records.items() if len(rows) > 1]
    assert not lost, f"of {len(acknowledged)} acknowledged answers {len(lost)} have no such record: {lost[:5]}"
    assert not doubled, f"{len(doubled)} requests have several records: {doubled[:5]}"
    assert query("SELECT COUNT(*) FROM reservations")[0][0] == 0
    [[tokens]] = query("SELECT SUM(prompt_tokens + completion_tokens) FROM usage_records")
    [[summed]] = query("SELECT SUM(tokens) FROM usage_sums WHERE subject LIKE 'org%' AND model = '' AND LENGTH(period) = 7")
    assert tokens == summed, f"the sums have {summed} tokens, the records {tokens}"
    return records


def run(binary, environment, kills, seed, query, most_s=float("inf")):
    """`environment` names the data; `query(sql)` gives its rows, each a list. Returns figures, or raises AssertionError.

    Ends after `kills`, or `most_s` seconds.
    """
    created = subprocess.run([binary, "key", "create", "killed", "--json"], env=environment, check=True, text=True,
                             capture_output=True)
    key = json.loads(created.stdout)["key"]
    rng = random.Random(seed)
    acknowledged = {}
    until = time.monotonic() + most_s
    done = 0
    while done < kills and time.monotonic() < until:
        server = RidgeServer(binary, environment, str(MODEL), ["--threads", "1"], asks_for_keys=True)
        with Clients(server, key, f"{seed}/{done}") as clients:
            time.sleep(rng.uniform(0.02, 0.5))
            server.process.kill()
            server.process.wait()
        server.stop()
        assert not clients.failures, clients.failures
        acknowledged.update(clients.acknowledged)
        done += 1
    last = RidgeServer(binary, environment, str(MODEL), ["--threads", "1"], asks_for_keys=True)
    assert last.stop() == 0
    records = check_ledger(query, acknowledged)
    failed = sum(row[2] == "failed" for rows in records.values() for row in rows)
    return {"kills": done, "acknowledged": len(acknowledged), "records": len(records), "cut off": failed}


def sqlite_query(path):
    def query(sql):
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            return [list(row) for row in connection.execute(sql)]

    return query


def postgres_query(url):
    def query(sql):
        done = subprocess.run(["psql", url, "-At", "-F", "\t", "-c", sql], check=True, text=True, capture_output=True)
        cells = [line.split("\t") for line in done.stdout.splitlines()]
        return [[int(cell) if cell.lstrip("-").isdigit() and len(cell) < 16 else cell for cell in row] for row in cells]

    return query


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end then, after fewer")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    binary = os.environ.get("RIDGE_BINARY", ROOT / "build/release/ridge")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "RIDGE_HOME": folder}
        if options.database == "sqlite":
            print(run(binary, environment, options.kills, options.seed, sqlite_query(f"{folder}/platform.db"),
                      options.seconds))
            return
        server = subprocess.Popen([sys.executable, ROOT / "tests/fixtures/postgres_server.py"], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        url = json.loads(server.stdout.readline())["url"]
        try:
            print(run(binary, {**environment, "RIDGE_DATABASE": url}, options.kills, options.seed, postgres_query(url),
                      options.seconds))
        finally:
            server.stdin.close()
            server.wait(timeout=90)


if __name__ == "__main__":
    main()
