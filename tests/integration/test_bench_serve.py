"""`ridge bench --serve`: against our own server, and against one that answers as a script says."""

import contextlib
import http.server
import json
import pathlib
import struct
import threading
import time
import xml.etree.ElementTree

import pytest

from ridge_process import RidgeServer

TINY = pathlib.Path(__file__).resolve().parents[1] / "goldens" / "llama-f32.gguf"


@pytest.fixture(scope="module")
def tiny_server(ridge_binary, plain_environment, tmp_path_factory):
    environment = {**plain_environment, "RIDGE_HOME": str(tmp_path_factory.mktemp("store"))}
    server = RidgeServer(ridge_binary, environment, TINY, ["--threads", "1"])
    yield server
    server.terminate()


@pytest.fixture
def load(ridge):
    """Runs `ridge bench --serve URL WORDS --json` and gives its report."""

    def run(url, *words, returncode=0, **keywords):
        result = ridge("bench", "--serve", url, "--json", *words, **keywords)
        assert result.returncode == returncode, result.stderr + result.stdout
        return json.loads(result.stdout)

    return run


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_closed_loop_counts_what_the_server_counted(tiny_server, load, tmp_path, endpoint):
    before = tiny_server.wait_until_idle()
    picture = tmp_path / "load.svg"
    report = load(
        tiny_server.url, "--endpoint", endpoint, "--concurrency", "3", "--requests", "10",
        "-p", "40", "-n", "8", "--ignore-eos", "--tokens-per-word", "3", "--svg", picture,
    )  # fmt: skip
    after = tiny_server.wait_until_idle()
    assert (report["requests"], report["ok"], report["failed"]) == (10, 10, 0)
    assert report["output_tokens"] == 80 == after["generated_tokens_total"] - before["generated_tokens_total"]
    assert report["prompt_tokens"] > 0
    assert report["ttft_ms"]["count"] == report["end_to_end_ms"]["count"] == 10
    for times in (report["ttft_ms"], report["end_to_end_ms"]):
        assert 0 < times["p50"] <= times["p90"] <= times["p95"] <= times["p99"] <= times["max"]
    assert report["end_to_end_ms"]["max"] <= 1000 * report["duration_s"] + 1
    assert xml.etree.ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_prompts_have_about_the_tokens_that_were_asked_for(tiny_server, load):
    report = load(
        tiny_server.url, "--endpoint", "completions", "--requests", "8", "-p", "60", "-n", "2", "--ignore-eos"
    )
    assert report["failed"] == 0
    assert report["prompt_tokens"] / 8 == pytest.approx(60, rel=0.15)


def test_a_shared_prefix_is_read_once(tiny_server, load):
    report = load(
        tiny_server.url, "--endpoint", "completions", "--requests", "6", "--shared-prefix", "64", "-p", "20",
        "-n", "2", "--ignore-eos", "--warmup", "1", "--seed", "11",
    )  # fmt: skip
    assert report["failed"] == 0
    assert report["cached_tokens"] >= 6 * 32


def test_groups_are_reported_apart(tiny_server, load):
    report = load(
        tiny_server.url, "--group", "light,rate=20,key=a", "--group", "heavy,clients=2,key=b", "--duration", "1",
        "-p", "20", "-n", "4", "--ignore-eos", "--tokens-per-word", "3", "--slo-ttft-ms", "60000",
    )  # fmt: skip
    light, heavy = report["groups"]
    assert (light["name"], heavy["name"]) == ("light", "heavy")
    assert light["ok"] > 0 and heavy["ok"] > 0
    assert light["ok"] + heavy["ok"] == report["ok"]
    assert light["good"] + heavy["good"] == report["good"]
    # Four tokens of a random model may all be special ones: such an answer has no first text to be good by.
    assert 0.98 * report["ok"] <= report["good"] <= report["ok"]


@pytest.fixture
def talkative_server(ridge_binary, plain_environment, tmp_path):
    """Its model has a context of 4,096 tokens: its answers last longer than its clients stay, on a fast machine too."""
    key = b"llama.context_length" + struct.pack("<I", 4)  # a uint32 follows
    data = TINY.read_bytes()
    assert data.count(key + struct.pack("<I", 128)) == 1
    model = tmp_path / "talkative.gguf"
    model.write_bytes(data.replace(key + struct.pack("<I", 128), key + struct.pack("<I", 4096)))
    environment = {**plain_environment, "RIDGE_HOME": str(tmp_path / "store")}
    server = RidgeServer(ridge_binary, environment, model, ["--threads", "1"])
    yield server
    server.terminate()


def test_clients_that_leave_leave_nothing_behind(talkative_server, load):
    before = talkative_server.wait_until_idle()
    descriptors = pathlib.Path(f"/proc/{talkative_server.process.pid}/fd")
    open_before = len(list(descriptors.iterdir()))
    report = load(
        talkative_server.url, "--concurrency", "16", "--requests", "200", "-p", "30", "-n", "1500", "--ignore-eos",
        "--tokens-per-word", "3", "--disconnect", "1",
    )  # fmt: skip
    assert report["failed"] == 0
    assert report["left"] > 40 and report["left"] + report["ok"] == 200
    after = talkative_server.wait_until_idle()
    assert after["blocks_free"] == before["blocks_free"]
    until = time.monotonic() + 60
    while talkative_server.health()["connections"] > 1 or len(list(descriptors.iterdir())) > open_before + 1:
        assert time.monotonic() < until, (talkative_server.health(), sorted(descriptors.iterdir()))
        time.sleep(0.05)


def test_a_trace_says_what_is_asked_and_when(tiny_server, load, tmp_path):
    trace = tmp_path / "trace.jsonl"
    lines = [{"arrival_ms": 400 * i, "prompt": "one two", "output_tokens": 3 + i} for i in range(3)]
    trace.write_text("\n".join(map(json.dumps, lines)))
    report = load(tiny_server.url, "--trace", trace, "--ignore-eos", "--endpoint", "completions")
    assert report["ok"] == 3
    assert report["output_tokens"] == 3 + 4 + 5
    assert report["duration_s"] >= 0.8


def test_the_table_is_for_people(tiny_server, ridge):
    result = ridge(
        "bench", "--serve", tiny_server.url, "--requests", "2", "-p", "20", "-n", "4", "--tokens-per-word", "3"
    )
    assert result.returncode == 0, result.stderr
    assert "first token" in result.stdout and "P99" in result.stdout and "2 answered, 0 failed" in result.stdout


class Script(http.server.BaseHTTPRequestHandler):
    """Answers requests in turn as `server.script` says: a function of the handler."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            number = self.server.asked
            self.server.asked += 1
            self.server.keys.append(self.headers.get("Authorization"))
        self.server.script[min(number, len(self.server.script) - 1)](self)

    def log_message(self, *words):
        pass

    def refuse(self, status, body, headers=()):
        text = body.encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def stream(self, *events, pause_s=0.0, whole=True):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        for event in events:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
            time.sleep(pause_s)
        if whole:
            self.wfile.write(b"data: [DONE]\n\n")


@contextlib.contextmanager
def scripted(*script):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Script)
    server.script, server.asked, server.lock, server.keys = script, 0, threading.Lock(), []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def text(words):
    return {"choices": [{"index": 0, "delta": {"content": words}}]}


ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
QUICKLY = ("m", "--requests", "1", "--tokens-per-word", "1")


def answer(handler):
    handler.stream(ROLE, text("a"), text("b"), text("c"), END, USAGE, pause_s=0.1)


def test_times_are_those_of_the_events(load):
    with scripted(answer) as server:
        report = load(server.url, *QUICKLY, "--api-key", "secret")
        assert server.keys == ["Bearer secret"]
    # The role came 100 ms before the first text; then two gaps and a rest of 300 ms. A busy machine makes the time
    # until each event longer, but a gap shorter by as much as what it begins with came late.
    ttft, whole = (report[name]["p50"] for name in ("ttft_ms", "end_to_end_ms"))
    gaps = report["inter_token_ms"]
    last = ttft + 2 * gaps["mean"]
    assert gaps["count"] == 2
    assert ttft >= 100 and last >= 300 and whole >= 600
    assert last <= whole + 0.1  # of rounding
    assert (report["prompt_tokens"], report["output_tokens"]) == (9, 3)


def test_a_refusal_is_tried_again_when_retry_after_says(load):
    def full(handler):
        handler.refuse(429, '{"error":{"code":"queue_full","message":"full"}}', [("Retry-After", "1")])

    with scripted(full, answer) as server:
        report = load(server.url, *QUICKLY, "--retry-429")
    assert (report["ok"], report["failed"], report["retries"]) == (1, 0, 1)
    assert report["ttft_ms"]["p50"] >= 1100
    with scripted(full, answer) as server:
        report = load(server.url, *QUICKLY, returncode=1)
    assert report["failures"] == {"429 queue_full": 1}


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (lambda h: h.refuse(500, "oops"), "500"),
        (lambda h: h.stream(text("a"), {"error": {"code": "internal", "message": "m"}}), "in the stream: internal"),
        (lambda h: h.stream(text("a"), whole=False), "ended before it was finished"),
        (lambda h: h.stream(["no object"]), "broken stream: an event of the stream holds no JSON object"),
    ],
)
def test_failures_are_counted_by_kind(load, script, kind):
    with scripted(script) as server:
        report = load(server.url, *QUICKLY, returncode=1)
    assert report["failures"] == {kind: 1}


def test_a_request_that_takes_too_long_has_failed(load):
    with scripted(lambda handler: time.sleep(20)) as server:
        report = load(server.url, *QUICKLY, "--timeout", "0.3", returncode=1)
    assert report["failures"] == {"Timeout was reached": 1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--serve", "nonsense"), "nonsense"),
        (("--serve", "http://127.0.0.1:9", "-p", "5-"), "--prompt-tokens '5-' is no length in tokens"),
        (("--serve", "http://127.0.0.1:9", "--rate", "1", "--concurrency", "2"), "--rate"),
        (("--serve", "http://127.0.0.1:9", "--group", "x"), "wants either a rate or clients"),
        (("--serve", "http://127.0.0.1:9", "--trace", "absent"), "cannot read the trace absent"),
        (("--serve", "http://127.0.0.1:9", "--extra-body", "x"), "--extra-body 'x' is no JSON object"),
        (("--serve", "http://127.0.0.1:9", "--svg", "absent/x.svg"), "cannot write the picture"),
        (("--serve", "http://127.0.0.1:9", "--batch", "2"), "--batch"),
        (("--serve", "http://127.0.0.1:9"), "cannot talk to http://127.0.0.1:9/v1/models"),
        ((TINY, "--rate", "1"), "--serve"),
        ((TINY, "-p", "100-400"), "ranges and distributions are for --serve"),
    ],
)
def test_bad_input_gets_a_clear_error(ridge, words, message):
    result = ridge("bench", *words)
    assert result.returncode in (1, 2)
    assert message in result.stderr
    assert result.stdout == ""
