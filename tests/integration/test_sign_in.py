"""People who sign in: the set-up token, passwords, sessions, and what they use."""

import http.cookies
import json
import os
import subprocess
import time

import pytest

from ridge_process import MODEL, RidgeServer
from terminal import open_terminal


class Browser:
    """Keeps the cookie of one server, and says what a page of it would say."""

    def __init__(self, server):
        self.server = server
        self.cookies = http.cookies.SimpleCookie()
        self.csrf_token = None

    def ask(self, method, path, body=None, headers=None):
        """(status, parsed body)"""
        sent = {"Origin": self.server.url, "Content-Type": "application/json"}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={each.value}" for name, each in self.cookies.items())
        if self.csrf_token:
            sent["x-ridge-csrf"] = self.csrf_token
        status, answered, text = self.server.request(
            method, path, json.dumps(body) if body is not None else None, {**sent, **(headers or {})})
        for line in answered.get_all("Set-Cookie") or []:
            self.cookies.load(line)
        return status, json.loads(text) if text else None

    def sign_in(self, name, password):
        status, session = self.ask("POST", "/api/v1/session", {"name": name, "password": password})
        if status == 200:
            self.csrf_token = session["csrf_token"]
        return status


@pytest.fixture
def team(ridge_binary, model_environment, tmp_path):
    """A server that asks who comes, and a function that runs `ridge WORDS` beside it."""
    environment = {**model_environment, "RIDGE_DATABASE": str(tmp_path / "platform.db")}
    server = RidgeServer(ridge_binary, environment, MODEL, ["--context", "512"], asks_for_keys=True)

    def ridge(*words, given=None):
        result = subprocess.run([ridge_binary, *words, "--json"], env=environment, capture_output=True,
                                input=given, text=True, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads(result.stdout)

    yield server, ridge
    server.stop()


def set_up_token_of(server):
    token = server.greeting["set_up_token"]
    assert token.startswith("rgs_")
    return token


def test_the_first_owner_comes_by_the_token_and_makes_others(team):
    server, ridge = team
    browser = Browser(server)
    assert browser.ask("GET", "/api/v1/session")[1]["set_up_needed"] is True
    wanted = {"token": set_up_token_of(server), "name": "ann", "password": "correct horse"}
    status, session = browser.ask("POST", "/api/v1/set-up", wanted)
    assert status == 200 and session["user"] == {"name": "ann", "role": "owner", "project": "default",
                                                 "projects": ["default"], "roles": {"default": "owner"},
                                                 "keeping": {}}
    assert browser.ask("POST", "/api/v1/set-up", wanted)[0] == 401
    assert browser.ask("GET", "/api/v1/session")[1]["set_up_needed"] is False
    ridge("user", "create", "bob", "--role", "viewer")
    assert ridge("user", "password", "bob", given="battery staple\n") == {"name": "bob"}
    assert Browser(server).sign_in("bob", "battery staple") == 200
    assert Browser(server).sign_in("bob", "correct horse") == 401
    log = server.read_log()
    assert "correct horse" not in log and "battery staple" not in log and wanted["token"] not in log


def test_what_a_person_uses_is_counted_and_limited(team):
    server, ridge = team
    ridge("user", "create", "dev")
    ridge("user", "password", "dev", given="correct horse\n")
    browser = Browser(server)
    assert browser.sign_in("dev", "correct horse") == 200
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 3}
    status, answer = browser.ask("POST", "/v1/chat/completions", chat)
    assert status == 200 and answer["usage"]["completion_tokens"] == 3
    rows = ridge("usage", "--by", "key,project")["rows"]
    assert [(row["key"], row["project"], row["completion_tokens"]) for row in rows] == [("dev", "default", 3)]
    ridge("limit", "set", "--project", "default", "--tokens-per-day", "10")
    status, answer = browser.ask("POST", "/v1/chat/completions", chat)
    assert status == 402 and answer["error"]["type"] == "insufficient_quota"
    # Nobody else's page makes the browser ask.
    status, _ = browser.ask("POST", "/v1/chat/completions", chat, {"Origin": "https://evil.example"})
    assert status == 403


def test_a_session_ends_with_the_user(team):
    server, ridge = team
    ridge("user", "create", "dev")
    ridge("user", "password", "dev", given="correct horse\n")
    browser = Browser(server)
    assert browser.sign_in("dev", "correct horse") == 200
    assert browser.ask("GET", "/v1/models")[0] == 200
    ridge("user", "disable", "dev")
    assert browser.ask("GET", "/v1/models")[0] == 401
    assert Browser(server).sign_in("dev", "correct horse") == 401


def test_many_sign_ins_at_once_are_bounded(team):
    """Each check takes 19 MiB; many wait or are told to come again, and the server answers others meanwhile."""
    server, ridge = team
    body = json.dumps({"name": "x" * 50, "password": "some password"})
    connections = [server.connect() for _ in range(60)]
    for number, connection in enumerate(connections):
        connection.request("POST", "/api/v1/session", body.replace("x" * 50, f"name {number}"))
    statuses = []
    for connection in connections:
        response = connection.getresponse()
        statuses.append(response.status)
        if response.status == 429:
            assert int(response.headers["Retry-After"]) >= 1
        connection.close()
    assert set(statuses) == {401, 429}, statuses
    assert server.request("GET", "/health")[0] == 200


def test_a_password_is_asked_for_on_the_terminal_and_not_shown(ridge_binary, clean_environment):
    def ridge(*words, **keywords):
        return subprocess.Popen([ridge_binary, *words], env=clean_environment, **keywords)

    assert ridge("user", "create", "ann", stderr=subprocess.DEVNULL).wait(timeout=60) == 0
    for again, code in [("correct horse", 0), ("another horse", 2)]:
        terminal, child_side = open_terminal()
        process = ridge("user", "password", "ann", stdin=child_side, stdout=child_side, stderr=child_side)
        os.close(child_side)
        seen = b""

        def read_until(wanted):
            nonlocal seen
            until = time.monotonic() + 30
            while wanted not in seen:
                assert time.monotonic() < until, seen
                seen += os.read(terminal, 1000)

        read_until(b"New password of ann: ")
        os.write(terminal, b"correct horse\n")
        read_until(b"The same again: ")
        os.write(terminal, again.encode() + b"\n")
        assert process.wait(timeout=60) == code
        try:
            while chunk := os.read(terminal, 1000):
                seen += chunk
        except OSError:
            pass  # The other side is closed.
        os.close(terminal)
        assert b"horse" not in seen
        assert (b"has a new password" if code == 0 else b"differ") in seen


def test_a_bad_password_is_refused(ridge_binary, clean_environment):
    def password(name, given):
        return subprocess.run([ridge_binary, "user", "password", name], env=clean_environment, input=given,
                              capture_output=True, text=True, timeout=60)

    nobody = password("ann", "correct horse\n")
    assert nobody.returncode == 1 and "ridge user create ann" in nobody.stderr
    subprocess.run([ridge_binary, "user", "create", "ann"], env=clean_environment, check=True, timeout=60,
                   capture_output=True)
    for given, text in [("", "standard input"), ("short\n", "10 to 1024 bytes")]:
        refused = password("ann", given)
        assert refused.returncode == 2 and text in refused.stderr
