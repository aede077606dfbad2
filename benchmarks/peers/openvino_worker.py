"""Measures OpenVINO GenAI inside its environment; words and output as llama_worker.py.

It reads the GGUF file itself and turns it into a model of its own, which takes long and much memory. Prompts are token ids. The
step times are those that it reports. A prompt after a filled context cannot be timed through its interface.
"""

import json
import statistics
import sys
import time

PROMPT = "Why is the sky blue?"


def status_bytes(field):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


def generate(pipeline, batch, prompt_tokens, new_tokens):
    """OpenVINO's own times: (seconds to the first token, seconds of each further step)."""
    import numpy
    import openvino
    import openvino_genai

    ids = numpy.random.default_rng(1).integers(1000, 20000, (batch, prompt_tokens), dtype=numpy.int64)
    mask = numpy.ones((batch, prompt_tokens), dtype=numpy.int64)
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = new_tokens
    config.ignore_eos = True
    config.do_sample = False
    inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(mask))
    metrics = pipeline.generate(inputs, config).perf_metrics
    return metrics.get_ttft().mean / 1e3, [each / 1e6 for each in metrics.raw_metrics.m_durations]


def main():
    kind, path, threads, settings = sys.argv[1:]
    settings = json.loads(settings)
    import openvino_genai

    before = status_bytes("VmRSS")
    start = time.perf_counter()
    pipeline = openvino_genai.LLMPipeline(path, "CPU", INFERENCE_NUM_THREADS=int(threads))
    if kind == "load":
        pipeline.generate(PROMPT, max_new_tokens=1)
        seconds = time.perf_counter() - start
        result = {"first_token_ms": seconds * 1e3, "peak_bytes": status_bytes("VmHWM") - before}
    elif kind == "prefill":
        seconds = [generate(pipeline, 1, settings["tokens"], 1)[0] for _ in range(settings["repetitions"] + 1)]
        result = {"tokens_per_second": settings["tokens"] / statistics.median(seconds[1:])}
    elif kind == "decode":
        steps = generate(pipeline, 1, 8, settings["tokens"] + 1)[1]
        result = {"tokens_per_second": 1 / statistics.median(steps[1:])}
    else:
        speeds = {}
        for size in settings["batches"]:
            steps = generate(pipeline, size, settings["depth"], settings["tokens"] + 1)[1]
            speeds[str(size)] = size / statistics.median(steps[1:])
        result = {"tokens_per_second": speeds}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
