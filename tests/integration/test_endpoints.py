"""Endpoints of the operator's own, through the program: releases, two servers, moderation, on both databases."""

import http.server
import json
import math
import threading
import time

import anthropic
import openai
import pytest

from ridge_process import RidgeServer
from test_adapters import BASE, CONTINUATIONS, LORA, PROMPT
from test_metering import metered, postgres_url  # noqa: F401


class Operator:
    """Servers over one database that serve a model and adapters of it, and their administrator."""

    def __init__(self, made):
        self.metered = made
        self.admin = made.run("key", "create", "admin", "--scopes", "admin")["key"]
        self.key = made.run("key", "create", "app")["key"]

    def serve(self):
        server = RidgeServer(self.metered.binary, self.metered.environment, BASE, ["--threads", "1", *LORA],
                             asks_for_keys=True)
        self.metered.servers.append(server)
        return server

    def ask(self, server, method, path="", body=None, status=200):
        answered, _, text = server.request(
            method, "/api/v1/endpoints" + path, json.dumps(body) if body is not None else None,
            {"Authorization": f"Bearer {self.admin}", "Content-Type": "application/json"})
        assert answered == status, text
        return json.loads(text) if text else None

    def client(self, server, key=None):
        return openai.OpenAI(base_url=server.url + "/v1", api_key=key or self.key, max_retries=0, timeout=60)


@pytest.fixture
def operator(metered):  # noqa: F811
    return Operator(metered)


def wait_until(is_true, timeout_s=60):
    started = time.monotonic()
    while not is_true():
        assert time.monotonic() - started < timeout_s, f"not after {timeout_s} s"
        time.sleep(0.02)
    return time.monotonic() - started


def continuation(client, model):
    """The ids that the model goes on with; the goldens say which weights make which."""
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=len(CONTINUATIONS["all"]), temperature=0,
                                       logprobs=0, extra_body={"ignore_eos": True})
    assert answer.model == model
    return answer.choices[0].text


def test_a_release_moves_between_versions_and_servers_and_back(operator):
    first, second = operator.serve(), operator.serve()
    ours, theirs = operator.client(first), operator.client(second)
    texts = {name: continuation(ours, name) for name in ("llama-f32", "attention", "all")}
    assert len(set(texts.values())) == 3
    operator.ask(first, "POST", body={"name": "helper", "model": "llama-f32"}, status=201)
    assert continuation(ours, "helper") == texts["llama-f32"]
    sees = lambda client: "helper" in [model.id for model in client.models.list()]  # noqa: E731
    assert sees(ours)
    wait_until(lambda: sees(theirs))
    operator.ask(second, "POST", "/helper/versions", {"model": "all"}, status=201)
    assert continuation(theirs, "helper") == texts["llama-f32"]
    operator.ask(second, "PUT", "/helper/shares", {"shares": [{"version": 2, "percent": 100}]})
    assert continuation(theirs, "helper") == texts["all"]
    wait_until(lambda: continuation(ours, "helper") == texts["all"])
    operator.ask(first, "POST", "/helper/rollback")
    assert continuation(ours, "helper") == texts["llama-f32"]
    wait_until(lambda: continuation(theirs, "helper") == texts["llama-f32"])
    rows = operator.metered.run("usage", "--by", "custom_endpoint,endpoint_version,model")["rows"]
    named = {(row["custom_endpoint"], row["endpoint_version"], row["model"]) for row in rows}
    assert {("", "0", "all"), ("helper", "1", "llama-f32"), ("helper", "2", "all")} <= named
    actions = [event["action"] for event in operator.metered.run("audit")["events"] if "endpoint" in event["action"]]
    assert actions == ["endpoint.rollback", "endpoint.shares", "endpoint.version", "endpoint.create"]
    # What is in the database outlives the servers.
    first.stop()
    third = operator.serve()
    assert continuation(operator.client(third), "helper") == texts["llama-f32"]
    assert "endpoint_model=llama-f32 endpoint_version=1" in third.wait_for_log("endpoint_version=1")


def test_shares_are_kept_over_many_conversations_and_each_stays_with_its_version(operator):
    server = operator.serve()
    client = operator.client(server)
    operator.ask(server, "POST", body={"name": "helper", "model": "llama-f32", "max_tokens": 1}, status=201)
    operator.ask(server, "POST", "/helper/versions", {"model": "all", "max_tokens": 2}, status=201)
    shares = [{"version": 1, "percent": 75}, {"version": 2, "percent": 25}]
    operator.ask(server, "PUT", "/helper/shares", {"shares": shares})

    def version_of(prompt):
        answer = client.completions.create(model="helper", prompt=prompt, extra_body={"ignore_eos": True})
        return answer.usage.completion_tokens  # as each version's max_tokens

    conversations = 300
    versions = [version_of(f"question {number}") for number in range(conversations)]
    newer = versions.count(2)
    assert newer + versions.count(1) == conversations
    deviation = math.sqrt(conversations * 0.25 * 0.75)
    assert abs(newer - 0.25 * conversations) < 4 * deviation, newer
    assert [version_of(f"question {number}") for number in range(20)] == versions[:20]
    rows = operator.metered.run("usage", "--by", "custom_endpoint,endpoint_version")["rows"]
    counted = {row["endpoint_version"]: row["requests"] for row in rows}
    assert counted == {"1": versions.count(1) + versions[:20].count(1), "2": newer + versions[:20].count(2)}


def test_keys_and_projects_have_the_endpoints_that_they_are_given(operator):
    server = operator.serve()
    operator.metered.run("project", "create", "search")
    bound = operator.metered.run("key", "create", "bound", "--project", "search", "--models", "helper")["key"]
    other = operator.metered.run("key", "create", "other", "--project", "search", "--models", "llama-f32")["key"]
    operator.ask(server, "POST", body={"name": "helper", "model": "all", "max_tokens": 3}, status=201)
    mine = operator.client(server, bound)
    assert [model.id for model in mine.models.list()] == ["helper"]
    answer = mine.completions.create(model="helper", prompt="a", extra_body={"ignore_eos": True})
    assert (answer.model, answer.usage.completion_tokens) == ("helper", 3)
    for model in ("all", "llama-f32"):
        with pytest.raises(openai.NotFoundError):
            mine.completions.create(model=model, prompt="a")
    with pytest.raises(openai.NotFoundError):
        operator.client(server, other).completions.create(model="helper", prompt="a")
    operator.metered.run("limit", "set", "--project", "search", "--model", "helper", "--tokens-per-day", "0")
    with pytest.raises(openai.APIStatusError) as refused:
        mine.completions.create(model="helper", prompt="a")
    assert refused.value.status_code == 402 and "endpoint 'helper'" in refused.value.message
    assert operator.client(server).completions.create(model="helper", prompt="a").model == "helper"
    operator.ask(server, "PATCH", "/helper", {"is_enabled": False})
    with pytest.raises(openai.PermissionDeniedError):
        operator.client(server).completions.create(model="helper", prompt="a")
    # Nobody but administrators changes anything.
    for key in (bound, operator.key):
        status, _, _ = server.request("DELETE", "/api/v1/endpoints/helper", headers={"Authorization": f"Bearer {key}"})
        assert status == 403


class Judge(http.server.BaseHTTPRequestHandler):
    """Flags what says "vile", in the form of OpenAI's moderations."""

    inputs = []

    def do_POST(self):
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
        Judge.inputs.append(texts)
        body = json.dumps({"results": [{"flagged": "vile" in text} for text in texts]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def judge():
    Judge.inputs.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def close():
        server.shutdown()
        thread.join()
        server.server_close()

    yield f"http://127.0.0.1:{server.server_port}/judge", close
    close()


def test_what_is_asked_is_judged_before_it_is_answered(operator, judge):
    url, close = judge
    server = operator.serve()
    operator.ask(server, "POST", body={"name": "helper", "model": "llama-f32", "max_tokens": 3, "moderation_url": url},
                 status=201)
    client = operator.client(server)
    assert client.completions.create(model="helper", prompt="kind").model == "helper"
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="helper", prompt="vile", stream=True)
    assert refused.value.code == "content_policy"
    with pytest.raises(anthropic.BadRequestError):
        anthropic.Anthropic(base_url=server.url, api_key=operator.key, max_retries=0).messages.create(
            model="helper", max_tokens=3, messages=[{"role": "user", "content": "vile"}])
    assert Judge.inputs == [["kind"], ["vile"], ["vile"]]
    close()
    with pytest.raises(openai.InternalServerError) as away:
        client.completions.create(model="helper", prompt="kind")
    assert away.value.status_code == 503
    assert client.completions.create(model="llama-f32", prompt="vile", max_tokens=1).model == "llama-f32"
    rows = operator.metered.run("usage", "--by", "custom_endpoint")["rows"]
    assert {row["custom_endpoint"]: row["requests"] for row in rows} == {"": 1, "helper": 1}
    assert url in server.wait_for_log("gives no verdict")


def test_the_command_makes_what_servers_answer(metered):  # noqa: F811
    run = metered.run
    assert run("endpoint", "list") == {"endpoints": []}
    made = run("endpoint", "create", "helper", "--model", "llama-f32", "--system-prompt", "Be brief.", "--temperature",
               "0.5", "--max-tokens", "3")
    assert made["versions"][0]["system_prompt"] == "Be brief." and made["versions"][0]["top_p"] is None
    assert run("endpoint", "version", "helper", "--model", "all")["versions"][1]["number"] == 2
    assert run("endpoint", "shares", "helper", "1=60", "2=40")["shares"] == [
        {"version": 1, "percent": 60}, {"version": 2, "percent": 40}]
    assert run("endpoint", "rollback", "helper")["shares"] == [{"version": 1, "percent": 100}]
    assert run("endpoint", "disable", "helper")["is_enabled"] is False
    assert run("endpoint", "enable", "helper")["is_enabled"] is True
    assert run("endpoint", "moderation", "helper", "https://judge.example.org/x")["moderation_url"]
    assert run("endpoint", "moderation", "helper", "none")["moderation_url"] is None
    operator = Operator(metered)
    server = operator.serve()
    answer = operator.client(server).completions.create(model="helper", prompt="a", extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 3
    assert [each["name"] for each in run("endpoint", "list")["endpoints"]] == ["helper"]
    assert run("endpoint", "remove", "helper") == {"removed": "helper"}
    wait_until(lambda: "helper" not in [model.id for model in operator.client(server).models.list()])


def test_the_command_says_what_is_wrong(ridge, tmp_path):
    assert ridge("endpoint", "create", "helper", "--model", "m").returncode == 0
    listed = ridge("endpoint", "list").stdout
    assert "helper" in listed and "1=100%" in listed and "enabled" in listed
    for words, code, text in [
        (["create", "helper", "--model", "m"], 1, "'helper' already"),
        (["create", "smollm2", "--model", "m"], 1, "in the catalog"),
        (["create", "a b", "--model", "m"], 2, "letters, digits"),
        (["create", "x"], 2, "--model"),
        (["create", "x", "--model", "m", "--temperature", "3"], 2, "at most 2"),
        (["create", "x", "--model", "m", "--system-prompt-file", str(tmp_path / "none")], 1, "cannot read"),
        (["shares", "helper", "1:100"], 2, "VERSION=PERCENT"),
        (["shares", "helper", "2=100"], 2, "no version 2"),
        (["rollback", "helper"], 2, "no earlier shares"),
        (["rollback", "none"], 1, "no endpoint 'none'"),
        (["moderation", "helper", "http://judge.example.org"], 2, "must be https"),
    ]:
        refused = ridge("endpoint", *words)
        assert refused.returncode == code and text in refused.stderr, (words, refused.stderr)
    (tmp_path / "prompt.txt").write_text("Be brief.\nBe kind.\n")
    made = ridge("endpoint", "version", "helper", "--model", "m", "--system-prompt-file", tmp_path / "prompt.txt", "--json")
    assert json.loads(made.stdout)["versions"][1]["system_prompt"] == "Be brief.\nBe kind."
