"""What surrounds the answers: disconnects, stopping, bad files and addresses, ps."""

import itertools
import json
import os.path
import pathlib
import re
import socket
import subprocess
import threading
import time
import urllib.parse

import pytest

from ridge_process import MODEL

ENDLESS = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Write a very long story."}],
    "max_tokens": 900,
    "ignore_eos": True,
}
# More than those of two steps, by what a busy machine makes between a look at the figures and a closed connection; half
# of what one was asked for.
LATE_TOKENS = 450


def open_stream(server, body):
    """A socket on which the first token of a stream has arrived."""
    address = urllib.parse.urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=60)
    text = json.dumps({**body, "stream": True})
    connection.sendall(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
    )
    received = b""
    while received.count(b"data: ") < 2:
        piece = connection.recv(4096)
        assert piece, received
        received += piece
    return connection, received


def test_a_client_that_leaves_frees_its_blocks(server):
    before = server.wait_until_idle()
    assert before["blocks_free"] == before["blocks_total"]
    connections = [open_stream(server, ENDLESS)[0] for _ in range(3)]
    busy = server.wait_for_figures(lambda figures: figures["running"] == 3)
    assert busy["blocks_free"] < before["blocks_free"]
    for connection in connections:
        connection.close()
    after = server.wait_until_idle()
    assert after["blocks_free"] == before["blocks_free"]
    assert after["generated_tokens_total"] - busy["generated_tokens_total"] < LATE_TOKENS


def test_a_client_that_leaves_before_its_answer_frees_its_blocks(server):
    before = server.wait_until_idle()
    address = urllib.parse.urlsplit(server.url)
    text = json.dumps(ENDLESS)
    for _ in range(3):
        idle = server.wait_until_idle()
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(text)}\r\n\r\n"
                f"{text}".encode()
            )
            busy = idle
            while busy["generated_tokens_total"] == idle["generated_tokens_total"]:
                busy = server.model_figures()
        after = server.wait_until_idle()
        assert after["generated_tokens_total"] - busy["generated_tokens_total"] < LATE_TOKENS
    assert after["blocks_free"] == before["blocks_free"]


def test_bad_bodies_are_400(server):
    for body in ("", "{", "[]", '"text"', "[" * 100_000, '{"messages":' * 100, "{\"messages\": \"\xff\"}"):
        status, headers, answer = server.request("POST", "/v1/chat/completions", body.encode("latin-1"))
        assert status == 400, body[:50]
        assert json.loads(answer)["error"]["type"] == "invalid_request_error"
        assert headers["x-request-id"]
    status, _, _ = server.request("POST", "/v1/chat/completions", b" " * (8 * 1024 * 1024 + 1))
    assert status == 413


def test_a_foreign_host_or_origin_is_refused(server):
    assert server.request("GET", "/v1/models", headers={"Host": "evil.example"})[0] == 403
    assert server.request("GET", "/v1/models", headers={"Origin": "http://evil.example"})[0] == 403
    assert server.request("GET", "/v1/models", headers={"Host": "localhost:1234"})[0] == 200


def test_logs_each_request_without_its_words(start_server):
    server = start_server("--context", "256")
    body = {"model": MODEL, "messages": [{"role": "user", "content": "xyzzy"}], "max_tokens": 2}
    server.post_json("/v1/chat/completions", body)
    log = server.wait_for_log("POST /v1/chat/completions 200")
    assert "completion_tokens=2" in log or "completion_tokens=1" in log
    assert "xyzzy" not in log
    assert server.stop() == 0


def test_sigterm_lets_a_running_answer_end(start_server):
    server = start_server("--context", "1024")
    connection, received = open_stream(server, {**ENDLESS, "max_tokens": 60})
    server.terminate()
    status = 0
    until = time.monotonic() + 10
    while status != 503 and time.monotonic() < until:
        try:
            status = server.request("GET", "/v1/health/ready")[0]
        except ConnectionError:
            break  # the answer has ended already
    while piece := connection.recv(4096):
        received += piece
    assert received.rstrip(b"0\r\n ").endswith(b"data: [DONE]")
    assert server.stop() == 0


def test_sigterm_ends_what_takes_too_long_with_an_error(start_server):
    server = start_server("--context", "8192", "--drain-s", "0")
    connection, received = open_stream(server, {**ENDLESS, "max_tokens": 8000})
    server.terminate()
    while piece := connection.recv(4096):
        received += piece
    assert b'"code":"unavailable"' in received
    assert b"[DONE]" not in received
    assert server.stop() == 0


def test_live_waits_for_a_step_as_long_as_it_is_told(start_server):
    # Without the instructions of this machine, so that one step lasts longer than a second anywhere.
    slow = ("--context", "1024", "--step-tokens", "1024", "--cpu-isa", "scalar", "--threads", "1")
    body = {"prompt": "The river runs through the old town, under three bridges. " * 3, "max_tokens": 1}
    seen = {}
    for name, seconds in {"short": "1", "long": "3600"}.items():
        server = start_server(*slow, "--stall-s", seconds)
        answers = []
        asking = threading.Thread(target=lambda: answers.append(server.post_json("/v1/completions", body, timeout=600)[0]))
        begun = time.monotonic()
        asking.start()
        seen[name] = set()
        while asking.is_alive():
            status, _, answer = server.request("GET", "/v1/health/live")
            seen[name].add((status, json.loads(answer)["status"]))
            time.sleep(0.05)
        assert answers == [200]
        assert time.monotonic() - begun > 1.5, "the step was too short to show anything"
        assert server.stop() == 0
    assert seen == {"short": {(200, "ok"), (503, "stalled")}, "long": {(200, "ok")}}


def test_a_full_queue_is_429(start_server):
    server = start_server("--context", "512", "--max-sequences", "1", "--max-queued", "1")
    body = {**ENDLESS, "max_tokens": 200}
    statuses = []

    def ask():
        for _ in range(20):  # again and again where others' threads came late
            status, headers, _ = server.request("POST", "/v1/chat/completions", json.dumps(body), timeout=300)
            statuses.append((status, headers.get("retry-after")))
            if any(status == 429 for status, _ in statuses):
                return

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [entry for entry in statuses if entry[0] == 429]
    assert refused and all(int(retry_after) >= 1 for _, retry_after in refused)
    assert any(status == 200 for status, _ in statuses)
    assert {status for status, _ in statuses} == {200, 429}
    server.stop()


def run(ridge_binary, environment, *words, **options):
    return subprocess.run(
        [ridge_binary, *words], env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        **options,
    )


@pytest.mark.parametrize("command", [["serve"], ["run", "hello"]])
def test_a_file_that_is_no_model_is_a_clear_error(ridge_binary, model_environment, tmp_path, command):
    files = {
        "empty.gguf": b"",
        "text.gguf": b"This is a text and no model.\n" * 100,
        "short.gguf": b"GGUF",
        "huge.gguf": b"GGUF" + (3).to_bytes(4, "little") + (2**63).to_bytes(8, "little") * 2,
    }
    for file_name, content in files.items():
        path = tmp_path / file_name
        path.write_bytes(content)
        words = [command[0], str(path), *command[1:]]
        if command[0] == "serve":
            words += ["--port", "0"]
        result = run(ridge_binary, model_environment, *words)
        assert result.returncode == 1, result
        assert result.stderr.startswith("ridge: ") or "\nridge: " in result.stderr, result
        assert file_name in result.stderr


def test_a_model_that_is_not_here_names_the_command(ridge_binary, plain_environment, tmp_path):
    result = run(ridge_binary, {**plain_environment, "RIDGE_HOME": str(tmp_path)}, "serve", MODEL, "--port", "0")
    assert result.returncode == 1
    assert f"ridge pull {MODEL}" in result.stderr


def test_a_busy_port_is_said_before_loading(server, ridge_binary, model_environment):
    port = str(urllib.parse.urlsplit(server.url).port)
    result = run(ridge_binary, model_environment, "serve", MODEL, "--port", port, "--no-auth")
    assert result.returncode == 1
    assert "in use" in result.stderr and "--port" in result.stderr
    assert "loading" not in result.stderr


def test_an_open_address_needs_keys_and_a_word(ridge_binary, model_environment, tmp_path):
    words = ["serve", MODEL, "--host", "0.0.0.0", "--port", "0"]
    result = run(ridge_binary, model_environment, *words, "--no-auth")
    assert result.returncode == 1
    assert "--no-auth" in result.stderr
    result = run(ridge_binary, model_environment, *words, "--database", tmp_path / "platform.db")
    assert result.returncode == 1
    assert "--trusted-proxy" in result.stderr and "--insecure-http" in result.stderr


def test_settings_come_from_file_and_environment(ridge_binary, model_environment, tmp_path):
    config = tmp_path / "ridge.toml"
    config.write_text(f'models = ["{MODEL}"]\nport = 0\nhost = "0.0.0.0"\nno_auth = true\n')
    result = run(ridge_binary, model_environment, "serve", "--config", str(config))
    assert "0.0.0.0 can be reached" in result.stderr  # so the host of the file was taken
    config.write_text('huge_pages = "sometimes"\n')
    result = run(ridge_binary, model_environment, "serve", MODEL, "--config", str(config))
    assert result.returncode == 2
    assert "huge_pages" in result.stderr and "sometimes" in result.stderr
    config.write_text("stall_s = 0\n")
    result = run(ridge_binary, model_environment, "serve", MODEL, "--config", str(config))
    assert result.returncode == 2
    assert "stall_s" in result.stderr
    config.write_text('no_such_key = 1\n')
    result = run(ridge_binary, model_environment, "serve", MODEL, "--config", str(config))
    assert result.returncode == 2
    assert "no_such_key" in result.stderr
    result = run(ridge_binary, {**model_environment, "RIDGE_PORT": "99999"}, "serve", MODEL)
    assert result.returncode != 0


def random_parts(server):
    """What stands behind the prefix in every id that a few answers bear."""
    message = {"role": "user", "content": "Hello"}
    chat = {"model": MODEL, "messages": [message], "max_tokens": 1}
    response = {"model": MODEL, "input": "Hello", "max_output_tokens": 16}
    parts = []
    for path, body in [("chat/completions", chat), ("messages", chat), ("responses", response)] * 3:
        status, headers, text = server.request("POST", f"/v1/{path}", json.dumps(body))
        assert status == 200, text
        ids = re.findall(rb'"id":"[a-z]+[-_](\w{24})"', text)
        assert ids, text
        parts += [found.decode() for found in ids]
        parts.append(headers["x-request-id"].removeprefix("req_"))
        parts += headers["traceparent"].split("-")[1:3]
    return parts


def test_ids_tell_nothing_of_others_even_after_a_restart(start_server):
    parts = []
    for _ in range(2):  # the same start twice, as a service manager does it
        server = start_server("--context", "256")
        parts += random_parts(server)
        server.stop()
    assert len(parts) >= 70
    for one, other in itertools.combinations(parts, 2):
        # Ids that count, or that begin with a time or a process, have more in common. By chance once in 10^10 runs.
        assert len(os.path.commonprefix([one, other])) < 12, (one, other)
        assert len(os.path.commonprefix([one[::-1], other[::-1]])) < 12, (one, other)


def test_ps_shows_what_runs(start_server, ridge_binary, model_environment, model_home):
    server = start_server("--context", "256")
    stale = pathlib.Path(model_home) / "run" / "999999999.json"
    stale.write_text('{"pid":999999999,"start_ticks":1,"url":"http://127.0.0.1:1","models":["x"],"started_at_s":1}')
    listed = json.loads(run(ridge_binary, model_environment, "ps", "--json").stdout)["servers"]
    mine = [entry for entry in listed if entry["pid"] == server.process.pid]
    assert len(mine) == 1
    assert mine[0]["url"] == server.url
    assert mine[0]["status"] == "ok"
    assert mine[0]["models"][0]["name"] == MODEL
    assert mine[0]["models"][0]["running"] == 0
    assert not stale.exists()
    assert MODEL in run(ridge_binary, model_environment, "ps").stdout
    server.stop()
    listed = json.loads(run(ridge_binary, model_environment, "ps", "--json").stdout)["servers"]
    assert server.process.pid not in [entry["pid"] for entry in listed]


def test_doctor_tells_what_fits(ridge_binary, model_environment):
    report = json.loads(run(ridge_binary, model_environment, "doctor", "--json").stdout)
    assert report["machine"]["cpus"] >= 1
    assert report["machine"]["memory_available_bytes"] > 0
    assert report["devices"][0]["threads"] >= 1
    assert {report["devices"][0][key] for key in ("threads_pinned", "huge_pages")} <= {True, False}
    models = {model["name"]: model for model in report["models"]}
    assert models[MODEL]["fits_memory"] and models[MODEL]["is_here"]
    assert models[MODEL]["expected_tokens_per_second"] > 0
    text = run(ridge_binary, model_environment, "doctor", "--no-measure").stdout
    assert "Processor" in text and "(--pin-threads)" in text and "(--huge-pages)" in text
