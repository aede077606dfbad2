"""Answers in a given form, calls of tools, and thinking: the real `openai` client against models of
random weights, whose answers are in order only where that is enforced."""

import concurrent.futures
import json
import re
import threading
import time

import jsonschema
import openai
import pytest

import tiny_model
from ridge_process import RidgeServer
from tiny_servers import FAMILIES, WEATHER, WEATHER_SCHEMA

SEEDS = range(6)
ASK = [{"role": "user", "content": "Say something."}]
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "ü"]}, "maxItems": 3},
        "address": {"$ref": "#/$defs/address"},
    },
    "required": ["name", "age", "tags", "address"],
    "additionalProperties": False,
    "$defs": {
        "address": {
            "type": "object",
            "properties": {"zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
            "required": ["zip"],
            "additionalProperties": False,
        }
    },
}
STRICT = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
CLOCK = {"type": "function", "function": {"name": "now"}}


@pytest.fixture(scope="module")
def serve(ridge_binary, plain_environment, tmp_path_factory):
    """serve(family) -> a server with the family's tiny model, which is called "tiny"."""
    servers = {}
    folder = tmp_path_factory.mktemp("tiny")

    def start(family, *options):
        key = (family, *options)
        if key not in servers:
            place = folder / f"{len(servers)}"
            place.mkdir()
            path = tiny_model.write_tiny_model(place / "tiny.gguf", *FAMILIES[family])
            environment = {**plain_environment, "RIDGE_HOME": str(place)}
            servers[key] = RidgeServer(ridge_binary, environment, path, ("--threads", "2", *options))
        return servers[key]

    yield start
    for server in servers.values():
        server.stop()


@pytest.fixture(scope="module")
def connect(serve):
    def to(family, *options):
        url = serve(family, *options).url + "/v1"
        return openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=120)

    return to


def collect(stream):
    """(content, reasoning, calls, finish reason) of a stream, checked for its order."""
    content, reasoning, calls, reason = "", "", [], None
    for chunk in stream:
        if not chunk.choices:
            continue
        choice = chunk.choices[0]
        content += choice.delta.content or ""
        reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        for piece in choice.delta.tool_calls or []:
            if piece.index == len(calls):
                assert piece.id.startswith("call_") and piece.type == "function"
                assert piece.function.arguments == ""
                calls.append([piece.function.name, "", piece.id])
            else:
                assert piece.index == len(calls) - 1 and piece.function.name is None
                calls[-1][1] += piece.function.arguments
        reason = choice.finish_reason or reason
    assert len({call[2] for call in calls}) == len(calls)
    return content, reasoning, [(name, arguments) for name, arguments, _ in calls], reason


def ask(client, stream=False, messages=None, **options):
    """The same four of an answer, streamed or not."""
    options.setdefault("temperature", 1)
    options.setdefault("max_tokens", 1500)
    answer = client.chat.completions.create(model="tiny", messages=messages or ASK, stream=stream, **options)
    if stream:
        return collect(answer)
    message = answer.choices[0].message
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
    reasoning = getattr(message, "reasoning_content", None) or ""
    return message.content or "", reasoning, calls, answer.choices[0].finish_reason


def in_all_ways(client, **options):
    """Answers with several seeds, streaming and not, side by side."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(ask, client, stream, seed=seed, **options) for seed in SEEDS for stream in (False, True)]
        return [run.result() for run in runs]


@pytest.mark.parametrize("field", ["response_format", "guided_json", "structured_outputs"])
def test_every_answer_fits_the_schema(connect, field):
    form = {
        "response_format": {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "person", "strict": True, "schema": PERSON},
            }
        },
        "guided_json": {"extra_body": {"guided_json": PERSON}},
        "structured_outputs": {"extra_body": {"structured_outputs": {"json": json.dumps(PERSON)}}},
    }[field]
    client = connect("llama3")
    answers = in_all_ways(client, **form)
    for content, _, _, reason in answers:
        assert reason == "stop"
        jsonschema.validate(json.loads(content), PERSON)
    # A seed is a seed, streamed or not.
    assert answers[0][0] == answers[1][0]


def test_json_object_is_an_object(connect):
    lengths = []
    for content, _, _, reason in in_all_ways(
        connect("llama3"), response_format={"type": "json_object"}, max_tokens=400
    ):
        if reason == "stop":
            assert isinstance(json.loads(content), dict)
        lengths.append(reason == "length")
    assert not all(lengths)


@pytest.mark.parametrize("regex", [r"[A-Z][a-z]{2,5} \d+(\.\d\d)?", r"(ja|nein|東京)!"])
def test_every_answer_matches_the_regex(connect, regex):
    for options in ({"guided_regex": regex}, {"structured_outputs": {"regex": regex}}):
        for content, _, _, reason in in_all_ways(connect("llama3"), extra_body=options, max_tokens=300):
            if reason == "stop":
                assert re.fullmatch(regex, content)
            else:
                assert reason == "length"
    content, _, _, reason = ask(connect("llama3"), extra_body={"guided_regex": "[0-9]{40}"}, max_tokens=5)
    assert reason == "length" and re.fullmatch("[0-9]*", content)


def test_every_answer_is_one_of_the_choices(connect):
    choices = ["yes", "no", "yes, but (a|b) .*", 'a "quoted"\nline']
    seen = {content for content, _, _, _ in in_all_ways(connect("llama3"), extra_body={"guided_choice": choices})}
    assert seen <= set(choices) and len(seen) > 1


def test_every_answer_follows_the_grammar(connect):
    grammar = 'start: "(" INT (OP INT)* ")"\nINT: /[1-9][0-9]{0,3}/\nOP: "+" | "-"'
    for content, _, _, reason in in_all_ways(connect("llama3"), extra_body={"guided_grammar": grammar}, max_tokens=200):
        if reason == "stop":
            assert re.fullmatch(r"\([1-9]\d{0,3}([+-][1-9]\d{0,3})*\)", content)


def test_completions_have_a_form_too(connect):
    answer = connect("llama3").completions.create(
        model="tiny", prompt=["a", "b"], n=2, max_tokens=300, temperature=1, extra_body={"guided_regex": "x{3}[0-9]+y"}
    )
    assert len(answer.choices) == 4
    for choice in answer.choices:
        assert re.fullmatch("x{3}[0-9]+y", choice.text) or choice.finish_reason == "length"


def test_a_form_begins_behind_the_thinking(connect):
    body = {"guided_regex": r"\{[0-9]{3}\}", "thinking_budget": 12}
    for content, reasoning, _, reason in in_all_ways(connect("deepseek"), extra_body=body):
        assert reason == "stop"
        assert re.fullmatch(r"\{[0-9]{3}\}", content)
    off = {**body, "enable_thinking": False}
    for content, reasoning, _, _ in in_all_ways(connect("hermes"), extra_body=off):
        assert reasoning == "" and re.fullmatch(r"\{[0-9]{3}\}", content)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("choice", ["required", "named"])
def test_a_forced_call_always_parses(connect, family, choice):
    named = {"type": "function", "function": {"name": "get_weather"}}
    options = {"tool_choice": named if choice == "named" else "required"}
    answers = in_all_ways(
        connect(family), tools=[WEATHER, CLOCK], **options, extra_body={"thinking_budget": 5}, max_tokens=3000
    )
    for content, _, calls, reason in answers:
        assert content == ""
        assert calls
        for number, (name, arguments) in enumerate(calls):
            if reason == "length" and number == len(calls) - 1:
                continue
            assert isinstance(json.loads(arguments), dict)
            if name == "get_weather":
                jsonschema.validate(json.loads(arguments), WEATHER_SCHEMA)
        if choice == "named":
            assert reason == "tool_calls" and [name for name, _ in calls] == ["get_weather"]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_call_where_they_are_not_parallel(connect, family):
    for _, _, calls, reason in in_all_ways(
        connect(family),
        tools=[STRICT],
        tool_choice="required",
        parallel_tool_calls=False,
        extra_body={"thinking_budget": 5},
    ):
        assert len(calls) == 1 and reason == "tool_calls"


@pytest.mark.parametrize("family", FAMILIES)
def test_calls_or_json(connect, family):
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["yes", "no"]}}}
    answers = in_all_ways(
        connect(family),
        tools=[STRICT],
        parallel_tool_calls=False,
        response_format=form,
        extra_body={"thinking_budget": 5},
    )
    for content, _, calls, reason in answers:
        if calls:
            assert reason == "tool_calls" and content == ""
            jsonschema.validate(json.loads(calls[0][1]), WEATHER_SCHEMA)
        else:
            assert json.loads(content) in ("yes", "no") and reason == "stop"


def bias_to(server, text, weight=60):
    """A bias that makes a model of noise write a tag: the ids are those that tokenizing gives."""
    return {str(id): weight for id in text}


def test_a_strict_call_that_a_model_begins_is_completed(connect, serve):
    # The id of <tool_call>, the third token behind the golden's 320.
    answers = in_all_ways(
        connect("hermes"),
        tools=[STRICT],
        extra_body={"logit_bias": bias_to(serve("hermes"), [322], 100), "enable_thinking": False},
        max_tokens=400,
    )
    for _, _, calls, _ in answers:
        assert calls, "every answer began with the tag"
        for name, arguments in calls[:-1]:
            assert name == "get_weather"
            jsonschema.validate(json.loads(arguments), WEATHER_SCHEMA)


def test_noise_is_content_and_no_call(connect):
    for family in FAMILIES:
        for content, reasoning, calls, reason in in_all_ways(connect(family), tools=[WEATHER], max_tokens=60):
            assert calls == [] and reason in ("stop", "length")
            assert content or reasoning or reason == "stop"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_conversation_with_tools_goes_on(connect, family):
    client = connect(family)
    options = {"tools": [WEATHER], "extra_body": {"thinking_budget": 3}, "temperature": 1, "max_tokens": 1000}
    first = client.chat.completions.create(model="tiny", messages=ASK, tool_choice="required", **options)
    message = first.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "blue"}'} for call in message.tool_calls
    ]
    history = [*ASK, message.model_dump(exclude_none=True), *results]
    options["max_tokens"] = 20
    second = client.chat.completions.create(model="tiny", messages=history, **options)
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_thinking_ends_with_its_budget(connect):
    for budget in (0, 10):
        answer = connect("deepseek").chat.completions.create(
            model="tiny",
            messages=ASK,
            temperature=1,
            seed=1,
            max_tokens=60,
            extra_body={"thinking_budget": budget, "ignore_eos": True},
        )
        used = answer.usage.completion_tokens_details.reasoning_tokens
        assert budget <= used <= budget + 8
        assert answer.choices[0].message.content
        assert "think" not in answer.choices[0].message.content


def test_a_model_that_cannot_be_told_not_to_think_does_not(connect):
    for body in ({"enable_thinking": False}, {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}):
        _, reasoning, _, _ = ask(connect("deepseek"), extra_body=body, max_tokens=30)
        assert reasoning == ""


@pytest.mark.parametrize("by", ["id", "x-request-id"])
def test_answer_now(serve, by):
    server = serve("deepseek")
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="mine", max_retries=0, timeout=120)
    stream = client.chat.completions.create(
        model="tiny",
        messages=ASK,
        stream=True,
        temperature=1,
        max_tokens=3500,
        extra_body={"ignore_eos": True},
        extra_headers={"x-request-id": "my-request"},
    )
    chunks = iter(stream)
    name = next(chunks).id if by == "id" else "my-request"
    path = f"/v1/requests/{name}/answer_now"
    # Nobody else may, nor learn that it runs.
    assert server.request("POST", path, headers={"Authorization": "Bearer other"})[0] == 404
    status, _, body = server.request("POST", path, headers={"Authorization": "Bearer mine"})
    assert status == 200 and json.loads(body)["id"] == name
    began = time.monotonic()
    for chunk in chunks:
        if chunk.choices and chunk.choices[0].delta.content:
            break
    else:
        pytest.fail("the thinking did not end")
    assert time.monotonic() - began < 30
    stream.close()
    server.wait_until_idle()
    assert server.request("POST", path, headers={"Authorization": "Bearer mine"})[0] == 404
    assert server.request("GET", path)[0] == 405


@pytest.mark.parametrize(
    "body, param",
    [
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_json": {"type": "array", "uniqueItems": True}}, "guided_json"),
        ({"guided_json": {"type": "no-type"}}, "guided_json"),
        ({"guided_grammar": "start: missing"}, "guided_grammar"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True,
          "schema": {"not": {"type": "null"}}}}}, "response_format"),
        ({"tools": [CLOCK, {"type": "function", "function": {"name": "g", "strict": True,
          "parameters": {"type": "object", "patternProperties": {"(": {}}}}}]}, "tools[1].function.parameters"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ({"guided_json": {"type": "integer", "multipleOf": 1000003}}, "guided_json"),
        ({"guided_regex": "(" * 5000 + "a" + ")" * 5000}, "guided_regex"),
    ],
)
def test_a_bad_form_is_refused_by_name(serve, body, param):
    status, answer = serve("llama3").post_json("/v1/chat/completions", {"model": "tiny", "messages": ASK, **body})
    assert status == 400, answer
    assert answer["error"]["param"] == param
    assert answer["error"]["message"]


def test_a_keyword_that_is_not_enforced_is_ignored_unless_strict(connect):
    schema = {"type": "array", "items": {"type": "null"}, "uniqueItems": True, "maxItems": 3}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    for content, _, _, _ in in_all_ways(connect("llama3"), response_format=form):
        assert isinstance(json.loads(content), list)


def test_hostile_grammars_hold_nobody_up(serve, connect):
    """While hard grammars are compiled, others are answered, those with grammars too."""
    server, client = serve("llama3"), connect("llama3")
    ask(client, max_tokens=8, extra_body={"guided_choice": ["kept"]})
    wide = {"anyOf": [{"type": "object", "properties": {f"p{i}": {"type": "string"}}} for i in range(1500)]}
    stop = threading.Event()
    compiled = []

    def attack(number):
        while not stop.is_set():
            schema = {**wide, "title": f"{number} {time.monotonic()}"}
            body = {"model": "tiny", "messages": ASK, "guided_json": schema}
            server.post_json("/v1/chat/completions", body, timeout=600)
            compiled.append(number)

    attackers = [threading.Thread(target=attack, args=(number,)) for number in range(8)]
    for attacker in attackers:
        attacker.start()
    held_up = []
    try:
        for number in range(5):
            for body in ({}, {"guided_choice": ["kept"]}, {"guided_choice": [f"new {number}"]}):
                before = len(compiled)
                ask(client, max_tokens=8, extra_body=body)
                # Three are compiled at once; who stands in line behind all eight sees six of them end first.
                if len(compiled) - before > 4:
                    held_up.append(body)
    finally:
        stop.set()
        for attacker in attackers:
            attacker.join()
    assert len(held_up) <= 2, held_up  # so often, this program may have stood still


def test_grammars_that_run_out_of_memory_cost_others_nothing(serve, connect):
    """More of them than one program could stand."""
    server, client = serve("llama3"), connect("llama3")
    for number in range(9):
        schema = {"type": "integer", "multipleOf": 1000003 + 2 * number}
        status, answer = server.post_json(
            "/v1/chat/completions", {"model": "tiny", "messages": ASK, "guided_json": schema}
        )
        assert status == 400 and "too complex" in answer["error"]["message"], answer
    content, *_ = ask(client, max_tokens=8, extra_body={"guided_choice": ["fine"]})
    assert content == "fine"


def test_the_style_of_calls_can_be_chosen(connect):
    client = connect("llama3", "--tool-style", "hermes")
    _, _, calls, reason = ask(client, tools=[STRICT], tool_choice="required", parallel_tool_calls=False)
    assert len(calls) == 1 and reason == "tool_calls"
