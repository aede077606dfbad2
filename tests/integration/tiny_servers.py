"""Servers of tiny models for the tests of a wire format, and what those tests ask them."""

import contextlib

import tiny_model
from ridge_process import RidgeServer

FAMILIES = {
    "hermes": (tiny_model.HERMES_TOKENS, tiny_model.HERMES_TEMPLATE),
    "deepseek": (tiny_model.R1_TOKENS, tiny_model.R1_TEMPLATE),
    "llama3": (tiny_model.LLAMA_TOKENS, tiny_model.LLAMA_TEMPLATE),
    "qwen3_coder": (tiny_model.QWEN3_CODER_TOKENS, tiny_model.QWEN3_CODER_TEMPLATE),
}
WEATHER_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 10}, "days": {"enum": [1, 2, 3]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {  # as OpenAI's chats and Ollama's have a tool
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather", "parameters": WEATHER_SCHEMA},
}


@contextlib.contextmanager
def tiny_servers(binary, environment, folder):
    """start(family) -> a server with the family's tiny model, which is called "tiny"."""
    servers = {}

    def start(family):
        if family not in servers:
            place = folder / family
            place.mkdir()
            path = tiny_model.write_tiny_model(place / "tiny.gguf", *FAMILIES[family])
            own = {**environment, "RIDGE_HOME": str(place)}
            servers[family] = RidgeServer(binary, own, path, ("--threads", "2"))
        return servers[family]

    try:
        yield start
    finally:
        for server in servers.values():
            server.stop()
