"""What a server says to strangers while its PostgreSQL is away."""

import json
import pathlib
import subprocess
import sys

import httpx
import pytest

import kill_server
from ridge_process import RidgeServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
METHODS = ("get", "post", "put", "patch", "delete")
COOKIE = {"Cookie": "ridge_session=" + "a" * 43}  # in the form of one
BODIES = {
    "/api/v1/session": {"name": "ann", "password": "correct horse"},
    "/api/v1/set-up": {"token": "rgs_" + "a" * 43, "name": "ann", "password": "correct horse"},
}


@pytest.fixture
def server_without_database(ridge_binary, clean_environment, tmp_path):
    """A server whose PostgreSQL has gone, and what of its place no answer may hold."""
    postgres = subprocess.Popen([sys.executable, ROOT / "tests/fixtures/postgres_server.py"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
    place = json.loads(postgres.stdout.readline())
    if "missing" in place:
        pytest.skip(f"NOT TESTED: {place['missing']}")
    environment = {**clean_environment, "RIDGE_HOME": str(tmp_path), "RIDGE_DATABASE": place["url"]}
    made = subprocess.run([ridge_binary, "key", "create", "unused", "--json"], env=environment, text=True, check=True,
                          capture_output=True)
    server = RidgeServer(ridge_binary, environment, str(kill_server.MODEL), ["--threads", "1"], asks_for_keys=True)
    postgres.stdin.close()
    postgres.wait(timeout=90)
    postgres.stdout.close()
    folder = place["url"].split("host=")[1].split("&")[0]
    yield server, json.loads(made.stdout)["key"], ["postgresql", "ridge@", folder, folder.replace("%2F", "/"), "connection to server", "socket"]
    server.stop()


def test_no_answer_tells_where_the_database_is(server_without_database):
    server, key, secrets = server_without_database
    document = json.loads((ROOT / "data/openapi.json").read_text())
    unavailable = 0
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for path, methods in document["paths"].items():
            for method in METHODS:
                if method not in methods:
                    continue
                for headers in ({}, COOKIE, {"Authorization": f"Bearer {key}"}):
                    answer = client.request(method, path.replace("{id}", "x"), headers=headers,
                                            json=BODIES.get(path, {}) if method in ("post", "put", "patch") else None)
                    told = (answer.text + str(answer.headers)).lower()
                    for secret in secrets:
                        assert secret.lower() not in told, f"{method} {path}: {told}"
                    if "the database is not available" in told:
                        assert answer.status_code in (503, 529) and answer.headers["x-request-id"] in answer.text
                        unavailable += 1
    assert unavailable > 10
