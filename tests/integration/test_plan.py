"""`ridge plan`: tables, JSON, the picture, prices, an operator's devices, and what it refuses."""

import json
import pathlib
import xml.etree.ElementTree

import pytest

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "plan.md"
GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "goldens" / "llama-f32.gguf"
CPU = ["--cpu-gbps", "40", "--cpu-tflops", "0.5", "--cpu-tops", "2", "--cpu-memory-gb", "64"]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def plan(ridge):
    """Runs `ridge plan WORDS --json` and gives its answer."""

    def run(*words, returncode=0, **keywords):
        result = ridge("plan", "--json", *words, **keywords)
        assert result.returncode == returncode, result.stderr + result.stdout
        return json.loads(result.stdout)

    return run


def test_every_device_answers_with_what_limits_it(plan):
    answer = plan("deepseek-r1:671b")
    assert answer["weights"] == "fp8" and answer["parameters"] == 671_025_397_760
    assert [each["device"] for each in answer["devices"]] == [
        "910B2", "910C", "H20", "H100", "H800", "H200", "MI300X", "A100",
    ]  # fmt: skip
    limits = {"compute", "memory (weights)", "memory (KV cache)", "interconnect"}
    for each in answer["devices"]:
        assert each["devices"] * each["memory"]["device_bytes"] > 673e9
        assert each["memory"]["weight_bytes"] < each["memory"]["usable_bytes"]
        assert 1 <= each["batch"] <= each["memory"]["largest_batch"] and each["batch_limit"] == "memory"
        for phase in (each["prefill"], each["decode"]):
            assert phase["tokens_per_second"] > 0 and phase["step"]["limit"] in limits
            step = phase["step"]
            assert step["ms"] == pytest.approx(max(step["work_ms"], step["transfer_ms"], step["latency_ms"]))
            assert step["work_ms"] == pytest.approx(sum(kind["ms"] for kind in step["kinds"]))
        assert each["ttft_ms"] > 0
        assert each["decode"]["tokens_per_second"] * each["devices"] == pytest.approx(
            1000 * each["batch"] / each["decode"]["tpot_ms"]
        )


def test_bits_of_experts_are_told_where_they_differ(ridge):
    def told(model):
        return ridge("plan", model, "--devices", "910B2").stdout.splitlines()[0]

    assert "weights mxfp4 (16.00 bits, experts 4.25), KV" in told("gpt-oss:20b")
    assert "weights bf16 (16.00 bits), KV" in told("qwen3:30b-a3b")


def test_a_time_of_a_token_bounds_the_batch(plan):
    (free,) = plan("qwen3:32b", "--devices", "H100", "--quant", "fp8")["devices"]
    (bound,) = plan("qwen3:32b", "--devices", "H100", "--quant", "fp8", "--tpot-ms", "15")["devices"]
    assert bound["decode"]["tpot_ms"] <= 15 < free["decode"]["tpot_ms"]
    assert bound["batch"] < free["batch"] and bound["batch_limit"] == "time of a token"
    (asked,) = plan("qwen3:32b", "--devices", "H100", "--quant", "fp8", "--batch", "8")["devices"]
    assert asked["batch"] == 8 and asked["batch_limit"] == "asked for"


def test_names_files_and_configurations_are_models(plan, tmp_path):
    by_name = plan("deepseek-r1:7b-q8_0", "--devices", "H20")
    assert by_name["weights"] == "q8_0"
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {"vocab_size": 152064, "hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944,
             "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 131072}
        )
    )  # fmt: skip
    by_config = plan(config, "--devices", "H20", "--quant", "q8_0")
    assert by_config["parameters"] == by_name["parameters"]
    assert by_config["devices"][0]["decode"] == by_name["devices"][0]["decode"]
    by_file = plan(GOLDEN, "--devices", "H20")
    assert by_file["weights"] == "file" and by_file["parameters"] < 1e6


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("smollm2", "smollm2:135m"),
        ("deepseek-r1", "deepseek-r1:1.5b"),
        ("DeepSeek-R1:7B", "deepseek-r1:7b"),
        ("deepseek-v3", "deepseek-v3:671b"),
        ("deepseek-v2-lite", "deepseek-v2-lite:16b"),
        ("qwen3", "qwen3:4b"),
        ("smollm2:135m-Q4_1", "smollm2:135m-q4_1"),
    ],
)
def test_one_model_has_one_answer_under_all_its_names(plan, name, same):
    answer = plan(name, "--devices", "H20")
    assert answer == plan(same, "--devices", "H20")
    assert answer["weights"] == {"deepseek-v3": "fp8", "smollm2:135m-Q4_1": "q4_1"}.get(name, "bf16")


def test_machines_that_nothing_links_share_no_model(plan, tmp_path):
    picture = tmp_path / "roof.svg"
    words = ["--devices", "cpu", *CPU, "--svg", picture]
    for model, layout in (("deepseek-r1:671b", "--count=32"), ("qwen3:8b", "--tensor-parallel=8")):
        (cpu,) = plan(model, layout, *words)["devices"]
        assert cpu["lacking"] == "nothing links these devices"
        assert xml.etree.ElementTree.parse(picture).getroot().tag == f"{SVG}svg"


def test_this_machine_is_a_device_too(plan):
    (cpu,) = plan("deepseek-r1:7b-q4_k_m", "--devices", "cpu", *CPU, "--batch", "1")["devices"]
    # 7.6 billion weights of 4.85 bits (the head of 6.56), and what 4,608 tokens left in the cache, at 40 GB/s.
    read = (7_615_616_512 - 2 * 544_997_376) * 4.85 / 8 + 544_997_376 * 6.5625 / 8 + 4608 * 57_344
    assert cpu["decode"]["tpot_ms"] == pytest.approx(1000 * read / 40e9, rel=0.001)


def test_prices_become_those_of_a_million_tokens(plan):
    (each,) = plan("qwen3:8b", "--devices", "910C", "--price", "910C=3.6/h")["devices"]
    assert each["price_per_million_output_tokens"] == pytest.approx(1000 / each["decode"]["tokens_per_second"])
    assert each["price_per_million_input_tokens"] == pytest.approx(1000 / each["prefill"]["tokens_per_second"])


def test_an_operators_devices_join(plan, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[[device]]\nname = "X1"\nf16_tflops = { value = 100, source = "a" }\n'
        'memory_gb = { value = 64, source = "a" }\nmemory_gbps = { value = 1000, source = "a" }\n'
    )
    (each,) = plan("qwen3:8b", "--devices", "x1", "--devices-file", file)["devices"]
    assert each["device"] == "X1" and each["devices"] == 1 and each["estimates"] == []
    (estimated,) = plan("qwen3:8b", "--devices", "x1", "--devices-file", file, "--stack", "mindie")["devices"]
    assert estimated["estimates"][0]["decode_tokens_per_second"] == pytest.approx(
        estimated["estimates"][0]["efficiency"] * estimated["decode"]["tokens_per_second"]
    )


def test_the_picture_is_a_picture(ridge, tmp_path):
    picture = tmp_path / "roof.svg"
    result = ridge("plan", "deepseek-r1:671b", "--devices", "910C,H100", "--svg", picture)
    assert result.returncode == 0, result.stderr
    root = xml.etree.ElementTree.parse(picture).getroot()
    assert root.tag == f"{SVG}svg"
    assert len(root.findall(f"{SVG}polyline")) == 4  # a roof and a curve of each
    assert len(root.findall(f"{SVG}path")) == 2
    text = picture.read_text()
    assert "nan" not in text and "inf" not in text and "prefers-color-scheme: dark" in text
    # Dots lie inside their panels.
    for dot in root.findall(f"{SVG}circle"):
        assert 72 <= float(dot.get("cx")) <= float(root.get("width")) and 96 <= float(dot.get("cy")) <= 427


def test_results_of_others_lie_below_the_bound(plan):
    answer = plan("--validate")
    compared = [row for row in answer["rows"] if "unusable" not in row]
    assert len(compared) >= 45
    for row in compared:
        assert row["published"] < row["bound"] <= row["ideal"] * (1 + 1e-9), row["name"]
        assert row["within"] == (abs(row["error"]) <= 0.25) and row["source"]
        assert row["fitted"] or row["within"] or row["miss"]
    assert all(row["unusable"] for row in answer["rows"] if row not in compared)


def test_people_get_tables(ridge):
    table = ridge("plan", "deepseek-r1:671b", "--devices", "910C,H100", "--tpot-ms", "50", "--drafts", "1")
    assert table.returncode == 0 and "DECODE tok/s" in table.stdout and "cloudmatrix" in table.stdout
    validation = ridge("plan", "--validate")
    assert "Tokens/s of one device. 0 of " in validation.stdout
    assert "not compared:" in validation.stdout and "miss:" in validation.stdout
    devices = ridge("plan", "--list-devices")
    assert "Huawei Ascend 910C" in devices.stdout
    claim = ridge("plan", "deepseek-r1:671b", "--ratio", "910C/H100", "--claim", "0.6")
    assert claim.returncode == 0 and "regimes have 0.6" in claim.stdout


def test_the_document_shows_what_the_program_prints(ridge):
    """A changed figure or formula is a changed table: make it again with the commands that stand beside it."""
    document = DOCUMENT.read_text()
    for words in (["--validate"], ["deepseek-r1:671b", "--ratio", "910C/H100", "--claim", "0.6"]):
        printed = ridge("plan", *words).stdout
        assert f"```text\n{printed}```" in document, f"docs/plan.md is not what ridge plan {' '.join(words)} prints"


def test_devices_are_listed_with_their_sources(plan):
    for device in plan("--list-devices"):
        for key in ("f16_tflops", "memory_gb", "memory_gbps"):
            assert device[key]["value"] > 0 and device[key]["source"]


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["qwen3:8b", "--devices", "H9000"], 2, "device 'H9000' is not known; there are 910B1, 910B2"),
        (["qwen3:9b"], 1, "the dimensions of 'qwen3:9b' are not known; there are smollm2:135m"),
        (["qwen3:8b", "--quant", "int3"], 2, "'int3' is no format of weights that is known here: bf16"),
        (["qwen3:8b", "--kv-dtype", "q4"], 2, "no format of the KV cache"),
        (["qwen3:8b", "--price", "910C"], 2, "is no DEVICE=NUMBER"),
        (["qwen3:8b", "--price", "H9000=1"], 2, "device 'H9000' is not known"),
        (["qwen3:8b", "--stack", "none"], 2, "stack 'none' is not known; there are cloudmatrix"),
        (["qwen3:8b", "--drafts", "1"], 2, "has no modules of multi-token prediction"),
        (["deepseek-r1:671b", "--drafts", "1", "--accepted", "3"], 2, "more than the 2 tokens"),
        (["qwen3:8b", "--ratio", "910C"], 2, "is no A/B"),
        (["qwen3:8b", "--context", "0"], 2, "--context"),
        (["./missing.gguf"], 1, "missing.gguf"),
        (["missing.json"], 1, "cannot read missing.json"),
        ([], 2, "name a MODEL to plan for"),
    ],
)
def test_what_is_wrong_is_named(ridge, words, code, expected):
    result = ridge("plan", *words)
    assert result.returncode == code and expected in result.stderr, result.stderr


def test_a_model_that_fits_nowhere_is_no_failure(ridge, plan):
    (each,) = plan("deepseek-r1:671b", "--devices", "H100", "--count", "1")["devices"]
    assert each["lacking"] == "the weights do not fit"
    table = ridge("plan", "deepseek-r1:671b", "--devices", "H100", "--count", "1")
    assert "H100: the weights do not fit" in table.stdout


def test_a_picture_that_cannot_be_kept_is_an_error(ridge, tmp_path):
    result = ridge("plan", "qwen3:8b", "--svg", tmp_path / "no" / "such.svg")
    assert result.returncode == 1 and "cannot write the picture" in result.stderr
