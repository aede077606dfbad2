"""The files that all engines read: random weights in published shapes, and SmolLM2 from the catalog."""

import dataclasses
import json
import os
import subprocess

import machine


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    shape: str  # of random_model; empty: pulled from the catalog, or a file of the caller's
    type: str
    file_bytes: int  # about
    parameters: float  # billions


class Missing(Exception):
    """A model that cannot be had here; the words say why."""


KNOWN = {
    model.name: model
    for model in (
        Model("smollm2", "", "q4_1", 98_362_432, 0.135),
        Model("1.5b-q4_k_m", "r1-distill-qwen-1.5b", "q4_k_m", 1_117_320_416, 1.78),
        Model("1.5b-q4_0", "r1-distill-qwen-1.5b", "q4_0", 1_066_226_912, 1.78),
        Model("1.5b-q8_0", "r1-distill-qwen-1.5b", "q8_0", 1_894_531_808, 1.78),
        Model("7b-q4_k_m", "r1-distill-qwen-7b", "q4_k_m", 4_683_073_120, 7.62),
        Model("7b-q4_0", "r1-distill-qwen-7b", "q4_0", 4_431_000_000, 7.62),
        Model("7b-q8_0", "r1-distill-qwen-7b", "q8_0", 8_098_000_000, 7.62),
    )
}
DEFAULT = ("smollm2", "1.5b-q4_k_m", "1.5b-q4_0", "1.5b-q8_0", "7b-q4_k_m")
CATALOG_NAME = "smollm2:135m"
RESERVE_BYTES = 1 << 30


def find(text):
    """A known model, or NAME=FILE."""
    name, separator, path = text.partition("=")
    if separator:
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        known = KNOWN.get(name)
        return dataclasses.replace(known, file_bytes=size) if known else Model(name, "", "", size, 0), path
    if text not in KNOWN:
        raise Missing(f"there is no model '{text}'; there are {', '.join(KNOWN)}, and NAME=FILE.gguf")
    return KNOWN[text], None


def path_of(folder, model):
    return os.path.join(folder, f"{model.name}.gguf")


def missing_bytes(folder, models):
    """What still has to be written for these models."""
    return sum(model.file_bytes for model in models if not os.path.isfile(path_of(folder, model)))


def make(folder, model, ridge, random_model, threads, say):
    """The model's file, made or fetched unless it is there. Raises Missing."""
    path = path_of(folder, model)
    if os.path.isfile(path):
        return path
    os.makedirs(folder, exist_ok=True)
    free = machine.free_disk_bytes(folder)
    if model.file_bytes + RESERVE_BYTES > free:
        raise Missing(f"it takes {model.file_bytes / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB are free")
    if not model.shape:
        return pull(folder, ridge, path, say)
    say(f"writing {path}, {model.file_bytes / 1e9:.1f} GB of random weights")
    draft = path + ".draft"
    command = [random_model, "--shape", model.shape, "--type", model.type, "--threads", str(threads), "--force", draft]
    if subprocess.run(command).returncode != 0:
        raise Missing(f"{random_model} failed")
    os.rename(draft, path)
    return path


def pull(folder, ridge, path, say):
    say(f"pulling {CATALOG_NAME}")
    home = os.path.join(folder, "home")
    if subprocess.run([ridge, "pull", CATALOG_NAME, "--home", home]).returncode != 0:
        raise Missing(f"ridge pull {CATALOG_NAME} failed")
    listed = subprocess.run([ridge, "list", "--json", "--home", home], check=True, capture_output=True, text=True)
    digest = json.loads(listed.stdout)["models"][0]["sha256"][0]
    os.symlink(os.path.abspath(os.path.join(home, "blobs", "sha256-" + digest)), path)
    return path
