"""`--device ascend-twin` in run, serve and bench; `--device ascend` where there is no such device."""

import json
import os
import pathlib

import pytest

from ridge_process import MODEL, RidgeServer

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
MODELS = [GOLDENS / "llama-q8_0.gguf", GOLDENS / "qwen2-q8_0.gguf"]


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_a_greedy_answer_is_that_of_the_processor(ridge, model):
    def answer(device):
        result = ridge(
            "run", model, "one two three", "--device", device, "--temperature", "0", "--max-tokens", "16", timeout=120
        )
        assert result.returncode == 0, result.stderr
        return result.stdout, result.stderr

    wanted, _ = answer("cpu")
    got, log = answer("ascend-twin:910B4")
    assert wanted.strip()
    assert got == wanted
    assert "ascend-twin:910B4 is a model of the chip" in log


# How near the two best logits of a token must be for the twin to choose the other one: `declared_half_tie` of
# tests/model/golden.h.
NEAR_TIE = 0.056
# Of the answer to the prompt below; `make test-twin` asks for 32, which take minutes.
TOKENS = int(os.environ.get("RIDGE_TWIN_TOKENS", "4"))


def test_a_chat_with_the_default_model_has_the_tokens_of_the_processor(ridge, ridge_binary, model_environment):
    prompt = "Name three colours."

    def run(device):
        words = ("run", MODEL, prompt, "--device", device, "--temperature", "0", "--max-tokens", TOKENS)
        result = ridge(*words, env=model_environment, timeout=120 + 120 * TOKENS)
        assert result.returncode == 0, result.stderr
        assert f"{TOKENS} tokens" in result.stderr
        return result.stdout.removesuffix("\n")

    server = RidgeServer(str(ridge_binary), model_environment, MODEL, ["--device", "cpu", "--context", "128"])
    try:
        status, answer = server.post_json(
            "/v1/chat/completions",
            {
                "messages": [{"role": "user", "content": prompt}],
                "temperature": 0,
                "max_tokens": TOKENS,
                "logprobs": True,
                "top_logprobs": 2,
            },
        )
        assert status == 200, answer
    finally:
        assert server.stop() == 0
    tokens = answer["choices"][0]["logprobs"]["content"]
    wanted = "".join(token["token"] for token in tokens)
    assert len(tokens) == TOKENS
    assert run("cpu") == wanted

    got = run("ascend-twin")
    known = ""
    for token in tokens:
        if not got.startswith(known + token["token"]):
            best, second = token["top_logprobs"]
            assert best["logprob"] - second["logprob"] < NEAR_TIE, f"{got!r} is not {wanted!r}"
            assert got.startswith(known + second["token"]), f"{got!r} is not {wanted!r}"
            return  # what follows answers another text
        known += token["token"]
    assert got == wanted


def test_experts_and_latents_answer(ridge):
    """How near they come to the truth is in tests/model; random weights have near ties that halves decide otherwise."""
    model = GOLDENS / "deepseek-v3-q8_0.gguf"
    result = ridge("run", model, "a", "--device", "ascend-twin:910B4", "--temperature", "0", "--max-tokens", "4")
    assert result.returncode == 0, result.stderr
    assert "4 tokens" in result.stderr
    assert "for want of a kernel" not in result.stderr


def test_the_server_answers_by_the_twin(ridge_binary, clean_environment):
    server = RidgeServer(
        str(ridge_binary), clean_environment, str(MODELS[0]), ["--device", "ascend-twin", "--context", "64"]
    )
    try:
        status, answer = server.post_json(
            "/v1/completions", {"prompt": "a b c", "max_tokens": 4, "temperature": 0, "ignore_eos": True}, timeout=120
        )
        assert status == 200, answer
        assert answer["usage"]["completion_tokens"] == 4
    finally:
        assert server.stop() == 0


def test_bench_names_the_twin(ridge):
    result = ridge(
        "bench", MODELS[0], "--device", "ascend-twin:910B2", "-p", "8", "-n", "4", "--repetitions", "1", "--json",
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["device"] == "ascend-twin:910B2"


def test_what_is_missing_is_said(ridge):
    without = {"RIDGE_ASCEND_LIBRARY": "/nowhere/libascendcl.so"}
    result = ridge("run", MODELS[0], "x", "--device", "ascend", env=without)
    assert result.returncode != 0
    assert "no Ascend runtime could be loaded (/nowhere/libascendcl.so" in result.stderr
    assert "install CANN 8.1 or newer" in result.stderr

    result = ridge("run", MODELS[0], "x", "--device", "ascend-twin:910Z")
    assert result.returncode != 0
    assert 'no Ascend device is called "910Z"; there are 910B1, 910B2' in result.stderr

    result = ridge("run", MODELS[0], "x", "--device", "ascend:one", env=without)
    assert result.returncode != 0
    assert "behind the colon stands a device's number" in result.stderr
