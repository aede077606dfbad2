"""Backup and restore beside servers at work, on SQLite and on PostgreSQL."""

import json
import os
import pathlib
import stat
import subprocess
import time

import kill_server
from test_identity import postgres_url  # noqa: F401
from test_metering import metered  # noqa: F401


def acknowledged_so_far(clients):
    return dict(clients.acknowledged)


def empty_database(metered, tmp_path, name):
    """Where to restore to, as environment and query: a new data folder, or a new database of the same server."""
    environment = {**metered.environment, "RIDGE_HOME": str(tmp_path / name)}
    if "RIDGE_DATABASE" not in environment:
        return environment, kill_server.sqlite_query(tmp_path / name / "platform.db")
    url = environment["RIDGE_DATABASE"]
    subprocess.run(["psql", url, "-qc", f"DROP DATABASE IF EXISTS {name}", "-c",
                    f"CREATE DATABASE {name}"], check=True, capture_output=True)
    environment["RIDGE_DATABASE"] = url.replace("/postgres?", f"/{name}?")
    return environment, kill_server.postgres_query(environment["RIDGE_DATABASE"])


def ridge(metered, environment, *words):
    return subprocess.run([metered.binary, *words, "--json"], env=environment, text=True, capture_output=True, timeout=60)


def test_a_backup_under_load_restores_a_ledger_that_adds_up(metered, tmp_path):  # noqa: F811
    key = metered.run("key", "create", "k")["key"]
    server = metered.serve()
    with kill_server.Clients(server, key, "backup") as clients:
        until = time.monotonic() + 60
        while len(clients.acknowledged) < 50 and time.monotonic() < until:
            time.sleep(0.02)
        before = acknowledged_so_far(clients)
        archive = tmp_path / "backup.zip"
        taken = metered.run("backup", str(archive))
        more = len(clients.acknowledged)
        while len(clients.acknowledged) < more + 10 and time.monotonic() < until:  # it went on
            time.sleep(0.02)
    assert not clients.failures, clients.failures
    assert len(before) >= 50 and len(clients.acknowledged) >= more + 10
    assert taken["database"] == ("PostgreSQL" if "RIDGE_DATABASE" in metered.environment else "SQLite")
    assert stat.S_IMODE(os.stat(archive).st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.zip", "data"], "nothing else is left"

    environment, query = empty_database(metered, tmp_path, "restored")
    done = ridge(metered, environment, "restore", archive)
    assert done.returncode == 0, done.stdout + done.stderr
    restored = json.loads(done.stdout)
    assert restored["taken_at_ms"] == taken["taken_at_ms"]
    rows = query("SELECT request_id, prompt_tokens, completion_tokens, finish_reason FROM usage_records")
    records = {request: (prompt, completion) for request, prompt, completion, _ in rows}
    assert len(records) == len(rows), "no request is there twice"
    lost = [request for request, used in before.items() if records.get(request) != used]
    assert not lost, f"of {len(before)} answers that were whole before, {len(lost)} are missing"
    for request, used in clients.acknowledged.items():  # what came later is there as it was, as cut off, or not yet
        assert records.get(request, used)[0] in (used[0], 0)
    assert sum(row[3] == "failed" for row in rows) == restored["unfinished_requests"]
    [[tokens]] = query("SELECT SUM(prompt_tokens + completion_tokens) FROM usage_records")
    [[summed]] = query("SELECT SUM(tokens) FROM usage_sums WHERE subject LIKE 'org%' AND model = '' AND LENGTH(period) = 7")
    assert tokens == summed
    assert query("SELECT COALESCE(SUM(tokens), 0) FROM reservations") == [[0]]

    # And it serves: the same key, the same ledger.
    metered.environment = environment
    again = metered.serve()
    assert metered.client(again, key).completions.create(model=again.greeting["models"][0], prompt="a", max_tokens=3)
    assert query("SELECT COUNT(*) FROM usage_records")[0][0] == len(rows) + 1


def test_files_and_a_batch_that_runs_come_back(metered, tmp_path):  # noqa: F811
    key = metered.run("key", "create", "k")["key"]
    server = metered.serve()
    client = metered.client(server, key)
    model = server.greeting["models"][0]
    lines = [{"custom_id": str(i), "method": "POST", "url": "/v1/completions",
              "body": {"model": model, "prompt": "a", "max_tokens": 3}} for i in range(3)]  # fmt: skip
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    metered.run("limit", "set", "--project", "default", "--tokens-per-day", "0")  # so that it waits
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    without, archive = tmp_path / "without.zip", tmp_path / "backup.zip"
    assert not any(each["name"].startswith("files/") for each in metered.run("backup", str(without))["files"])
    names = [each["name"] for each in metered.run("backup", str(archive), "--files")["files"]]
    assert {"files/store.id", f"files/kept/{file.id}"} <= set(names), names
    server.stop()

    environment, _ = empty_database(metered, tmp_path, "restored")
    done = ridge(metered, environment, "restore", archive)
    assert done.returncode == 0 and json.loads(done.stdout)["old_files"] is None, done.stdout + done.stderr
    metered.environment = environment
    again = metered.serve()
    client = metered.client(again, key)
    assert client.files.content(file.id).read() == content
    metered.run("limit", "set", "--project", "default", "--tokens-per-day", "none")
    until = time.monotonic() + 60
    while (now := client.batches.retrieve(batch.id)).status not in ("completed", "failed", "expired"):
        assert time.monotonic() < until, now
        time.sleep(0.1)
    assert (now.status, now.request_counts.completed) == ("completed", 3)
    assert len(client.files.content(now.output_file_id).read().splitlines()) == 3


def test_restore_refuses_what_would_destroy(metered, tmp_path):  # noqa: F811
    metered.run("key", "create", "k")
    archive = tmp_path / "backup.zip"
    metered.run("backup", str(archive))
    again = ridge(metered, metered.environment, "backup", archive)
    assert again.returncode == 1 and "choose another name" in again.stdout
    refused = ridge(metered, metered.environment, "restore", archive)
    assert refused.returncode == 1 and json.loads(refused.stdout)["error"]["code"] == "already_exists", refused.stdout
    assert ridge(metered, metered.environment, "restore", archive, "--check").returncode == 0
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(archive.read_bytes()[:-40])
    check = ridge(metered, metered.environment, "restore", damaged, "--check")
    assert check.returncode == 1 and "no backup that can be used" in check.stdout
    if "RIDGE_DATABASE" in metered.environment:
        return
    server = metered.serve()
    refused = ridge(metered, metered.environment, "restore", archive, "--replace")
    assert refused.returncode == 1 and "stop it first" in refused.stdout
    server.stop()
    metered.run("key", "create", "later")
    restored = metered.run("restore", str(archive), "--replace")
    assert pathlib.Path(restored["old_database"]).exists()
    assert [key["name"] for key in metered.run("key", "list")["keys"]] == ["k"]
    events = [(event["action"], event["actor"].split(":")[0]) for event in metered.run("audit")["events"]]
    assert events[0] == ("backup.restore", "cli")


def test_a_dump_without_its_program_says_what_to_install(metered, tmp_path):  # noqa: F811
    if "RIDGE_DATABASE" not in metered.environment:
        return
    metered.run("key", "create", "k")
    failed = ridge(metered, {**metered.environment, "PATH": str(tmp_path)}, "backup", tmp_path / "backup.zip")
    assert failed.returncode == 1 and "postgresql-client" in failed.stdout
    assert not (tmp_path / "backup.zip").exists()
