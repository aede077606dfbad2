"""LoRA adapters through the program: the real `openai` client against what peft computed, and errors."""

import concurrent.futures
import json
import pathlib
import re
import shutil
import threading
import time

import gguf
import openai
import pytest

from ridge_process import RidgeServer

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
BASE = GOLDENS / "llama-f32.gguf"
ADAPTERS = {
    "attention": GOLDENS / "adapters/llama-f32.attention.gguf",
    "all": GOLDENS / "adapters/llama-f32.all",
}
LORA = [word for name, path in ADAPTERS.items() for word in ("--lora", f"{name}={path}")]


def golden(adapter, tensor):
    """Token ids of tests/goldens/adapters."""
    reader = gguf.GGUFReader(str(GOLDENS / f"adapters/llama-f32.{adapter}.golden.gguf"))
    return next(each for each in reader.tensors if each.name == tensor).data.tolist()


PROMPT = golden("all", "tokens")
CONTINUATIONS = {
    "llama-f32": golden("all", "base_continuation"),
    "attention": golden("attention", "continuation"),
    "all": golden("all", "continuation"),
}


@pytest.fixture(scope="module")
def start(ridge_binary, plain_environment, tmp_path_factory):
    environment = {**plain_environment, "RIDGE_HOME": str(tmp_path_factory.mktemp("adapters"))}
    servers = []

    def start(*options):
        servers.append(RidgeServer(ridge_binary, environment, BASE, ("--threads", "2", *options)))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def server(start):
    return start(*LORA)


@pytest.fixture(scope="module")
def client(server):
    return connect(server)


def connect(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


def complete(client, model):
    return client.completions.create(
        model=model, prompt=PROMPT, max_tokens=16, temperature=0, extra_body={"ignore_eos": True}
    )


def text_of(server, model):
    status, answer = server.post_json("/detokenize", {"model": model, "tokens": CONTINUATIONS[model]})
    assert status == 200
    return answer["prompt"]


def test_metrics_name_the_adapters_that_have_requests(server):
    def adapters_in_use():
        lines = server.request("GET", "/metrics")[2].decode().splitlines()
        (line,) = [line for line in lines if line.startswith("vllm:lora_requests_info{")]
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        assert labels["max_lora"] == str(len(ADAPTERS))
        return {name for state in ("running", "waiting") for name in labels[f"{state}_lora_adapters"].split(",")} - {""}

    def wait_for(names):
        until = time.monotonic() + 60
        while (found := adapters_in_use()) != names:
            assert time.monotonic() < until, found
            time.sleep(0.02)

    wait_for(set())
    # Again and again, so that some run or wait at times when the metrics are read.
    body = {"model": "all", "prompt": PROMPT, "n": 8, "max_tokens": 100, "temperature": 1, "ignore_eos": True}
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            assert server.post_json("/v1/completions", body)[0] == 200

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            wait_for({"all"})
        finally:
            stop.set()
        for each in asking:
            each.result()
    wait_for(set())


def test_requests_at_the_same_time_get_the_adapters_that_they_name(server, client):
    models = list(CONTINUATIONS) * 4
    with concurrent.futures.ThreadPoolExecutor(len(models)) as pool:
        answers = list(pool.map(lambda model: complete(client, model), models))
    for model, answer in zip(models, answers, strict=True):
        assert answer.model == model
        assert answer.choices[0].text == text_of(server, model), model
        assert answer.usage.completion_tokens == 16
    assert len({answer.system_fingerprint for answer in answers}) == 3


def test_adapters_are_listed_with_their_model(server, client):
    models = {model.id: model for model in client.models.list()}
    assert list(models) == ["llama-f32", "attention", "all"] == server.greeting["models"]
    assert (models["llama-f32"].root, models["llama-f32"].parent) == ("llama-f32", None)
    for name in ADAPTERS:
        assert (models[name].root, models[name].parent) == ("llama-f32", "llama-f32")
    assert client.models.retrieve("all").parent == "llama-f32"
    assert [model["name"] for model in server.health()["models"]] == ["llama-f32"]


def test_every_endpoint_takes_an_adapter(client):
    def chat(model):
        messages = [{"role": "user", "content": "The path along the ridge"}]
        stream = client.chat.completions.create(
            model=model, messages=messages, max_tokens=12, temperature=0, stream=True, extra_body={"ignore_eos": True}
        )
        chunks = list(stream)
        assert {chunk.model for chunk in chunks} == {model}
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    def embed(model):
        return client.embeddings.create(model=model, input="The path along the ridge").data[0].embedding

    for ask in (chat, embed):
        answers = [ask(model) for model in CONTINUATIONS]
        assert all(answers[i] != answers[j] for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_model_that_is_not_served_is_told_the_names_of_those_that_are(client):
    with pytest.raises(openai.NotFoundError, match="llama-f32, attention, all"):
        complete(client, "none")


def test_adapters_come_with_a_model_that_is_loaded_on_demand(start):
    server = start(*LORA, "--sleep-after-s", "600")
    assert complete(connect(server), "all").choices[0].text == text_of(server, "all")


def test_a_scale_changes_how_much_an_adapter_counts(start):
    server = start("--lora", f"all={ADAPTERS['all']},scale=0,base=llama-f32")
    assert complete(connect(server), "all").choices[0].text == text_of(server, "llama-f32")


@pytest.mark.parametrize("adapter", [None, *ADAPTERS])
def test_logits_are_those_of_the_adapter(ridge, adapter):
    lora = ["--lora", ADAPTERS[adapter]] if adapter else []
    result = ridge("logits", BASE, "--tokens", ",".join(map(str, PROMPT)), "--top", "1", *lora)
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["ids"] == CONTINUATIONS[adapter or "llama-f32"][:1]


def test_run_answers_with_the_adapter(ridge):
    def run(*lora):
        result = ridge("run", BASE, "Hello", "--temperature", "0", "--max-tokens", "8", "--json", *lora)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)["content"]

    adapted = run("--lora", ADAPTERS["all"])
    assert adapted != run() == run("--lora", f"{ADAPTERS['all']},scale=0")


def test_show_tells_what_an_adapter_is(ridge):
    shown = json.loads(ridge("show", ADAPTERS["all"], "--json").stdout)
    assert (shown["adapter"], shown["rank"], shown["layers"]) == ("LoRA, PEFT", 3, 2)
    assert shown["base_model"] == "ridgeline/llama-f32" and len(shown["linears"]) == 7
    shown = json.loads(ridge("show", ADAPTERS["attention"], "--json").stdout)
    assert (shown["adapter"], shown["architecture"], shown["rank"]) == ("LoRA, GGUF", "llama", 6)


@pytest.mark.parametrize(
    "lora, code, wanted",
    [
        ("all", 2, "is not NAME=PATH"),
        (f"llama-f32={ADAPTERS['all']}", 2, "two models or adapters"),
        (f"all={ADAPTERS['all']},base=other", 2, "none of the models that are served: llama-f32"),
        ("all=./none.gguf", 1, "No such file"),
        (f"all={BASE}", 1, "'adapter' is expected"),
        (f"all={GOLDENS}/adapters/qwen2-f32.all.gguf", 1, "the model is 'llama'"),
        (f"all={GOLDENS}/adapters/qwen2-f32.all", 1, "another model's adapter"),
    ],
)
def test_serving_an_adapter_that_cannot_be_is_an_error(ridge, lora, code, wanted):
    result = ridge("serve", BASE, "--port", "0", "--lora", lora)
    assert result.returncode == code and wanted in result.stderr and "loaded llama" not in result.stderr


@pytest.mark.parametrize(
    "file, change, wanted",
    [
        ("adapter_config.json", lambda data: data.replace(b'"use_dora": false', b'"use_dora": true'), "DoRA"),
        ("adapter_config.json", lambda data: data[:-3], "it is no JSON object"),
        ("adapter_config.json", lambda data: data.replace(b'"r": 3', b'"r": 4'), "says a rank of 4"),
        ("adapter_model.safetensors", lambda data: data[:-2], "cut short or damaged"),
        ("adapter_model.safetensors", lambda data: b"\xff" * 8 + data[8:], "not a safetensors file"),
        ("adapter_model.safetensors", lambda data: data.replace(b"lora_A", b"lora_X"), "are not supported"),
    ],
)
def test_a_damaged_adapter_is_an_error_that_says_what_is_wrong(ridge, tmp_path, file, change, wanted):
    folder = tmp_path / "adapter"
    shutil.copytree(ADAPTERS["all"], folder)
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(change(data))
    assert change(data) != data
    for words in (["show", folder], ["logits", BASE, "--tokens", "1", "--lora", folder]):
        result = ridge(*words)
        assert result.returncode == 1 and wanted in result.stderr and file in result.stderr


def test_a_model_cannot_be_an_adapter(ridge):
    result = ridge("run", ADAPTERS["attention"], "Hello")
    assert result.returncode == 1 and "the adapter with --lora" in result.stderr
