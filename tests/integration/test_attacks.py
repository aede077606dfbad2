"""Attacks from the list in docs/attacks.md that are best seen from outside."""

import contextlib
import json
import pathlib
import secrets
import socket
import subprocess
import threading
import time
import urllib.parse

import pytest

import tiny_model
from ridge_process import RidgeServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEEP = 60_000
NESTED = "(" * DEEP, ")" * DEEP
ASK = [{"role": "user", "content": "Say something."}]
PREFIX = "The river runs through the old town, under three bridges. " * 20


class Locked:
    """A server that asks for keys, with a model that can be given tools, and `ridge WORDS` beside it."""

    def __init__(self, binary, environment, folder, preload="", limit=()):
        self.binary = binary
        self.environment = {**environment, "RIDGE_HOME": str(folder)}
        model = tiny_model.write_tiny_model(folder / "tiny.gguf", tiny_model.HERMES_TOKENS, tiny_model.HERMES_TEMPLATE)
        self.key = self.run("key", "create", "first")["key"]
        if limit:
            self.run("limit", "set", *limit)
        self.server = RidgeServer(binary, {**self.environment, "LD_PRELOAD": preload}, model,
                                  ["--threads", "2", "--log-level", "debug"], asks_for_keys=True)

    def run(self, *words):
        result = subprocess.run([self.binary, *words, "--json"], env=self.environment, text=True, capture_output=True,
                                timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads(result.stdout)

    def post(self, path, body, key=None):
        """(status, answer); a body that is a string is sent as it is."""
        status, _, answer = self.server.request(
            "POST", path, body if isinstance(body, str) else json.dumps(body),
            {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"}, timeout=300)
        return status, json.loads(answer)

    def chat(self, **fields):
        body = {"model": "tiny", "messages": ASK, "max_tokens": 4, "enable_thinking": False, **fields}
        return self.post("/v1/chat/completions", body)


@pytest.fixture(scope="module")
def locked(ridge_binary, plain_environment, tmp_path_factory):
    made = Locked(ridge_binary, plain_environment, tmp_path_factory.mktemp("locked"))
    yield made
    made.server.stop()


@contextlib.contextmanager
def others_are_answered(locked):
    """Somebody else asks all the while, and each time gets an answer."""
    ends, statuses = threading.Event(), []

    def work():
        while not ends.is_set() or not statuses:
            statuses.append(locked.chat(guided_choice=["fine"])[0])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
    assert set(statuses) == {200}


def tool_of(schema):
    return [{"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}]


def text_of(field):
    return {"type": "object", "properties": {"a": {"type": "string", **field}}, "required": ["a"],
            "additionalProperties": False}


@pytest.mark.parametrize(
    "form",
    [
        {"guided_regex": "a".join(NESTED)},
        {"guided_grammar": "start: " + '"a"'.join(NESTED)},
        {"guided_json": text_of({"pattern": "a".join(NESTED)})},
        {"response_format": {"type": "json_schema", "json_schema": {
            "name": "n", "schema": text_of({"pattern": "a".join(NESTED)})}}},
        # The prompt has it too, and must find room in the context.
        {"tools": tool_of(text_of({"pattern": "(" * 1000 + "a" + ")" * 1000})), "tool_choice": "required"},
    ],
    ids=["regex", "grammar", "schema", "response_format", "tool"],
)
def test_groups_nested_without_end_are_refused(locked, form):
    with others_are_answered(locked):
        status, answer = locked.chat(**form)
        assert status == 400, answer
        assert "nests" in answer["error"]["message"] and len(answer["error"]["message"]) < 1000


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat"])
def test_tools_nested_without_end_are_refused(locked, path):
    deep = '{"properties":{"a":' * 3000 + "{}" + "}}" * 3000
    tool = f'{{"name":"f","input_schema":{deep},"parameters":{deep}}}'
    tools = f'[{{"type":"function","name":"f","function":{tool},"input_schema":{deep},"parameters":{deep}}}]'
    said = json.dumps(ASK)
    with others_are_answered(locked):
        status, answer = locked.post(
            path, f'{{"model":"tiny","messages":{said},"input":{said},"max_tokens":4,"tools":{tools}}}')
        assert status == 400, answer


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "a{99999999999}", "(?<=a)b", "(a)\\1"])
def test_a_bad_pattern_of_a_tool_is_its_own_requests_fault(locked, pattern):
    tools = tool_of(text_of({"pattern": pattern}))
    with others_are_answered(locked):
        for choice in ("required", "auto"):
            status, answer = locked.chat(tools=tools, tool_choice=choice)
            assert status == 400, answer
            assert answer["error"]["type"] == "invalid_request_error" and len(answer["error"]["message"]) < 1000


@pytest.mark.parametrize(
    "pattern",
    ["^(a|aa)+$", "(x+x+)+y", "((a{1,1000}){1,1000}){1,1000}", "(a|b)*a(a|b){200}", "([a-z]*[0-9]){500}", "(.*a){60}.{60}"])
def test_a_hard_pattern_ends_and_costs_others_nothing(locked, pattern):
    """Where it is answered, and not refused as too complex, the answer begins in the form that was asked for."""
    with others_are_answered(locked):
        for form in ({"guided_regex": pattern}, {"guided_json": text_of({"pattern": pattern})},
                     {"tools": tool_of(text_of({"pattern": pattern})), "tool_choice": "required"}):
            status, answer = locked.chat(**{**form, "max_tokens": 40, "temperature": 1, "seed": 1})
            assert status in (200, 400), answer
            if status == 400:
                assert "grammar" in answer["error"]["message"] and len(answer["error"]["message"]) < 1000, answer
            elif "guided_json" in form:
                assert answer["choices"][0]["message"]["content"].lstrip().startswith("{"), answer


NUMBERED = {  # what asks an engine, with a body that is answered
    "/v1/chat/completions": {"messages": ASK, "max_tokens": 2, "enable_thinking": False},
    "/v1/completions": {"prompt": "a", "max_tokens": 2},
    "/v1/messages": {"messages": ASK, "max_tokens": 2},
    "/v1/responses": {"input": "a", "max_output_tokens": 16},
    "/v1/embeddings": {"input": "a"},
    "/api/chat": {"messages": ASK, "stream": False, "options": {"num_predict": 2}},
    "/api/generate": {"prompt": "a", "stream": False, "options": {"num_predict": 2}},
}
ABSURD = ["-1", "-9223372036854775808", "9223372036854775808", "18446744073709551616", "1e308", "-1e308", "1e999", "1e-320"]

ALSO = {"priority": 403, "timeout_ms": 408}  # not everybody may go before others; and no time at all is over


def numbers_of(document, schema):
    """The names of the fields of a schema that may be numbers, with those of the objects in `options`."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    for part in schema.get("allOf", []):
        yield from numbers_of(document, part)
    for name, field in schema.get("properties", {}).items():
        if name == "options":
            yield from ((name, *inner) for inner in numbers_of(document, field))
        elif any(f'"{kind}"' in json.dumps(field) for kind in ("number", "integer")):
            yield (name,)


@pytest.mark.parametrize("path", NUMBERED)
def test_absurd_numbers_are_refused_or_without_effect(locked, path):
    """Each number that data/openapi.json describes; none makes an answer longer than the context, or ends the server."""
    document = json.loads((ROOT / "data/openapi.json").read_text())
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    refused, fields = 0, sorted(set(numbers_of(document, schema)))
    assert fields, "the document describes no number"
    with others_are_answered(locked):
        for *outer, field in fields:
            for value in ABSURD:
                body = json.loads(json.dumps({"model": "tiny", **NUMBERED[path]}))
                inner = body
                for name in outer:
                    inner = inner.setdefault(name, {})
                inner[field] = "ABSURD"
                status, answer = locked.post(path, json.dumps(body).replace('"ABSURD"', value))
                assert status in (200, 400, ALSO.get(field, 400)), (field, value, answer)
                refused += status == 400
    assert refused > len(fields)


def test_no_salt_of_the_callers_finds_prefixes_of_others(locked):
    locked.run("project", "create", "theirs")
    theirs = locked.run("key", "create", "other", "--project", "theirs")["key"]

    def cached(key, **fields):
        status, answer = locked.post("/v1/completions", {"model": "tiny", "prompt": PREFIX, "max_tokens": 1, **fields}, key)
        assert status == 200, answer
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    for salt in ({}, {"cache_salt": "same"}, {"prompt_cache_key": "same", "user": "same", "safety_identifier": "same"}):
        cached(locked.key, **salt)
    assert cached(locked.key) > 0, "or this test would show nothing"
    for salt in ({}, {"cache_salt": "same"}, {"prompt_cache_key": "same", "user": "same", "safety_identifier": "same"}):
        locked.run("project", "create", project := f"theirs-{secrets.token_hex(4)}")
        stranger = locked.run("key", "create", project, "--project", project)["key"]
        assert cached(stranger, **salt) == 0
    assert cached(theirs) == 0


def test_sql_in_a_key_or_a_name_is_text(locked):
    hostile = ["' OR 1=1 --", "'; DROP TABLE api_keys; --", "rgk_' OR hash LIKE '%", '" OR ""="', "\\'; SELECT 1; --"]
    for text in hostile:
        for headers in ({"Authorization": f"Bearer {text}"}, {"x-api-key": text},
                        {"Cookie": f"ridge_session={text}"}):
            status, _, answer = locked.server.request("GET", "/v1/models", headers=headers)
            assert status == 401 and text.encode() not in answer, (headers, answer)
        body = {"name": text, "password": text + " correct horse"}
        status, _, answer = locked.server.request(
            "POST", "/api/v1/session", json.dumps(body),
            {"Origin": locked.server.url, "Content-Type": "application/json"})
        assert status in (401, 429), answer
        assert b"correct horse" not in answer
        quoted = urllib.parse.quote(text, safe="")
        assert locked.server.request("GET", f"/v1/files/{quoted}",
                                     headers={"Authorization": f"Bearer {locked.key}"})[0] == 404
    assert locked.chat()[0] == 200


def test_no_secret_is_in_the_log(locked):
    """At its most talkative level: keys that work and that do not, in each place, words and passwords."""
    canary = "canary" + secrets.token_hex(8)
    server = locked.server
    key = {"Authorization": f"Bearer {locked.key}"}
    for headers in ({"Authorization": f"Bearer {canary}"}, {"Authorization": f"Basic {canary}"}, {"x-api-key": canary},
                    {"Cookie": f"ridge_session={canary}"}, {"x-ridge-csrf": canary}, {"Referer": f"http://a/?{canary}"}):
        assert server.request("GET", "/v1/models", headers=headers)[0] == 401
    for path in (f"/v1/models?api_key={canary}", f"/api/v1/oidc/callback?code={canary}&state={canary}",
                 f"/v1/models?key={locked.key}"):
        server.request("GET", path)
        server.request("GET", path, headers=key)
    sign_in = json.dumps({"name": canary, "password": canary + " horse"})
    page = {"Origin": server.url, "Content-Type": "application/json"}
    assert server.request("POST", "/api/v1/session", sign_in, page)[0] in (401, 429)
    set_up = json.dumps({"token": "rgs_" + canary, "name": canary, "password": canary + " horse"})
    assert server.request("POST", "/api/v1/set-up", set_up, page)[0] >= 400
    said = [{"role": "user", "content": canary}]
    assert locked.chat(messages=said)[0] == 200
    assert locked.chat(messages=said, temperature=-1)[0] == 400
    assert locked.chat(messages=said, guided_regex=f"({canary}")[0] == 400
    assert locked.chat(messages=said, tools=tool_of(text_of({"pattern": f"({canary}"})))[0] == 400
    assert locked.post("/v1/chat/completions", f'{{"messages": "{canary}')[0] == 400
    last = "req-" + secrets.token_hex(8)
    server.request("GET", "/v1/models", headers={**key, "x-request-id": last})
    log = server.wait_for_log(last)
    assert canary not in log and locked.key not in log


def test_who_sends_a_byte_now_and_then_is_not_waited_for(locked):
    """The times of a head and of a body (src/server/options.h: 10 s and 60 s) are of the whole, however often bytes come."""
    address = urllib.parse.urlsplit(locked.server.url)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {locked.key}\r\n"
    answers = {}

    def drip(at_once, most_s):
        """What comes back, or nothing where a byte met the end of the connection, which may take the answer with it."""
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(at_once.encode())
            connection.settimeout(1)
            until = time.monotonic() + most_s
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < until:
                    with contextlib.suppress(TimeoutError):
                        return connection.recv(4096)
                    connection.sendall(b"x")
        return b""

    def try_thrice(name, at_once, most_s):
        for _ in range(3):
            answers[name] = drip(at_once, most_s)
            if answers[name]:
                break

    threads = [threading.Thread(target=try_thrice, args=("head", head + "X: ", 180)),
               threading.Thread(target=try_thrice, args=("body", head + "Content-Length: 100000\r\n\r\n", 300))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("head", "body"):
        assert answers[name].startswith(b"HTTP/1.1 408 "), (name, answers[name])
    assert locked.chat()[0] == 200


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

/* Adds to the time of day the seconds that stand in the file. */
int clock_gettime(clockid_t clock, struct timespec* time) {
  static int (*real)(clockid_t, struct timespec*);
  static volatile int64_t* put;
  if (!real) {
    put = mmap(0, 8, PROT_READ, MAP_SHARED, open(getenv("CLOCK_FILE"), O_RDONLY), 0);
    real = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
  }
  const int result = real(clock, time);
  if (clock == CLOCK_REALTIME) time->tv_sec += *put;
  return result;
}
"""
DAY = 24 * 3600


def test_a_clock_that_is_put_by_days_ends_no_key_and_renews_no_allowance(ridge_binary, plain_environment, tmp_path):
    source, library, put = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "put"
    source.write_text(CLOCK)
    built = subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    put.write_bytes(bytes(8))

    def put_clock(days):
        with open(put, "r+b") as file:
            file.write((days * DAY).to_bytes(8, "little", signed=True))

    made = Locked(ridge_binary, {**plain_environment, "CLOCK_FILE": str(put)}, tmp_path, str(library),
                  ("--tokens-per-month", "400"))
    try:
        key = made.run("key", "create", "short", "--expires", "12h")["key"]
        body = {"model": "tiny", "prompt": "a", "max_tokens": 300, "ignore_eos": True, "stream": True}
        connection = made.server.connect()
        connection.request("POST", "/v1/completions", json.dumps(body), {"Authorization": f"Bearer {made.key}"})
        stream = connection.getresponse()
        said = stream.readline()
        put_clock(40)
        said += stream.read()  # an answer goes on over it
        connection.close()
        assert stream.status == 200 and said.rstrip().endswith(b"data: [DONE]")
        for days in (40, 1, -40, 0):
            put_clock(days)
            now = time.strftime("%Y-%m-%d", time.gmtime(time.time() + days * DAY))
            status, answer = made.post("/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 300})
            assert status == 402, (days, answer)
            assert made.server.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})[0] == 200, days
            assert made.server.request("GET", "/v1/health/live")[0] == 200, days
            assert made.server.request("GET", "/v1/health/ready")[0] == 200, days
            made.server.wait_for_log(now)  # the program has seen it
    finally:
        assert made.server.stop() == 0
