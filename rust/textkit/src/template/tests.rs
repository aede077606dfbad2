use super::*;
use crate::abi::Status;
use serde_json::json;

fn rendered(source: &str, context: Json) -> Outcome<String> {
    Template::new(source)?.render(&context.to_string(), 0)
}

fn failure(source: &str, context: Json) -> Failure {
    rendered(source, context).expect_err("must fail")
}

#[test]
fn python_methods_and_blocks_work() {
    let source =
        "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m['content'].strip() }}|\n\
                  {% continue %}{% endif %}\n{{ m.content.split('</think>')[-1].lstrip('\\n') }}|\n\
                  {% endfor %}{{ messages[::-1][0].role }}{{ messages[0].get('x', 'none') }}";
    let messages = json!([
        {"role": "user", "content": "  hi  "},
        {"role": "assistant", "content": "<think>a</think>\n\nb"},
    ]);
    assert_eq!(rendered(source, json!({"messages": messages})).unwrap(), "hi|\nb|\nassistantnone");
}

#[test]
fn json_is_pythons() {
    let value = json!({"b": "é<'\"\n", "a": [1, 2.0, true, null, {}], "c": []});
    let cases = [
        ("{{ v | tojson }}", r#"{"b": "é<'\"\n", "a": [1, 2.0, true, null, {}], "c": []}"#),
        ("{{ v.b | tojson(ensure_ascii=true) }}", r#""\u00e9<'\"\n""#),
        (
            "{{ v | tojson(sort_keys=true, separators=(',', ':')) }}",
            r#"{"a":[1,2.0,true,null,{}],"b":"é<'\"\n","c":[]}"#,
        ),
        ("{{ v.a | tojson(indent=2) }}", "[\n  1,\n  2.0,\n  true,\n  null,\n  {}\n]"),
    ];
    for (source, expected) in cases {
        assert_eq!(rendered(source, json!({"v": value})).unwrap(), expected, "{source}");
    }
    assert_eq!(failure("{{ nothing | tojson }}", json!({})).status, Status::InvalidArgument);
}

#[test]
fn a_raised_exception_carries_its_own_message() {
    let failure = failure(
        "{% macro m() %}{{ raise_exception('roles must alternate') }}{% endmacro %}{{ m() }}",
        json!({}),
    );
    assert_eq!(
        (failure.status, failure.message.as_str()),
        (Status::InvalidArgument, "roles must alternate")
    );
}

#[test]
fn generation_tags_and_reasoning_names_are_understood() {
    let source = "{%- for m in messages %}{%- generation -%} {{ m.reasoning_content }}\
                  {%- endgeneration -%} {% endfor %}";
    let messages = json!([{"reasoning": "r"}, {"thinking": "t"}]);
    assert_eq!(rendered(source, json!({"messages": messages})).unwrap(), "rt");
}

#[test]
fn a_template_that_does_not_parse_names_its_line() {
    let failure = failure("a\nb\n{% if %}", json!({}));
    assert_eq!(failure.status, Status::InvalidFile);
    assert!(failure.message.contains("line 3"), "{}", failure.message);
}

#[test]
fn the_host_is_out_of_reach() {
    for source in [
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ open('/etc/passwd') }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
    ] {
        let result = rendered(source, json!({}));
        assert!(result.is_err() || result.unwrap().is_empty(), "{source}");
    }
}

#[test]
fn hostile_templates_end_with_an_error() {
    let nested = "{% if true %}".repeat(5_000) + &"{% endif %}".repeat(5_000);
    let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000));
    for source in [
        nested.as_str(),
        parentheses.as_str(),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for i in range(1000000000) %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 1000 }}{% endfor %}",
        "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{{ ('x' * 90000).replace('x', 'y' * 90000) }}",
        "{{ 'x' | indent(4000000000) }}",
        "{{ '%2000000000d' | format(1) }}",
    ] {
        let failure = failure(source, json!({}));
        assert!(failure.status != Status::Internal, "{}", failure.message);
    }
    let source = "x".repeat(MAX_SOURCE_BYTES + 1);
    assert_eq!(failure(&source, json!({})).status, Status::InvalidFile);
}

#[test]
fn a_template_that_exhausts_memory_is_refused_in_the_end() {
    let source = "{% set n = namespace(s='x') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}\
                  {% endfor %}";
    let template = Template::new(source).unwrap();
    for _ in 0..MAX_STOPPED {
        assert!(template.render("{}", 0).err().unwrap().message.contains("too much memory"));
    }
    assert!(template.render("{}", 0).err().unwrap().message.contains("repeatedly"));
}

#[test]
fn hostile_messages_end_with_an_error() {
    let template = Template::new("{{ messages }}").unwrap();
    let deep = format!("{{\"messages\": {}{}}}", "[".repeat(3_000), "]".repeat(3_000));
    assert_eq!(template.render(&deep, 0).err().unwrap().status, Status::InvalidArgument);
    let many = format!("{{\"messages\": [{}0]}}", "0,".repeat(MAX_CONTEXT_VALUES));
    assert_eq!(template.render(&many, 0).err().unwrap().status, Status::TooLarge);
}
