"""Projects, users and keys from the command line, on SQLite and on PostgreSQL."""

import json
import pathlib
import subprocess
import sys
import time

import openai
import pytest

from ridge_process import MODEL, RidgeServer

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "fixtures"


@pytest.fixture(scope="module")
def postgres_url():
    process = subprocess.Popen(
        [sys.executable, FIXTURES / "postgres_server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield json.loads(process.stdout.readline())
    process.stdin.close()
    process.wait(timeout=90)
    process.stdout.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def ask(request, ridge, tmp_path):
    """ask("key", "list") -> the JSON that it prints; it must succeed."""
    options = ["--data-dir", tmp_path / "data"]
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres_url")
        if "missing" in server:
            pytest.skip(f"NOT TESTED on PostgreSQL: {server['missing']}")
        options += ["--database", server["url"]]

    def run(*words):
        result = ridge(*words, *options, "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads(result.stdout)

    return run


def test_a_key_is_shown_once_and_listed_without_it(ask):
    created = ask("key", "create", "laptop")
    key = created["key"]
    assert key.startswith("rgk_") and len(key) == 53
    listed = ask("key", "list")["keys"]
    assert [each["name"] for each in listed] == ["laptop"]
    assert listed[0]["state"] == "active" and listed[0]["hint"] == key[:8]
    assert key not in json.dumps(listed)
    assert ask("key", "revoke", "laptop")["revoked"][0]["id"] == created["id"]
    assert ask("key", "list")["keys"] == []
    states = {each["id"]: each["state"] for each in ask("key", "list", "--all")["keys"]}
    assert states[created["id"]] == "revoked"


def test_a_keys_rights_are_what_was_asked_for(ask):
    ask("project", "create", "search", "--weight", "2")
    ask("user", "create", "ann", "--role", "admin")
    created = ask("key", "create", "ci", "--project", "search", "--user", "ann", "--expires", "30d", "--scopes",
                  "inference,metrics", "--models", "a,b", "--addresses", "10.0.0.0/8,::1")
    assert (created["project"], created["user"]) == ("search", "ann")
    assert created["scopes"] == ["inference", "metrics"]
    assert created["models"] == ["a", "b"] and created["addresses"] == ["10.0.0.0/8", "::1"]
    assert created["expires_at_ms"] - created["created_at_ms"] == 30 * 24 * 3600 * 1000
    rotated = ask("key", "rotate", "ci", "--project", "search", "--grace", "1h")
    assert rotated["key"] != created["key"] and rotated["models"] == ["a", "b"]
    states = {each["id"]: each["state"] for each in ask("key", "list")["keys"]}
    assert states[rotated["id"]] == "active" and states[created["id"]] == "ending"
    assert ask("user", "change", "ann", "--role", "owner")["role"] == "owner"
    ask("user", "create", "bob", "--role", "owner")
    assert ask("user", "disable", "ann")["disabled_at_ms"]
    assert ask("user", "enable", "ann")["disabled_at_ms"] is None
    assert ask("project", "change", "search", "--weight", "3")["weight"] == 3
    actions = [event["action"] for event in ask("audit")["events"]]
    assert actions[:9] == ["project.change", "user.enable", "user.disable", "user.create", "user.change", "key.rotate",
                           "key.create", "user.create", "project.create"]  # fmt: skip
    assert [each["weight"] for each in ask("project", "list")["projects"] if each["name"] == "search"] == [3]
    # PostgreSQL's database serves the other test, too.
    ask("key", "revoke", "ci", "--project", "search")


def test_what_is_wrong_is_said(ridge, tmp_path):
    for words, text in [
        (["key", "create", "k", "--scopes", "all"], "inference, metrics, admin"),
        (["key", "create", "k", "--expires", "soon"], "--expires"),
        (["key", "create", "k", "--addresses", "10.0.0.1/8"], "10.0.0.1/8"),
        (["user", "create", "u", "--role", "king"], "owner, admin, developer, viewer"),
        (["project", "create", "p", "--weight", "0"], "weight"),
        (["key", "list", "--database", "mysql://x"], "postgresql://"),
        (["key"], "ridge key --help"),
        (["key", "create"], "ridge key create --help"),
    ]:
        result = ridge(*words)
        assert result.returncode == 2 and text in result.stderr, (words, result.stderr)
        assert result.stdout == ""
    assert ridge("key", "revoke", "none").returncode == 1
    (tmp_path / "x.db").write_text("x" * 5000)
    damaged = ridge("key", "list", "--database", tmp_path / "x.db")
    assert damaged.returncode == 1 and "not a database" in damaged.stderr
    away = ridge("key", "list", "--database", "postgresql://u:hush@127.0.0.1:1/x")
    assert away.returncode == 1 and "u@127.0.0.1:1" in away.stderr and "hush" not in away.stderr


def test_for_a_person_the_key_stands_alone_on_standard_output(ridge):
    created = ridge("key", "create", "laptop")
    assert created.stdout.startswith("rgk_") and created.stdout.count("\n") == 1
    assert "not shown again" in created.stderr
    listed = ridge("key", "list").stdout
    assert "laptop" in listed and created.stdout.strip() not in listed


def ask_models(server, key):
    return server.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})[0]


def wait_for_status(server, key, wanted, timeout_s=60):
    until = time.monotonic() + timeout_s
    while (status := ask_models(server, key)) != wanted:
        assert time.monotonic() < until, f"still {status}, not {wanted}"
        time.sleep(0.05)


@pytest.fixture
def locked_server(ridge_binary, model_environment, tmp_path):
    """A server that asks for keys, and a function that runs `ridge key WORDS` beside it."""
    environment = {**model_environment, "RIDGE_DATABASE": str(tmp_path / "platform.db")}
    server = RidgeServer(ridge_binary, environment, MODEL, ["--context", "512"], asks_for_keys=True)

    def key(*words):
        result = subprocess.run([ridge_binary, "key", *words, "--json"], env=environment, capture_output=True,
                                text=True, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads(result.stdout)

    yield server, key
    server.stop()


def test_a_running_server_takes_new_keys_and_refuses_revoked_ones(locked_server):
    server, key = locked_server
    assert "ridge key create" in server.read_log()
    assert server.request("GET", "/health")[0] == 200
    assert server.request("GET", "/v1/models")[0] == 401
    laptop = key("create", "laptop")["key"]
    assert ask_models(server, laptop) == 200
    client = openai.OpenAI(base_url=server.url + "/v1", api_key=laptop, max_retries=0, timeout=120)
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello!"}], max_tokens=3)
    assert answer.usage.completion_tokens == 3
    rotated = key("rotate", "laptop", "--grace", "1h")["key"]
    assert ask_models(server, rotated) == 200 and ask_models(server, laptop) == 200
    key("revoke", "laptop")
    wait_for_status(server, rotated, 401)
    wait_for_status(server, laptop, 401)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()
    log = server.read_log()
    assert laptop not in log and rotated not in log


def test_a_keys_models_are_all_that_it_sees(locked_server):
    server, key = locked_server
    client = openai.OpenAI(base_url=server.url + "/v1", max_retries=0, timeout=60,
                           api_key=key("create", "k", "--models", "another")["key"])
    assert client.models.list().data == []
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello!"}])
