//! GGUF vocabularies as exact Hugging Face `tokenizers` objects.

mod build;
mod byte_level;
mod model;
mod pre_tokenizer;
mod sentencepiece;

use std::ops::Range;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::tokenizer::TokenizerImpl;

use crate::abi::{contain_panics, Failure, Outcome};
use model::SharedVocabulary;

pub use build::{build, Specification, TokenType};

/// The longest text to encode: beyond any context window in use, yet below 1 GB of memory and some
/// seconds.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

/// The tags of reasoning are ordinary text to the layers above, whatever the file calls them.
const REASONING_TAGS: [&str; 2] = ["<think>", "</think>"];

type Pipeline = TokenizerImpl<
    SharedVocabulary,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    ByteLevel,
    SentencePiece,
}

pub struct Tokenizer {
    family: Family,
    vocabulary: SharedVocabulary,
    /// Recognises control tokens in a text.
    parsing: Pipeline,
    /// Takes the spelling of a control token as plain text.
    plain: Pipeline,
    /// The bytes of all tokens, one after another, and where each token's begin and end.
    bytes: Vec<u8>,
    bounds: Vec<u32>,
    special: Vec<bool>,
    prefix: Option<u32>,
    suffix: Option<u32>,
    adds_bos: bool,
}

impl Tokenizer {
    pub fn size(&self) -> usize {
        self.special.len()
    }

    /// Whether `encode` with `add_special` begins with BOS.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Outcome<Vec<i32>> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Failure::too_large(format!(
                "the text has {} bytes; at most {MAX_TEXT_BYTES} can be encoded at once",
                text.len()
            )));
        }
        let pipeline = if parse_special { &self.parsing } else { &self.plain };
        // The regular expression engine panics where a search goes back too often: the text's fault.
        let encoding = contain_panics(|| {
            pipeline
                .encode_fast(text, /* add_special_tokens= */ false)
                .map_err(|error| Failure::argument(error.to_string()))
        })
        .map_err(|failure| {
            Failure::argument(format!("the text cannot be encoded: {}", failure.message))
        })?;
        let mut ids = Vec::with_capacity(encoding.len() + 2);
        ids.extend(self.prefix.filter(|_| add_special).map(|id| id as i32));
        ids.extend(encoding.get_ids().iter().map(|id| *id as i32));
        ids.extend(self.suffix.filter(|_| add_special).map(|id| id as i32));
        Ok(ids)
    }

    pub fn decode(&self, ids: &[i32], skip_special: bool) -> Outcome<String> {
        let mut checked = Vec::with_capacity(ids.len());
        for id in ids {
            match usize::try_from(*id) {
                Ok(index) if index < self.size() => checked.push(index as u32),
                _ => {
                    return Err(Failure::argument(format!(
                        "token id {id} is outside the vocabulary of {} tokens",
                        self.size()
                    )))
                }
            }
        }
        self.parsing
            .decode(&checked, skip_special)
            .map_err(|error| Failure::internal(format!("the tokens cannot be decoded: {error}")))
    }

    /// None where `id` is outside the vocabulary.
    pub fn token_bytes(&self, id: i32) -> Option<&[u8]> {
        let index = usize::try_from(id).ok().filter(|index| *index < self.size())?;
        let range: Range<usize> = self.bounds[index] as usize..self.bounds[index + 1] as usize;
        Some(&self.bytes[range])
    }

    pub fn is_special(&self, id: i32) -> bool {
        usize::try_from(id).ok().and_then(|index| self.special.get(index)).copied().unwrap_or(false)
    }

    /// Whether text becomes this token by its spelling alone, outside the merges.
    pub fn is_matched_by_spelling(&self, id: i32) -> bool {
        let others = &self.vocabulary.0.others;
        self.is_special(id)
            || usize::try_from(id)
                .ok()
                .and_then(|index| self.vocabulary.0.texts.get(index))
                .is_some_and(|text| others.get(text) == Some(&(id as u32)))
    }

    /// Whether `encode` puts a space before a text.
    pub fn adds_space(&self) -> bool {
        self.family == Family::SentencePiece
    }

    /// The id whose spelling (control, user-defined) or bytes (others) are exactly `text`.
    pub fn find(&self, text: &str) -> Option<u32> {
        use tokenizers::Model;
        let spelled = match self.family {
            Family::ByteLevel => byte_level::encode(text.as_bytes()),
            Family::SentencePiece => text.replace(' ', "▁"),
        };
        let inner = &self.vocabulary.0;
        inner.others.get(text).copied().or_else(|| inner.bpe.token_to_id(&spelled))
    }
}

#[cfg(test)]
pub use tests::test_vocabulary;
#[cfg(test)]
mod tests;
