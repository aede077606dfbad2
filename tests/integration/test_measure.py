"""`ridge tokenize`, `ridge logits` and `ridge bench`: what others use to verify and compare the engine."""

import json
import math
import pathlib
import subprocess

import pytest

from ridge_process import MODEL

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
TINY = GOLDENS / "llama-f32.gguf"


@pytest.fixture(scope="session")
def golden():
    """What transformers makes of the default model: prompts with tokens, and likely next tokens."""
    return json.loads((GOLDENS / "smollm2.golden.json").read_text())["prompts"]


@pytest.fixture
def run(ridge_binary, model_environment):
    def run(*words, text=None):
        source = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            [ridge_binary, *map(str, words)], env=model_environment, capture_output=True, text=True, timeout=300,
            **source,
        )

    return run


def answer(result):
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_tokenize_gives_the_ids_of_the_reference(run, golden):
    for prompt in golden:
        assert json.loads(answer(run("tokenize", MODEL, prompt["text"]))) == prompt["tokens"]
        assert json.loads(answer(run("tokenize", MODEL, "-", text=prompt["text"]))) == prompt["tokens"]


def test_tokenize_puts_the_chat_template_around_a_message(run):
    message = "<|im_start|>user\nWhat is gravity?<|im_end|>\n<|im_start|>assistant\n"
    whole = json.loads(answer(run("tokenize", MODEL, "What is gravity?", "--chat")))
    tail = json.loads(answer(run("tokenize", MODEL, message)))
    assert whole[-len(tail):] == tail


def divergence_of(expected, got):
    """The Kullback-Leibler divergence, in nats, of `got` from the likeliest tokens that `expected` holds and from one
    bin for all others: a lower bound of that over all tokens, and never negative."""
    by_id = dict(zip(got["ids"], got["logprobs"]))
    logprobs = [(logprob, by_id[token]) for token, logprob in zip(expected["ids"], expected["logprobs"])]
    rests = [1 - sum(math.exp(pair[side]) for pair in logprobs) for side in (0, 1)]
    divergence = sum(math.exp(wanted) * (wanted - found) for wanted, found in logprobs)
    if rests[0] > 0:
        divergence += rests[0] * (math.log(rests[0]) - math.log(max(rests[1], 1e-9)))
    return divergence


def test_logits_agree_with_the_reference(run, golden):
    positions = 0
    agreeing = 0
    divergences = []
    for prompt in golden:
        tokens = ",".join(map(str, prompt["tokens"]))
        lines = answer(run("logits", MODEL, "--tokens", tokens, "--top", "0")).splitlines()
        assert len(lines) == len(prompt["tokens"])
        for number, (line, expected) in enumerate(zip(lines, prompt["positions"])):
            got = json.loads(line)
            assert got["position"] == number
            assert got["logprobs"] == sorted(got["logprobs"], reverse=True)
            assert math.isclose(sum(map(math.exp, got["logprobs"])), 1, abs_tol=1e-4)
            by_id = dict(zip(got["ids"], got["logprobs"]))
            agreeing += got["ids"][0] == expected["ids"][0]
            divergences.append(divergence_of(expected, got))
            positions += 1
    assert agreeing / positions >= 0.97
    assert min(divergences) >= -1e-6, "no divergence is negative but by rounding"
    assert sum(divergences) / positions <= 0.003


def test_logits_read_tokens_from_a_file_and_give_as_many_as_asked(run, tmp_path):
    listed = tmp_path / "tokens.json"
    listed.write_text("[1, 2,\n 3]\n")
    from_file = answer(run("logits", TINY, "--tokens-file", listed, "--top", "5"))
    assert from_file == answer(run("logits", TINY, "--tokens", "1,2,3", "--top", "5"))
    assert from_file == answer(run("logits", TINY, "--tokens-file", "-", "--top", "5", text="1 2 3"))
    for line in from_file.splitlines():
        assert len(json.loads(line)["ids"]) == len(json.loads(line)["logprobs"]) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tokens", "1,320"), "'320' is no token id; ids of this model are 0 to 319"),
        (("--tokens", "1,x"), "'x' is no token id"),
        (("--tokens", ","), "no token ids were given"),
        (("--tokens", ",".join(["1"] * 200)), "a context of 200 tokens is more than this model was made for"),
        (("--tokens-file", "absent"), "cannot read the tokens in absent"),
    ],
)
def test_logits_say_what_is_wrong_with_tokens(run, words, message):
    result = run("logits", TINY, *words)
    assert result.returncode != 0
    assert message in result.stderr
    assert result.stdout == ""


def test_bench_gives_results_for_each_batch(run):
    text = answer(run("bench", TINY, "-p", "20", "-n", "5", "-b", "1,3", "-t", "1", "--depth", "7", "--json"))
    report = json.loads(text)
    assert [result["batch"] for result in report["results"]] == [1, 3]
    for result in report["results"]:
        assert result["prefill_tokens_per_second"] > 0
        assert result["decode_tokens_per_second"] > 0
        assert (result["prompt_tokens"], result["generated_tokens"], result["depth_tokens"]) == (20, 5, 7)
    assert report["load_ms"] > 0
    # The model's and the program's, not the hundreds of megabytes that measuring the machine takes.
    assert 1_000_000 < report["peak_memory_bytes"] < 100_000_000
    several = json.loads(answer(run("bench", TINY, "-p", "4", "-n", "5", "-b", "1,3", "-t", "1", "-d", "0,40", "--json")))
    assert [(r["batch"], r["depth_tokens"]) for r in several["results"]] == [(1, 0), (1, 40), (3, 0), (3, 40)]
    assert all(r["decode_tokens_per_second"] > 0 for r in several["results"])
    table = answer(run("bench", TINY, "-p", "20", "-n", "5", "-b", "1,3", "-t", "1", "-d", "0,7"))
    assert [line.split()[:2] for line in table.splitlines()[-4:]] == [["1", "0"], ["1", "7"], ["3", "0"], ["3", "7"]]
    assert "tok/s" in table
    assert "KV cache in F16" in table


def test_bench_measures_the_machine_without_a_model(run):
    report = json.loads(answer(run("bench", "--machine", "--json", "-t", "2")))
    assert report["threads"] == 2
    reads = {(limit["level"], limit["threads"]): limit for limit in report["reads"]}
    assert {("memory", 1), ("memory", 2)} <= reads.keys()
    for limit in report["reads"] + report["multiplies"]:
        speeds = [limit[key] for key in ("bytes_per_second", "flops_per_second") if key in limit]
        assert ("lacking" in limit) != bool(speeds), limit
        assert all(speed > 0 for speed in speeds)
    assert {"scalar", "amx"} <= {limit["isa"] for limit in report["multiplies"]}
    table = answer(run("bench", "--machine", "-t", "1"))
    assert "memory" in table and "1 thread, GB/s" in table and "2 threads" not in table


def test_bench_wants_either_a_model_or_the_machine(run):
    neither = run("bench")
    assert neither.returncode == 2
    assert "name a MODEL to measure, or give --machine" in neither.stderr
    assert run("bench", TINY, "--machine").returncode == 2
    other = run("bench", "--machine", "--device", "reference")
    assert other.returncode != 0
    assert "device reference does not measure its machine" in other.stderr


def test_placement_changes_nothing_but_the_speed(run, model_environment):
    words = ("logits", TINY, "--tokens", "1,2,3", "--top", "5", "-t", "1")
    plain = answer(run(*words))
    assert answer(run(*words, "--pin-threads", "on", "--huge-pages", "off")) == plain
    model_environment["RIDGE_PIN_THREADS"] = "perhaps"
    try:
        refused = run(*words)
    finally:
        del model_environment["RIDGE_PIN_THREADS"]
    assert refused.returncode == 2
    assert "perhaps" in refused.stderr
    many = run("logits", TINY, "--tokens", "1", "-t", "1024", "--pin-threads", "on")
    assert many.returncode != 0
    assert "1024 threads cannot be pinned to" in many.stderr


def test_bench_counts_the_cache_of_each_dtype(run):
    def report(*words):
        return json.loads(answer(run("bench", TINY, "-p", "0", "-n", "2", "-t", "1", "--json", *words)))

    half = report()
    assert half["kv_dtype"] == "F16"
    assert report("--kv-dtype", "f32")["kv_bytes_per_token"] == 2 * half["kv_bytes_per_token"]
    assert half["kv_bytes_per_token"] / 2 < report("--kv-dtype", "i8")["kv_bytes_per_token"] < half["kv_bytes_per_token"]


def test_kv_dtype_changes_the_distribution_a_little(run):
    def logprobs(dtype):
        lines = answer(run("logits", TINY, "--tokens", "1,5,9,14,3", "--kv-dtype", dtype, "--top", "0"))
        last = json.loads(lines.splitlines()[-1])
        return [logprob for _, logprob in sorted(zip(last["ids"], last["logprobs"]))]

    exact = logprobs("f32")
    for dtype in ("f16", "bf16", "i8"):
        divergence = sum(math.exp(a) * (a - b) for a, b in zip(exact, logprobs(dtype)))
        assert exact != logprobs(dtype), dtype
        assert 0 <= divergence + 1e-9 < 0.01, dtype
    refused = run("logits", TINY, "--tokens", "1", "--kv-dtype", "q8_0")
    assert refused.returncode == 2
    assert "q8_0" in refused.stderr


def test_bench_refuses_what_does_not_fit_the_model(run):
    result = run("bench", TINY, "-p", "500", "-n", "5")
    assert result.returncode != 0
    assert "a context of 505 tokens is more than this model was made for, which is 128" in result.stderr
