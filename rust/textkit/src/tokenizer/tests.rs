use super::*;
use crate::abi::Status;

fn byte_level<'a>(tokens: &[&'a str], types: &'a [i32], merges: &[&'a str]) -> Specification<'a> {
    Specification {
        model: "gpt2",
        pre: "qwen2",
        tokens: tokens.iter().map(|token| token.as_bytes()).collect(),
        token_types: types,
        merges: merges.iter().map(|merge| merge.as_bytes()).collect(),
        ..Specification::default()
    }
}

/// The 256 byte tokens, then `further`.
fn with_bytes(further: &[&str]) -> Vec<String> {
    let characters = byte_level::characters();
    characters
        .iter()
        .map(char::to_string)
        .chain(further.iter().map(|token| (*token).to_owned()))
        .collect()
}

/// Token `byte` is that byte for the first 256, then come `further` with their types.
pub fn test_vocabulary(further: &[(&str, i32)], merges: &[&str]) -> Tokenizer {
    let texts: Vec<&str> = further.iter().map(|(text, _)| *text).collect();
    let tokens = with_bytes(&texts);
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let mut types = vec![1; 256];
    types.extend(further.iter().map(|(_, kind)| *kind));
    build(&byte_level(&tokens, &types, merges)).unwrap()
}

#[test]
fn merges_and_control_tokens_give_their_ids() {
    let tokenizer = test_vocabulary(
        &[("he", 1), ("Ġhe", 1), ("<|end|>", 3), ("<think>", 4), ("[PAD]", 5)],
        &["h e", "Ġ he"],
    );
    assert_eq!(tokenizer.encode("he he", false, true).unwrap(), [256, 257]);
    assert_eq!(tokenizer.encode("he<|end|><think>", false, true).unwrap(), [256, 258, 259]);
    // Not parsed: the control token's spelling is text, a user-defined token still is one.
    let plain = tokenizer.encode("<|end|><think>", false, false).unwrap();
    assert_eq!(plain.len(), "<|end|>".len() + 1);
    assert_eq!(plain.last(), Some(&259));
    // An unused token is never produced.
    assert_eq!(tokenizer.encode("[PAD]", false, true).unwrap().len(), 5);
    assert_eq!(tokenizer.decode(&[257, 258, 259], true).unwrap(), " he<think>");
    assert_eq!(tokenizer.decode(&[257, 258], false).unwrap(), " he<|end|>");
    assert_eq!(tokenizer.token_bytes(257), Some(" he".as_bytes()));
    assert_eq!(tokenizer.token_bytes(-1), None);
    assert_eq!(tokenizer.token_bytes(261), None);
    assert_eq!(tokenizer.find(" he"), Some(257));
    assert_eq!(tokenizer.find("<|end|>"), Some(258));
    assert_eq!(tokenizer.find("absent"), None);
    assert!(tokenizer.is_special(258) && !tokenizer.is_special(259));
    assert!(tokenizer.decode(&[261], true).is_err());
}

#[test]
fn a_reasoning_tag_is_never_special() {
    let tokenizer = test_vocabulary(&[("<think>", 3), ("</think>", 3)], &[]);
    assert_eq!(tokenizer.decode(&[256, 257], true).unwrap(), "<think></think>");
}

#[test]
fn broken_vocabularies_are_refused_by_name() {
    let status = |specification: Specification| {
        let failure = build(&specification).err().expect("must be refused");
        (failure.status, failure.message)
    };
    let (kind, message) = status(byte_level(&["a", "b"], &[], &["a b"]));
    assert_eq!(kind, Status::InvalidFile);
    assert!(message.contains("merges[0]") && message.contains("`ab`"), "{message}");
    for merge in ["ab", "a  b", " b", "a b c"] {
        assert!(status(byte_level(&["a", "b", "ab"], &[], &[merge])).1.contains("merges[0]"));
    }
    assert!(status(byte_level(&["a"], &[7], &[])).1.contains("token_type[0]"));
    assert!(status(byte_level(&["a"], &[1, 1], &[])).1.contains("token_type"));
    assert!(status(byte_level(&[], &[], &[])).1.contains("0 tokens"));
    let mut specification = byte_level(&["a"], &[], &[]);
    specification.bos = Some(1);
    assert!(status(specification).1.contains("bos_token_id"));
    let mut specification = byte_level(&["a"], &[], &[]);
    specification.tokens = vec![b"\xff"];
    assert!(status(specification).1.contains("UTF-8"));
    for model in ["t5", "bert", "no-such"] {
        let (kind, message) = status(Specification { model, ..Specification::default() });
        assert_eq!(kind, Status::Unsupported);
        assert!(message.contains(model));
    }
}

fn sentencepiece_tokens() -> (Vec<String>, Vec<i32>, Vec<f32>) {
    let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    let mut types = vec![2, 3, 3];
    let mut scores = vec![0.0; 3];
    for byte in 0..256 {
        tokens.push(format!("<0x{byte:02X}>"));
        types.push(6);
        scores.push(0.0);
    }
    for (rank, piece) in ["▁h", "▁he", "h", "e", "▁"].iter().enumerate() {
        tokens.push((*piece).to_owned());
        types.push(1);
        scores.push(-(rank as f32));
    }
    (tokens, types, scores)
}

#[test]
fn sentencepiece_merges_by_score_and_falls_back_to_bytes() {
    let (tokens, types, scores) = sentencepiece_tokens();
    let mut specification = Specification {
        model: "llama",
        tokens: tokens.iter().map(String::as_bytes).collect(),
        token_types: &types,
        scores: &scores,
        bos: Some(1),
        eos: Some(2),
        ..Specification::default()
    };
    let tokenizer = build(&specification).unwrap();
    assert_eq!(tokenizer.encode("he h", true, true).unwrap(), [1, 260, 259]);
    assert_eq!(tokenizer.encode("é", false, true).unwrap(), [263, 3 + 0xC3, 3 + 0xA9]);
    // A stretch after a control token begins with a space again.
    assert_eq!(tokenizer.encode("</s>he", false, true).unwrap(), [2, 260]);
    assert_eq!(tokenizer.decode(&[1, 260, 259], true).unwrap(), "he h");
    assert_eq!(tokenizer.token_bytes(260), Some(" he".as_bytes()));
    assert_eq!(tokenizer.token_bytes(3 + 0xC3), Some(&b"\xC3"[..]));
    assert!(tokenizer.adds_bos());

    specification.tokens[10] = b"<0x-1>";
    let failure = build(&specification).err().expect("must be refused");
    assert!(failure.message.contains("<0x-1>"), "{}", failure.message);
}

#[test]
fn a_million_carets_end_quickly() {
    let (tokens, types, scores) = sentencepiece_tokens();
    let llama = build(&Specification {
        model: "llama",
        tokens: tokens.iter().map(String::as_bytes).collect(),
        token_types: &types,
        scores: &scores,
        ..Specification::default()
    })
    .unwrap();
    let bytes = with_bytes(&["^^"]);
    let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
    let gpt2 = build(&byte_level(&bytes, &[], &["^ ^"])).unwrap();
    for (text, halves) in [("^", 2), (" ", 1), ("\n", 1), ("x", 1)] {
        let long = text.repeat(1_000_000);
        assert_eq!(gpt2.encode(&long, false, true).unwrap().len(), 1_000_000 / halves);
        assert!(llama.encode(&long, false, true).unwrap().len() >= 1_000_000);
    }
    // Runs that each pre-tokenizer may search through again: done, or refused as the text's fault.
    for pre in ["default", "llama-bpe", "gpt-4o", "tekken", "deepseek-llm", "deepseek-v3"] {
        let mut specification = byte_level(&bytes, &[], &["^ ^"]);
        specification.pre = pre;
        let tokenizer = build(&specification).unwrap();
        for unit in ["A", " ", "'", "1", "\n ", "Aa"] {
            match tokenizer.encode(&unit.repeat(300_000 / unit.len()), false, true) {
                Ok(ids) => assert!(ids.len() >= 150_000),
                Err(failure) => assert_eq!(failure.status, Status::InvalidArgument),
            }
        }
    }
    let too_long = "a".repeat(MAX_TEXT_BYTES + 1);
    assert_eq!(gpt2.encode(&too_long, false, true).err().unwrap().status, Status::TooLarge);
}
