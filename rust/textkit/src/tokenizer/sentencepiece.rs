//! SentencePiece BPE vocabularies, which store scores and no merges.

use ahash::AHashMap;

use crate::abi::{Failure, Outcome};

/// SentencePiece's visible space, U+2581.
pub const SPACE: char = '▁';

/// The longest piece, in characters, that is split in search of merges: the search is quadratic in
/// it, and SentencePiece's own limit (max_sentencepiece_length) is 16 by default.
const MAX_PIECE_CHARACTERS: usize = 512;

/// `<0x0A>` → 10. The spelling is exact: two upper-case hexadecimal digits.
pub fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let exact = digits.len() == 2
        && digits.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    exact.then(|| u8::from_str_radix(digits, 16).expect("two hexadecimal digits"))
}

/// The merges that reproduce SentencePiece's order, as Hugging Face's converters derive them: every
/// way to cut a piece into two pieces, best score first, then the longer left part, then the longer
/// right part, then by id.
///
/// `pieces` are (text, id, score) of the tokens that merges may build, in id order.
pub fn merges(
    pieces: &[(&str, u32, f32)],
    ids: &AHashMap<String, u32>,
) -> Outcome<Vec<(String, String)>> {
    struct Candidate<'a> {
        left: &'a str,
        right: &'a str,
        score: f32,
        left_characters: usize,
        right_characters: usize,
    }
    let mut candidates = Vec::new();
    for (piece, id, score) in pieces {
        if !score.is_finite() {
            return Err(Failure::file(format!(
                "tokenizer.ggml.scores[{id}] is not a finite number"
            )));
        }
        let characters = piece.chars().count();
        if characters > MAX_PIECE_CHARACTERS {
            return Err(Failure::file(format!(
                "tokenizer.ggml.tokens[{id}] has {characters} characters; at most \
                 {MAX_PIECE_CHARACTERS} are allowed"
            )));
        }
        let first = candidates.len();
        let cuts = piece.char_indices().map(|(at, _)| at).enumerate().skip(1);
        for (left_characters, at) in cuts {
            let (left, right) = piece.split_at(at);
            if let (Some(left_id), Some(right_id)) = (ids.get(left), ids.get(right)) {
                let candidate = Candidate {
                    left,
                    right,
                    score: *score,
                    left_characters,
                    right_characters: characters - left_characters,
                };
                candidates.push((*left_id, *right_id, candidate));
            }
        }
        candidates[first..].sort_by_key(|(left, right, _)| (*left, *right));
    }
    // Stable, so that ties keep the order of pieces and ids.
    candidates.sort_by(|(_, _, a), (_, _, b)| {
        b.score
            .total_cmp(&a.score)
            .then(b.left_characters.cmp(&a.left_characters))
            .then(b.right_characters.cmp(&a.right_characters))
    });
    Ok(candidates.into_iter().map(|(_, _, c)| (c.left.to_owned(), c.right.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_tokens_are_spelled_exactly() {
        assert_eq!(byte_of("<0x0A>"), Some(10));
        assert_eq!(byte_of("<0xFF>"), Some(255));
        for wrong in ["<0x-1>", "<0xff>", "<0x100>", "<0xA>", "<0x+1>", "<0x>", "0x0A", "<0x0A"] {
            assert_eq!(byte_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn merges_follow_scores() {
        let pieces = [("a", 0, -3.0), ("b", 1, -4.0), ("ab", 2, -1.0), ("aba", 3, -2.0)];
        let ids: AHashMap<String, u32> =
            pieces.iter().map(|(text, id, _)| ((*text).to_owned(), *id)).collect();
        let merges = merges(&pieces, &ids).unwrap();
        let expected = [("a", "b"), ("ab", "a")];
        let expected: Vec<_> =
            expected.iter().map(|(l, r)| ((*l).to_owned(), (*r).to_owned())).collect();
        assert_eq!(merges, expected);
    }
}
