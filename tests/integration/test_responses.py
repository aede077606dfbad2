"""The real `openai` client's Responses against models of random weights."""

import json

import jsonschema
import openai
import pytest

from tiny_servers import WEATHER_SCHEMA, tiny_servers

WEATHER = {"type": "function", "name": "get_weather", "parameters": WEATHER_SCHEMA, "strict": True}
SEEDS = range(4)


@pytest.fixture(scope="module")
def serve(ridge_binary, plain_environment, tmp_path_factory):
    with tiny_servers(ridge_binary, plain_environment, tmp_path_factory.mktemp("responses")) as start:
        yield start


@pytest.fixture(scope="module")
def connect(serve):
    def to(family, key="mine"):
        return openai.OpenAI(base_url=serve(family).url + "/v1", api_key=key, max_retries=0, timeout=120)

    return to


def ask(client, seed=1, stream=False, **options):
    """The response, by the client's own accumulation where it is streamed."""
    options = {"model": "tiny", "input": "Say something.", "max_output_tokens": 1500, "temperature": 1, **options}
    options["extra_body"] = {"seed": seed, **options.pop("extra_body", {})}
    if not stream:
        return client.responses.create(**options)
    final = None
    number = 0
    with client.responses.stream(**options) as events:
        for event in events:
            assert event.sequence_number == number
            number += 1
            if event.type in ("response.completed", "response.incomplete"):
                final = event.response
    return final


def visible(response):
    items = [item.model_dump(exclude={"id", "call_id", "parsed", "parsed_arguments"}) for item in response.output]
    for item in items:
        for part in item.get("content") or []:
            part.pop("parsed", None)
    return items, response.status, response.usage.output_tokens


@pytest.mark.parametrize("family", ["hermes", "deepseek"])
def test_a_stream_makes_the_same_response(connect, family):
    client = connect(family)
    for seed in SEEDS:
        options = {"extra_body": {"thinking_budget": 6}, "max_output_tokens": 40, "instructions": "Be brief."}
        whole, streamed = (ask(client, seed, stream, **options) for stream in (False, True))
        assert visible(whole) == visible(streamed)
        assert whole.status in ("completed", "incomplete")
        assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
        if whole.status == "incomplete":
            assert whole.incomplete_details.reason == "max_output_tokens"


def test_reasoning_is_an_item_of_its_own(connect):
    for stream in (False, True):
        response = ask(
            connect("deepseek"), 1, stream, max_output_tokens=40,
            extra_body={"thinking_budget": 6, "ignore_eos": True},
        )
        reasoning, message = response.output
        assert reasoning.type == "reasoning" and reasoning.content[0].text
        assert message.type == "message" and message.content[0].text
        assert response.usage.output_tokens_details.reasoning_tokens >= 6
    off = ask(connect("deepseek"), 1, reasoning={"effort": "none"}, max_output_tokens=20)
    assert [item.type for item in off.output] in ([], ["message"])


@pytest.mark.parametrize("family", ["hermes", "deepseek"])
def test_a_forced_call_and_what_follows(connect, family):
    client = connect(family)
    options = {"tools": [WEATHER], "parallel_tool_calls": False, "extra_body": {"thinking_budget": 4}}
    for seed in SEEDS:
        answers = [
            ask(client, seed, stream, tool_choice={"type": "function", "name": "get_weather"}, **options)
            for stream in (False, True)
        ]
        assert visible(answers[0]) == visible(answers[1])
        (call,) = [item for item in answers[0].output if item.type == "function_call"]
        assert call.name == "get_weather" and call.call_id.startswith("call_")
        jsonschema.validate(json.loads(call.arguments), WEATHER_SCHEMA)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "blue sky"}
    # From what is stored, and from items that the client kept, the same prompt is made.
    stored = ask(client, 1, input=[result], previous_response_id=answers[0].id, max_output_tokens=5, **options)
    kept = [{"role": "user", "content": "Say something."}, *(item.model_dump() for item in answers[0].output), result]
    sent = ask(client, 1, input=kept, store=False, max_output_tokens=5, **options)
    assert stored.usage.input_tokens == sent.usage.input_tokens


def test_text_format_is_enforced(connect):
    schema = {
        "type": "object", "properties": {"x": {"enum": ["a", "b"]}}, "required": ["x"], "additionalProperties": False,
    }
    form = {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": schema}}
    for seed in SEEDS:
        response = ask(connect("deepseek"), seed, seed % 2 == 0, text=form, extra_body={"thinking_budget": 4})
        jsonschema.validate(json.loads(response.output[-1].content[0].text), schema)


def test_what_is_stored_is_its_owners_only(connect):
    mine, other = connect("hermes", "mine"), connect("hermes", "other")
    response = ask(mine, 1, max_output_tokens=5)
    again = mine.responses.retrieve(response.id)
    assert again.model_dump(exclude_none=True) == response.model_dump(exclude_none=True)
    (item,) = mine.responses.input_items.list(response.id).data
    assert item.role == "user" and item.content[0].text == "Say something."
    for attempt in (
        lambda: other.responses.retrieve(response.id),
        lambda: other.responses.input_items.list(response.id),
        lambda: other.responses.delete(response.id),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()
    with pytest.raises(openai.BadRequestError) as refused:
        ask(other, 1, previous_response_id=response.id)
    assert (refused.value.param, refused.value.code) == ("previous_response_id", "previous_response_not_found")
    longer = ask(mine, 1, input="And then?", previous_response_id=response.id, max_output_tokens=5)
    assert longer.usage.input_tokens > response.usage.input_tokens
    mine.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        mine.responses.retrieve(response.id)
    unstored = ask(mine, 1, store=False, max_output_tokens=5)
    with pytest.raises(openai.NotFoundError):
        mine.responses.retrieve(unstored.id)


def test_a_stored_response_is_streamed_again(connect):
    client = connect("deepseek")
    response = ask(client, 1, max_output_tokens=20, extra_body={"thinking_budget": 4, "ignore_eos": True})
    events = list(client.responses.retrieve(response.id, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[0].response.output == []
    assert visible(events[-1].response) == visible(response)
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(texts) == response.output_text != ""
    rest = list(client.responses.retrieve(response.id, stream=True, starting_after=2))
    assert [event.sequence_number for event in rest] == list(range(3, len(events)))


def test_logprobs_are_those_of_the_text(connect):
    wanted = {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "extra_body": {"ignore_eos": True}}
    for stream in (False, True):
        response = ask(connect("hermes"), 1, stream, max_output_tokens=8, **wanted)
        (message,) = response.output
        logprobs = message.content[0].logprobs
        assert len(logprobs) == 8
        for token in logprobs:
            assert token.logprob <= 0 and len(token.top_logprobs) == 2
            assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob


def test_some_of_the_tools_may_be_allowed(connect):
    other, options = {**WEATHER, "name": "get_time"}, {"parallel_tool_calls": False, "extra_body": {"thinking_budget": 4}}
    for seed in SEEDS:
        response = ask(
            connect("hermes"), seed, seed % 2 == 0, tools=[other, WEATHER], **options,
            tool_choice={"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_weather"}]},
        )  # fmt: skip
        assert [item.name for item in response.output if item.type == "function_call"] == ["get_weather"]


def test_what_cannot_be_done_is_refused_by_name(serve):
    server = serve("hermes")
    for body, param in (
        ({}, "input"),
        ({"input": "a", "background": True}, "background"),
        ({"input": "a", "n": 2}, "n"),
        ({"input": "a", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "word " * 9000}, "input"),
    ):
        status, answer = server.post_json("/v1/responses", {"model": "tiny", **body})
        assert (status, answer["error"]["param"]) == (400, param), answer
    assert server.request("GET", "/v1/responses/none")[0] == 404


def test_a_response_can_be_cancelled_while_it_is_made(connect):
    mine, other = connect("hermes"), connect("hermes", "other")
    options = {"model": "tiny", "input": "Say something.", "extra_body": {"ignore_eos": True}, "stream": True}

    def cancels():
        """False where it had ended before: whoever is held up for long comes too late."""
        kinds = []
        for event in mine.responses.create(**options, max_output_tokens=4000):
            if event.type == "response.created":
                made = event.response.id
            if event.type.endswith(".delta") and not any(kind.endswith(".delta") for kind in kinds):
                with pytest.raises(openai.NotFoundError):
                    other.responses.cancel(made)
                try:
                    assert mine.responses.cancel(made).status == "cancelled"
                except openai.BadRequestError as late:
                    assert "has ended already" in str(late)
                    return False
            kinds.append(event.type)
        assert kinds[-1] == "response.failed"
        return True

    assert any(cancels() for _ in range(20))
    done = ask(mine, max_output_tokens=3)
    with pytest.raises(openai.BadRequestError, match="has ended already"):
        mine.responses.cancel(done.id)


def test_input_tokens_are_counted(connect):
    client = connect("hermes")
    options = {"model": "tiny", "input": "Say something.", "instructions": "Be brief.", "tools": [WEATHER]}
    count = client.responses.input_tokens.count(**options)
    assert count.input_tokens == client.responses.create(**options, max_output_tokens=1).usage.input_tokens
