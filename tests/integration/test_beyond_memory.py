"""Experts that stay in the model's file: the same answers, and what is told and counted."""

import concurrent.futures
import pathlib
import re

import pytest

from ridge_process import RidgeServer

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
MODELS = {
    "gguf": GOLDENS / "qwen3moe-q4_k_m.gguf",
    "latent": GOLDENS / "deepseek-v3-q8_0.gguf",
    "folder": GOLDENS / "folders" / "deepseek-v3-fp8",
}
TOKENS = "1,5,9,14,3,200,77,12,80"


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_logits_are_the_same_and_the_reading_is_told(ridge, model):
    def logits(*options):
        result = ridge("logits", model, "--tokens", TOKENS, "--top", "0", "--threads", "2", *options)
        assert result.returncode == 0, result.stderr
        return result

    plain = logits()
    assert "experts" not in plain.stderr
    paged = logits("--expert-memory-mib", "0")
    assert paged.stdout == plain.stdout
    assert re.search(r"0 of \d+ experts of each layer are held in 0 MB", paged.stderr)
    assert re.search(r"A token reads [\d.]+ MB at most.* tokens/s at the [\d.]+ [MG]B/s", paged.stderr)
    # Enough for all is as if nothing had been said.
    assert "experts" not in logits("--expert-memory-mib", "1000").stderr


def test_a_prepared_cache_keeps_the_rest(ridge, tmp_path):
    def logits(*options):
        result = ridge("logits", MODELS["gguf"], "--tokens", TOKENS, "--prepared-cache", *options)
        assert result.returncode == 0, result.stderr
        return result

    plain = logits()
    first = logits("--expert-memory-mib", "0")
    again = logits("--expert-memory-mib", "0")
    assert "keeping prepared weights" in first.stderr and "prepared weights: " in again.stderr
    assert "keeping" not in again.stderr
    assert plain.stdout == first.stdout == again.stdout == logits().stdout


def test_other_devices_and_senseless_sizes_are_refused(ridge):
    result = ridge("logits", MODELS["gguf"], "--tokens", TOKENS, "--expert-memory-mib", "0", "--device", "reference")
    assert result.returncode != 0 and "does not page them" in result.stderr
    result = ridge("logits", MODELS["gguf"], "--tokens", TOKENS, "--expert-memory-mib", "-2")
    assert result.returncode == 2


def test_show_tells_what_experts_are_of_a_file(ridge):
    assert re.search(r"experts +[\d.]+ .?B", ridge("show", MODELS["gguf"]).stdout)
    assert "experts " not in ridge("show", GOLDENS / "llama-f32.gguf").stdout


def counters(server):
    text = server.request("GET", "/metrics")[2].decode()
    names = ("hits_total", "misses_total", "read_bytes_total")
    values = [re.search(rf"^ridge:expert_{name}{{.*}} (\S+)$", text, re.MULTILINE) for name in names]
    return [float(value[1]) for value in values]


def test_a_server_answers_the_same_whoever_else_asks(ridge_binary, clean_environment, tmp_path):
    prompts = [f"{word} along the ridge and where it ends" for word in ("One", "Two", "Three", "Four", "One")]

    def answers(*options):
        server = RidgeServer(
            ridge_binary, clean_environment, MODELS["gguf"], ("--threads", "2", "--batch-invariant", *options)
        )
        try:
            name = server.greeting["models"][0]

            def ask(prompt):
                body = {"model": name, "prompt": prompt, "max_tokens": 12, "temperature": 0, "logprobs": 3}
                status, answer = server.post_json("/v1/completions", body)
                assert status == 200, answer
                return answer["choices"][0]["text"], answer["choices"][0]["logprobs"]["token_logprobs"]

            with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
                return list(pool.map(ask, prompts)), counters(server)
        finally:
            server.stop()

    plain, none = answers()
    paged, counted = answers("--expert-memory-mib", "0")
    assert paged == plain
    assert none == [0, 0, 0]
    assert counted[0] == 0 and counted[1] > 0 and counted[2] > counted[1]
