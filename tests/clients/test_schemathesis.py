"""Schemathesis makes requests from /openapi.json, good ones and bad ones: none may be answered with 5xx."""

import collections
import contextlib
import json
import pathlib
import re
import subprocess
import sys
import threading
import urllib.parse

GOLDEN_MODEL = pathlib.Path(__file__).resolve().parents[1] / "goldens" / "llama-f32.gguf"
EXAMPLES = 40  # for each operation
# Of each operation with a body: the coverage phase alone makes more.
LEAST_EXAMPLES = 40
# A well-formed request is read to its end: some get through to the model.
ANSWERED = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/responses", "/api/chat",
            "/v1/requests/{id}/answer_now"]  # fmt: skip
# Of a request that runs all the time.
RUNNING = "req_running"


def easily_accepted(document):
    """The document with requests that are not refused before all else: without a model, as most names are of none, and
    without options of streams, as most requests do not stream; and with the id of a request that runs among those to be
    answered now.
    """
    schemas = document["components"]["schemas"]
    changed = 0
    for item in document["paths"].values():
        if "post" not in item or "requestBody" not in item["post"]:
            continue
        schema = item["post"]["requestBody"]["content"].get("application/json", {}).get("schema", {})
        if "$ref" not in schema:  # of what asks no model, as forms with files
            continue
        name = schema["$ref"].rsplit("/", 1)[-1]
        schemas[name]["properties"]["model"] = {"type": "null"}
        schemas[name]["properties"].pop("stream_options", None)
        for rule in ("if", "then"):  # of those options
            schemas[name].pop(rule, None)
        changed += 1
    assert changed >= 15, "the requests are described elsewhere"
    ids = document["paths"]["/v1/requests/{id}/answer_now"]["post"]["parameters"][0]
    ids["schema"] = {"anyOf": [{"const": RUNNING}, ids["schema"]]}
    return document


def operations_of(document):
    return {(method.upper(), path) for path, item in document["paths"].items() for method in item}


def counted(har, document):
    """How often each operation was asked, and how often with success."""
    forms = [
        (method, path, re.compile(re.sub(r"\\{[^}]*\\}", ".+", re.escape(path))))
        for method, path in sorted(operations_of(document), key=lambda operation: -len(operation[1]))
    ]
    asked, answered = collections.Counter(), collections.Counter()
    for entry in har["log"]["entries"]:
        path = urllib.parse.urlsplit(entry["request"]["url"]).path
        for method, described, form in forms:
            if method == entry["request"]["method"] and form.fullmatch(path):
                asked[method, described] += 1
                answered[method, described] += entry["response"]["status"] == 200
                break
    return asked, answered


@contextlib.contextmanager
def running_request(server):
    """One answer after the other under the id RUNNING."""
    stopped = threading.Event()
    statuses = collections.Counter()

    def ask():
        body = json.dumps({"prompt": "a", "max_tokens": 400, "ignore_eos": True})
        headers = {"Content-Type": "application/json", "x-request-id": RUNNING}
        while not stopped.is_set():
            statuses[server.request("POST", "/v1/completions", body, headers)[0]] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    assert set(statuses) == {200}, statuses


def test_finds_no_failure_of_the_server(start_server, tmp_path):
    # Random weights that take milliseconds: what is judged is how requests are read.
    server = start_server(model=str(GOLDEN_MODEL))
    document = easily_accepted(json.loads(server.request("GET", "/openapi.json")[2]))
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    command = [program, "run", "openapi.json", "--url", server.url, "--checks", "not_a_server_error"]
    command += ["--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1"]
    command += ["--suppress-health-check", "all", "--request-timeout", "60", "--no-color", "--warnings", "off"]
    command += ["--report", "har", "--report-har-path", "requests.har"]
    with running_request(server):
        run = subprocess.run(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800
        )
    print(run.stdout[-4000:])
    assert run.returncode == 0, run.stdout[-4000:]
    asked, answered = counted(json.loads((tmp_path / "requests.har").read_text()), document)
    print("\n".join(f"{method} {path}: {asked[method, path]}, {answered[method, path]} with 200"
                    for method, path in sorted(operations_of(document))))  # fmt: skip
    for method, path in operations_of(document):
        least = LEAST_EXAMPLES if "requestBody" in document["paths"][path][method.lower()] else 1
        assert asked[method, path] >= least, f"{method} {path}"
    for path in ANSWERED:
        assert answered["POST", path] > 0, path
    # It still serves, and holds nothing of those who asked.
    figures = server.wait_until_idle()
    assert figures["blocks_free"] == figures["blocks_total"]
    assert server.post_json("/v1/completions", {"prompt": "a", "max_tokens": 1})[0] == 200
