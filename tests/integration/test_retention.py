"""Usage that a server removes by its age, on SQLite and on PostgreSQL."""

import pathlib
import sqlite3
import subprocess
import time

from test_identity import postgres_url  # noqa: F401
from test_metering import metered  # noqa: F401


def test_a_server_removes_usage_by_its_age(metered):  # noqa: F811
    key = metered.run("key", "create", "k")["key"]
    server = metered.serve()
    client, model = metered.client(server, key), server.greeting["models"][0]
    for _ in range(2):
        client.completions.create(model=model, prompt="a", max_tokens=3)
    [[used]] = metered.query("SELECT SUM(tokens) FROM usage_sums")
    server.stop()
    at_ms = int((time.time() - 40 * 86400) * 1000)
    change = f"UPDATE usage_records SET at_ms = {at_ms} WHERE id = (SELECT MIN(id) FROM usage_records)"
    if "RIDGE_DATABASE" in metered.environment:
        subprocess.run(["psql", metered.environment["RIDGE_DATABASE"], "-qc", change], check=True, capture_output=True)
    else:
        with sqlite3.connect(pathlib.Path(metered.environment["RIDGE_HOME"]) / "platform.db") as connection:
            connection.execute(change)
    server = metered.serve("--usage-retention-days", "30")
    until = time.monotonic() + 60
    while metered.query("SELECT COUNT(*) FROM usage_records")[0][0] != 1 and time.monotonic() < until:
        time.sleep(0.05)
    assert metered.query("SELECT COUNT(*) FROM usage_records")[0][0] == 1
    assert metered.query("SELECT SUM(tokens) FROM usage_sums")[0][0] == used, "limits do not change"
    server.wait_for_log("older than 30 days")
