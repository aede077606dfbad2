"""Chat completions with the real `openai` client against a real server and a real model."""

import concurrent.futures
import math

import openai
import pytest

from ridge_process import MODEL

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def ask(client, messages=None, **options):
    options.setdefault("temperature", 0)
    options.setdefault("max_tokens", 24)
    return client.chat.completions.create(model=MODEL, messages=messages or QUESTION, **options)


def test_answers_a_question(client):
    answer = ask(client)
    assert "Paris" in answer.choices[0].message.content
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_counts_usage(client):
    answer = ask(client, max_tokens=5, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 5
    assert answer.usage.prompt_tokens > 10
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert answer.choices[0].finish_reason == "length"


def test_streams_the_same_text(client):
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert reasons[:-1] == [None] * (len(reasons) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage or chunks[-1].usage.total_tokens == whole.usage.total_tokens


def test_streams_token_by_token(client):
    # Tokens that are ready at once may share a piece, and not every token has a text of its own.
    story = [{"role": "user", "content": "Tell me a long story about a fox and a river."}]
    chunks = list(ask(client, story, stream=True, max_tokens=48, extra_body={"ignore_eos": True}))
    assert len([chunk for chunk in chunks if chunk.choices[0].delta.content]) >= 16


def test_a_seed_repeats_the_answer(client):
    options = {"temperature": 1, "max_tokens": 20}
    first, second = (ask(client, seed=7, **options).choices[0].message.content for _ in range(2))
    assert first == second
    others = {ask(client, seed=seed, **options).choices[0].message.content for seed in range(5)}
    assert len(others) > 1


def test_n_gives_independent_choices(client):
    answer = ask(client, n=3, temperature=1, seed=1, max_tokens=20)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    chunks = list(ask(client, n=3, stream=True, temperature=1, seed=1, max_tokens=20))
    for choice in answer.choices:
        text = "".join(
            piece.delta.content or "" for chunk in chunks for piece in chunk.choices if piece.index == choice.index
        )
        assert text == choice.message.content


def test_stops_before_a_stop_string(client):
    whole = ask(client, max_tokens=40).choices[0].message.content
    word = whole.split()[2]
    answer = ask(client, max_tokens=40, stop=[word, "never said"]).choices[0]
    assert answer.finish_reason == "stop"
    assert answer.message.content == whole[: whole.index(word)]
    text = "".join(
        chunk.choices[0].delta.content or "" for chunk in ask(client, max_tokens=40, stop=word, stream=True)
    )
    assert text == answer.message.content


def test_logprobs_describe_the_answer(client):
    answer = ask(client, logprobs=True, top_logprobs=4, max_tokens=6).choices[0]
    tokens = answer.logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode().startswith(answer.message.content)
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 4
        logprobs = [top.logprob for top in token.top_logprobs]
        assert logprobs == sorted(logprobs, reverse=True)
        # Greedy: the likeliest was picked.
        assert math.isclose(token.logprob, logprobs[0], abs_tol=1e-5)
        assert sum(math.exp(logprob) for logprob in logprobs) <= 1.0001


def test_logit_bias_forbids_and_forces(client, server):
    plain = ask(client, max_tokens=1, logprobs=True, extra_body={"ignore_eos": True})
    first = plain.choices[0].logprobs.content[0].token
    _, body = server.post_json(
        "/v1/completions", {"model": MODEL, "prompt": [1, 2, 3], "max_tokens": 3, "logit_bias": {"500": 100}}
    )
    forced = body["choices"][0]["text"]
    _, body = server.post_json(
        "/v1/completions",
        {"model": MODEL, "prompt": [1, 2, 3], "max_tokens": 1, "logit_bias": {"500": 100}, "logprobs": 0},
    )
    assert forced == body["choices"][0]["logprobs"]["tokens"][0] * 3
    assert first  # the plain answer has a first token at all


def test_earlier_turns_count_and_earlier_reasoning_does_not(client):
    def turns(**fields):
        return [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Let us talk about rivers."},
            {"role": "assistant", "content": "The Danube flows through Vienna.", **fields},
            {"role": "user", "content": [{"type": "text", "text": "Tell me more."}]},
        ]

    whole = ask(client, turns())
    alone = ask(client, [turns()[0], turns()[3]])
    assert whole.usage.prompt_tokens > alone.usage.prompt_tokens
    assert whole.choices[0].message.content != alone.choices[0].message.content
    for fields in ({"reasoning_content": "Hm, rivers."}, {"reasoning": "Hm, rivers."}):
        again = ask(client, turns(**fields))
        assert again.usage.prompt_tokens == whole.usage.prompt_tokens
        assert again.choices[0].message.content == whole.choices[0].message.content


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 16384}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {"99999999": 1}}, "logit_bias"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ],
)
def test_a_bad_field_is_named(client, options, param):
    with pytest.raises(openai.BadRequestError) as failure:
        client.chat.completions.create(**{"model": MODEL, "messages": QUESTION, **options})
    assert failure.value.param == param
    assert failure.value.type == "invalid_request_error"


def test_an_unknown_model_is_404(client):
    with pytest.raises(openai.NotFoundError) as failure:
        client.chat.completions.create(model="no-such-model", messages=QUESTION)
    assert failure.value.code == "model_not_found"
    assert MODEL in str(failure.value)


def test_a_prompt_longer_than_the_context_is_400(client):
    with pytest.raises(openai.BadRequestError) as failure:
        ask(client, [{"role": "user", "content": "word " * 2000}])
    assert failure.value.code == "context_length_exceeded"
    assert "1024" in str(failure.value)


def test_an_answer_ends_where_the_context_does(client):
    answer = ask(client, [{"role": "user", "content": "word " * 900}], max_tokens=None, extra_body={"ignore_eos": True})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.total_tokens <= 1024


def test_lists_its_models(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_many_streams_at_once_each_get_their_own_answer(client):
    prompts = [[{"role": "user", "content": f"Count from {start} to {start + 5}."}] for start in range(12)]

    def alone(messages):
        return ask(client, messages, max_tokens=16).choices[0].message.content

    def streamed(messages):
        chunks = ask(client, messages, max_tokens=16, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        together = list(pool.map(streamed, prompts))
    # Rounding may differ with the batch, so that not every word must be the same, but no answer may be
    # another request's.
    same = sum(text == alone(messages) for text, messages in zip(together, prompts))
    assert same >= 10
    assert all(together)
