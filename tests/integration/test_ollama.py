"""The real `ollama` client against models of random weights."""

import json

import jsonschema
import ollama
import pytest

from tiny_servers import WEATHER, WEATHER_SCHEMA, tiny_servers

ASK = [{"role": "user", "content": "Say something."}]
SEEDS = range(4)


@pytest.fixture(scope="module")
def serve(ridge_binary, plain_environment, tmp_path_factory):
    with tiny_servers(ridge_binary, plain_environment, tmp_path_factory.mktemp("ollama")) as start:
        yield start


@pytest.fixture(scope="module")
def connect(serve):
    def to(family):
        return ollama.Client(host=serve(family).url, timeout=120)

    return to


def options(seed, tokens=20):
    return {"seed": seed, "num_predict": tokens, "temperature": 1, "num_ctx": 2048}


def chat(client, seed, stream, tokens=20, **more):
    """(content, thinking, calls, last part) of a chat."""
    answer = client.chat("tiny", ASK, options=options(seed, tokens), stream=stream, **more)
    parts = list(answer) if stream else [answer]
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    content = "".join(part.message.content or "" for part in parts)
    thinking = "".join(part.message.thinking or "" for part in parts)
    calls = [call.function for part in parts for call in part.message.tool_calls or []]
    return content, thinking, [(call.name, call.arguments) for call in calls], parts[-1]


@pytest.mark.parametrize("family", ["hermes", "deepseek"])
def test_a_stream_says_the_same(connect, family):
    client = connect(family)
    for seed in SEEDS:
        whole, streamed = (chat(client, seed, stream, keep_alive="5m") for stream in (False, True))
        assert whole[:3] == streamed[:3]
        for *_, last in (whole, streamed):
            assert last.model == "tiny" and last.done_reason in ("stop", "length")
            assert last.prompt_eval_count > 0 and 0 < last.eval_count <= 20
            assert last.total_duration >= last.prompt_eval_duration > 0


def test_thinking_can_be_switched_off(connect):
    content, thinking, _, _ = chat(connect("deepseek"), 1, True)
    assert thinking and not content, "twenty tokens are all thoughts"
    for stream in (False, True):
        content, thinking, _, _ = chat(connect("deepseek"), 1, stream, think=False)
        assert content and not thinking


def test_generate(connect):
    client = connect("hermes")
    for seed in SEEDS:
        ask = {"model": "tiny", "prompt": "Once", "system": "Be brief.", "think": False, "options": options(seed)}
        whole = client.generate(**ask)
        parts = list(client.generate(**ask, stream=True))
        assert whole.response == "".join(part.response for part in parts)
        assert parts[-1].done and parts[-1].eval_count == whole.eval_count
    raw = client.generate("tiny", "Once", raw=True, options=options(1))
    assert raw.prompt_eval_count < whole.prompt_eval_count
    assert raw.response


def test_every_answer_has_its_format(connect):
    client = connect("hermes")
    for seed in SEEDS:
        answer = client.generate("tiny", "x", think=False, format=WEATHER_SCHEMA, options=options(seed, 1000))
        assert answer.done_reason == "stop"
        jsonschema.validate(json.loads(answer.response), WEATHER_SCHEMA)
    lengths = []
    for seed in range(8):
        content, _, _, last = chat(client, seed, True, tokens=400, format="json", think=False)
        if last.done_reason == "stop":
            assert isinstance(json.loads(content), dict)
        lengths.append(last.done_reason)
    assert "stop" in lengths


def test_calls_are_whole_objects(serve):
    """Ollama's own requests cannot force a call; tool_choice, which others know, works here, too."""
    server = serve("hermes")
    for seed in SEEDS:
        body = {"model": "tiny", "messages": ASK, "tools": [WEATHER], "tool_choice": "required",
                "parallel_tool_calls": False, "think": False, "options": options(seed, 2000)}
        status, whole = server.post_json("/api/chat", {**body, "stream": False})
        assert status == 200, whole
        (call,) = whole["message"]["tool_calls"]
        assert call["function"]["name"] == "get_weather"
        jsonschema.validate(call["function"]["arguments"], WEATHER_SCHEMA)
        status, head, stream = server.request("POST", "/api/chat", json.dumps(body))
        assert head["Content-Type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in stream.decode().splitlines()]
        assert [call for line in lines for call in line["message"].get("tool_calls", [])] == [call]


def test_a_conversation_with_tools_goes_on(connect):
    history = [
        *ASK,
        {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "Rome"}}}]},
        {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
    ]
    answer = connect("hermes").chat("tiny", history, tools=[WEATHER], options=options(1, 5))
    assert answer.eval_count <= 5


def test_models_are_listed_and_shown(serve, connect):
    client = connect("deepseek")
    (model,) = client.list().models
    assert model.model == "tiny" and model.size > 0 and model.details.family == "llama"
    shown = client.show("tiny")
    assert shown.modelinfo["llama.context_length"] == 4096
    assert "think" in shown.template
    assert {"completion", "tools", "thinking"} <= set(shown.capabilities)
    assert client.show("tiny:latest").template == shown.template
    status, _, body = serve("deepseek").request("GET", "/api/version")
    assert status == 200 and json.loads(body)["version"]


def test_vectors(connect):
    client = connect("hermes")
    several = client.embed("tiny", ["A cat.", "A dog."])
    assert several.model == "tiny" and several.prompt_eval_count > 0 and several.total_duration > 0
    for vector in several.embeddings:
        assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-5)
    assert client.embed("tiny:latest", "A cat.").embeddings[0] == pytest.approx(several.embeddings[0], abs=1e-6)
    older = client.embeddings("tiny", "A cat.").embedding
    length = sum(value * value for value in older) ** 0.5
    assert [value / length for value in older] == pytest.approx(several.embeddings[0], abs=1e-5)
    assert client.embed("tiny", []).embeddings == []
    endless = "word " * 20000
    assert len(client.embed("tiny", endless).embeddings) == 1
    with pytest.raises(ollama.ResponseError, match="context holds 4096 tokens"):
        client.embed("tiny", endless, truncate=False)


def test_what_is_loaded(connect):
    (model,) = connect("hermes").ps().models
    assert model.model == "tiny" and model.size > 0 and model.context_length == 4096


def test_an_empty_request_loads(connect):
    assert connect("hermes").generate("tiny").done_reason == "load"
    assert connect("hermes").chat("tiny", keep_alive=0).done_reason == "unload"


def test_logprobs_stand_beside_the_text(connect):
    for stream in (False, True):
        answer = connect("hermes").chat(
            "tiny", ASK, options={**options(1, 6), "ignore_eos": True}, stream=stream, logprobs=True, top_logprobs=2
        )
        parts = list(answer) if stream else [answer]
        logprobs = [token for part in parts for token in part.logprobs or []]
        assert len(logprobs) == 6
        assert all(len(token.top_logprobs) == 2 for token in logprobs)


def test_errors_are_ollamas(serve, connect):
    client = connect("hermes")
    with pytest.raises(ollama.ResponseError) as missing:
        client.chat("none", ASK)
    assert missing.value.status_code == 404 and "none" in missing.value.error
    with pytest.raises(ollama.ResponseError) as wrong:
        client.chat("tiny", ASK, options={"temperature": -1})
    assert wrong.value.status_code == 400 and "options.temperature" in wrong.value.error
    with pytest.raises(ollama.ResponseError) as unknown:
        client.copy("tiny", "other")
    assert unknown.value.status_code == 404
    status, body = serve("hermes").post_json("/api/chat", {"model": "tiny", "messages": [{"role": "user", "content": "a", "images": ["AAAA"]}]})
    assert status == 400 and "text only" in body["error"]
