"""Measures llama.cpp through its C interface, inside the environment that has llama-cpp-python.

    python llama_worker.py KIND FILE THREADS SETTINGS

KIND is load, prefill, decode, depth or batch; SETTINGS is JSON. Prints one JSON object of figures. Each timed step is one
llama_decode and one llama_synchronize, as in llama-bench; Python adds the two foreign calls, which it times itself and reports.
"""

import ctypes
import json
import random
import statistics
import sys
import time

import llama_cpp as llama

PROMPT = b"Why is the sky blue?"


@llama.llama_log_callback
def be_silent(level, text, data):
    pass


def status_bytes(field):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


class Session:
    plain_weights = False  # as the file has them, not in a layout for this machine

    def __init__(self, path, threads, context_tokens, sequences=1):
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = 0
        parameters.use_extra_bufts = not self.plain_weights
        self.model = llama.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        settings = llama.llama_context_default_params()
        settings.n_ctx = context_tokens
        settings.n_batch = 2048
        settings.n_ubatch = 512
        settings.n_seq_max = sequences
        settings.n_threads = threads
        settings.n_threads_batch = threads
        self.context = llama.llama_init_from_model(self.model, settings)
        if not self.context:
            raise SystemExit("llama.cpp has no room for its context")
        self.memory = llama.llama_get_memory(self.context)
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.tokens_known = llama.llama_vocab_n_tokens(self.vocab)
        self.random = random.Random(1)

    def random_tokens(self, count):
        return (llama.llama_token * count)(*(self.random.randrange(self.tokens_known) for _ in range(count)))

    def decode(self, batch):
        if llama.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama_decode failed")

    def fill(self, count):
        """Appends `count` tokens to the one sequence."""
        while count > 0:
            tokens = self.random_tokens(min(count, 2048))
            self.decode(llama.llama_batch_get_one(tokens, len(tokens)))
            llama.llama_synchronize(self.context)
            count -= len(tokens)

    def cut(self, sequence, length):
        llama.llama_memory_seq_rm(self.memory, sequence, length, -1)

    def time_prompt(self, count):
        tokens = self.random_tokens(count)
        start = time.perf_counter()
        self.decode(llama.llama_batch_get_one(tokens, count))
        llama.llama_synchronize(self.context)
        return time.perf_counter() - start


def foreign_call_seconds(session):
    """What two foreign calls cost that do next to nothing."""
    start = time.perf_counter()
    for _ in range(1000):
        llama.llama_batch_get_one(None, 0)
        llama.llama_synchronize(session.context)
    return (time.perf_counter() - start) / 1000


def measure_load(path, threads, settings):
    before = status_bytes("VmRSS")
    start = time.perf_counter()
    session = Session(path, threads, settings["context"])
    tokens = (llama.llama_token * 64)()
    count = llama.llama_tokenize(session.vocab, PROMPT, len(PROMPT), tokens, 64, True, True)
    session.decode(llama.llama_batch_get_one(tokens, count))
    logits = llama.llama_get_logits_ith(session.context, -1)
    max(range(session.tokens_known), key=logits.__getitem__)
    seconds = time.perf_counter() - start
    # Python's own memory was there before.
    return {"first_token_ms": seconds * 1e3, "peak_bytes": status_bytes("VmHWM") - before}


def measure_prompt(path, threads, settings):
    depth, count = settings.get("depth", 0), settings["tokens"]
    session = Session(path, threads, depth + count + 64)
    session.fill(depth)
    seconds = []
    for repetition in range(settings["repetitions"] + 1):
        seconds.append(session.time_prompt(count))
        session.cut(0, depth)
    # The first one warms up.
    return {"tokens_per_second": count / statistics.median(seconds[1:])}


def measure_decode(path, threads, settings):
    count = settings["tokens"]
    session = Session(path, threads, count + 64)
    speeds = []
    for repetition in range(settings["repetitions"] + 1):
        tokens = session.random_tokens(count)
        start = time.perf_counter()
        for i in range(count):
            at = ctypes.cast(ctypes.byref(tokens, i * ctypes.sizeof(llama.llama_token)), ctypes.POINTER(llama.llama_token))
            session.decode(llama.llama_batch_get_one(at, 1))
            llama.llama_synchronize(session.context)
        speeds.append(count / (time.perf_counter() - start))
        session.cut(0, 0)
    return {"tokens_per_second": statistics.median(speeds[1:]), "overhead_seconds": foreign_call_seconds(session)}


def set_batch(batch, tokens, position, wants_logits):
    """One token of each sequence."""
    batch.n_tokens = len(tokens)
    for sequence, token in enumerate(tokens):
        batch.token[sequence] = token
        batch.pos[sequence] = position
        batch.n_seq_id[sequence] = 1
        batch.seq_id[sequence][0] = sequence
        batch.logits[sequence] = wants_logits


def measure_batch(path, threads, settings):
    depth, steps, sizes = settings["depth"], settings["tokens"], settings["batches"]
    largest = max(sizes)
    session = Session(path, threads, largest * (depth + steps + 64), largest)
    batch = llama.llama_batch_init(2048, 0, 1)
    for sequence in range(largest):
        batch.n_tokens = depth
        for i, token in enumerate(session.random_tokens(depth)):
            batch.token[i] = token
            batch.pos[i] = i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = i + 1 == depth
        session.decode(batch)
        llama.llama_synchronize(session.context)
    figures = {}
    for size in sizes:
        # One step to warm up.
        for step in range(steps + 1):
            if step == 1:
                start = time.perf_counter()
            set_batch(batch, session.random_tokens(size), depth + step, True)
            session.decode(batch)
            llama.llama_synchronize(session.context)
        figures[str(size)] = size * steps / (time.perf_counter() - start)
        for sequence in range(size):
            session.cut(sequence, depth)
    return {"tokens_per_second": figures}


KINDS = {
    "load": measure_load,
    "prefill": measure_prompt,
    "depth": measure_prompt,
    "decode": measure_decode,
    "batch": measure_batch,
}


def main():
    kind, path, threads, settings = sys.argv[1:]
    llama.llama_log_set(be_silent, ctypes.c_void_p(0))
    llama.llama_backend_init()
    settings = json.loads(settings)
    Session.plain_weights = settings.get("plain_weights", False)
    print(json.dumps(KINDS[kind](path, int(threads), settings)))


if __name__ == "__main__":
    main()
