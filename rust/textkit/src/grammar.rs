//! Constrained decoding with llguidance: which tokens may come next under a JSON schema, a regular
//! expression or a Lark grammar.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{
    InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Matcher as Parser, ParserFactory};

use crate::abi::{Failure, Outcome};
use crate::tokenizer::Tokenizer;

pub const MAX_SOURCE_BYTES: usize = 256 << 10;
/// Nested groups of an expression or levels of a schema.
pub const MAX_DEPTH: usize = 64;
const MAX_LEXER_STATES: usize = 50_000;
const MAX_GRAMMAR_SYMBOLS: usize = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    JsonSchema,
    Regex,
    Lark,
}

/// A vocabulary prepared for grammars: one for each model, shared by its requests.
pub struct Environment {
    factory: ParserFactory,
    vocabulary_size: usize,
    ends: Arc<[TokenId]>,
}

struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            match self
                .tokenizer
                .encode(text, /* add_special= */ false, /* parse_special= */ false)
            {
                Ok(ids) => ids.into_iter().map(|id| id as TokenId).collect(),
                Err(_) => self.trie.greedy_tokenize(text.as_bytes()),
            }
        })
    }

    /// Text in the middle of an answer encodes otherwise where a space is put before it.
    fn tokenize_is_canonical(&self) -> bool {
        !self.tokenizer.adds_space()
    }
}

impl Environment {
    /// `ends` are the tokens that may end an answer where the grammar accepts it.
    pub fn new(tokenizer: Arc<Tokenizer>, ends: &[i32]) -> Outcome<Self> {
        let count = tokenizer.size();
        let mut words = Vec::with_capacity(count);
        for id in 0..count as i32 {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            words.push(match (tokenizer.is_matched_by_spelling(id), bytes) {
                (false, bytes) => bytes.to_vec(),
                // The marker keeps a control token from matching text that spells it.
                (true, bytes) => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
            });
        }
        let mut end_ids = Vec::with_capacity(ends.len());
        for end in ends {
            match TokenId::try_from(*end) {
                Ok(id) if (id as usize) < count => end_ids.push(id),
                _ => return Err(Failure::argument(format!("end token {end} is not a token"))),
            }
        }
        let first = *end_ids.first().ok_or_else(|| {
            Failure::argument("a grammar needs at least one token that ends the answer")
        })?;
        let trie =
            TokTrie::from(&TokRxInfo::new(count as u32, first), &words).with_eos_tokens(&end_ids);
        let environment: TokEnv = Arc::new(Vocabulary { tokenizer, trie });
        let mut factory = ParserFactory::new(
            &environment,
            InferenceCapabilities::default(),
            &llguidance::earley::SlicedBiasComputer::general_slices(),
        )
        .map_err(|error| Failure::internal(format!("no grammar environment: {error}")))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.max_lexer_states = MAX_LEXER_STATES;
        limits.max_grammar_size = MAX_GRAMMAR_SYMBOLS;
        limits.verbose_errors = false;
        Ok(Self { factory, vocabulary_size: count, ends: end_ids.into() })
    }

    pub fn compile(&self, kind: Kind, source: &str) -> Outcome<Matcher> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(Failure::argument(format!(
                "the grammar has {} bytes; at most {MAX_SOURCE_BYTES} are allowed",
                source.len()
            )));
        }
        if source.contains('\0') {
            return Err(Failure::argument("the grammar contains a NUL character"));
        }
        let depth = nesting(source);
        if depth > MAX_DEPTH {
            return Err(Failure::argument(format!(
                "the grammar nests {depth} deep; at most {MAX_DEPTH} are allowed"
            )));
        }
        let grammar = match kind {
            Kind::JsonSchema => {
                let schema = serde_json::from_str(source).map_err(|error| {
                    Failure::argument(format!("the JSON schema is not JSON: {error}"))
                })?;
                TopLevelGrammar::from_json_schema(schema)
            }
            Kind::Regex => TopLevelGrammar::from_regex(source),
            Kind::Lark => TopLevelGrammar::from_lark(source.to_owned()),
        };
        let parser = self.factory.create_parser(grammar).map_err(refused)?;
        let parser = Parser::new(Ok(parser));
        match parser.get_error() {
            Some(error) => Err(Failure::argument(format!("the grammar cannot be used: {error}"))),
            None => Ok(Matcher {
                parser,
                vocabulary_size: self.vocabulary_size,
                ends: Arc::clone(&self.ends),
            }),
        }
    }
}

fn refused(error: impl std::fmt::Display) -> Failure {
    let text: String = error.to_string().chars().take(600).collect();
    Failure::argument(format!("the grammar cannot be used: {text}"))
}

/// The deepest nesting of brackets, of any kind and wherever they stand: an upper bound of what a
/// parser recurses into. Escaped brackets and those in strings count where they are unbalanced, which
/// real grammars do not do sixty-four times.
fn nesting(source: &str) -> usize {
    let mut depth = 0usize;
    let mut deepest = 0;
    let mut escaped = false;
    for byte in source.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The state of one answer under a grammar.
pub struct Matcher {
    parser: Parser,
    vocabulary_size: usize,
    ends: Arc<[TokenId]>,
}

impl Matcher {
    /// Sets bit `id % 32` of `words[id / 32]` for each token that may come next. Where only the end
    /// is left, that is the tokens that end the answer.
    pub fn mask(&mut self, words: &mut [u32]) -> Outcome<()> {
        let needed = self.vocabulary_size.div_ceil(32);
        if words.len() < needed {
            return Err(Failure::argument(format!(
                "the mask has {} words; {needed} are needed",
                words.len()
            )));
        }
        let mask = self.parser.compute_mask_or_eos().map_err(refused)?;
        words.fill(0);
        let bits = mask.as_slice();
        words[..needed].copy_from_slice(&bits[..needed]);
        // Bits beyond the vocabulary are not tokens.
        if self.vocabulary_size % 32 != 0 {
            words[needed - 1] &= (1u32 << (self.vocabulary_size % 32)) - 1;
        }
        Ok(())
    }

    /// Moves on by a token that the mask allowed; another is refused, and the matcher then only fails.
    pub fn consume(&mut self, id: i32) -> Outcome<()> {
        match TokenId::try_from(id) {
            // The parser stops by itself where nothing can follow; the end then says what it knows.
            Ok(id) if self.parser.is_stopped() && self.ends.contains(&id) => Ok(()),
            Ok(id) if (id as usize) < self.vocabulary_size => {
                self.parser.consume_token(id).map_err(refused)
            }
            _ => Err(Failure::argument(format!("token id {id} is outside the vocabulary"))),
        }
    }

    /// Whether the text so far is complete under the grammar.
    pub fn is_accepting(&mut self) -> Outcome<bool> {
        self.parser.is_accepting().map_err(refused)
    }

    /// Whether nothing may follow any more.
    pub fn is_stopped(&self) -> bool {
        self.parser.is_stopped()
    }

    /// A matcher in the same state that goes its own way.
    pub fn fork(&self) -> Self {
        Self {
            parser: self.parser.deep_clone(),
            vocabulary_size: self.vocabulary_size,
            ends: Arc::clone(&self.ends),
        }
    }
}

#[cfg(test)]
mod tests;
