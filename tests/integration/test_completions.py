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


def test_refuses_what_it_cannot_do(client):
    with pytest.raises(openai.BadRequestError) as failure:
        complete(client, "x", echo=True)
    assert failure.value.code == "unsupported"
    assert failure.value.param == "echo"
