//! From the arrays of a GGUF file to a `Tokenizer`.

use std::sync::{Arc, LazyLock};

use ahash::AHashMap;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::{AddedToken, TokenizerImpl};

use super::model::{SharedVocabulary, Vocabulary};
use super::pre_tokenizer::PreKind;
use super::{byte_level, sentencepiece, Family, Pipeline, Tokenizer, REASONING_TAGS};
use crate::abi::{Failure, Outcome};

const MAX_TOKENS: usize = 1 << 21;
const MAX_MERGES: usize = 1 << 22;
/// Real vocabularies hold runs of a few hundred spaces or dashes; none comes near this.
const MAX_TOKEN_BYTES: usize = 4096;

/// `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenType {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenType {
    fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }

    /// Whether the merges may build or meet it.
    fn is_in_model(self) -> bool {
        matches!(self, Self::Normal | Self::Unknown | Self::Byte)
    }
}

/// The keys `tokenizer.ggml.*` of a file. Arrays that the file lacks are empty.
#[derive(Default)]
pub struct Specification<'a> {
    pub model: &'a str,
    pub pre: &'a str,
    pub tokens: Vec<&'a [u8]>,
    pub token_types: &'a [i32],
    pub scores: &'a [f32],
    pub merges: Vec<&'a [u8]>,
    pub bos: Option<i32>,
    pub eos: Option<i32>,
    pub unknown: Option<i32>,
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    pub add_space_prefix: Option<bool>,
}

struct Checked<'a> {
    texts: Vec<&'a str>,
    types: Vec<TokenType>,
    /// Ids of the tokens that the merges may meet; the last of equal texts counts, as for
    /// Hugging Face.
    model_ids: AHashMap<String, u32>,
    others: AHashMap<String, u32>,
}

pub fn build(specification: &Specification) -> Outcome<Tokenizer> {
    match specification.model {
        "gpt2" => build_byte_level(specification),
        "llama" => build_sentencepiece(specification),
        other => {
            let shown: String = other.chars().take(64).collect();
            Err(Failure::unsupported(format!(
                "tokenizer.ggml.model is `{shown}`; this build reads `gpt2` (byte-level BPE) and \
                 `llama` (SentencePiece BPE)"
            )))
        }
    }
}

fn build_byte_level(specification: &Specification) -> Outcome<Tokenizer> {
    let pre = if specification.pre.is_empty() { "default" } else { specification.pre };
    let kind = PreKind::find(pre)?;
    // A server's second start waits for a vocabulary: what does not need the other half is done beside it.
    let (checked, merges) = at_once(|| check(specification), || Ok(owned(&split_merges(specification)?)));
    let mut checked = checked?;
    if let Some(id) = checked.types.iter().position(|t| *t == TokenType::Byte) {
        return Err(Failure::file(format!(
            "tokenizer.ggml.token_type[{id}] is a byte token, which a byte-level vocabulary has not"
        )));
    }
    let merges = merges?;
    let build = |ids: AHashMap<String, u32>, merges: Vec<(String, String)>| {
        BPE::builder().vocab_and_merges(ids, merges).ignore_merges(kind.ignores_merges).build()
    };
    let ids = std::mem::take(&mut checked.model_ids);
    let (bpe, spelled) = at_once(
        || build(ids, merges),
        || spell(&checked.texts, |index| byte_level_bytes(&checked, index)),
    );
    // Almost always the merges need normal tokens alone, and looking for all of them beforehand
    // takes as long as building.
    let bpe = bpe.or_else(|_| {
        checked = check(specification)?;
        let merges = split_merges(specification)?;
        admit_merged(&merges, &mut checked)?;
        build(std::mem::take(&mut checked.model_ids), owned(&merges))
            .map_err(|error| Failure::file(format!("tokenizer.ggml.merges: {error}")))
    })?;
    let parts = Parts {
        family: Family::ByteLevel,
        normalizer: kind.normalizer(),
        pre_tokenizer: Some(kind.pre_tokenizer()?),
        decoder: DecoderWrapper::ByteLevel(ByteLevel::default()),
        adds_bos_by_default: kind.adds_bos,
    };
    assemble(specification, checked, bpe, parts, spelled?)
}

/// Both results; the second is worked out on a thread of its own.
fn at_once<A, B: Send>(first: impl FnOnce() -> A, second: impl FnOnce() -> B + Send) -> (A, B) {
    std::thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first();
        (first, second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn byte_level_bytes(checked: &Checked, index: usize) -> Vec<u8> {
    static TABLE: LazyLock<[Option<u8>; 0x144]> = LazyLock::new(byte_level::bytes);
    let text = checked.texts[index];
    match checked.types[index] {
        TokenType::Normal => byte_level::decode(text, &TABLE),
        _ => None,
    }
    .unwrap_or_else(|| text.as_bytes().to_vec())
}

fn build_sentencepiece(specification: &Specification) -> Outcome<Tokenizer> {
    let mut checked = check(specification)?;
    let count = checked.texts.len();
    if specification.scores.len() != count {
        return Err(Failure::file(format!(
            "tokenizer.ggml.scores has {} values for {count} tokens; a `llama` vocabulary needs one \
             for each",
            specification.scores.len()
        )));
    }
    let mut bytes = Vec::with_capacity(count);
    for (id, (text, kind)) in checked.texts.iter().zip(&checked.types).enumerate() {
        bytes.push(match kind {
            TokenType::Byte => vec![sentencepiece::byte_of(text).ok_or_else(|| {
                Failure::file(format!(
                    "tokenizer.ggml.tokens[{id}] is a byte token but is spelled `{}`; right would \
                     be `<0x00>` to `<0xFF>`",
                    shorten(text)
                ))
            })?],
            TokenType::Normal => text.replace(sentencepiece::SPACE, " ").into_bytes(),
            // Where merges are listed, as Hugging Face decodes what they may make.
            TokenType::UserDefined if !specification.merges.is_empty() => {
                text.replace(sentencepiece::SPACE, " ").into_bytes()
            }
            _ => text.as_bytes().to_vec(),
        });
    }
    let unknown = specification.unknown.unwrap_or(0);
    check_id("unknown_token_id", Some(unknown), count)?;
    let unknown_text = checked.texts[unknown as usize].to_owned();
    let (mut model_ids, merges) = if specification.merges.is_empty() {
        scored_merges(specification, &mut checked)?
    } else {
        listed_merges(specification, &mut checked)?
    };
    model_ids.insert(unknown_text.clone(), unknown as u32);
    let bpe = BPE::builder()
        .vocab_and_merges(model_ids, merges)
        .unk_token(unknown_text)
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(|error| Failure::file(format!("tokenizer.ggml.tokens: {error}")))?;
    let parts = sentencepiece_parts(specification.add_space_prefix.unwrap_or(true))?;
    let spelled = spell(&checked.texts, |index| std::mem::take(&mut bytes[index]))?;
    assemble(specification, checked, bpe, parts, spelled)
}

type IdsAndMerges = (AHashMap<String, u32>, Vec<(String, String)>);

/// The merges that the scores of a file stand for.
fn scored_merges(specification: &Specification, checked: &mut Checked) -> Outcome<IdsAndMerges> {
    // Gemma's files write runs of spaces as such, where the text that meets them has U+2581.
    let spelled: Vec<(String, u32, f32)> = (0..checked.texts.len())
        .filter(|id| checked.types[*id] == TokenType::Normal)
        .map(|id| {
            let text = checked.texts[id].replace(' ', "▁");
            (text, id as u32, specification.scores[id])
        })
        .collect();
    let pieces: Vec<(&str, u32, f32)> =
        spelled.iter().map(|(text, id, score)| (text.as_str(), *id, *score)).collect();
    let mut mergeable = AHashMap::with_capacity(pieces.len());
    mergeable.extend(pieces.iter().map(|(text, id, _)| ((*text).to_owned(), *id)));
    let merges = sentencepiece::merges(&pieces, &mergeable)?;
    let mut model_ids = std::mem::take(&mut checked.model_ids);
    model_ids.extend(mergeable);
    Ok((model_ids, merges))
}

/// The merges that a file lists although its model has scores: those of a tokenizer.json, which
/// scores do not always give.
fn listed_merges(specification: &Specification, checked: &mut Checked) -> Outcome<IdsAndMerges> {
    let merges = split_merges(specification)?;
    admit_merged(&merges, checked)?;
    Ok((std::mem::take(&mut checked.model_ids), owned(&merges)))
}

/// As Hugging Face's LlamaConverter for `legacy` tokenizers, whose rule is also llama.cpp's: each
/// stretch of text between control tokens begins with a space.
fn sentencepiece_parts(adds_space: bool) -> Outcome<Parts> {
    let internal = |error: tokenizers::Error| Failure::internal(error.to_string());
    let space = sentencepiece::SPACE.to_string();
    let mut normalizers = Vec::new();
    let mut decoders = vec![
        DecoderWrapper::Replace(Replace::new(space.clone(), " ").map_err(internal)?),
        DecoderWrapper::ByteFallback(ByteFallback::new()),
        DecoderWrapper::Fuse(Fuse::new()),
    ];
    if adds_space {
        normalizers.push(NormalizerWrapper::Prepend(Prepend::new(space.clone())));
        decoders
            .push(DecoderWrapper::Strip(Strip::new(' ', /* start= */ 1, /* stop= */ 0)));
    }
    normalizers.push(NormalizerWrapper::Replace(Replace::new(" ", space).map_err(internal)?));
    Ok(Parts {
        family: Family::SentencePiece,
        normalizer: Some(NormalizerWrapper::Sequence(Sequence::new(normalizers))),
        pre_tokenizer: None,
        decoder: DecoderWrapper::Sequence(DecoderSequence::new(decoders)),
        adds_bos_by_default: true,
    })
}

fn check<'a>(specification: &Specification<'a>) -> Outcome<Checked<'a>> {
    let count = specification.tokens.len();
    if count == 0 || count > MAX_TOKENS {
        return Err(Failure::file(format!(
            "tokenizer.ggml.tokens has {count} tokens; right would be 1 to {MAX_TOKENS}"
        )));
    }
    if !specification.token_types.is_empty() && specification.token_types.len() != count {
        return Err(Failure::file(format!(
            "tokenizer.ggml.token_type has {} values for {count} tokens",
            specification.token_types.len()
        )));
    }
    let mut checked = Checked {
        texts: Vec::with_capacity(count),
        types: Vec::with_capacity(count),
        model_ids: AHashMap::with_capacity(count),
        others: AHashMap::new(),
    };
    for (id, bytes) in specification.tokens.iter().enumerate() {
        if bytes.len() > MAX_TOKEN_BYTES {
            return Err(Failure::file(format!(
                "tokenizer.ggml.tokens[{id}] has {} bytes; at most {MAX_TOKEN_BYTES} are allowed",
                bytes.len()
            )));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| {
            Failure::file(format!("tokenizer.ggml.tokens[{id}] is not valid UTF-8"))
        })?;
        let number = specification.token_types.get(id).copied().unwrap_or(1);
        let kind = TokenType::from_number(number).ok_or_else(|| {
            Failure::file(format!(
                "tokenizer.ggml.token_type[{id}] is {number}; right would be 1 to 6"
            ))
        })?;
        let ids = if kind.is_in_model() { &mut checked.model_ids } else { &mut checked.others };
        ids.insert(text.to_owned(), id as u32);
        checked.texts.push(text);
        checked.types.push(kind);
    }
    check_id("bos_token_id", specification.bos, count)?;
    check_id("eos_token_id", specification.eos, count)?;
    check_id("unknown_token_id", specification.unknown, count)?;
    Ok(checked)
}

fn check_id(key: &str, id: Option<i32>, count: usize) -> Outcome<()> {
    match id {
        Some(id) if usize::try_from(id).map_or(true, |id| id >= count) => Err(Failure::file(
            format!("tokenizer.ggml.{key} is {id}, outside the vocabulary of {count} tokens"),
        )),
        _ => Ok(()),
    }
}

/// `left right` for each merge.
fn split_merges<'a>(specification: &Specification<'a>) -> Outcome<Vec<(&'a str, &'a str)>> {
    if specification.merges.len() > MAX_MERGES {
        return Err(Failure::file(format!(
            "tokenizer.ggml.merges has {} entries; at most {MAX_MERGES} are allowed",
            specification.merges.len()
        )));
    }
    let split = |(rank, bytes): (usize, &&'a [u8])| {
        let wrong = |what: &str| wrong_merge(rank, what);
        if bytes.len() > 2 * MAX_TOKEN_BYTES {
            return Err(wrong("is longer than two tokens can be"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("is not valid UTF-8"))?;
        text.split_once(' ')
            .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
            .ok_or_else(|| wrong("is not two tokens with one space between them"))
    };
    specification.merges.iter().enumerate().map(split).collect()
}

fn owned(merges: &[(&str, &str)]) -> Vec<(String, String)> {
    merges.iter().map(|(left, right)| ((*left).to_owned(), (*right).to_owned())).collect()
}

/// A merge may name a token that is not of type normal; it then takes part in the merges after all.
fn admit_merged(merges: &[(&str, &str)], checked: &mut Checked) -> Outcome<()> {
    for (rank, (left, right)) in merges.iter().enumerate() {
        for part in [(*left).to_owned(), (*right).to_owned(), format!("{left}{right}")] {
            if !checked.model_ids.contains_key(&part) {
                let id = checked.others.get(&part).copied().ok_or_else(|| {
                    wrong_merge(
                        rank,
                        &format!("needs the token `{}`, which is missing", shorten(&part)),
                    )
                })?;
                checked.model_ids.insert(part, id);
            }
        }
    }
    Ok(())
}

fn wrong_merge(rank: usize, what: &str) -> Failure {
    Failure::file(format!("tokenizer.ggml.merges[{rank}] {what}"))
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

struct Parts {
    family: Family,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    decoder: DecoderWrapper,
    adds_bos_by_default: bool,
}

/// Every token's text, and the bytes of all of them with where each token's begin and end.
struct Spelled {
    texts: Vec<String>,
    bytes: Vec<u8>,
    bounds: Vec<u32>,
}

fn spell(texts: &[&str], mut bytes_of: impl FnMut(usize) -> Vec<u8>) -> Outcome<Spelled> {
    let mut bytes = Vec::new();
    let mut bounds = Vec::with_capacity(texts.len() + 1);
    bounds.push(0);
    for index in 0..texts.len() {
        bytes.extend_from_slice(&bytes_of(index));
        let end = u32::try_from(bytes.len())
            .map_err(|_| Failure::file("tokenizer.ggml.tokens is larger than 4 GiB"))?;
        bounds.push(end);
    }
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    Ok(Spelled { texts, bytes, bounds })
}

fn assemble(
    specification: &Specification,
    checked: Checked,
    bpe: BPE,
    parts: Parts,
    spelled: Spelled,
) -> Outcome<Tokenizer> {
    let count = checked.texts.len();
    let special: Vec<bool> = checked
        .texts
        .iter()
        .zip(&checked.types)
        .map(|(text, kind)| {
            matches!(kind, TokenType::Control | TokenType::Unknown)
                && !REASONING_TAGS.contains(text)
        })
        .collect();
    let added: Vec<AddedToken> = (0..count)
        .filter(|id| {
            use TokenType::{Control, Unknown, UserDefined};
            matches!(checked.types[*id], Control | Unknown | UserDefined)
                && !checked.texts[*id].is_empty()
        })
        .map(|id| AddedToken::from(checked.texts[id], special[id]).normalized(false))
        .collect();
    let vocabulary = SharedVocabulary(Arc::new(Vocabulary {
        bpe,
        texts: spelled.texts,
        others: checked.others,
    }));
    let pipeline = |parses_special: bool| {
        let mut pipeline: Pipeline = TokenizerImpl::new(vocabulary.clone());
        pipeline
            .with_normalizer(parts.normalizer.clone())
            .with_pre_tokenizer(parts.pre_tokenizer.clone())
            .with_decoder(Some(parts.decoder.clone()));
        pipeline.add_tokens(&added);
        pipeline.set_encode_special_tokens(!parses_special);
        pipeline
    };
    let (parsing, plain) = (pipeline(true), pipeline(false));

    let add_bos = specification.add_bos.unwrap_or(parts.adds_bos_by_default);
    let add_eos = specification.add_eos.unwrap_or(false);
    let prefix = specification.bos.filter(|_| add_bos).map(|id| id as u32);
    Ok(Tokenizer {
        family: parts.family,
        vocabulary,
        parsing,
        plain,
        bytes: spelled.bytes,
        bounds: spelled.bounds,
        special,
        prefix,
        suffix: specification.eos.filter(|_| add_eos).map(|id| id as u32),
        adds_bos: prefix.is_some(),
    })
}
