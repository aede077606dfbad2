"""Prompts and answers of projects that keep them, from the command line to the client, on SQLite and on PostgreSQL."""

import json
import subprocess
import time

import jsonschema

from test_identity import postgres_url  # noqa: F401
from test_metering import metered  # noqa: F401
from test_openapi import closed


def lines(metered, *words):  # noqa: F811
    done = subprocess.run([metered.binary, "project", "kept", *words, "--json"], env=metered.environment, text=True,
                          capture_output=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


def wait_for(metered, count, is_counted=lambda each: True):  # noqa: F811
    """What is kept, once it is so many: it is written in the background."""
    until = time.monotonic() + 60
    while len(found := [each for each in lines(metered) if is_counted(each)]) != count:
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def test_a_project_keeps_what_is_asked_until_it_does_no_more(metered):  # noqa: F811
    metered.run("project", "create", "search")
    key = metered.run("key", "create", "ci", "--project", "search")["key"]
    other = metered.run("key", "create", "k")["key"]
    server = metered.serve()
    client = metered.client(server, key)
    model = client.models.list().data[0].id
    messages = [{"role": "user", "content": "Hello, 世界"}]
    client.chat.completions.create(model=model, messages=messages, max_tokens=3)
    assert lines(metered) == []
    project = metered.run("project", "change", "search", "--keep-prompts", "30")
    assert (project["keep_days"], project["kept_bytes"], project["weight"]) == (30, 0, 1)
    # Until every server knows, nothing is kept: that lasts a second, or as long as the database does not answer.
    until = time.monotonic() + 60
    while not lines(metered):
        assert time.monotonic() < until
        client.completions.create(model=model, prompt="Yet?", max_tokens=1)
        time.sleep(0.2)
    answer = client.chat.completions.create(model=model, messages=messages, max_tokens=3, temperature=0)
    stream = client.completions.create(model=model, prompt="a", max_tokens=3, stream=True, temperature=0)
    streamed = "".join(part.choices[0].text for part in stream if part.choices)
    client.embeddings.create(model=model, input="a")
    metered.client(server, other).chat.completions.create(model=model, messages=messages, max_tokens=3)
    vectors, completion, chat = wait_for(metered, 3, is_counted=lambda each: each["prompt"].get("prompt") != "Yet?")
    document = json.loads(server.request("GET", "/openapi.json", headers={"x-api-key": key})[2])
    schema = {"$ref": "#/components/schemas/KeptRequest", "components": closed(document["components"])}
    for each in (vectors, completion, chat):
        jsonschema.Draft202012Validator(schema).validate(each)
    assert chat["prompt"]["messages"] == messages and chat["prompt"]["temperature"] == 0
    assert chat["answer"][0]["content"] == answer.choices[0].message.content
    assert (chat["project"], chat["key"], chat["model"]) == ("search", "ci", model)
    assert abs(chat["at_ms"] / 1000 - time.time()) < 60 and chat["finish_reason"] == "length"
    assert completion["prompt"]["prompt"] == "a" and completion["answer"][0]["content"] == streamed
    assert vectors["endpoint"] == "/v1/embeddings" and vectors["answer"] == []
    assert lines(metered, "search", "--key", "nobody") == []
    assert lines(metered, "--request", chat["request_id"]) == [chat]
    table = subprocess.run([metered.binary, "project", "kept", "search"], env=metered.environment, text=True,
                           capture_output=True, check=True)
    assert chat["request_id"] in table.stdout and "Hello" not in table.stdout
    read = [event for event in metered.run("audit")["events"] if event["action"] == "kept.read"]
    assert read and all(event["actor"].startswith("cli:") for event in read)
    project = metered.run("project", "change", "search", "--keep-prompts", "off")
    assert (project["keep_days"], project["kept_bytes"]) == (0, 0)
    assert lines(metered) == []
    # A server that does not know yet keeps nothing either.
    client.completions.create(model=model, prompt="a", max_tokens=3)
    assert server.stop() == 0
    assert metered.query("SELECT COUNT(*) FROM kept_requests") == [[0]]


def test_wrong_choices_are_refused(metered):  # noqa: F811
    metered.run("project", "create", "search")
    for words, message in ((["--keep-prompts", "0"], "off, or from 1 to 3650"),
                           (["--keep-prompts", "4000"], "off, or from 1 to 3650"),
                           (["--keep-prompts", "forever"], "off, or from 1 to 3650"), ([], "nothing to change")):
        done = subprocess.run([metered.binary, "project", "change", "search", *words], env=metered.environment,
                              text=True, capture_output=True)
        assert done.returncode != 0 and message in done.stderr, done.stderr
