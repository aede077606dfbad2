"""Every metric of docs/serving.md is there, and moves with what it tells of."""

import http.server
import json
import pathlib
import re
import threading
import time

import pytest

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "serving.md"
REPEATING = "one two three four five six seven eight nine ten. " * 12


def documented_metrics():
    text = DOCUMENT.read_text()
    section = text[text.index("## What to watch") : text.index("## What became of a request")]
    return set(re.findall(r"`((?:vllm:|gen_ai_|ridge:)\w+)`", section))


def values(server):
    """The sum of each metric's samples, of a histogram its count."""
    sums = {}
    for line in server.request("GET", "/metrics")[2].decode().splitlines():
        if line.startswith("#"):
            continue
        sample, value = line.rsplit(" ", 1)
        name = sample.split("{")[0].removesuffix("_count")
        if not name.endswith(("_bucket", "_sum")):
            sums[name] = sums.get(name, 0) + float(value)
    return sums


def complete(server, key, max_tokens):
    body = {"prompt": REPEATING, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    status, _, answer = server.request("POST", "/v1/completions", json.dumps(body), headers, timeout=300)
    assert status == 200, answer


@pytest.fixture
def reluctant_collector():
    """The address of a collector of traces that keeps all of an export but one span."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            answer = json.dumps({"partialSuccess": {"rejectedSpans": "1"}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_every_documented_metric_moves(start_server, reluctant_collector):
    server = start_server("--context", "1024", "--max-sequences", "2", "--otlp-traces", reluctant_collector)
    names = documented_metrics()
    # Of models whose experts are paged: test_beyond_memory.py and expert_pages_test.cc have them.
    of_experts = {name for name in names if name.startswith("ridge:expert_")}
    assert of_experts <= set(values(server))
    names -= of_experts
    # Of spilled blocks and adapters: test_serving.py and test_adapters.py have them.
    names -= {name for name in names if name.startswith("ridge:kv_cache_")} | {"vllm:lora_requests_info"}
    assert len(names) > 12
    still = {name for name, value in values(server).items() if value == 0}
    # Three of one key at once: two run and one waits; then another key takes one of the places.
    crowd = [threading.Thread(target=complete, args=(server, "many", 200)) for _ in range(3)]
    for thread in crowd:
        thread.start()
    until = time.monotonic() + 120
    unmoved = set(names)
    other = None
    while unmoved and time.monotonic() < until:
        now = values(server)
        unmoved -= {name for name in unmoved if now.get(name, 0) > 0}
        if other is None and now["vllm:num_requests_running"] == 2 and now["vllm:num_requests_waiting"] == 1:
            other = threading.Thread(target=complete, args=(server, "few", 3))
            other.start()
        time.sleep(0.02)
    for thread in [*crowd, other]:
        thread.join()
    assert not unmoved
    # What has not happened yet is 0 or, of what is counted for each request, not there.
    before = {name for name in names if name in still}
    assert {"vllm:num_preemptions_total", "vllm:prefix_cache_hits_total", "ridge:otlp_requests_total"} <= before
