"""What many users share: prefixes, turns, models."""

import concurrent.futures
import json
import pathlib

import pytest

from ridge_process import MODEL

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
LONG_PROMPT = "The river runs through the old town, under three bridges. " * 30


def complete(server, key=None, **fields):
    headers = {"Content-Type": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    body = {"prompt": LONG_PROMPT, "max_tokens": 8, "temperature": 0, **fields}
    status, _, answer = server.request("POST", "/v1/completions", json.dumps(body), headers)
    assert status == 200, answer
    return json.loads(answer)


def cached_tokens(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def metric(server, name, **labels):
    """The value of the one sample that has the labels."""
    status, headers, text = server.request("GET", "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    lines = [
        line
        for line in text.decode().splitlines()
        if line.split("{")[0].split(" ")[0] == name and all(label in line for label in wanted)
    ]
    assert len(lines) == 1, lines
    return float(lines[0].rsplit(" ", 1)[1])


@pytest.fixture(scope="module")
def own_server(start_server):
    return start_server("--context", "2048", "--max-sequences", "8")


def test_a_prompt_that_was_read_before_is_not_read_again(own_server):
    first = complete(own_server, key="alpha")
    again = complete(own_server, key="alpha")
    assert cached_tokens(first) == 0
    assert cached_tokens(again) > 0.9 * again["usage"]["prompt_tokens"]
    assert again["choices"][0]["text"] == first["choices"][0]["text"]


def test_another_key_finds_nothing_of_it(own_server):
    complete(own_server, key="beta")
    assert cached_tokens(complete(own_server, key="gamma")) == 0
    assert cached_tokens(complete(own_server)) == 0


def test_a_conversation_finds_its_own_answers(own_server):
    first = complete(own_server, key="delta", max_tokens=64, ignore_eos=True)
    longer = LONG_PROMPT + first["choices"][0]["text"] + " And then?"
    second = complete(own_server, key="delta", prompt=longer)
    assert cached_tokens(second) > first["usage"]["prompt_tokens"]


def test_without_the_prefix_cache_every_prompt_is_read_whole(start_server):
    server = start_server("--context", "2048", "--no-prefix-cache")
    complete(server)
    assert cached_tokens(complete(server)) == 0


def test_metrics_count_what_was_served(own_server):
    own_server.wait_until_idle()
    model = own_server.model_figures()["name"]
    before = metric(own_server, "vllm:generation_tokens_total", model_name=model)
    answer = complete(own_server, max_tokens=7, ignore_eos=True)
    own_server.wait_until_idle()
    assert answer["usage"]["completion_tokens"] == 7
    assert metric(own_server, "vllm:generation_tokens_total", model_name=model) == before + 7
    assert metric(own_server, "vllm:num_requests_running", model_name=model) == 0
    assert metric(own_server, "vllm:request_success_total", model_name=model, finished_reason="length") >= 1
    assert metric(own_server, "vllm:time_to_first_token_seconds_count", model_name=model) >= 1


def test_batch_invariant_answers_are_the_same_alone_and_in_a_crowd(start_server):
    server = start_server("--context", "2048", "--max-sequences", "8", "--batch-invariant", "--step-tokens", "64")
    # Text that repeats itself, so that guesses are made and checked as well.
    requests = [
        dict(
            prompt=f"Copy: {'one two three four five six ' * (3 + i)}Copy: one two",
            max_tokens=40,
            temperature=0.8,
            seed=i,
            logprobs=3,
            ignore_eos=True,
        )
        for i in range(8)
    ]
    alone = [complete(server, key=f"alone {i}", **request)["choices"] for i, request in enumerate(requests)]
    with concurrent.futures.ThreadPoolExecutor(len(requests)) as crowd:
        together = list(
            crowd.map(lambda i: complete(server, key=f"crowd {i % 3}", **requests[i])["choices"], range(len(requests)))
        )
    assert together == alone


def test_blocks_that_were_spilled_come_back_and_change_no_answer(start_server, tmp_path):
    # The KV cache has room for one of these prompts and a part of another.
    small = ("--context", "512", "--kv-cache-mib", "12", "--max-sequences", "2", "--batch-invariant")
    requests = [
        dict(prompt=f"{town}: {LONG_PROMPT[:1200]}", max_tokens=12, temperature=0.8, seed=i, logprobs=2, ignore_eos=True)
        for i, town in enumerate(["Bamberg", "Girona", "Trieste", "Utrecht"])
    ]

    def ask_twice(server):
        first = [complete(server, **request) for request in requests]
        with concurrent.futures.ThreadPoolExecutor(len(requests)) as crowd:
            again = list(crowd.map(lambda request: complete(server, **request), requests))
        figures = server.wait_until_idle()
        assert figures["blocks_free"] == figures["blocks_total"]
        restored = metric(server, "ridge:kv_cache_restored_blocks_total", model_name=figures["name"])
        return [[answer["choices"] for answer in round_] for round_ in (first, again)], again, figures, restored

    plain, again, figures, restored = ask_twice(start_server(*small))
    assert figures["blocks_spilled"] == restored == 0
    lost = sum(map(cached_tokens, again))
    server = start_server(*small, "--kv-spill-mib", "64", "--kv-spill-folder", str(tmp_path))
    spilled, again, figures, restored = ask_twice(server)
    assert spilled == plain and plain[0] == plain[1]
    assert figures["blocks_spilled"] > 0
    # All but the last block of what was read before, at most one prompt of which was still there.
    prompts = sum(answer["usage"]["prompt_tokens"] for answer in again)
    assert sum(map(cached_tokens, again)) >= prompts - 16 * len(requests) > lost
    assert 16 * restored > prompts / 4
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_a_draft_model_changes_no_answer(start_server):
    model, draft = GOLDENS / "llama-f32.gguf", GOLDENS / "llama-f16.gguf"
    plain = start_server("--batch-invariant", "--no-speculation", model=str(model))
    drafted = start_server("--batch-invariant", "--draft-model", str(draft), model=str(model))
    for seed in range(4):
        request = dict(prompt="a b c", max_tokens=60, temperature=seed / 4, seed=seed, ignore_eos=True, logprobs=1)
        assert complete(drafted, **request)["choices"] == complete(plain, **request)["choices"]
    figures = drafted.wait_until_idle()
    # Few: the tiny model is as quick itself as what guesses for it.
    assert figures["draft_tokens_total"] > 0
    assert plain.wait_until_idle()["draft_tokens_total"] == 0


def test_a_draft_model_needs_the_same_vocabulary(ridge, model_home):
    result = ridge("serve", MODEL, "--home", model_home, "--port", "0", "--draft-model", GOLDENS / "llama-f32.gguf")
    assert result.returncode != 0
    assert "vocabulary" in result.stderr


def test_choices_of_one_prompt_are_those_of_a_seed(own_server):
    one = complete(own_server, prompt="Once upon a time", n=4, temperature=1, seed=5, max_tokens=12)
    again = complete(own_server, prompt="Once upon a time", n=4, temperature=1, seed=5, max_tokens=12)
    texts = [choice["text"] for choice in one["choices"]]
    assert [choice["text"] for choice in again["choices"]] == texts
    assert len(set(texts)) > 1


def test_models_are_loaded_on_demand_and_make_room_for_each_other(start_server):
    llama, qwen = GOLDENS / "llama-f32.gguf", GOLDENS / "qwen2-f32.gguf"
    server = start_server(str(qwen), "--model-memory-mib", "1", model=str(llama))
    status, _, body = server.request("GET", "/v1/models")
    assert status == 200
    assert [model["id"] for model in json.loads(body)["data"]] == ["llama-f32", "qwen2-f32"]
    assert "unloading" not in server.read_log()
    answers = []
    for name in ("llama-f32", "qwen2-f32", "llama-f32"):
        answers.append(complete(server, model=name, prompt="a b c", max_tokens=5, ignore_eos=True))
        assert answers[-1]["usage"]["completion_tokens"] == 5
    assert answers[0]["choices"] == answers[2]["choices"]
    assert server.read_log().count("unloading") == 2


def test_a_pinned_model_must_be_served(ridge):
    result = ridge("serve", GOLDENS / "llama-f32.gguf", "--port", "0", "--sleep-after-s", "9", "--pin", "other")
    assert result.returncode != 0
    assert "'other'" in result.stderr
