"""Fixtures of tests that run `ridge` once and look at what it said; import those that a file uses."""

import os
import subprocess

import pytest


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
