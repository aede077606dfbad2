"""Model folders of Hugging Face's: run as they are, and written as GGUF, which the independent `gguf` package reads."""

import json
import pathlib
import shutil

import gguf
import numpy as np
import openai
import pytest

from ridge_process import RidgeServer

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
FOLDERS = GOLDENS / "folders"


def tensors_of(path):
    reader = gguf.GGUFReader(path)
    values = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    return reader, values


@pytest.mark.parametrize("name", ["llama-bf16", "qwen3moe-f32", "deepseek-v3-f32", "gpt-oss-bf16", "gpt-oss-mxfp4"])
def test_another_program_reads_what_convert_writes(ridge, tmp_path, name):
    result = ridge("convert", FOLDERS / name, "--out", "made.gguf")
    assert result.returncode == 0, result.stderr
    made, values = tensors_of(tmp_path / "made.gguf")
    twin, expected = tensors_of(GOLDENS / f"{name}.gguf")
    assert set(values) == set(expected)
    for tensor, numbers in expected.items():
        assert np.array_equal(values[tensor], numbers), tensor
    architecture = made.fields["general.architecture"].contents()
    for key in ("block_count", "embedding_length", "attention.head_count", "rope.freq_base", "feed_forward_length"):
        assert made.fields[f"{architecture}.{key}"].contents() == twin.fields[f"{architecture}.{key}"].contents()
    for key in ("model", "pre", "tokens", "token_type", "merges", "bos_token_id", "eos_token_id"):
        assert made.fields[f"tokenizer.ggml.{key}"].contents() == twin.fields[f"tokenizer.ggml.{key}"].contents(), key
    assert made.fields["tokenizer.chat_template"].contents() == twin.fields["tokenizer.chat_template"].contents()


def test_a_type_is_chosen(ridge, tmp_path):
    result = ridge("convert", FOLDERS / "qwen3-f32", "--out", "made.gguf", "--type", "bf16", "--json")
    assert result.returncode == 0, result.stderr
    assert set(json.loads(result.stdout)["tensors_by_type"]) == {"F32", "BF16"}
    reader = gguf.GGUFReader(tmp_path / "made.gguf")
    assert reader.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_BF16
    again = ridge("convert", FOLDERS / "qwen3-f32", "--out", "made.gguf")
    assert again.returncode == 2 and "--force" in again.stderr
    assert ridge("quantize", FOLDERS / "qwen3-f32", "small.gguf", "q8_0").returncode == 0
    assert ridge("convert", GOLDENS / "qwen3-f32.gguf").returncode == 2


def logits(ridge, model):
    result = ridge("logits", model, "--tokens", "5,9,300,2,77", "--top", "0", "--device", "reference")
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", ["gemma3-f32", "llama-awq", "deepseek-v3-fp8", "gpt-oss-mxfp4"])
def test_the_folder_and_its_file_answer_alike(ridge, tmp_path, name):
    assert ridge("convert", FOLDERS / name, "--out", "made.gguf").returncode == 0
    ours = logits(ridge, FOLDERS / name)
    assert ours.count("\n") == 5 and ours == logits(ridge, tmp_path / "made.gguf")


def test_a_folder_is_shown_planned_and_tokenized(ridge):
    shown = json.loads(ridge("show", FOLDERS / "llama-w8a8", "--json").stdout)
    assert shown["architecture"] == "llama" and shown["tensor_bytes_by_type"]["Q8_0"] > 0
    assert ridge("plan", FOLDERS / "qwen3-f32", "--devices", "910B4").returncode == 0
    assert ridge("tokenize", FOLDERS / "qwen2-yarn", "ridge").returncode == 0


def test_a_folder_is_served_under_its_name(ridge_binary, clean_environment, tmp_path):
    folder = tmp_path / "tiny-1.5b"
    shutil.copytree(FOLDERS / "qwen2-yarn", folder)
    server = RidgeServer(ridge_binary, clean_environment, str(folder) + "/")
    try:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)
        assert [model.id for model in client.models.list()] == ["tiny-1.5b"]
        answer = client.completions.create(model="tiny-1.5b", prompt="The path", max_tokens=4)
        assert answer.usage.completion_tokens > 0
    finally:
        server.stop()


def test_a_broken_folder_is_an_error_that_names_the_tensor(ridge, tmp_path):
    shutil.copytree(FOLDERS / "qwen3-f32", tmp_path / "broken")
    config = json.loads((tmp_path / "broken/config.json").read_text())
    config["intermediate_size"] += 1
    (tmp_path / "broken/config.json").write_text(json.dumps(config))
    result = ridge("run", "./broken", "hello")
    assert result.returncode == 1
    assert "model.layers.0.mlp.gate_proj.weight" in result.stderr and "is F32 of shape [96, 64]" in result.stderr
