"""Installs the peers, each in a virtual environment of its own, from where pip is configured to look."""

import os
import subprocess
import sys

import machine

PACKAGES = {
    "llama-gcc": ["llama-cpp-python==0.3.36"],
    "llama-clang": ["llama-cpp-python==0.3.36"],
    "openvino": ["openvino-genai==2026.4.1.0"],
}
TITLES = {"llama-gcc": "llama.cpp (GCC)", "llama-clang": "llama.cpp (Clang)", "openvino": "OpenVINO GenAI"}
PEERS = tuple(PACKAGES)


class Missing(Exception):
    """A peer that cannot be had here; the words say why."""


def python_of(folder, peer):
    return os.path.join(folder, peer, "bin", "python")


def build_settings(peer, flags):
    """Environment variables for pip: compiler and instruction sets."""
    if peer == "openvino":
        return {}
    if peer == "llama-clang":
        compilers = machine.newest_clang()
        if compilers is None:
            raise Missing("there is no clang on the path")
    else:
        compilers = ("gcc", "g++")
    # GCC 12 loses the stores of AMX's tile configuration, and llama.cpp dies of it.
    switches = machine.cmake_switches(flags, amx=peer == "llama-clang")
    switches["CMAKE_C_COMPILER"], switches["CMAKE_CXX_COMPILER"] = compilers
    switches["LLAVA_BUILD"] = "OFF"
    return {
        "CMAKE_ARGS": " ".join(f"-D{name}={value}" for name, value in switches.items()),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(machine.usable_cores()),
    }


def stamp_text(peer, settings):
    """What an environment was made from; another text means another build."""
    return "\n".join([*PACKAGES[peer], *(f"{name}={value}" for name, value in sorted(settings.items()))])


def install(folder, peer, flags, say):
    """Makes the peer's environment unless it is there. Raises Missing."""
    settings = build_settings(peer, flags)
    stamp = os.path.join(folder, peer, "installed.txt")
    if os.path.isfile(stamp):
        with open(stamp) as file:
            if file.read() == stamp_text(peer, settings):
                return
    say(f"installing {TITLES[peer]}" + (": compiling takes minutes" if settings else ""))
    home = os.path.join(folder, peer)
    log = os.path.join(folder, peer + ".log")
    pip = [python_of(folder, peer), "-m", "pip", "install", "--disable-pip-version-check"]
    if settings:
        # pip keeps what it built by the source's name alone, and would take one compiler's build for the other's.
        pip += ["--no-binary", "llama-cpp-python", "--no-cache-dir"]
    commands = [[sys.executable, "-m", "venv", "--clear", home], pip + PACKAGES[peer]]
    os.makedirs(folder, exist_ok=True)
    with open(log, "w") as output:
        for command in commands:
            environment = {**os.environ, **settings}
            result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            if result.returncode != 0:
                raise Missing(f"pip failed; its words are in {log}")
    with open(stamp, "w") as file:
        file.write(stamp_text(peer, settings))
