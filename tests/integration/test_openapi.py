"""The OpenAPI document: that it is one, and that answers are what it says."""

import json

import jsonschema
import openapi_spec_validator
import pytest

from ridge_process import MODEL


@pytest.fixture(scope="module")
def document(server):
    status, headers, body = server.request("GET", "/openapi.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    return json.loads(body)


def test_is_valid(document):
    assert document["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(document)


EXAMPLES = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "logprobs": True}),
    ("/v1/completions", {"prompt": "Hi", "max_tokens": 1, "echo": True, "logprobs": 2}),
    ("/v1/embeddings", {"input": ["Hi", [1, 2]], "pooling": "last"}),
    ("/v1/rerank", {"query": "Hi", "documents": ["Hello", {"text": "Bye"}]}),
    ("/v1/score", {"text_1": "Hi", "text_2": ["Hello", "Bye"]}),
    ("/tokenize", {"prompt": "Hi", "return_token_strs": True}),
    ("/v1/detokenize", {"tokens": [1, 2]}),
    ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}),
    ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "Hi"}]}),
    ("/v1/responses", {"input": "Hi", "max_output_tokens": 2, "store": False}),
    ("/api/chat", {"messages": [{"role": "user", "content": "Hi"}], "stream": False, "options": {"num_predict": 2}}),
    ("/api/generate", {"prompt": "Hi", "stream": False, "options": {"num_predict": 2}}),
    ("/api/chat", {"stream": False, "logprobs": True, "top_logprobs": 1, "messages": [{"role": "user", "content": "Hi"}],
                   "options": {"num_predict": 1, "logit_bias": {"3": -1}, "min_tokens": 1}}),
    ("/api/chat", {"keep_alive": "5m"}),
    ("/api/generate", {"keep_alive": 0}),
    ("/api/show", {}),
    ("/api/embed", {"input": ["Hi", "Bye"], "truncate": False, "priority": 1}),
    ("/api/embeddings", {"prompt": "Hi"}),
    ("/v1/responses/input_tokens", {"input": "Hi"}),
    ("/rerank", {"query": "Hi", "documents": ["Hello"]}),
    ("/v2/rerank", {"query": "Hi", "documents": ["Hello"], "top_n": 1}),
]
READ = ["/health", "/v1/health/live", "/v1/health/ready", "/v1/models", f"/v1/models/{MODEL}", "/tokenizer_info",
        "/api/tags", "/api/ps", "/api/version", "/api/v1/models", "/api/v1/downloads",
        "/api/v1/engine", "/api/v1/requests", "/api/v1/requests/kept", "/api/v1/templates"]  # fmt: skip


def closed(part):
    """The same, but an object has no members that are not described, where any are."""
    if isinstance(part, list):
        return [closed(value) for value in part]
    if not isinstance(part, dict):
        return part
    part = {key: closed(value) for key, value in part.items()}
    return {**part, "additionalProperties": False} if "properties" in part and "type" in part else part


def check(document, schema, value):
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def check_answer(document, schema, value):
    check(closed(document), closed(schema), value)


def schema_of(part):
    return part["content"]["application/json"]["schema"]


@pytest.mark.parametrize("path, body", EXAMPLES, ids=[path for path, _ in EXAMPLES])
def test_requests_and_answers_are_as_described(server, document, path, body):
    body = {"model": MODEL, **body}
    operation = document["paths"][path]["post"]
    check(document, schema_of(operation["requestBody"]), body)
    status, answer = server.post_json(path, body)
    assert status == 200, answer
    check_answer(document, schema_of(operation["responses"]["200"]), answer)


@pytest.mark.parametrize("path", READ)
def test_what_is_read_is_as_described(server, document, path):
    described = "/v1/models/{id}" if path.startswith("/v1/models/") else path
    status, _, body = server.request("GET", path)
    assert status == 200
    check_answer(document, schema_of(document["paths"][described]["get"]["responses"]["200"]), json.loads(body))


@pytest.mark.parametrize("path, body", EXAMPLES[:2], ids=[path for path, _ in EXAMPLES[:2]])
def test_options_of_streams_are_described_for_streams_alone(server, document, path, body):
    schema = schema_of(document["paths"][path]["post"]["requestBody"])
    options = {"stream_options": {"include_usage": True}}
    for refused in (options, {**options, "stream": False}, {**options, "stream": None}):
        with pytest.raises(jsonschema.ValidationError):
            check(document, schema, {**body, **refused})
        status, answer = server.post_json(path, {"model": MODEL, **body, **refused})
        assert (status, answer["error"]["param"]) == (400, "stream_options")
    for accepted in ({**options, "stream": True}, {"stream_options": None}, {"stream": False}):
        check(document, schema, {**body, **accepted})
        encoded = json.dumps({"model": MODEL, **body, **accepted})
        assert server.request("POST", path, encoded, {"Content-Type": "application/json"})[0] == 200


def test_refusals_are_as_described(server, document):
    for path in ("/v1/completions", "/v1/embeddings", "/v1/messages", "/api/chat"):
        status, answer = server.post_json(path, {"model": MODEL, "input": 1, "prompt": 1, "messages": 1})
        assert status == 400
        refused = document["paths"][path]["post"]["responses"]["4XX"]
        if "$ref" in refused:
            refused = document["components"]["responses"][refused["$ref"].split("/")[-1]]
        check_answer(document, schema_of(refused), answer)


def test_headers_are_as_described(server, document):
    """Those of each answer are named, and those that are named for good ones are there."""
    for path, body in EXAMPLES[:1] + [("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2})]:
        described = document["paths"][path]["post"]["responses"]["200"]["headers"]
        status, headers, _ = server.request("POST", path, json.dumps({"model": MODEL, **body}))
        assert status == 200
        for name in described:
            assert name in headers, f"{path}: {name}"


@pytest.mark.parametrize("scheme", [{"Authorization": "Bearer a"}, {"x-api-key": "a"}, {}])
def test_keys_are_as_described(server, document, scheme):
    assert document["security"] == [{}, {"bearer": []}, {"key": []}, {"session": []}]
    kinds = document["components"]["securitySchemes"]
    assert (kinds["bearer"]["scheme"], kinds["key"]["name"]) == ("bearer", "x-api-key")
    status, _, _ = server.request("GET", "/v1/models", headers=scheme)
    assert status == 200


def test_stored_responses_are_as_described(server, document):
    body = {"model": MODEL, "input": "Hi", "max_output_tokens": 2, "top_logprobs": 2}
    status, made = server.post_json("/v1/responses", body)
    assert status == 200, made
    assert made["output"][0]["content"][0]["logprobs"], "or nothing is judged"
    for path in ("/v1/responses/{id}", "/v1/responses/{id}/input_items"):
        status, _, answer = server.request("GET", path.replace("{id}", made["id"]))
        assert status == 200
        described = document["paths"][path]["get"]["responses"]["200"]
        check_answer(document, schema_of(described), json.loads(answer))
