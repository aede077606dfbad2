use super::*;
use crate::abi::Status;
use crate::tokenizer::test_vocabulary;

const END: i32 = 258;
const LIMIT: Duration = Duration::from_secs(10);

/// Tokens 0–255 are the bytes, 256 is `{"`, 257 ` 1`, 258 the end.
fn environment() -> Environment {
    let tokenizer = test_vocabulary(&[("{\"", 1), ("Ġ1", 1), ("<|end|>", 3)], &["{ \"", "Ġ 1"]);
    Environment::new(Arc::new(tokenizer), &[END]).unwrap()
}

fn allowed(matcher: &mut Matcher) -> Vec<i32> {
    let mut words = vec![0; 9];
    matcher.mask(&mut words).unwrap();
    (0..259).filter(|id| words[*id as usize / 32] >> (id % 32) & 1 == 1).collect()
}

fn consume_text(matcher: &mut Matcher, text: &str) {
    for byte in text.bytes() {
        matcher.consume(i32::from(byte)).unwrap();
    }
}

#[test]
fn a_regex_allows_exactly_its_continuations() {
    let mut matcher = environment().compile(Kind::Regex, "a[0-9]{1,2}", LIMIT).unwrap();
    assert_eq!(allowed(&mut matcher), [i32::from(b'a')]);
    consume_text(&mut matcher, "a1");
    assert!(matcher.is_accepting().unwrap());
    let mut expected: Vec<i32> = (b'0'..=b'9').map(i32::from).collect();
    expected.push(END);
    assert_eq!(allowed(&mut matcher), expected);
    let mut fork = matcher.fork();
    consume_text(&mut matcher, "2");
    assert_eq!(allowed(&mut matcher), [END]);
    matcher.consume(END).unwrap();
    assert!(matcher.is_stopped());
    assert_eq!(allowed(&mut fork).len(), 11);
}

#[test]
fn a_json_schema_is_followed_to_its_end() {
    let schema = r#"{"type": "object", "properties": {"n": {"type": "integer"}},
                     "required": ["n"], "additionalProperties": false}"#;
    let mut matcher = environment().compile(Kind::JsonSchema, schema, LIMIT).unwrap();
    assert!(allowed(&mut matcher).contains(&256));
    matcher.consume(256).unwrap();
    assert_eq!(allowed(&mut matcher), [i32::from(b'n')]);
    consume_text(&mut matcher, "n\":");
    matcher.consume(257).unwrap();
    assert!(!matcher.is_accepting().unwrap());
    consume_text(&mut matcher, "}");
    assert!(matcher.is_accepting().unwrap());
    assert!(allowed(&mut matcher).contains(&END));
}

#[test]
fn a_lark_grammar_is_followed_to_its_end() {
    let mut matcher = environment()
        .compile(Kind::Lark, "start: \"yes\" | \"no\" INT\nINT: /[0-9]+/", LIMIT)
        .unwrap();
    assert_eq!(allowed(&mut matcher), [i32::from(b'n'), i32::from(b'y')]);
    consume_text(&mut matcher, "no");
    assert!(!matcher.is_accepting().unwrap());
    consume_text(&mut matcher, "7");
    assert!(matcher.is_accepting().unwrap());
}

#[test]
fn a_token_outside_the_mask_is_refused() {
    let mut matcher = environment().compile(Kind::Regex, "ab", LIMIT).unwrap();
    assert_eq!(matcher.consume(i32::from(b'x')).err().unwrap().status, Status::InvalidArgument);
    assert!(matcher.consume(9_999).is_err());
}

#[test]
fn bad_and_hostile_grammars_are_refused_and_others_go_on() {
    let environment = environment();
    let groups = "(".repeat(60_000) + "a" + &")".repeat(60_000);
    let deep = "[".repeat(3_000) + &"]".repeat(3_000);
    let long = "a".repeat(MAX_SOURCE_BYTES + 1);
    let huge = "(a{1,5000}){1,5000}";
    let explosive = "(.*a.{40}){20}";
    for (kind, source) in [
        (Kind::Regex, groups.as_str()),
        (Kind::Regex, "(unclosed"),
        (Kind::Regex, "a{9999999999}"),
        (Kind::Regex, long.as_str()),
        (Kind::JsonSchema, deep.as_str()),
        (Kind::JsonSchema, "{not json"),
        (Kind::JsonSchema, r#"{"type": "no-such-type"}"#),
        (Kind::JsonSchema, r##"{"$ref": "#/nowhere"}"##),
        (Kind::Lark, "start: missing"),
        (Kind::Lark, "nonsense ((("),
    ] {
        let failure = environment.compile(kind, source, LIMIT).err();
        let failure = failure.unwrap_or_else(|| panic!("{kind:?} must be refused: {source:.40}"));
        assert_eq!(failure.status, Status::InvalidArgument, "{}", failure.message);
    }
    // These may compile, but their states are bounded: they work or fail, and never run away.
    for source in [huge, explosive] {
        let Ok(mut matcher) = environment.compile(Kind::Regex, source, LIMIT) else { continue };
        for _ in 0..200 {
            if matcher.mask(&mut [0; 9]).and_then(|()| matcher.consume(i32::from(b'a'))).is_err() {
                break;
            }
        }
    }
    assert!(environment.compile(Kind::Regex, "fine", LIMIT).is_ok());
}

#[test]
fn a_draft_is_checked_and_tokens_are_taken_back() {
    let mut matcher = environment().compile(Kind::Regex, "abc[0-9]", LIMIT).unwrap();
    let draft: Vec<i32> = "abcx".bytes().map(i32::from).collect();
    assert_eq!(matcher.count_valid(&draft).unwrap(), 3);
    assert_eq!(matcher.count_valid(&[i32::from(b'a'), 9_999]).unwrap(), 1);
    consume_text(&mut matcher, "abc7");
    assert_eq!(matcher.count_valid(&[END, END]).unwrap(), 1);
    assert_eq!(matcher.count_valid(&[i32::from(b'a')]).unwrap(), 0);
    matcher.rollback(2).unwrap();
    assert_eq!(allowed(&mut matcher), [i32::from(b'c')]);
    consume_text(&mut matcher, "c1");
    assert_eq!(allowed(&mut matcher), [END]);
}

#[test]
fn parts_refer_to_each_other() {
    let source = r#"[{"name": "start", "lark": "start: \"call \" @call | @answer"},
                     {"name": "call", "json_schema": {"const": 1}},
                     {"name": "answer", "regex": "x/y"}]"#;
    let environment = environment();
    let mut matcher = environment.compile(Kind::Parts, source, LIMIT).unwrap();
    let mut other = matcher.fork();
    consume_text(&mut matcher, "call 1");
    assert!(matcher.is_accepting().unwrap());
    consume_text(&mut other, "x/y");
    assert!(other.is_accepting().unwrap());
    for bad in ["{}", "[{}]", r#"[{"name": "start", "lark": "start: @nowhere"}]"#] {
        let failure = environment.compile(Kind::Parts, bad, LIMIT).err().expect(bad);
        assert_eq!(failure.status, Status::InvalidArgument);
    }
}

#[test]
fn json_has_white_space_but_not_for_ever() {
    let schema = r#"{"type": "array", "items": {"type": "null"}, "x-guidance": {"lenient": true}}"#;
    let mut matcher = environment().compile(Kind::JsonSchema, schema, LIMIT).unwrap();
    consume_text(&mut matcher, "[\n    null, null");
    for _ in 0..33 {
        match allowed(&mut matcher).contains(&i32::from(b' ')) {
            true => matcher.consume(i32::from(b' ')).unwrap(),
            false => break,
        }
    }
    assert!(!allowed(&mut matcher).contains(&i32::from(b' ')));
}

#[test]
fn a_keyword_that_cannot_be_enforced_is_refused_by_name_or_ignored_on_request() {
    let environment = environment();
    let schema = r#"{"type": "array", "uniqueItems": true}"#;
    let failure = environment.compile(Kind::JsonSchema, schema, LIMIT).err().unwrap();
    assert!(failure.message.contains("uniqueItems"), "{}", failure.message);
    assert!(environment.compile(Kind::LenientJsonSchema, schema, LIMIT).is_ok());
}

/// Prints how long hostile grammars take: `cargo test --release -- --ignored --nocapture`.
#[test]
#[ignore]
fn time_hostile_grammars() {
    let doubling = |keyword: &str, n: usize| {
        let mut defs = serde_json::Map::new();
        for i in 0..n {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            defs.insert(format!("d{i}"), json!({keyword: [next, next]}));
        }
        defs.insert(
            format!("d{n}"),
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
        );
        json!({"$defs": defs, "$ref": "#/$defs/d0"}).to_string()
    };
    let wide = |keyword: &str, n: usize| {
        let options: Vec<Json> = (0..n)
            .map(|i| json!({"type": "object", "properties": {format!("p{i}"): {"type": "string"}}}))
            .collect();
        json!({keyword: options}).to_string()
    };
    let optional = |n: usize| {
        let properties: serde_json::Map<String, Json> = (0..n)
            .map(|i| (format!("p{i}"), json!({"type": "string", "maxLength": 300})))
            .collect();
        json!({"type": "object", "properties": properties}).to_string()
    };
    let patterns = |n: usize| {
        let all: Vec<Json> = (0..n)
            .map(|i| json!({"type": "string", "pattern": format!("(.*a.{{{i}}}b){{3}}")}))
            .collect();
        json!({"allOf": all}).to_string()
    };
    for (name, kind, source) in [
        ("allOf 12", Kind::JsonSchema, doubling("allOf", 12)),
        ("allOf 40", Kind::JsonSchema, doubling("allOf", 40)),
        ("oneOf 40", Kind::JsonSchema, doubling("oneOf", 40)),
        ("anyOf 40", Kind::JsonSchema, doubling("anyOf", 40)),
        ("wide anyOf 2000", Kind::JsonSchema, wide("anyOf", 2000)),
        ("wide oneOf 2000", Kind::JsonSchema, wide("oneOf", 2000)),
        ("wide allOf 2000", Kind::JsonSchema, wide("allOf", 2000)),
        ("optional 3000", Kind::JsonSchema, optional(3000)),
        ("patterns 5", Kind::JsonSchema, patterns(5)),
        ("patterns 30", Kind::JsonSchema, patterns(30)),
        ("array", Kind::JsonSchema, r#"{"type":"array","minItems":1000000,"maxItems":2000000}"#.into()),
        ("string", Kind::JsonSchema, r#"{"type":"string","minLength":1000000}"#.into()),
        ("multiple", Kind::JsonSchema, r#"{"type":"integer","multipleOf":1000003}"#.into()),
        ("multiples", Kind::JsonSchema, r#"{"allOf":[{"type":"integer","multipleOf":9999991},{"type":"integer","multipleOf":99999989}]}"#.into()),
        ("huge", Kind::Regex, "(a{1,5000}){1,5000}".into()),
        ("explosive", Kind::Regex, "(.*a.{40}){20}".into()),
        ("explosive 2", Kind::Regex, "(a?){3000}a{3000}".into()),
        ("and", Kind::Lark, "start: T\nT: /(.*a.{30}b){8}/ & /(.*b.{31}c){8}/ & /(.*c.{29}a){8}/".into()),
        ("ambiguous", Kind::Lark, "start: a\na: a a | \"a\" | a a a".into()),
        ("lark repeat", Kind::Lark, "start: a{1,1000}\na: b{1,1000}\nb: c{1,1000}\nc: \"a\"?".into()),
    ] {
        let environment = environment();
        let start = std::time::Instant::now();
        let result = environment.compile(kind, &source, LIMIT);
        let compiled = start.elapsed();
        let mut worst = Duration::ZERO;
        let mut ending = "goes on".to_owned();
        let mut steps = 0;
        match result {
            Err(failure) => ending = failure.message.chars().take(100).collect(),
            Ok(mut matcher) => {
                for _ in 0..500 {
                    let start = std::time::Instant::now();
                    let mut words = [0u32; 9];
                    if let Err(failure) = matcher.mask(&mut words) {
                        ending = failure.message.chars().take(100).collect();
                        worst = worst.max(start.elapsed());
                        break;
                    }
                    let letter = ["a", "{", "b", "\"", "[", "1", ":", " ", "p", "}"]
                        .iter()
                        .map(|c| i32::from(c.as_bytes()[0]))
                        .chain(0..259)
                        .find(|id| words[*id as usize / 32] >> (id % 32) & 1 == 1)
                        .unwrap();
                    if letter == END {
                        ending = "ended".into();
                        break;
                    }
                    if let Err(failure) = matcher.consume(letter) {
                        ending = failure.message.chars().take(100).collect();
                        break;
                    }
                    worst = worst.max(start.elapsed());
                    steps += 1;
                }
            }
        }
        println!("{name:18} compile {compiled:9.1?} worst step {worst:9.1?} {steps} steps: {ending}");
    }
}
