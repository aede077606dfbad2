"""Models of random weights that take milliseconds, in the vocabularies and templates of real families.

What such a model says is noise; so whatever is in order in its answers is there because it was enforced.
"""

import pathlib

import gguf
import numpy

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "goldens" / "llama-f32.gguf"
CONTROL, USER_DEFINED = 3, 4

HERMES_TOKENS = [(tag, USER_DEFINED) for tag in ("<think>", "</think>", "<tool_call>", "</tool_call>")]
# In the form of Qwen 3's template: tools, calls, results, and thinking that can be switched off.
HERMES_TEMPLATE = """\
{%- if tools %}<|im_start|>system
{%- for tool in tools %}{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content if m.content is string else '' }}
{%- for call in m.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""

QWEN3_CODER_TOKENS = HERMES_TOKENS[2:]
QWEN3_CODER_TEMPLATE = """\
{%- if tools %}<|im_start|>system
{%- for tool in tools %}{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content if m.content is string else '' }}
{%- for call in m.tool_calls or [] %}{{ '\\n<tool_call>\\n<function=' + call.function.name + '>\\n' }}
{%- for key, value in call.function.arguments | items %}
{{- '<parameter=' + key + '>\\n' + (value if value is string else value | tojson) + '\\n</parameter>\\n' }}
{%- endfor %}{{ '</function>\\n</tool_call>' }}{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

R1_TOKENS = [
    (tag, CONTROL)
    for tag in (
        "<｜User｜>",
        "<｜Assistant｜>",
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    )
] + [("<think>", USER_DEFINED), ("</think>", USER_DEFINED)]
# In the form of R1's template: no tools in the prompt, arguments as text, thinking always.
R1_TEMPLATE = """\
{%- for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% endif %}{% endfor %}
{%- for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}{% endif %}
{%- if m.role == 'assistant' and m.tool_calls %}{{ '<｜Assistant｜><｜tool▁calls▁begin｜>' }}
{%- for call in m.tool_calls %}{{ '<｜tool▁call▁begin｜>' + call['type'] + '<｜tool▁sep｜>' \
+ call['function']['name'] + '\\n```json\\n' + call['function']['arguments'] + '\\n```<｜tool▁call▁end｜>' }}
{%- endfor %}{{ '<｜tool▁calls▁end｜>' }}
{%- elif m.role == 'assistant' %}{{ '<｜Assistant｜>' + m.content }}{% endif %}
{%- if m.role == 'tool' %}{{ '<tool_result>' + m.content + '</tool_result>' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"""

LLAMA_TOKENS = [("<|start_header_id|>", CONTROL), ("<|end_header_id|>", CONTROL), ("<|python_tag|>", CONTROL)]
LLAMA_TEMPLATE = """\
{%- for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ m.content }}{% endfor %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""


def write_tiny_model(path, tokens=(), template=None, context=4096, seed=7):
    """The golden model with more tokens, another template and a longer context."""
    source = gguf.GGUFReader(str(GOLDEN))
    writer = gguf.GGUFWriter(str(path), "llama")
    random = numpy.random.default_rng(seed)
    for name, field in source.fields.items():
        value = field.contents() if field.types else None
        if name.startswith("GGUF.") or name in ("general.architecture", "llama.context_length"):
            continue
        if name == "tokenizer.ggml.tokens":
            writer.add_array(name, [*value, *(text for text, _ in tokens)])
        elif name == "tokenizer.ggml.token_type":
            writer.add_array(name, [*value, *(kind for _, kind in tokens)])
        elif name == "tokenizer.chat_template":
            writer.add_string(name, template or value)
        elif name == "llama.vocab_size":
            writer.add_uint32(name, value + len(tokens))
        elif field.types[0] == gguf.GGUFValueType.ARRAY:
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, field.types[0])
    writer.add_uint32("llama.context_length", context)
    for tensor in source.tensors:
        data = numpy.array(tensor.data)
        if tensor.name in ("token_embd.weight", "output.weight") and tokens:
            more = random.normal(0, data.std(), (len(tokens), data.shape[1])).astype(data.dtype)
            data = numpy.concatenate([data, more])
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
