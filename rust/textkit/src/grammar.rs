//! Constrained decoding with llguidance: which tokens may come next under a JSON schema, a regular
//! expression or a Lark grammar.
//!
//! A grammar comes from a client, and some schemas cost exponential time. Compilation runs on a thread
//! of its own with a budget of memory and time, see `budget`. What is stopped there is not given back,
//! so servers try a grammar first in another process (src/text/grammar_checker.h), which gets the
//! vocabulary by `Environment::words`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::toktrie::{
    ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Matcher as Parser, ParserFactory};

use serde_json::{json, Value as Json};

use crate::abi::{contain_panics, Failure, Outcome, Status};
use crate::budget::{self, Ending};
use crate::tokenizer::Tokenizer;

pub const MAX_SOURCE_BYTES: usize = 256 << 10;
/// Nested groups of an expression or levels of a schema.
pub const MAX_DEPTH: usize = 64;
/// Levels that parts put around the grammars in them.
const PARTS_DEPTH: usize = 4;
const MAX_LEXER_STATES: usize = 20_000;
const MAX_GRAMMAR_SYMBOLS: usize = 200_000;
/// Bounds the time that one token of an ambiguous grammar takes, which grows with its square.
const MAX_ROW_ITEMS: usize = 1_000;
const COMPILE_BYTES: usize = 64 << 20;
/// Of a grammar that is only tried: what passes must fit where it is used, too.
const TRIAL_BYTES: usize = 56 << 20;
/// Compilations that may be stopped for memory or time; then new grammars are refused. None is where
/// they were tried in another process first.
const MAX_STOPPED: u32 = 8;
/// White space between the elements of JSON: none, a blank, or a line break with an indentation. More
/// would let a model that has lost its way write blanks for ever.
const JSON_WHITE_SPACE: &str = r"[ ]|\n[ ]{0,32}|\n\t{0,8}";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    JsonSchema,
    Regex,
    Lark,
    /// A schema of which keywords that cannot be enforced are ignored, rather than refused.
    LenientJsonSchema,
    /// A JSON array of `{"name", "lark" | "json_schema" | "regex", "lenient"?}`: the first is the
    /// start, and refers to the others as `@name`.
    Parts,
}

/// A vocabulary prepared for grammars: one for each model, shared by its requests.
pub struct Environment {
    factory: Arc<ParserFactory>,
    vocabulary_size: usize,
    ends: Arc<[TokenId]>,
    compile_bytes: usize,
    stopped: AtomicU32,
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
        let trie = trie_of(&words, ends)?;
        Self::build(Arc::new(Vocabulary { tokenizer, trie }), ends, COMPILE_BYTES)
    }

    /// From what `words` gave, without the tokenizer: grammars take as much to compile, but text is
    /// not split as the model's is.
    pub fn of_words(mut bytes: &[u8]) -> Outcome<Self> {
        let short = || Failure::argument("the vocabulary ends in the middle of a word");
        let count = take_number(&mut bytes).ok_or_else(short)?;
        let end_count = take_number(&mut bytes).ok_or_else(short)?;
        let mut ends = Vec::new();
        for _ in 0..end_count {
            ends.push(take_number(&mut bytes).ok_or_else(short)? as i32);
        }
        let mut words = Vec::new();
        for _ in 0..count {
            let size = take_number(&mut bytes).ok_or_else(short)? as usize;
            let (word, rest) = bytes.split_at_checked(size).ok_or_else(short)?;
            words.push(word.to_vec());
            bytes = rest;
        }
        let trie = trie_of(&words, &ends)?;
        Self::build(Arc::new(ApproximateTokEnv::new(trie)), &ends, TRIAL_BYTES)
    }

    /// The vocabulary: the numbers of words and of ends, the ends, and each word's size and bytes;
    /// numbers are of 32 bits, in this machine's order.
    pub fn words(&self) -> Vec<u8> {
        let trie = self.factory.tok_env().tok_trie();
        let mut bytes = Vec::new();
        let mut put = |number: u32| bytes.extend_from_slice(&number.to_ne_bytes());
        put(self.vocabulary_size as u32);
        put(self.ends.len() as u32);
        self.ends.iter().for_each(|end| put(*end));
        for id in 0..self.vocabulary_size as TokenId {
            let word = trie.token(id);
            bytes.extend_from_slice(&(word.len() as u32).to_ne_bytes());
            bytes.extend_from_slice(word);
        }
        bytes
    }

    fn build(environment: TokEnv, ends: &[i32], compile_bytes: usize) -> Outcome<Self> {
        let vocabulary_size = environment.tok_trie().vocab_size();
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
        limits.max_items_in_row = MAX_ROW_ITEMS;
        limits.verbose_errors = false;
        let environment = Self {
            factory: Arc::new(factory),
            vocabulary_size,
            ends: ends.iter().map(|end| *end as TokenId).collect(),
            compile_bytes,
            stopped: AtomicU32::new(0),
        };
        environment.warm_up();
        Ok(environment)
    }

    /// Libraries fill their global tables at first use, behind locks: no thread that may be stopped
    /// for good can be the first.
    fn warm_up(&self) {
        const EVERYTHING: &str = r##"{
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$defs": {"date": {"type": "string", "format": "date"}},
            "allOf": [{"type": "object", "properties": {"a": {"$ref": "#/$defs/date"}}},
                      {"properties": {"b": {"enum": [1, 2.5, null]}, "c": {"type": "number",
                        "minimum": 0.5}, "d": {"type": "string", "pattern": "^\\w+\\p{L}é$"}}}]
        }"##;
        let _ = top_level(Kind::JsonSchema, EVERYTHING)
            .and_then(|grammar| create_matcher(&self.factory, grammar));
    }

    /// Takes at most `limit`.
    pub fn compile(&self, kind: Kind, source: &str, limit: Duration) -> Outcome<Matcher> {
        check_source(kind, source)?;
        if self.stopped.load(Ordering::Relaxed) >= MAX_STOPPED {
            return Err(Failure::argument(
                "grammars of other requests ran out of memory or time repeatedly; this server takes \
                 no new ones until it is restarted",
            ));
        }
        let grammar = top_level(kind, source)?;
        let factory = Arc::clone(&self.factory);
        let body = move || create_matcher(&factory, grammar);
        let stopped = |message: &str| {
            self.stopped.fetch_add(1, Ordering::Relaxed);
            Err(Failure::new(Status::Exhausted, message))
        };
        let parser = match budget::run("grammar", self.compile_bytes, limit, body) {
            Ending::Done(outcome) => outcome?,
            Ending::OutOfMemory => return stopped("the grammar is too complex: out of memory"),
            Ending::OutOfTime => return stopped("the grammar is too complex: out of time"),
        };
        Ok(Matcher { parser, vocabulary_size: self.vocabulary_size, ends: Arc::clone(&self.ends) })
    }
}

fn trie_of(words: &[Vec<u8>], ends: &[i32]) -> Outcome<TokTrie> {
    if let Some(end) = ends.iter().find(|end| **end < 0 || **end as usize >= words.len()) {
        return Err(Failure::argument(format!("end token {end} is not a token")));
    }
    let ends: Vec<TokenId> = ends.iter().map(|end| *end as TokenId).collect();
    let first = *ends.first().ok_or_else(|| {
        Failure::argument("a grammar needs at least one token that ends the answer")
    })?;
    let info = TokRxInfo::new(words.len() as u32, first);
    Ok(TokTrie::from(&info, words).with_eos_tokens(&ends))
}

fn take_number(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_ne_bytes(*number))
}

fn check_source(kind: Kind, source: &str) -> Outcome<()> {
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
    let most = MAX_DEPTH + if kind == Kind::Parts { PARTS_DEPTH } else { 0 };
    if depth > most {
        return Err(Failure::argument(format!(
            "the grammar nests {depth} deep; at most {most} are allowed"
        )));
    }
    Ok(())
}

fn top_level(kind: Kind, source: &str) -> Outcome<TopLevelGrammar> {
    Ok(match kind {
        Kind::JsonSchema | Kind::LenientJsonSchema => {
            let schema = from_json(source, "the JSON schema")?;
            TopLevelGrammar::from_json_schema(with_options(
                schema,
                kind == Kind::LenientJsonSchema,
            )?)
        }
        Kind::Regex => TopLevelGrammar::from_regex(source),
        Kind::Lark => TopLevelGrammar::from_lark(source.to_owned()),
        Kind::Parts => {
            let Json::Array(parts) = from_json(source, "the list of grammars")? else {
                return Err(Failure::argument("a list of grammars must be an array"));
            };
            TopLevelGrammar {
                grammars: parts.into_iter().map(part).collect::<Outcome<_>>()?,
                max_tokens: None,
            }
        }
    })
}

fn from_json(source: &str, what: &str) -> Outcome<Json> {
    serde_json::from_str(source)
        .map_err(|error| Failure::argument(format!("{what} is not JSON: {error}")))
}

fn part(mut part: Json) -> Outcome<GrammarWithLexer> {
    let mut grammar = match (part.get("lark"), part.get("regex"), part.get("json_schema")) {
        (Some(Json::String(lark)), ..) => GrammarWithLexer::from_lark(lark.clone()),
        (_, Some(Json::String(regex)), _) => GrammarWithLexer::from_regex(regex),
        (.., Some(_)) => {
            let lenient = part.get("lenient") == Some(&Json::Bool(true));
            GrammarWithLexer::from_json_schema(with_options(part["json_schema"].take(), lenient)?)
        }
        _ => return Err(Failure::argument("a part of a grammar has no source")),
    };
    grammar.name = part.get("name").and_then(Json::as_str).map(str::to_owned);
    Ok(grammar)
}

/// What a client says about the writing of JSON is replaced: it could allow endless white space.
fn with_options(schema: Json, lenient: bool) -> Outcome<Json> {
    let mut fields = match schema {
        Json::Object(fields) => fields,
        Json::Bool(true) => serde_json::Map::new(),
        _ => return Err(Failure::argument("a JSON schema must be an object or true")),
    };
    let options = json!({
        "whitespace_pattern": JSON_WHITE_SPACE,
        "lenient": lenient,
        "coerce_one_of": lenient,
    });
    fields.insert("x-guidance".to_owned(), options);
    Ok(Json::Object(fields))
}

/// A panic on a client's grammar is that grammar's fault, too.
fn create_matcher(factory: &ParserFactory, grammar: TopLevelGrammar) -> Outcome<Parser> {
    let result = contain_panics(|| {
        let parser = Parser::new(Ok(factory.create_parser(grammar).map_err(refused)?));
        match parser.get_error() {
            Some(error) => Err(refused(error)),
            None => Ok(parser),
        }
    });
    result.map_err(|failure| Failure { status: Status::InvalidArgument, ..failure })
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

    /// How many of `ids` the grammar takes one after the other, from where it stands; it stays there.
    pub fn count_valid(&mut self, ids: &[i32]) -> Outcome<usize> {
        let known: Vec<TokenId> = ids
            .iter()
            .map_while(|id| TokenId::try_from(*id).ok())
            .take_while(|id| (*id as usize) < self.vocabulary_size)
            .collect();
        if self.parser.is_stopped() {
            return Ok(known.iter().take_while(|id| self.ends.contains(id)).count().min(1));
        }
        self.parser.validate_tokens(&known).map_err(refused)
    }

    /// Moves on by a text, in whatever tokens; it spells no control token.
    pub fn consume_text(&mut self, text: &str) -> Outcome<()> {
        let environment = self.parser.tok_env().map_err(refused)?;
        let ids = environment.tok_trie().greedy_tokenize(text.as_bytes());
        self.parser.consume_tokens(&ids).map_err(refused)
    }

    /// Takes the last `count` tokens back.
    pub fn rollback(&mut self, count: usize) -> Outcome<()> {
        self.parser.rollback(count).map_err(refused)
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
