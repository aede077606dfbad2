"""Answers in harmony: the real `openai` client against a tiny gpt-oss of random weights, whose answers are in order
only where that is enforced."""

import json
import pathlib

import jsonschema
import openai
import pytest

from ridge_process import RidgeServer
from tiny_servers import WEATHER, WEATHER_SCHEMA

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
SEEDS = range(4)
ASK = [{"role": "user", "content": "Say something."}]
FORM = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"enum": [1, 2, 3]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server(ridge_binary, plain_environment):
    running = RidgeServer(ridge_binary, plain_environment, GOLDENS / "gpt-oss-mxfp4.gguf")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def ask(client, messages=ASK, budget=20, max_tokens=300, **options):
    more = {"thinking_budget": budget} | options.pop("extra_body", {})
    return client.chat.completions.create(
        model="gpt-oss-mxfp4", messages=messages, max_tokens=max_tokens, extra_body=more, **options
    )


def reasoning_of(message):
    return getattr(message, "reasoning_content", None) or ""


def test_thoughts_are_apart_and_bounded(client):
    for seed in SEEDS:
        answer = ask(client, seed=seed, max_tokens=120)
        message = answer.choices[0].message
        assert answer.usage.completion_tokens_details.reasoning_tokens <= 20 + 1
        for text in (message.content or "", reasoning_of(message)):
            for tag in ("<|channel|>", "<|message|>", "<|start|>", "<|end|>"):
                assert tag not in text


def test_thinking_can_be_switched_off(client):
    for seed in SEEDS:
        answer = ask(client, seed=seed, max_tokens=60, extra_body={"enable_thinking": False})
        assert reasoning_of(answer.choices[0].message) == ""
        assert answer.choices[0].message.content


def test_a_form_binds_the_final_message(client):
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": FORM, "strict": True}}
    for seed in SEEDS:
        whole = ask(client, seed=seed, response_format=form)
        assert whole.choices[0].finish_reason == "stop"
        jsonschema.validate(json.loads(whole.choices[0].message.content), FORM)
        content, reasoning = "", ""
        for chunk in ask(client, seed=seed, response_format=form, stream=True):
            for choice in chunk.choices:
                content += choice.delta.content or ""
                reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        assert content == whole.choices[0].message.content
        assert reasoning == reasoning_of(whole.choices[0].message)


def test_a_required_call_is_made(client):
    for seed in SEEDS:
        answer = ask(client, seed=seed, tools=[WEATHER], tool_choice="required")
        assert answer.choices[0].finish_reason == "tool_calls"
        (call,) = answer.choices[0].message.tool_calls
        assert call.function.name == "get_weather"
        jsonschema.validate(json.loads(call.function.arguments), WEATHER_SCHEMA)


def test_the_template_has_effort_calls_and_results(server):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rom"}'}}
    messages = [
        *ASK,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "name": "get_weather", "content": "12 degrees"},
    ]
    status, tokenized = server.post_json(
        "/tokenize", {"messages": messages, "tools": [WEATHER], "chat_template_kwargs": {"reasoning_effort": "high"}}
    )
    assert status == 200, tokenized
    text = server.post_json("/detokenize", {"tokens": tokenized["tokens"]})[1]["prompt"]
    assert "Reasoning: high" in text and "12 degrees" in text
    assert "to=functions.get_weather <|constrain|>json<|message|>" in text
    assert text.endswith("<|start|>assistant")


def test_its_name_says_that_it_thinks(server):
    _, shown = server.post_json("/api/show", {"model": "gpt-oss-mxfp4"})
    assert "thinking" in shown["capabilities"]
