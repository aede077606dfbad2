"""Embeddings, rerank, score and tokens: the real `openai` client, and what transformers computes."""

import base64
import json
import math
import pathlib
import struct

import openai
import pytest

from ridge_process import MODEL

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "goldens" / "smollm2-embeddings.golden.json"


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())["texts"]


def embed(client, texts, **options):
    answer = client.embeddings.create(model=MODEL, input=texts, **options)
    return [entry.embedding for entry in answer.data]


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_is_what_transformers_computes(client, golden, pooling):
    vectors = embed(client, [entry["text"] for entry in golden], extra_body={"pooling": pooling})
    for vector, entry in zip(vectors, golden, strict=True):
        assert dot(vector, vector) == pytest.approx(1, abs=1e-5)
        assert dot(vector, entry[pooling]) >= 0.9999, entry["text"]


def test_takes_token_ids(client, golden):
    by_text = embed(client, [entry["text"] for entry in golden])
    by_ids = embed(client, [entry["tokens"] for entry in golden])
    for a, b in zip(by_text, by_ids, strict=True):
        assert dot(a, b) >= 0.99999


def test_both_encodings_are_the_same_numbers(server):
    def ask(encoding):
        body = {"model": MODEL, "input": "The sky is blue.", "encoding_format": encoding, "normalize": False}
        status, answer = server.post_json("/v1/embeddings", body)
        assert status == 200
        return answer

    numbers = ask("float")
    packed = base64.b64decode(ask("base64")["data"][0]["embedding"])
    values = struct.unpack(f"<{len(packed) // 4}f", packed)
    assert numbers["usage"]["prompt_tokens"] == numbers["usage"]["total_tokens"] == 5
    assert values == pytest.approx(numbers["data"][0]["embedding"], rel=1e-6)
    assert dot(values, values) > 1.5, "not normalised"


def test_answers_more_texts_than_the_queue_holds_at_once(client):
    texts = [f"Number {i}." for i in range(150)]
    vectors = embed(client, texts)
    assert len(vectors) == len(texts)
    for i in (0, 75, 149):
        assert dot(vectors[i], embed(client, texts[i])[0]) >= 0.9999


def test_refuses_what_it_cannot_do(client):
    with pytest.raises(openai.BadRequestError) as failure:
        embed(client, "x", dimensions=64)
    assert (failure.value.code, failure.value.param) == ("unsupported", "dimensions")
    with pytest.raises(openai.BadRequestError) as failure:
        embed(client, "word " * 2000)
    assert (failure.value.code, failure.value.param) == ("context_length_exceeded", "input")
    with pytest.raises(openai.APIStatusError) as failure:
        embed(client, ["word " * 900] * 20, extra_body={"timeout_ms": 1})
    assert failure.value.status_code == 408


def test_reranks_by_the_cosine(server, client, golden):
    texts = [entry["text"] for entry in golden]
    body = {"model": MODEL, "query": texts[0], "documents": [{"text": texts[2]}, *texts[1:2], texts[0]], "top_n": 2}
    status, answer = server.post_json("/v1/rerank", body)
    assert status == 200
    assert [result["index"] for result in answer["results"]] == [2, 1]
    assert answer["results"][0]["relevance_score"] == pytest.approx(1, abs=1e-4)
    assert answer["results"][1]["document"] == {"text": texts[1]}
    expected = dot(golden[0]["mean"], golden[1]["mean"])
    assert answer["results"][1]["relevance_score"] == pytest.approx(expected, abs=0.01)

    status, scores = server.post_json("/v1/score", {"model": MODEL, "text_1": texts[0], "text_2": texts[:2]})
    assert status == 200
    assert [entry["score"] for entry in scores["data"]] == pytest.approx([1, expected], abs=0.01)


def test_tokenizes_and_back(server, golden):
    for entry in golden:
        status, answer = server.post_json("/tokenize", {"prompt": entry["text"], "return_token_strs": True})
        assert (status, answer["tokens"]) == (200, entry["tokens"])
        assert answer["count"] == len(entry["tokens"]) == len(answer["token_strs"])
        assert answer["max_model_len"] == 1024
        status, back = server.post_json("/v1/detokenize", {"tokens": entry["tokens"]})
        assert (status, back) == (200, {"prompt": entry["text"]})


def test_tokenizes_a_conversation_as_it_is_answered(server, client):
    messages = [{"role": "user", "content": "Hello!"}]
    status, tokens = server.post_json("/v1/tokenize", {"model": MODEL, "messages": messages})
    assert status == 200
    answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1)
    assert answer.usage.prompt_tokens == tokens["count"]
    status, text = server.post_json("/detokenize", {"tokens": tokens["tokens"]})
    assert text["prompt"].endswith("<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n")
