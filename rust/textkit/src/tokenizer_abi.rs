//! The C entries of `tokenizer`.

use std::sync::Arc;

use crate::abi::{as_slice, contain_panics, enter, Buffer, Failure, Ids, Slice};
use crate::tokenizer::{build, Specification, Tokenizer};

/// Mirrors `tk_vocabulary` in textkit.h: ids and flags are -1 where the file says nothing.
#[repr(C)]
pub struct Vocabulary {
    model: Slice,
    pre: Slice,
    tokens: *const Slice,
    token_types: *const i32,
    scores: *const f32,
    merges: *const Slice,
    token_count: usize,
    token_type_count: usize,
    score_count: usize,
    merge_count: usize,
    bos: i32,
    eos: i32,
    unknown: i32,
    add_bos: i32,
    add_eos: i32,
    add_space_prefix: i32,
}

fn flag(value: i32) -> Option<bool> {
    (value >= 0).then_some(value != 0)
}

fn id(value: i32) -> Option<i32> {
    (value != -1).then_some(value)
}

/// # Safety
/// All pointers of `vocabulary` are readable for their counts; `out` is writable.
#[no_mangle]
pub unsafe extern "C" fn tk_tokenizer_new(
    vocabulary: *const Vocabulary,
    out: *mut *const Tokenizer,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || {
        let given = &*vocabulary;
        let strings = |data, count| -> Vec<&[u8]> {
            as_slice::<Slice>(data, count).iter().map(|slice| slice.bytes()).collect()
        };
        let specification = Specification {
            model: given.model.text("tokenizer.ggml.model")?,
            pre: given.pre.text("tokenizer.ggml.pre")?,
            tokens: strings(given.tokens, given.token_count),
            token_types: as_slice(given.token_types, given.token_type_count),
            scores: as_slice(given.scores, given.score_count),
            merges: strings(given.merges, given.merge_count),
            bos: id(given.bos),
            eos: id(given.eos),
            unknown: id(given.unknown),
            add_bos: flag(given.add_bos),
            add_eos: flag(given.add_eos),
            add_space_prefix: flag(given.add_space_prefix),
        };
        // Counted, so that a grammar environment can keep it.
        Ok(Arc::into_raw(Arc::new(build(&specification)?)))
    })
}

/// # Safety
/// `tokenizer` came from `tk_tokenizer_new` or is null, and is not used again.
#[no_mangle]
pub unsafe extern "C" fn tk_tokenizer_free(tokenizer: *const Tokenizer) {
    if !tokenizer.is_null() {
        let _ = contain_panics(|| {
            drop(Arc::from_raw(tokenizer));
            Ok(())
        });
    }
}

/// # Safety
/// `tokenizer` is live, `text` readable, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_tokenizer_encode(
    tokenizer: *const Tokenizer,
    text: Slice,
    add_special: bool,
    parse_special: bool,
    out: *mut Ids,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || {
        let ids = (*tokenizer).encode(text.text("the text")?, add_special, parse_special)?;
        Ok(Ids::from_vec(ids))
    })
}

/// # Safety
/// `tokenizer` is live, `ids` readable for `count` values, `out` writable.
#[no_mangle]
pub unsafe extern "C" fn tk_tokenizer_decode(
    tokenizer: *const Tokenizer,
    ids: *const i32,
    count: usize,
    skip_special: bool,
    out: *mut Buffer,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || {
        let text = (*tokenizer).decode(as_slice(ids, count), skip_special)?;
        Ok(Buffer::from_vec(text.into_bytes()))
    })
}

/// # Safety
/// `tokenizer` is live and outlives the returned bytes; `out` is writable.
#[no_mangle]
pub unsafe extern "C" fn tk_tokenizer_token_bytes(
    tokenizer: *const Tokenizer,
    id: i32,
    out: *mut Slice,
    error: *mut Buffer,
) -> i32 {
    enter(out, error, || {
        let tokenizer = &*tokenizer;
        tokenizer.token_bytes(id).map(Slice::of).ok_or_else(|| {
            Failure::argument(format!(
                "token id {id} is outside the vocabulary of {} tokens",
                tokenizer.size()
            ))
        })
    })
}

/// # Safety
/// `tokenizer` is live.
#[no_mangle]
pub unsafe extern "C" fn tk_tokenizer_size(tokenizer: *const Tokenizer) -> usize {
    (*tokenizer).size()
}

/// # Safety
/// `tokenizer` is live.
#[no_mangle]
pub unsafe extern "C" fn tk_tokenizer_adds_bos(tokenizer: *const Tokenizer) -> bool {
    (*tokenizer).adds_bos()
}

/// # Safety
/// `tokenizer` is live.
#[no_mangle]
pub unsafe extern "C" fn tk_tokenizer_is_special(tokenizer: *const Tokenizer, id: i32) -> bool {
    (*tokenizer).is_special(id)
}

/// # Safety
/// `tokenizer` is live, `text` readable.
#[no_mangle]
pub unsafe extern "C" fn tk_tokenizer_find(tokenizer: *const Tokenizer, text: Slice) -> i32 {
    contain_panics(|| Ok((*tokenizer).find(text.text("the token")?)))
        .ok()
        .flatten()
        .map_or(-1, |id| id as i32)
}
