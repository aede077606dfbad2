"""Servers with the real default model, as the integration tests start them."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from ridge_process import MODEL, RidgeServer  # noqa: E402


@pytest.fixture(scope="session")
def start_server():
    """start_server("--context", "512", model=...) -> RidgeServer; all are stopped at the end."""
    binary = pathlib.Path(os.environ.get("RIDGE_BINARY", ROOT / "build/release/ridge")).resolve()
    home = pathlib.Path(os.environ.get("RIDGE_TEST_HOME", ROOT / "build" / "test-home"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RIDGE_")}
    environment["RIDGE_HOME"] = str(home)
    servers = []

    def start(*options, model=MODEL):
        if model == MODEL:
            subprocess.run([binary, "pull", MODEL, "--home", home], env=environment, check=True, timeout=300)
        servers.append(RidgeServer(binary, environment, model, options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
