"""What all integration tests share: the program under test."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def ridge_binary() -> pathlib.Path:
    """The program under test: RIDGE_BINARY, else the release build."""
    binary = pathlib.Path(os.environ.get("RIDGE_BINARY", ROOT / "build/release/ridge"))
    if not binary.is_file():
        pytest.fail(f"{binary} does not exist: build it, or set RIDGE_BINARY")
    return binary.resolve()


@pytest.fixture
def clean_environment(tmp_path) -> dict:
    """The environment without what would change an answer, with a model store of its own."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("RIDGE_", "HF_", "MODELSCOPE_", "PIP_"))
        and key.lower() not in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    }
    environment["RIDGE_HOME"] = str(tmp_path / "store")
    environment["HOME"] = str(tmp_path)
    return environment


@pytest.fixture
def ridge(ridge_binary, clean_environment, tmp_path):
    """Runs `ridge WORDS`; `env` adds to the environment, other keywords go to subprocess.run."""

    def run(*words, env=None, timeout=60, **keywords):
        return subprocess.run(
            [str(ridge_binary), *map(str, words)],
            env={**clean_environment, **(env or {})},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=timeout,
            **keywords,
        )

    return run
