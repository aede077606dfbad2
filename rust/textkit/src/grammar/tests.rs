use super::*;
use crate::abi::Status;
use crate::tokenizer::test_vocabulary;

const END: i32 = 258;

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
    let mut matcher = environment().compile(Kind::Regex, "a[0-9]{1,2}").unwrap();
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
    let mut matcher = environment().compile(Kind::JsonSchema, schema).unwrap();
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
    let mut matcher =
        environment().compile(Kind::Lark, "start: \"yes\" | \"no\" INT\nINT: /[0-9]+/").unwrap();
    assert_eq!(allowed(&mut matcher), [i32::from(b'n'), i32::from(b'y')]);
    consume_text(&mut matcher, "no");
    assert!(!matcher.is_accepting().unwrap());
    consume_text(&mut matcher, "7");
    assert!(matcher.is_accepting().unwrap());
}

#[test]
fn a_token_outside_the_mask_is_refused() {
    let mut matcher = environment().compile(Kind::Regex, "ab").unwrap();
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
        let failure = environment.compile(kind, source).err();
        let failure = failure.unwrap_or_else(|| panic!("{kind:?} must be refused: {source:.40}"));
        assert_eq!(failure.status, Status::InvalidArgument, "{}", failure.message);
    }
    // These may compile, but their states are bounded: they work or fail, and never run away.
    for source in [huge, explosive] {
        let Ok(mut matcher) = environment.compile(Kind::Regex, source) else { continue };
        for _ in 0..200 {
            if matcher.mask(&mut [0; 9]).and_then(|()| matcher.consume(i32::from(b'a'))).is_err() {
                break;
            }
        }
    }
    assert!(environment.compile(Kind::Regex, "fine").is_ok());
}
