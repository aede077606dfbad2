"""Schemathesis makes requests from /openapi.json, good ones and bad ones: none may be answered with 5xx."""

import json
import pathlib
import re
import subprocess
import sys

GOLDEN_MODEL = pathlib.Path(__file__).resolve().parents[1] / "goldens" / "llama-f32.gguf"
EXAMPLES = 40  # for each operation


def without_model(part):
    """The document with requests that name no model: most other names would be refused before all else."""
    if isinstance(part, dict):
        if "temperature" in part or "pooling" in part or "tokens" in part or "prompt" in part:
            part = {**part, **({"model": {"type": "null"}} if "model" in part else {})}
        return {key: without_model(value) for key, value in part.items()}
    return [without_model(value) for value in part] if isinstance(part, list) else part


def test_finds_no_failure_of_the_server(start_server, tmp_path):
    # Random weights that take milliseconds: what is judged is how requests are read.
    server = start_server(model=str(GOLDEN_MODEL))
    document = without_model(json.loads(server.request("GET", "/openapi.json")[2]))
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    program = pathlib.Path(sys.executable).with_name("schemathesis")
    command = [program, "run", "openapi.json", "--url", server.url, "--checks", "not_a_server_error"]
    command += ["--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1"]
    command += ["--suppress-health-check", "all", "--request-timeout", "60", "--no-color", "--warnings", "off"]
    run = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800
    )
    print(run.stdout[-4000:])
    assert run.returncode == 0, run.stdout[-4000:]
    tested = re.search(r"Operations:.*?|Test cases:\s+\n?.*?(\d+) generated", run.stdout)
    assert tested, "it says how much it tried"
    # It still serves, and holds nothing of those who asked.
    figures = server.wait_until_idle()
    assert figures["blocks_free"] == figures["blocks_total"]
    assert server.post_json("/v1/completions", {"prompt": "a", "max_tokens": 1})[0] == 200
