//! The `pre` kinds of GGUF vocabularies (`tokenizer.ggml.pre`): how a text is cut into words before
//! the merges run. Each is what the model's own `tokenizer.json` says; `default` exists only in
//! GGUF, and its expressions are llama.cpp's.

use tokenizers::normalizers::{NormalizerWrapper, NFC};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::abi::{Failure, Outcome};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

const DEEPSEEK_V3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// Letters of the cased scripts, listed one by one in DeepSeek LLM's tokenizer.json.
const DEEPSEEK_LLM_LETTERS: &str = concat!(
    r"\s?[",
    r"A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}",
    r"\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}",
    r"\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}",
    r"\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}",
    r"\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}",
    r"\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}",
    r"\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}",
    r"\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}",
    r"\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}",
    r"\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}",
    r"\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}",
    r"\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}",
    r"\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}",
    r"\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}",
    r"\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}",
    r"\x{1E900}-\x{1E943}",
    r"]+"
);
const DEEPSEEK_PUNCTUATION: &str =
    r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+";
const DEEPSEEK_CJK: &str = r"[\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+";

enum Step {
    /// Matches and gaps each become a word.
    Split(&'static str),
    /// Each numeric character becomes a word.
    Digits,
}

/// One `pre` kind.
pub struct PreKind {
    names: &'static [&'static str],
    steps: &'static [Step],
    /// Text is composed first (Unicode NFC).
    composes: bool,
    /// A word that is itself a token is taken whole, whatever the merges say.
    pub ignores_merges: bool,
    /// Where the file does not say whether BOS is added.
    pub adds_bos: bool,
}

use Step::{Digits as D, Split as S};

const KINDS: &[PreKind] = &[
    PreKind {
        names: &["default"],
        steps: &[S(r"[\p{P}\$\+<=>\^~\|]+"), S(GPT2), S(r"\p{N}+"), S(r"[0-9][0-9][0-9]")],
        composes: false,
        ignores_merges: false,
        adds_bos: false,
    },
    PreKind {
        names: &["gpt-2"],
        steps: &[S(GPT2)],
        composes: false,
        ignores_merges: false,
        adds_bos: false,
    },
    PreKind {
        names: &["llama-bpe", "llama3", "llama-v3"],
        steps: &[S(LLAMA3)],
        composes: false,
        ignores_merges: true,
        adds_bos: true,
    },
    PreKind {
        names: &["smaug-bpe", "dbrx"],
        steps: &[S(LLAMA3)],
        composes: false,
        ignores_merges: false,
        adds_bos: false,
    },
    PreKind {
        names: &["qwen2", "deepseek-r1-qwen"],
        steps: &[S(QWEN2)],
        composes: true,
        ignores_merges: false,
        adds_bos: false,
    },
    PreKind {
        names: &["qwen35"],
        steps: &[S(QWEN35)],
        composes: true,
        ignores_merges: false,
        adds_bos: false,
    },
    PreKind {
        names: &["gpt-4o", "llama4"],
        steps: &[S(GPT4O)],
        composes: false,
        ignores_merges: true,
        adds_bos: false,
    },
    PreKind {
        names: &["tekken"],
        steps: &[S(TEKKEN)],
        composes: false,
        ignores_merges: true,
        adds_bos: true,
    },
    PreKind {
        names: &["smollm", "starcoder", "refact"],
        steps: &[D, S(GPT2)],
        composes: false,
        ignores_merges: false,
        adds_bos: false,
    },
    PreKind {
        names: &["deepseek-llm"],
        steps: &[
            S(r"[\r\n]"),
            S(DEEPSEEK_LLM_LETTERS),
            S(DEEPSEEK_PUNCTUATION),
            S(r"\s+$"),
            S(DEEPSEEK_CJK),
            D,
        ],
        composes: false,
        ignores_merges: false,
        adds_bos: false,
    },
    PreKind {
        names: &["deepseek-coder"],
        steps: &[S(r"[\r\n]"), S(r"\s?\p{L}+"), S(r"\s?\p{P}+"), S(DEEPSEEK_CJK), D],
        composes: false,
        ignores_merges: false,
        adds_bos: false,
    },
    PreKind {
        names: &["deepseek-v3"],
        steps: &[
            S(r"\p{N}{1,3}"),
            S(r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"),
            S(DEEPSEEK_V3),
        ],
        composes: false,
        ignores_merges: false,
        adds_bos: false,
    },
];

impl PreKind {
    pub fn find(name: &str) -> Outcome<&'static PreKind> {
        KINDS.iter().find(|kind| kind.names.contains(&name)).ok_or_else(|| {
            let known: Vec<&str> = KINDS.iter().flat_map(|kind| kind.names).copied().collect();
            let shown: String = name.chars().take(64).collect();
            Failure::unsupported(format!(
                "tokenizer.ggml.pre is `{shown}`, which is not a known pre-tokenizer; known are {}",
                known.join(", ")
            ))
        })
    }

    pub fn normalizer(&self) -> Option<NormalizerWrapper> {
        self.composes.then_some(NormalizerWrapper::NFC(NFC))
    }

    pub fn pre_tokenizer(&self) -> Outcome<PreTokenizerWrapper> {
        let mut steps = Vec::with_capacity(self.steps.len() + 1);
        for step in self.steps {
            steps.push(match step {
                Step::Digits => PreTokenizerWrapper::Digits(Digits::new(true)),
                Step::Split(expression) => PreTokenizerWrapper::Split(
                    Split::new(
                        SplitPattern::Regex((*expression).to_owned()),
                        SplitDelimiterBehavior::Isolated,
                        /* invert= */ false,
                    )
                    .map_err(|error| Failure::internal(error.to_string()))?,
                ),
            });
        }
        steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(
            /* add_prefix_space= */ false, /* trim_offsets= */ true,
            /* use_regex= */ false,
        )));
        Ok(PreTokenizerWrapper::Sequence(Sequence::new(steps)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    #[test]
    fn every_kind_compiles_and_loses_no_byte() {
        let text = "It's 12345 км²\r\n\n  中文かな한국어\tx+=1;  end  ";
        for kind in KINDS {
            let mut pieces = PreTokenizedString::from(text);
            kind.pre_tokenizer().unwrap().pre_tokenize(&mut pieces).unwrap();
            let total: usize = pieces
                .get_splits(OffsetReferential::Original, OffsetType::Byte)
                .iter()
                .map(|(_, (begin, end), _)| end - begin)
                .sum();
            assert_eq!(total, text.len(), "{:?}", kind.names);
        }
    }

    #[test]
    fn an_unknown_kind_names_the_known_ones() {
        let failure = PreKind::find("klingon").err().unwrap();
        assert!(
            failure.message.contains("klingon") && failure.message.contains("deepseek-r1-qwen")
        );
    }
}
