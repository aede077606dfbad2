//! The C entries of `grammar`.

use std::sync::Arc;
use std::time::Duration;

use crate::abi::{as_slice, drop_handle, enter, Buffer, Failure, Slice};
use crate::grammar::{Environment, Kind, Matcher};
use crate::tokenizer::Tokenizer;

/// # Safety
/// `tokenizer` is live, `ends` readable for `end_count` values, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_grammar_environment_new(
    tokenizer: *const Tokenizer,
    ends: *const i32,
    end_count: usize,
    out: *mut *mut Environment,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || {
        Arc::increment_strong_count(tokenizer);
        let tokenizer = Arc::from_raw(tokenizer);
        let environment = Environment::new(tokenizer, as_slice(ends, end_count))?;
        Ok(Box::into_raw(Box::new(environment)))
    })
}

/// # Safety
/// `environment` is live, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_grammar_environment_words(
    environment: *const Environment,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || Ok(Buffer::from_vec((*environment).words())))
}

/// # Safety
/// `words` is readable, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_grammar_environment_of_words(
    words: Slice,
    out: *mut *mut Environment,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || Ok(Box::into_raw(Box::new(Environment::of_words(words.bytes())?))))
}

/// # Safety
/// `environment` came from one of the two functions that make it or is null, and is not used again.
#[no_mangle]
pub unsafe extern "C" fn tk_grammar_environment_free(environment: *mut Environment) {
    drop_handle(environment);
}

/// # Safety
/// `environment` is live, `source` readable, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_matcher_new(
    environment: *const Environment,
    kind: i32,
    source: Slice,
    limit_ms: u64,
    out: *mut *mut Matcher,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || {
        let kind = match kind {
            0 => Kind::JsonSchema,
            1 => Kind::Regex,
            2 => Kind::Lark,
            3 => Kind::LenientJsonSchema,
            4 => Kind::Parts,
            other => return Err(Failure::argument(format!("{other} is no kind of grammar"))),
        };
        let limit = Duration::from_millis(limit_ms);
        let matcher = (*environment).compile(kind, source.text("the grammar")?, limit)?;
        Ok(Box::into_raw(Box::new(matcher)))
    })
}

/// # Safety
/// `matcher` is live, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_matcher_fork(
    matcher: *const Matcher,
    out: *mut *mut Matcher,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || Ok(Box::into_raw(Box::new((*matcher).fork()))))
}

/// # Safety
/// `matcher` is live and used by no other thread, `words` writable for `word_count` values.
#[no_mangle]
pub unsafe extern "C" fn tk_matcher_mask(
    matcher: *mut Matcher,
    words: *mut u32,
    word_count: usize,
    error: *mut Buffer,
) -> i32 {
    enter(&mut (), error, || {
        if words.is_null() {
            return Err(Failure::argument("the mask is a null pointer"));
        }
        (*matcher).mask(std::slice::from_raw_parts_mut(words, word_count))
    })
}

/// # Safety
/// `matcher` is live and used by no other thread.
#[no_mangle]
pub unsafe extern "C" fn tk_matcher_consume(
    matcher: *mut Matcher,
    id: i32,
    error: *mut Buffer,
) -> i32 {
    enter(&mut (), error, || (*matcher).consume(id))
}

/// # Safety
/// `matcher` is live and used by no other thread, `text` readable.
#[no_mangle]
pub unsafe extern "C" fn tk_matcher_consume_text(
    matcher: *mut Matcher,
    text: Slice,
    error: *mut Buffer,
) -> i32 {
    enter(&mut (), error, || (*matcher).consume_text(text.text("the text")?))
}

/// # Safety
/// `matcher` is live and used by no other thread, `ids` readable for `count` values, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_matcher_count_valid(
    matcher: *mut Matcher,
    ids: *const i32,
    count: usize,
    out: *mut usize,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || (*matcher).count_valid(as_slice(ids, count)))
}

/// # Safety
/// `matcher` is live and used by no other thread.
#[no_mangle]
pub unsafe extern "C" fn tk_matcher_rollback(
    matcher: *mut Matcher,
    count: usize,
    error: *mut Buffer,
) -> i32 {
    enter(&mut (), error, || (*matcher).rollback(count))
}

/// # Safety
/// `matcher` is live and used by no other thread, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_matcher_is_accepting(
    matcher: *mut Matcher,
    out: *mut bool,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || (*matcher).is_accepting())
}

/// # Safety
/// `matcher` is live and used by no other thread, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_matcher_is_stopped(
    matcher: *const Matcher,
    out: *mut bool,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || Ok((*matcher).is_stopped()))
}

/// # Safety
/// `matcher` came from this library or is null, and is not used again.
#[no_mangle]
pub unsafe extern "C" fn tk_matcher_free(matcher: *mut Matcher) {
    drop_handle(matcher);
}
