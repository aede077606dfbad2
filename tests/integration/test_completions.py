"""Text completions with the real `openai` client."""

import openai
import pytest

from ridge_process import MODEL


def complete(client, prompt, **options):
    options.setdefault("temperature", 0)
    options.setdefault("max_tokens", 8)
    return client.completions.create(model=MODEL, prompt=prompt, **options)


def test_continues_a_text(client):
    answer = complete(client, "The capital of France is")
    assert "Paris" in answer.choices[0].text
    assert answer.object == "text_completion"


def test_takes_token_ids(client, ridge_binary, model_environment):
    import json
    import subprocess

    text = "The capital of France is"
    ids = json.loads(
        subprocess.run(
            [ridge_binary, "tokenize", MODEL, text], env=model_environment, check=True, capture_output=True, text=True
        ).stdout
    )
    assert complete(client, ids).choices[0].text == complete(client, text).choices[0].text


def test_answers_several_prompts(client):
    prompts = ["One plus one is", "The sky is"]
    together = complete(client, prompts, n=1)
    assert [choice.index for choice in together.choices] == [0, 1]
    assert together.usage.prompt_tokens == sum(complete(client, prompt).usage.prompt_tokens for prompt in prompts)


def test_streams(client):
    whole = complete(client, "The sky is").choices[0].text
    chunks = list(complete(client, "The sky is", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole


def test_logprobs_in_the_old_form(client):
    logprobs = complete(client, "The sky is", logprobs=2, max_tokens=4).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 4
    assert all(len(top) >= 1 for top in logprobs.top_logprobs)
    assert logprobs.text_offset[0] == 0


def test_default_length_is_sixteen(client):
    answer = complete(client, "Once upon a time", max_tokens=None, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16


def test_echoes_the_prompt(client):
    prompt = "The capital of France is"
    plain = complete(client, prompt).choices[0].text
    assert complete(client, prompt, echo=True).choices[0].text == prompt + plain
    chunks = list(complete(client, prompt, echo=True, stream=True))
    assert chunks[0].choices[0].text == prompt
    assert "".join(chunk.choices[0].text for chunk in chunks) == prompt + plain


def test_scores_a_prompt_without_an_answer(client):
    text = "The naïve café is in Paris."
    answer = complete(client, text, echo=True, logprobs=1, max_tokens=0)
    choice = answer.choices[0]
    logprobs = choice.logprobs
    assert (choice.text, choice.finish_reason) == (text, "length")
    assert answer.usage.completion_tokens == 0
    assert len(logprobs.tokens) == answer.usage.prompt_tokens
    assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
    assert all(value < 0 for value in logprobs.token_logprobs[1:])
    for token, offset in zip(logprobs.tokens, logprobs.text_offset):
        if not token.startswith("bytes:"):
            assert text[offset : offset + len(token)] == token
    # What the model finds likeliest after the prompt is what it then says, with the same logprob.
    said = complete(client, "The naïve", logprobs=1, max_tokens=1).choices[0].logprobs
    longer = complete(client, "The naïve" + said.tokens[0], echo=True, logprobs=1, max_tokens=0).choices[0].logprobs
    assert longer.tokens[-1] == said.tokens[0]
    assert longer.token_logprobs[-1] == pytest.approx(said.token_logprobs[0], abs=0.05)


def test_echoes_token_ids_and_several_prompts(client, server):
    texts = ["One plus one is", "The sky is"]
    ids = [server.post_json("/tokenize", {"model": MODEL, "prompt": text})[1]["tokens"] for text in texts]
    by_text = complete(client, texts, echo=True, logprobs=0, n=2, max_tokens=2)
    by_ids = complete(client, ids, echo=True, logprobs=0, n=2, max_tokens=2)
    assert [choice.text for choice in by_ids.choices] == [choice.text for choice in by_text.choices]
    for index, choice in enumerate(by_ids.choices):
        assert choice.index == index
        assert choice.text.startswith(texts[index // 2])
        assert len(choice.logprobs.tokens) == len(ids[index // 2]) + 2
        assert choice.logprobs.text_offset[len(ids[index // 2])] == len(texts[index // 2])


def test_ends_at_its_deadline(client, server):
    endless = {"ignore_eos": True, "timeout_ms": 300}
    with pytest.raises(openai.APIStatusError) as failure:
        complete(client, "Once upon a time", max_tokens=900, extra_body=endless)
    assert failure.value.status_code == 408
    assert failure.value.code == "timed_out"
    assert failure.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.APIError, match="deadline"):
        for _ in complete(client, "Once upon a time", max_tokens=900, stream=True, extra_body=endless):
            pass
    server.wait_until_idle()


def test_refuses_what_it_cannot_do(client):
    for options, param in [({"suffix": "y"}, "suffix"), ({"best_of": 2}, "best_of")]:
        with pytest.raises(openai.BadRequestError) as failure:
            complete(client, "x", **options)
        assert failure.value.code == "unsupported"
        assert failure.value.param == param
    with pytest.raises(openai.BadRequestError) as failure:
        complete(client, "x", max_tokens=0)
    assert failure.value.param == "max_tokens"
