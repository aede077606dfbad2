"""What became of requests: /v1/requests, traces sent to a collector, and metrics."""

import base64
import contextlib
import http.server
import json
import pathlib
import threading
import time

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, http_attributes

TINY = pathlib.Path(__file__).resolve().parents[1] / "goldens" / "llama-f32.gguf"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"


class Collector:
    """Takes OTLP/HTTP on loopback; `status` is what it answers, and `spans` what it has understood."""

    def __init__(self):
        self.status = 200
        self.spans = []
        self.posts = 0
        self.news = threading.Condition()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/json"
                with collector.news:
                    collector.posts += 1
                    if collector.status == 200:
                        collector.spans += spans_of(body)
                    collector.news.notify_all()
                self.send_response(collector.status)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, is_there, timeout_s=30):
        with self.news:
            assert self.news.wait_for(is_there, timeout_s), f"{self.posts} posts, {len(self.spans)} spans"

    def root_of(self, trace_id):
        self.wait_for(lambda: any(span.trace_id.hex() == trace_id for span in self.spans))
        return next(span for span in self.spans if span.trace_id.hex() == trace_id and span.kind == span.SPAN_KIND_SERVER)

    def children_of(self, root):
        return {span.name: span for span in self.spans if span.parent_span_id == root.span_id}


def spans_of(body):
    """The spans of an export, read by OpenTelemetry's own definition of the protocol."""

    # OTLP writes ids in hexadecimal, where the JSON of protocol buffers has base64.
    def with_base64(value):
        if isinstance(value, list):
            return [with_base64(each) for each in value]
        if not isinstance(value, dict):
            return value
        ids = ("traceId", "spanId", "parentSpanId")
        return {
            key: base64.b64encode(bytes.fromhex(each)).decode() if key in ids else with_base64(each)
            for key, each in value.items()
        }

    request = json_format.ParseDict(with_base64(json.loads(body)), ExportTraceServiceRequest())
    (resource,) = request.resource_spans
    assert attributes_of(resource.resource)["service.name"] == "ridge"
    return [span for scope in resource.scope_spans for span in scope.spans]


def attributes_of(thing):
    def plain(value):
        kind = value.WhichOneof("value")
        if kind == "array_value":
            return [plain(each) for each in value.array_value.values]
        return getattr(value, kind)

    return {attribute.key: plain(attribute.value) for attribute in thing.attributes}


@pytest.fixture(scope="module")
def collector():
    collector = Collector()
    yield collector
    collector.server.shutdown()


@pytest.fixture(scope="module")
def traced(start_server, collector):
    return start_server("--otlp-traces", collector.url, "--max-sequences", "1", "--threads", "1", model=str(TINY))


def ask(server, request_id, key=None, traceparent=None, **fields):
    body = {"prompt": "a b c", "max_tokens": 5, "temperature": 0, "ignore_eos": True, **fields}
    headers = {"Content-Type": "application/json", "x-request-id": request_id}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    if traceparent is not None:
        headers["traceparent"] = traceparent
    status, head, answer = server.request("POST", "/v1/completions", json.dumps(body), headers)
    return status, head, json.loads(answer)


def get(server, path, key=None):
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    status, _, body = server.request("GET", path, headers=headers)
    return status, json.loads(body)


def record_of(server, request_id, key=None, state="finished"):
    """The record once it stands so; a request ends a little after its last byte."""
    until = time.monotonic() + 30
    while True:
        status, record = get(server, f"/v1/requests/{request_id}", key)
        if status == 200 and record["state"] == state:
            return record
        assert time.monotonic() < until, record
        time.sleep(0.01)


def test_a_request_becomes_spans_of_its_callers_trace(traced, collector):
    status, head, answer = ask(traced, "traced", traceparent=f"00-{TRACE_ID}-{PARENT_ID}-01", seed=4, n=2)
    assert status == 200
    root = collector.root_of(TRACE_ID)
    assert head["traceparent"] == f"00-{TRACE_ID}-{root.span_id.hex()}-01"
    assert root.parent_span_id.hex() == PARENT_ID
    assert root.name == "text_completion llama-f32"
    assert root.start_time_unix_nano < root.end_time_unix_nano
    assert abs(root.end_time_unix_nano / 1e9 - time.time()) < 600
    attributes = attributes_of(root)
    assert attributes[gen_ai_attributes.GEN_AI_OPERATION_NAME] == "text_completion"
    assert attributes[gen_ai_attributes.GEN_AI_REQUEST_MODEL] == "llama-f32"
    assert attributes[gen_ai_attributes.GEN_AI_RESPONSE_ID] == answer["id"]
    assert attributes[gen_ai_attributes.GEN_AI_REQUEST_MAX_TOKENS] == 5
    assert attributes[gen_ai_attributes.GEN_AI_REQUEST_SEED] == 4
    assert attributes[gen_ai_attributes.GEN_AI_REQUEST_CHOICE_COUNT] == 2
    assert attributes[gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS] == answer["usage"]["prompt_tokens"]
    assert attributes[gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS] == 10
    assert attributes[gen_ai_attributes.GEN_AI_RESPONSE_FINISH_REASONS] == ["length", "length"]
    assert attributes[http_attributes.HTTP_ROUTE] == "/v1/completions"
    assert attributes[http_attributes.HTTP_RESPONSE_STATUS_CODE] == 200
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    assert {name for name in attributes if name.startswith("gen_ai.")} <= known
    phases = collector.children_of(root)
    assert set(phases) == {"queue", "prefill", "decode"}
    assert phases["queue"].end_time_unix_nano == phases["prefill"].start_time_unix_nano
    assert "prefill" in [event.name for event in phases["prefill"].events]
    assert [event.name for event in phases["decode"].events].count("finished") == 2


def test_what_a_caller_does_not_record_is_not_exported(traced, collector):
    unwanted = "1" * 32
    ask(traced, "unsampled", traceparent=f"00-{unwanted}-{PARENT_ID}-00")
    ask(traced, "sampled", traceparent=f"00-{'2' * 32}-{PARENT_ID}-01")
    collector.root_of("2" * 32)
    assert not any(span.trace_id.hex() == unwanted for span in collector.spans)
    assert record_of(traced, "unsampled")["trace_id"] == unwanted


def test_a_refusal_names_its_error(traced, collector):
    status, head, _ = ask(traced, "refused", max_tokens=-1)
    assert status == 400
    attributes = attributes_of(collector.root_of(head["traceparent"].split("-")[1]))
    assert attributes[error_attributes.ERROR_TYPE] == "invalid_argument"
    assert attributes[http_attributes.HTTP_RESPONSE_STATUS_CODE] == 400


@contextlib.contextmanager
def long_answer(server, request_id):
    """A request that runs until it is left."""
    connection = server.connect()
    body = {"prompt": "a b c", "max_tokens": 900, "ignore_eos": True, "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"x-request-id": request_id})
    try:
        connection.getresponse().read(1)
        yield
    finally:
        connection.close()


def test_a_request_tells_why_it_waited(start_server):
    server = start_server("--max-sequences", "1", "--no-speculation", "--context", "1024")
    with long_answer(server, "runs"):
        waiting = threading.Thread(target=lambda: ask(server, "waits", key="other"))
        waiting.start()
        record = record_of(server, "waits", "other", state="waiting")
        while not record["waits_for"]:
            record = record_of(server, "waits", "other", state="waiting")
        assert record["waits_for"] == "place"
        assert get(server, "/v1/requests/waits")[0] == 404, "it is another's"
        assert get(server, "/v1/requests/runs")[1]["state"] == "running"
    waiting.join()
    record = record_of(server, "waits", "other")
    kinds = [event["event"] for event in record["events"]]
    assert kinds == ["queued", "waiting", "admitted", "prefill", "first_token", "finished"]
    times = [event["at_ms"] for event in record["events"]]
    assert times == sorted(times) and times[-1] <= record["duration_ms"]
    assert record["admitted_ms"] < record["first_token_ms"]
    left = record_of(server, "runs")
    assert left["error"] == "cancelled"
    assert left["events"][-1]["finish_reason"] == "cancelled"


def test_a_record_holds_no_text(traced):
    word = "Wetterfrosch"
    _, _, answer = ask(traced, "secret", prompt=word)
    status, _, body = traced.request("GET", "/v1/requests/secret")
    assert status == 200 and word.encode() not in body
    assert "text" not in json.loads(body)
    assert record_of(traced, answer["id"])["id"] == "secret"


def test_the_list_of_requests_shows_the_latest_first(traced):
    for number in range(3):
        ask(traced, f"listed-{number}", key="lister")
    record_of(traced, "listed-2", "lister")
    _, listed = get(traced, "/v1/requests?limit=2&state=finished", "lister")
    assert [record["id"] for record in listed["data"]] == ["listed-2", "listed-1"]
    assert listed["has_more"] and "events" not in listed["data"][0]
    assert get(traced, "/v1/requests", "nobody")[1]["data"] == []
    assert get(traced, "/v1/requests?limit=1000")[0] == 400


def samples(server):
    text = server.request("GET", "/metrics")[2].decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


def test_a_collector_that_is_away_costs_nobody_anything(start_server, collector):
    server = start_server("--otlp-traces", "http://127.0.0.1:1", model=str(TINY))
    for number in range(3):
        assert ask(server, f"away-{number}")[0] == 200
    until = time.monotonic() + 60
    while samples(server)['ridge:otlp_requests_total{result="failed"}'] < 3:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert samples(server)['ridge:otlp_requests_total{result="exported"}'] == 0
    assert server.read_log().count("could not be exported") == 1


def test_what_is_left_is_sent_when_the_server_stops(start_server):
    last = Collector()
    server = start_server("--otlp-traces", last.url, model=str(TINY))
    ask(server, "last", traceparent=f"00-{'3' * 32}-{PARENT_ID}-01")
    server.stop()
    last.root_of("3" * 32)
    last.server.shutdown()


def test_an_address_that_is_none_is_refused(ridge):
    result = ridge("serve", TINY, "--port", "0", "--otlp-traces", "localhost:4318")
    assert result.returncode != 0
    assert "otlp-traces" in result.stderr and "http" in result.stderr


def test_metrics_bear_opentelemetrys_names(traced):
    ask(traced, "counted")
    record_of(traced, "counted")
    names = {sample.split("{")[0] for sample in samples(traced)}
    for name, value in vars(gen_ai_metrics).items():
        if name.startswith("GEN_AI_SERVER_") and isinstance(value, str):
            assert value.replace(".", "_") + "_seconds_count" in names
