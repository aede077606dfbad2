"""Batches of requests, with OpenAI's own client: answers, limits, tenants, cancelling, expiry, kill -9."""

import json
import pathlib
import random
import sqlite3
import subprocess
import sys
import time

import openai
import pytest

from ridge_process import RidgeServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/goldens/llama-f32.gguf"  # random weights, which load at once
ENDED = ("completed", "failed", "expired", "cancelled")


class Data:
    """Servers on data of the test's own, and what the database says of them."""

    def __init__(self, binary, environment, postgres_url=None):
        self.binary, self.environment, self.postgres_url = binary, dict(environment), postgres_url
        if postgres_url:
            self.environment["RIDGE_DATABASE"] = postgres_url
        self.home = pathlib.Path(environment["RIDGE_HOME"])
        self.servers = []

    def run(self, *words):
        result = subprocess.run([self.binary, *words, "--json"], env=self.environment, text=True, capture_output=True)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def serve(self, *options, asks_for_keys=True):
        self.servers.append(
            RidgeServer(self.binary, self.environment, str(MODEL), ["--threads", "1", *options], asks_for_keys))
        return self.servers[-1]

    def client(self, server, key):
        return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=60)

    def query(self, sql):
        if self.postgres_url:
            done = subprocess.run(["psql", self.postgres_url, "-At", "-F", "\t", "-c", sql], check=True, text=True,
                                  capture_output=True)
            return [line.split("\t") for line in done.stdout.splitlines()]
        with sqlite3.connect(self.home / "platform.db", timeout=30) as connection:
            return [[str(cell) for cell in row] for row in connection.execute(sql).fetchall()]

    def stop(self):
        for server in self.servers:
            server.stop()


@pytest.fixture
def data(ridge_binary, clean_environment):
    made = Data(ridge_binary, clean_environment)
    yield made
    made.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def either_data(request, ridge_binary, clean_environment):
    url = None
    if request.param == "postgresql":
        process = subprocess.Popen([sys.executable, ROOT / "tests/fixtures/postgres_server.py"], text=True,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        server = json.loads(process.stdout.readline())
        request.addfinalizer(lambda: (process.stdin.close(), process.wait(timeout=90), process.stdout.close()))
        if "missing" in server:
            pytest.skip(f"NOT TESTED on PostgreSQL: {server['missing']}")
        url = server["url"]
    made = Data(ridge_binary, clean_environment, url)
    yield made
    made.stop()


MANY = 1500  # lines: more than are answered before a server notices that it is to stop


def line(number, endpoint="/v1/completions", **body):
    return {"custom_id": f"line-{number}", "method": "POST", "url": endpoint,
            "body": {"model": "llama-f32", "prompt": "abc"[number % 3], "max_tokens": 5, "ignore_eos": True, **body}}


def begin(client, lines, endpoint="/v1/completions", **options):
    content = "".join(json.dumps(each) + "\n" for each in lines).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **options)


def wait_for(client, batch, is_as_wanted=lambda batch: batch.status in ENDED, timeout_s=120):
    until = time.monotonic() + timeout_s
    while True:
        batch = client.batches.retrieve(batch.id)
        if is_as_wanted(batch):
            return batch
        assert time.monotonic() < until, batch
        time.sleep(0.02)


def results(client, file_id):
    if file_id is None:
        return []
    return [json.loads(each) for each in client.files.content(file_id).read().decode().splitlines()]


def test_each_endpoint_answers_as_it_does_at_once(data):
    server = data.serve()
    client = data.client(server, data.run("key", "create", "k")["key"])
    asks = {
        "/v1/completions": {"prompt": "abc", "max_tokens": 6, "temperature": 0},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "abc"}], "max_tokens": 6, "temperature": 0},
        "/v1/responses": {"input": "abc", "max_output_tokens": 6, "temperature": 0},
        "/v1/embeddings": {"input": ["abc", "d"]},
    }
    for endpoint, body in asks.items():
        body = {"model": "llama-f32", **body}
        lines = [{"custom_id": name, "method": "POST", "url": endpoint, "body": body} for name in ("one", "two")]
        lines.insert(1, {**lines[0], "custom_id": "wrong", "body": {**body, "model": "none"}})
        made = begin(client, lines, endpoint, metadata={"team": "search"})
        assert (made.status, made.object, made.metadata) == ("validating", "batch", {"team": "search"})
        batch = wait_for(client, made)
        assert batch.status == "completed" and batch.completed_at >= batch.in_progress_at >= batch.created_at
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
        output, [wrong] = results(client, batch.output_file_id), results(client, batch.error_file_id)
        assert [each["custom_id"] for each in output] == ["one", "two"]
        assert output[0]["error"] is None and output[0]["response"]["status_code"] == 200
        assert wrong["custom_id"] == "wrong" and wrong["response"]["status_code"] == 404
        assert wrong["response"]["body"]["error"]["code"] == "model_not_found"
        status, _, answer = server.request("POST", endpoint, json.dumps(body), {"x-api-key": client.api_key})
        assert status == 200
        same, answered = json.loads(answer), output[0]["response"]["body"]
        if endpoint == "/v1/embeddings":
            assert answered["data"][1]["embedding"] == pytest.approx(same["data"][1]["embedding"], abs=1e-5)
        elif endpoint == "/v1/responses":
            assert answered["output"][0]["content"] == same["output"][0]["content"]
        else:
            assert answered["choices"] == same["choices"]
            assert answered["usage"]["total_tokens"] == same["usage"]["total_tokens"]
        used = data.query(f"SELECT request_id, key_id, finish_reason FROM usage_records WHERE endpoint = '{endpoint}'")
        assert len(used) == 3 and len({row[1] for row in used}) == 1
        assert {each["response"]["request_id"] for each in output} < {row[0] for row in used}
        file = client.files.retrieve(batch.output_file_id)
        assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert len(list(client.batches.list(limit=1))) == len(asks)


def test_what_is_wrong_with_an_input_is_said_by_line(data):
    server = data.serve()
    client = data.client(server, data.run("key", "create", "k")["key"])
    content = "\n".join([json.dumps(line(1)), "no json", json.dumps(line(1)),
                         json.dumps(line(2, "/v1/embeddings")), json.dumps({**line(3), "method": "GET"}),
                         json.dumps(line(4, stream=True)), json.dumps({"custom_id": "x"})]).encode()
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = wait_for(client, client.batches.create(input_file_id=file.id, endpoint="/v1/completions",
                                                   completion_window="24h"))
    assert batch.status == "failed" and batch.failed_at
    assert [(each.line, each.code) for each in batch.errors.data] == [
        (2, "invalid_json_line"), (3, "duplicate_custom_id"), (4, "mismatched_url"), (5, "invalid_method"),
        (6, "invalid_body"), (7, "missing_method")]
    assert "byte" in batch.errors.data[0].message
    for change, text in [({"endpoint": "/v1/files"}, "/v1/embeddings"), ({"completion_window": "7d"}, "24h"),
                         ({"metadata": {"a": "b" * 600}}, "metadata"), ({"output_expires_after": {"anchor": "x"}}, "anchor")]:
        with pytest.raises(openai.BadRequestError, match=text):
            client.batches.create(**{"input_file_id": file.id, "endpoint": "/v1/completions", "completion_window": "24h",
                                     **change})
    evals = client.files.create(file=b"x", purpose="evals")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.batches.create(input_file_id=evals.id, endpoint="/v1/completions", completion_window="24h")


def test_two_projects_see_nothing_of_each_others_batches(data):
    data.run("project", "create", "theirs")
    server = data.serve("--batch-lines", "0")
    ours = data.client(server, data.run("key", "create", "k")["key"])
    theirs = data.client(server, data.run("key", "create", "k", "--project", "theirs")["key"])
    batch = begin(ours, [line(0)])
    for ask in (theirs.batches.retrieve, theirs.batches.cancel, lambda id: list(theirs.batches.list(after=id))):
        with pytest.raises(openai.NotFoundError):
            ask(batch.id)
    assert list(theirs.batches.list()) == []
    with pytest.raises(openai.NotFoundError):
        theirs.batches.create(input_file_id=batch.input_file_id, endpoint="/v1/completions", completion_window="24h")
    with pytest.raises(openai.BadRequestError, match=batch.id):
        ours.files.delete(batch.input_file_id)
    assert ours.batches.retrieve(batch.id).status == "validating"


def test_a_request_goes_before_all_of_a_batch(data):
    server = data.serve("--max-sequences", "2", "--batch-lines", "4")
    client = data.client(server, data.run("key", "create", "k")["key"])
    for _ in range(10):
        batch = begin(client, [line(i, max_tokens=400) for i in range(100)])
        wait_for(client, batch, lambda batch: batch.request_counts.completed >= 1)
        # Both places are a line's, and more lines wait; who comes now waits for neither.
        answer = client.completions.create(model="llama-f32", prompt="abc", max_tokens=50,
                                           extra_body={"ignore_eos": True})
        assert answer.usage.completion_tokens == 50
        ended = wait_for(client, batch)
        assert (ended.status, ended.request_counts.completed) == ("completed", 100)
        [[asked, answered]] = data.query("SELECT at_ms, at_ms + duration_ms FROM usage_records WHERE completion_tokens = "
                                         "50 ORDER BY at_ms DESC LIMIT 1")
        [[later, last]] = data.query(f"SELECT SUM(at_ms > {asked}), SUM(at_ms > {answered}) FROM usage_records")
        if int(later) > 10:  # Or this program stood still until hardly any line waited.
            assert int(last) > 0, "lines that began only after it was answered"
            return
    pytest.fail("the batch was over each time before anybody asked")


def test_a_cancelled_batch_keeps_what_it_has(data):
    server = data.serve("--batch-lines", "1")
    client = data.client(server, data.run("key", "create", "k")["key"])
    batch = begin(client, [line(i, max_tokens=300) for i in range(MANY)])
    wait_for(client, batch, lambda batch: batch.request_counts.completed >= 2)
    assert client.batches.cancel(batch.id).status == "cancelling"
    ended = wait_for(client, batch)
    assert ended.status == "cancelled" and ended.cancelled_at >= ended.cancelling_at
    output, errors = results(client, ended.output_file_id), results(client, ended.error_file_id)
    assert len(output) == ended.request_counts.completed >= 2 and len(output) + len(errors) == MANY
    assert {each["error"]["code"] for each in errors} == {"batch_cancelled"}
    assert [each["custom_id"] for each in output + errors] == [f"line-{i}" for i in range(MANY)]
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        client.batches.cancel(batch.id)
    client.files.delete(batch.input_file_id)


def test_what_is_not_done_in_its_window_expires(data):
    server = data.serve("--batch-lines", "1")
    client = data.client(server, data.run("key", "create", "k")["key"])
    batch = begin(client, [line(i, max_tokens=300) for i in range(MANY)])
    assert batch.expires_at == batch.created_at + 24 * 3600
    wait_for(client, batch, lambda batch: batch.request_counts.completed >= 2)
    data.query("UPDATE batches SET expires_at_ms = 1")
    ended = wait_for(client, batch)
    assert ended.status == "expired" and ended.expired_at
    output, errors = results(client, ended.output_file_id), results(client, ended.error_file_id)
    assert len(output) >= 2 and len(output) + len(errors) == MANY
    assert {each["error"]["code"] for each in errors} == {"batch_expired"}


def test_a_spent_budget_stops_a_batch_until_there_is_more(data):
    key = data.run("key", "create", "k")["key"]
    data.run("limit", "set", "--project", "default", "--tokens-per-day", "60")
    server = data.serve()
    client = data.client(server, key)
    batch = begin(client, [line(i) for i in range(30)])
    waiting = wait_for(client, batch, lambda batch: batch.model_extra["waiting"] is not None)
    assert waiting.status == "in_progress" and waiting.model_extra["waiting"]["code"] == "insufficient_quota"
    assert "is used up" in waiting.model_extra["waiting"]["message"]
    [[used]] = data.query("SELECT SUM(prompt_tokens + completion_tokens) FROM usage_records")
    assert 0 < int(used) <= 60
    data.run("limit", "set", "--project", "default", "--tokens-per-day", "none")
    ended = wait_for(client, batch)
    assert ended.request_counts.completed == 30 and ended.model_extra["waiting"] is None
    assert data.query("SELECT COUNT(*) FROM usage_records") == [["30"]]


def test_without_its_key_a_batch_ends(data):
    server = data.serve("--batch-lines", "1")
    client = data.client(server, data.run("key", "create", "k")["key"])
    other = data.client(server, data.run("key", "create", "other")["key"])
    batch = begin(client, [line(i, max_tokens=300) for i in range(MANY)])
    wait_for(client, batch, lambda batch: batch.request_counts.completed >= 1)
    data.run("key", "revoke", "k")
    ended = wait_for(other, batch)
    assert ended.status == "cancelled" and ended.request_counts.completed >= 1
    assert "revoked" in results(other, ended.error_file_id)[-1]["error"]["message"]


def test_who_has_signed_in_runs_batches_too(data):
    data.run("user", "create", "ann", "--role", "developer")
    subprocess.run([data.binary, "user", "password", "ann"], env=data.environment, input="correct horse\n", text=True,
                   check=True, capture_output=True)
    server = data.serve()
    status, headers, body = server.request("POST", "/api/v1/session",
                                           json.dumps({"name": "ann", "password": "correct horse"}))
    assert status == 200
    session = {"Cookie": headers["Set-Cookie"].split(";")[0], "Origin": server.url,
               "x-ridge-csrf": json.loads(body)["csrf_token"]}
    form = (b"--b\r\nContent-Disposition: form-data; name=purpose\r\n\r\nbatch\r\n--b\r\n"
            b"Content-Disposition: form-data; name=file; filename=in.jsonl\r\n\r\n" + json.dumps(line(0)).encode() +
            b"\r\n--b--\r\n")
    status, _, file = server.request("POST", "/v1/files", form,
                                     {**session, "Content-Type": "multipart/form-data; boundary=b"})
    assert status == 200, file
    status, _, made = server.request("POST", "/v1/batches", json.dumps(
        {"input_file_id": json.loads(file)["id"], "endpoint": "/v1/completions", "completion_window": "24h"}), session)
    assert status == 200, made
    path = f"/v1/batches/{json.loads(made)['id']}"
    until = time.monotonic() + 60
    while True:
        batch = json.loads(server.request("GET", path, headers=session)[2])
        if batch["status"] in ENDED:
            break
        assert time.monotonic() < until, batch
        time.sleep(0.05)
    assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 1)
    [row] = data.run("usage")["rows"]
    assert row["key"] == "ann"


def test_nothing_is_lost_or_doubled_by_kill_9(either_data):
    """Servers are killed in the middle of two batches, again and again, until these are done."""
    data, rng, lines = either_data, random.Random(1), 120
    key = data.run("key", "create", "k")["key"]
    batches, kills = [], 0
    while True:
        server = data.serve("--batch-lines", "4")
        client = data.client(server, key)
        if not batches:
            batches = [begin(client, [line(i, max_tokens=rng.randint(1, 60)) for i in range(lines)]) for _ in range(2)]
        if kills < 8:
            time.sleep(rng.uniform(0.05, 0.6))
            server.process.kill()
            server.process.wait()
            kills += 1
            continue
        ended = [wait_for(client, batch) for batch in batches]
        break
    marked = set()
    for batch in ended:
        assert batch.status == "completed" and batch.request_counts.completed == lines
        assert batch.error_file_id is None
        output = results(client, batch.output_file_id)
        assert [each["custom_id"] for each in output] == [f"line-{i}" for i in range(lines)]
        for each in output:
            marked.add(each["response"]["request_id"])
            usage = each["response"]["body"]["usage"]
            [[prompt, completion, reason]] = data.query(
                "SELECT prompt_tokens, completion_tokens, finish_reason FROM usage_records WHERE request_id = "
                f"'{each['response']['request_id']}'")
            assert (int(prompt), int(completion)) == (usage["prompt_tokens"], usage["completion_tokens"])
            assert reason == "length"
    finished = {row[0] for row in data.query("SELECT request_id FROM usage_records WHERE finish_reason = 'length'")}
    assert finished == marked and len(marked) == 2 * lines, "a line is charged once as finished"
    assert data.query("SELECT COUNT(*) FROM reservations") == [["0"]]
    assert data.query("SELECT COUNT(*) FROM batch_lines") == [["0"]]
    assert list((data.home / "files/results").iterdir()) == []


def test_of_two_servers_one_runs_a_batch(either_data):
    data = either_data
    key = data.run("key", "create", "k")["key"]
    servers = [data.serve(), data.serve()]
    clients = [data.client(server, key) for server in servers]
    batches = [begin(clients[i % 2], [line(n) for n in range(20)]) for i in range(6)]
    for batch in batches:
        assert wait_for(clients[0], batch).request_counts.completed == 20
        assert results(clients[1], clients[1].batches.retrieve(batch.id).output_file_id)
    assert data.query("SELECT COUNT(*) FROM usage_records") == [["120"]]
