"""The real `anthropic` client against models of random weights."""

import json

import anthropic
import jsonschema
import pytest

from tiny_servers import WEATHER_SCHEMA, tiny_servers

ASK = [{"role": "user", "content": "Say something."}]
WEATHER = {"name": "get_weather", "description": "The weather", "input_schema": WEATHER_SCHEMA}
CLOCK = {"name": "now", "input_schema": {"type": "object", "additionalProperties": False}}
SEEDS = range(4)


@pytest.fixture(scope="module")
def serve(ridge_binary, plain_environment, tmp_path_factory):
    with tiny_servers(ridge_binary, plain_environment, tmp_path_factory.mktemp("anthropic")) as start:
        yield start


@pytest.fixture(scope="module")
def connect(serve):
    def to(family):
        return anthropic.Anthropic(base_url=serve(family).url, api_key="mine", max_retries=0, timeout=120)

    return to


def ask(client, seed, stream, **options):
    """The message, made by the client's own accumulation where it is streamed."""
    options = {"model": "tiny", "max_tokens": 1500, "messages": ASK, **options}
    options["extra_body"] = {"temperature": 1, "seed": seed, **options.pop("extra_body", {})}
    if not stream:
        return client.messages.create(**options)
    with client.messages.stream(**options) as events:
        return events.get_final_message()


def visible(message):
    """What two answers with one seed have in common: all but their ids."""
    blocks = [block.model_dump(exclude={"id"}) for block in message.content]
    return blocks, message.stop_reason, message.stop_sequence, message.usage.output_tokens


@pytest.mark.parametrize("family", ["hermes", "deepseek"])
def test_a_stream_makes_the_same_message(connect, family):
    client = connect(family)
    for seed in SEEDS:
        options = {"thinking": {"type": "enabled", "budget_tokens": 8}, "max_tokens": 40}
        whole, streamed = (ask(client, seed, stream, **options) for stream in (False, True))
        assert visible(whole) == visible(streamed)
        assert whole.role == "assistant" and whole.type == "message" and whole.id.startswith("msg_")
        assert whole.stop_reason in ("end_turn", "max_tokens")
        for block in whole.content:
            assert block.type in ("thinking", "text")


def test_thinking_has_a_block_of_its_own(connect):
    client = connect("deepseek")
    for stream in (False, True):
        message = ask(
            client, 1, stream, thinking={"type": "enabled", "budget_tokens": 6}, max_tokens=40,
            extra_body={"ignore_eos": True},
        )
        thinking, text = message.content
        assert thinking.type == "thinking" and thinking.thinking and thinking.signature
        assert text.type == "text" and text.text and "think" not in text.text
        # The block can be sent back.
        history = [*ASK, {"role": "assistant", "content": message.content}, {"role": "user", "content": "Go on."}]
        assert ask(client, 1, stream, messages=history, max_tokens=5).usage.output_tokens <= 5
    off = ask(client, 1, False, thinking={"type": "disabled"}, max_tokens=20)
    assert all(block.type == "text" for block in off.content)


@pytest.mark.parametrize("family", ["hermes", "deepseek"])
@pytest.mark.parametrize("choice", ["any", "tool"])
def test_a_forced_call_has_input_that_fits(connect, family, choice):
    client = connect(family)
    forced = {"type": "tool", "name": "get_weather"} if choice == "tool" else {"type": "any"}
    forced["disable_parallel_tool_use"] = True
    for seed in SEEDS:
        answers = [
            ask(
                client, seed, stream, tools=[CLOCK, WEATHER], tool_choice=forced,
                thinking={"type": "enabled", "budget_tokens": 5},
            )
            for stream in (False, True)
        ]
        assert visible(answers[0]) == visible(answers[1])
        for message in answers:
            assert message.stop_reason == "tool_use"
            (call,) = [block for block in message.content if block.type == "tool_use"]
            assert all(block.type in ("thinking", "tool_use") for block in message.content)
            assert call.id.startswith("toolu_")
            schema = WEATHER_SCHEMA if call.name == "get_weather" else CLOCK["input_schema"]
            jsonschema.validate(call.input, schema)
            if choice == "tool":
                assert call.name == "get_weather"


def test_a_conversation_with_tools_goes_on(connect):
    client = connect("hermes")
    first = ask(client, 2, True, tools=[WEATHER], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    (call,) = [block for block in first.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "blue sky"}]}
    history = [*ASK, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    count = client.messages.count_tokens(model="tiny", messages=history, tools=[WEATHER])
    second = ask(client, 2, False, messages=history, tools=[WEATHER], max_tokens=5)
    usage = second.usage
    assert count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens
    assert count.input_tokens > client.messages.count_tokens(model="tiny", messages=ASK, tools=[WEATHER]).input_tokens


def test_count_tokens_is_what_is_billed(connect):
    client = connect("hermes")
    for number, system in enumerate(("Be brief.", [{"type": "text", "text": "Be kind. " * 20}])):
        # Unlike any other prompt, so that no cache has a part of it.
        messages = [{"role": "user", "content": [{"type": "text", "text": f"{number * 7919} unlike others"}]}]
        count = client.messages.count_tokens(model="tiny", system=system, messages=messages)
        usage = ask(client, 1, number == 1, system=system, messages=messages, max_tokens=1).usage
        assert usage.cache_read_input_tokens == 0
        assert count.input_tokens == usage.input_tokens
        again = ask(client, 1, number == 0, system=system, messages=messages, max_tokens=1).usage
        assert again.input_tokens + again.cache_read_input_tokens == count.input_tokens


def test_stop_sequences_are_named(connect):
    client = connect("hermes")
    text = ask(client, 3, False, max_tokens=30, thinking={"type": "disabled"}).content[0].text
    stop = text[len(text) // 2 :][:2]
    for stream in (False, True):
        message = ask(
            client, 3, stream, max_tokens=30, thinking={"type": "disabled"}, stop_sequences=["\x00never", stop]
        )
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
        assert stop not in "".join(block.text for block in message.content)


def test_output_format_is_enforced(connect):
    schema = {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 2}
    schema = {"type": "object", "properties": {"x": schema}, "required": ["x"], "additionalProperties": False}
    for seed in SEEDS:
        message = ask(
            connect("hermes"), seed, seed % 2 == 0, thinking={"type": "disabled"},
            extra_body={"output_config": {"format": {"type": "json_schema", "schema": schema}}},
        )
        jsonschema.validate(json.loads(message.content[0].text), schema)


def test_errors_are_anthropics(serve, connect):
    client = connect("hermes")
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="none", max_tokens=1, messages=ASK)
    assert missing.value.body["error"]["type"] == "not_found_error"
    assert missing.value.request_id == missing.value.body["request_id"]
    assert client.messages.create(model="tiny", max_tokens=1, messages=ASK)._request_id
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(model="tiny", max_tokens=1, messages=[{"role": "user", "content": [image]}])
    assert refused.value.body["type"] == "error"
    assert "text only" in refused.value.body["error"]["message"]
    with pytest.raises(anthropic.BadRequestError) as too_long:
        client.messages.create(model="tiny", max_tokens=1, messages=[{"role": "user", "content": "word " * 9000}])
    assert "context" in too_long.value.body["error"]["message"]
    status, body = serve("hermes").post_json("/v1/messages", {"model": "tiny", "messages": ASK})
    assert status == 400 and "max_tokens" in body["error"]["message"]
    assert serve("hermes").request("GET", "/v1/messages")[0] == 405


def test_both_headers_carry_the_key(serve):
    """A request that runs is found by its owner's key, in whichever header it comes."""
    server = serve("hermes")
    body = {"model": "tiny", "max_tokens": 3000, "messages": ASK, "stream": True, "ignore_eos": True}
    connection = server.connect()
    connection.request(
        "POST", "/v1/messages", json.dumps(body), {"x-api-key": "mine", "x-request-id": "by-key", "Content-Type": "application/json"}
    )
    response = connection.getresponse()
    assert response.status == 200
    path = "/v1/requests/by-key/answer_now"
    assert server.request("POST", path, headers={"x-api-key": "other"})[0] == 404
    assert server.request("POST", path, headers={"Authorization": "Bearer mine"})[0] == 200
    connection.close()
    server.wait_until_idle()


def test_models_have_the_clients_form(connect):
    client = connect("hermes")
    (model,) = client.models.list()
    assert model.id == model.display_name == "tiny" and model.type == "model"
    assert model.created_at.year >= 2020
    assert client.models.retrieve("tiny") == model
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("none")
