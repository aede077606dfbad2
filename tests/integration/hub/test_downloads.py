"""Models that a running server pulls, and serves without a restart."""

import json
import subprocess
import time

import pytest

import tiny_model
from ridge_process import RidgeServer

NAME = "hf:org/tiny:F32"
PATH = "tiny-F32.gguf"


@pytest.fixture
def gguf_bytes(tmp_path):
    return tiny_model.write_tiny_model(tmp_path / "hub.gguf", seed=11, tokens=[("<new>", 4)]).read_bytes()


@pytest.fixture
def start(ridge_binary, clean_environment, hub, tmp_path):
    """start(asks_for_keys=...) -> a server of a tiny model of its own, which pulls from the hub."""
    own = tiny_model.write_tiny_model(tmp_path / "own.gguf")
    servers = []

    def run(*options, asks_for_keys=False):
        environment = {**clean_environment, "HF_ENDPOINT": hub.url()}
        server = RidgeServer(ridge_binary, environment, own, ["--threads", "2", *options], asks_for_keys)
        servers.append(server)
        return server

    yield run
    for server in servers:
        server.stop()


def ask(server, method, path, body=None, key=None):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    status, _, answer = server.request(method, path, None if body is None else json.dumps(body), headers)
    return status, json.loads(answer) if answer else None


def started(server, model=NAME):
    status, download = ask(server, "POST", "/api/v1/downloads", {"model": model})
    assert status == 201, download
    return download["id"]


def wait_for(server, download, is_wanted, timeout_s=60):
    until = time.monotonic() + timeout_s
    while True:
        status, now = ask(server, "GET", f"/api/v1/downloads/{download}")
        assert status == 200
        if is_wanted(now):
            return now
        assert time.monotonic() < until, now
        time.sleep(0.02)


def ended(server, download):
    return wait_for(server, download, lambda now: now["ended_at_ms"] is not None)


def known(server, name):
    return next((each for each in ask(server, "GET", "/api/v1/models")[1]["data"] if each["name"] == name), None)


def test_a_model_that_is_pulled_is_served_without_a_restart(start, hub, gguf_bytes):
    hub.add("org/tiny", PATH, gguf_bytes)
    server = start()
    question = {"model": NAME, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 40, "min_tokens": 40}
    assert server.post_json("/v1/chat/completions", question)[0] == 404
    done = ended(server, started(server, "hf:org/tiny"))
    assert (done["state"], done["name"], done["error"]) == ("finished", NAME, None)
    assert done["bytes_done"] == done["bytes_total"] == len(gguf_bytes)
    before = known(server, NAME)
    assert (before["state"], before["is_loaded"], before["bytes"]) == ("served", False, len(gguf_bytes))
    assert before["tokens_per_second"] is None, "it has not been asked"
    assert {model["id"] for model in ask(server, "GET", "/v1/models")[1]["data"]} == {"own", NAME}
    status, answer = server.post_json("/v1/chat/completions", question)
    assert status == 200 and answer["model"] == NAME and answer["usage"]["completion_tokens"] == 40
    server.wait_until_idle()
    after = known(server, NAME)
    assert after["is_loaded"] and after["tokens_per_second"] > 0 and after["fits"] == "yes"
    status, answer = server.post_json("/v1/completions", {"prompt": "Hi", "max_tokens": 1})
    assert (status, answer["model"]) == (200, "own"), "whoever names none means the one that was there"


def test_a_model_that_was_pulled_is_served_after_a_restart_until_it_is_removed(start, hub, gguf_bytes, ridge):
    hub.add("org/tiny", PATH, gguf_bytes)
    first = start()
    assert ended(first, started(first))["state"] == "finished"
    first.stop()
    second = start()
    assert second.greeting["models"] == ["own", NAME]
    assert second.post_json("/v1/completions", {"model": NAME, "prompt": "Hi", "max_tokens": 1})[0] == 200
    assert second.post_json("/v1/completions", {"prompt": "Hi", "max_tokens": 1})[1]["model"] == "own"
    second.stop()
    assert ridge("rm", NAME).returncode == 0
    assert start().greeting["models"] == ["own"]


def test_a_model_of_the_store_is_served_by_another_download_that_fetches_nothing(start, hub, gguf_bytes, pull):
    hub.add("org/tiny", PATH, gguf_bytes)
    assert pull(NAME).returncode == 0
    hub.requests.clear()
    server = start()
    assert known(server, NAME)["state"] == "stored"
    assert ended(server, started(server))["state"] == "finished"
    assert hub.requests == [] and known(server, NAME)["state"] == "served"


def test_a_file_with_another_digest_is_not_served(start, hub, gguf_bytes):
    hub.add("org/tiny", PATH, gguf_bytes, stated_sha256="0" * 64)
    server = start()
    failed = ended(server, started(server))
    assert failed["state"] == "failed" and "0" * 64 in failed["error"], failed
    assert known(server, NAME) is None
    assert server.post_json("/v1/completions", {"model": NAME, "prompt": "Hi"})[0] == 404


def test_a_file_that_is_no_model_is_pulled_and_not_served(start, hub, model_bytes):
    hub.add("org/tiny", PATH, model_bytes)
    server = start()
    failed = ended(server, started(server))
    assert failed["state"] == "failed" and "cannot be served" in failed["error"], failed
    assert known(server, NAME)["state"] == "stored"
    assert server.post_json("/v1/completions", {"prompt": "Hi", "max_tokens": 1})[0] == 200


def test_a_download_that_was_cancelled_goes_on_where_it_was(start, hub, gguf_bytes):
    file = hub.add("org/tiny", PATH, gguf_bytes, pause_s=0.3)
    server = start()
    first = started(server)
    now = wait_for(server, first, lambda now: now["bytes_done"] > 0)
    assert now["state"] == "running" and now["bytes_total"] == len(gguf_bytes)
    assert ask(server, "DELETE", f"/api/v1/downloads/{first}")[0] == 204
    assert ended(server, first)["state"] == "cancelled"
    assert known(server, NAME) is None
    file.pause_s = 0
    assert ended(server, started(server))["state"] == "finished"
    ranges = [request.headers["range"] for request in hub.requests if "range" in request.headers]
    assert ranges and all(int(each.removeprefix("bytes=").removesuffix("-")) > 0 for each in ranges)
    states = [each["state"] for each in ask(server, "GET", "/api/v1/downloads")[1]["data"]]
    assert states == ["finished", "cancelled"], "the newest first"


def test_a_server_stops_in_order_while_it_pulls(start, hub, gguf_bytes):
    hub.add("org/tiny", PATH, gguf_bytes, pause_s=60)
    server = start()
    wait_for(server, started(server), lambda now: now["state"] == "running")
    assert server.stop() == 0


def test_only_admins_pull_and_the_audit_log_tells_of_it(start, hub, gguf_bytes, ridge_binary, clean_environment):
    hub.add("org/tiny", PATH, gguf_bytes)
    server = start(asks_for_keys=True)

    def ridge(*words):
        result = subprocess.run([ridge_binary, *words, "--json"], env=clean_environment, capture_output=True, text=True,
                                timeout=60, check=True)  # fmt: skip
        return json.loads(result.stdout)

    admin = ridge("key", "create", "boss", "--scopes", "admin,inference")["key"]
    other = ridge("key", "create", "app")["key"]
    wanted = {"model": NAME}
    assert ask(server, "POST", "/api/v1/downloads", wanted)[0] == 401
    assert ask(server, "POST", "/api/v1/downloads", wanted, other)[0] == 403
    assert ask(server, "GET", "/api/v1/downloads", key=other)[0] == 403
    assert ask(server, "GET", "/api/v1/models", key=other)[0] == 403
    assert hub.requests == []
    status, download = ask(server, "POST", "/api/v1/downloads", wanted, admin)
    assert status == 201
    while download["ended_at_ms"] is None:
        download = ask(server, "GET", f"/api/v1/downloads/{download['id']}", key=admin)[1]
        time.sleep(0.02)
    assert download["state"] == "finished", download
    event = ridge("audit")["events"][0]
    assert (event["action"], event["subject"], event["actor"]) == ("download.start", NAME, "key:boss")
    status, answer = ask(server, "POST", "/v1/completions", {"model": NAME, "prompt": "Hi", "max_tokens": 2}, other)
    assert status == 200, answer
    # A key for some models does not get what was pulled later.
    bound = ridge("key", "create", "bound", "--models", "own")["key"]
    assert ask(server, "POST", "/v1/completions", {"model": NAME, "prompt": "Hi"}, bound)[0] == 404
    assert [each["id"] for each in ask(server, "GET", "/v1/models", key=bound)[1]["data"]] == ["own"]
