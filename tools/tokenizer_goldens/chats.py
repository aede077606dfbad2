"""Conversations that the chat template goldens render."""

R1 = "deepseek-r1-distill-qwen-7b"
R1_THINK = "deepseek-r1-distill-qwen-7b, opening the tag"
SMOLLM2 = "smollm2"
TOOLS = "tools"
QWEN3_CODER = "calls as Qwen3-Coder's"

USER = {"role": "user", "content": "What is 2 + 2?"}
SYSTEM = {"role": "system", "content": "Answer in one word — é, 中."}
THOUGHT = {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\nFour."}
AGAIN = {"role": "user", "content": "And </think> 3?"}

CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}},
        {"type": "function", "function": {"name": "time", "arguments": "{}"}},
    ],
}
RESULTS = [
    {"role": "tool", "content": "12 °C"},
    {"role": "tool", "content": "10:30"},
]

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city, now. <b>\"quoted\"</b> é",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
            "required": ["city"],
            "additionalProperties": False,
            "x-weights": [1, 2.0, 0.1, 1e22, -3.5e-7, None, True],
        },
    },
}

# Uses what real tool templates use: tojson with and without indent, loops with break, macros,
# namespaces, Python methods, tests, slices, whitespace control.
TOOLS_TEMPLATE = """\
{%- macro shout(text) -%}{{ text | upper }}!{%- endmacro -%}
{%- if messages[0].role == 'system' -%}
    {%- set system = messages[0]['content'] -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set system = 'none' -%}
    {%- set rest = messages -%}
{%- endif -%}
SYSTEM {{ system }}
{% if tools is not none and tools %}
    {% for tool in tools %}
TOOL {{ tool | tojson }}
INDENTED {{ tool.function.parameters | tojson(indent=2) }}
KEYS {{ tool.function.parameters.keys() | join(',') }}
    {% endfor %}
{% endif %}
{% set ns = namespace(last=-1) %}
{% for message in rest %}
    {% if message.role == 'user' %}
        {% set ns.last = loop.index0 %}
    {% endif %}
{% endfor %}
LAST {{ ns.last }}
{% for message in rest %}
    {% if message.role not in ['user', 'assistant', 'tool'] %}
{{ raise_exception('Unknown role: ' + message.role) }}
    {% endif %}
    {% if message.content is string %}
{{ loop.index }} {{ message.role.capitalize() }}: {{ message.content.strip() | replace('\\n', ' ') }}
    {% elif message.tool_calls is defined and message.tool_calls %}
        {% for call in message.tool_calls %}
CALL {{ call.function.name }}({{ call.function.arguments }}){{ ',' if not loop.last }}
        {% endfor %}
    {% endif %}
    {% if message.content and '</think>' in message.content %}
THOUGHT {{ message.content.split('</think>')[0].split('<think>')[-1].strip('\\n') }}
ANSWER {{ message.content.split('</think>')[-1].lstrip('\\n') }}
    {% endif %}
    {% if loop.last %}{% break %}{% endif %}
{% endfor %}
{{ shout('done') }} {{ 3 / 2 }} {{ 7 // 2 }} {{ 1.0 }} {{ true }} {{ none }} {{ ['a', 1] }} {{ extra | default('no extra') }}
{% if add_generation_prompt %}
ASSISTANT
{%- endif %}
"""

# Writes calls and results as the template of Qwen3-Coder does, whose words on tools are shorter here.
QWEN3_CODER_TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n<tools>\\n' + (tools | tojson) + '\\n</tools>\\nCall as in\\n' }}
    {{- '<tool_call>\\n<function=NAME>\\n<parameter=KEY>\\nVALUE\\n</parameter>\\n' }}
    {{- '</function>\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + ('user' if message.role == 'tool' else message.role) }}
    {%- if message.role == 'tool' %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
    {%- elif message.content is string and message.content | trim %}
        {{- '\\n' + message.content | trim }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n<tool_call>\\n<function=' + call.function.name + '>\\n' }}
        {%- for key, value in call.function.arguments | items %}
            {{- '<parameter=' + key + '>\\n' }}
            {%- if value is mapping or (value is sequence and value is not string) %}
                {{- value | tojson }}
            {%- else %}
                {{- value | string }}
            {%- endif %}
            {{- '\\n</parameter>\\n' }}
        {%- endfor %}
        {{- '</function>\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

CALLED = {
    "type": "function",
    "function": {
        "name": "edit",
        "parameters": {
            "type": "object",
            "properties": {
                "path": {"type": "string"},
                "text": {"type": ["string", "null"]},
                "lines": {"type": "array", "items": {"type": "integer"}},
                "more": {"type": "object"},
                "count": {"type": "integer"},
                "scale": {"type": "number"},
                "all": {"type": "boolean"},
                "mode": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            },
        },
    },
}


def calls(*arguments):
    return {
        "role": "assistant",
        "content": "I edit.",
        "tool_calls": [{"type": "function", "function": {"name": "edit", "arguments": a}} for a in arguments],
    }


EDITS = calls(
    {"path": "src/é.xml", "text": "<a>\n  \"1\" \\\\n</a>\n\n</parameter> <parameter>\n", "all": True},
    {"path": "42", "text": None, "lines": [1, 2], "more": {"a": ["</b>", None, 1.5]}, "mode": 3},
    {"path": "", "text": " true ", "count": -7, "scale": 1e-7, "all": False, "mode": "fast"},
    {},
)


def case(name, template, messages, **options):
    return {"name": name, "template": template, "messages": messages, **options}


CASES = [
    case("one question", R1, [USER]),
    case("no generation prompt", R1, [USER], add_generation_prompt=False),
    case("system", R1, [SYSTEM, USER]),
    case("two turns", R1, [USER, {"role": "assistant", "content": "Four."}, AGAIN]),
    case("history loses its reasoning", R1, [SYSTEM, USER, THOUGHT, AGAIN]),
    case("the last of several closing tags", R1,
         [USER, {"role": "assistant", "content": "a</think>b</think>c"}, AGAIN]),
    case("tool calls and results", R1, [USER, CALL, *RESULTS]),
    case("an answer after tools", R1, [USER, CALL, *RESULTS, THOUGHT, AGAIN]),
    case("a message that spells a control token", R1,
         [{"role": "user", "content": "<｜Assistant｜><think>"}]),
    case("empty content", R1, [{"role": "user", "content": ""}]),
    case("one question", R1_THINK, [USER]),
    case("history loses its reasoning", R1_THINK, [SYSTEM, USER, THOUGHT, AGAIN]),
    case("a tool turn ends without a prompt", R1_THINK, [USER, CALL, *RESULTS]),
    case("default system", SMOLLM2, [USER]),
    case("own system", SMOLLM2, [SYSTEM, USER, {"role": "assistant", "content": "Four."}, AGAIN]),
    case("no generation prompt", SMOLLM2, [USER], add_generation_prompt=False),
    case("tools", TOOLS, [SYSTEM, USER, CALL, *RESULTS, THOUGHT, AGAIN], tools=[TOOL, TOOL]),
    case("no tools", TOOLS, [USER], add_generation_prompt=False),
    case("a variable", TOOLS, [USER], variables={"extra": {"b": [1, "x'y", None]}}),
    case("calls", QWEN3_CODER, [USER, EDITS, *RESULTS], tools=[CALLED]),
    case("one call and an answer", QWEN3_CODER, [USER, calls({"path": "a"}), RESULTS[0], THOUGHT, AGAIN]),
    case("a template that objects", TOOLS, [USER, {"role": "wizard", "content": "hocus"}]),
]
