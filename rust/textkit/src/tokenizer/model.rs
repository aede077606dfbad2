//! A BPE model that two tokenizers share, with ids for tokens that the merges never build.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ahash::AHashMap;
use tokenizers::models::bpe::{BpeTrainer, BPE};
use tokenizers::tokenizer::{Model, Result, Token};

pub struct Vocabulary {
    pub bpe: BPE,
    /// Every token's text as the file spells it, by id.
    pub texts: Vec<String>,
    /// Ids of control, user-defined and unused tokens, which stand outside the merges.
    pub others: AHashMap<String, u32>,
}

#[derive(Clone)]
pub struct SharedVocabulary(pub Arc<Vocabulary>);

impl Model for SharedVocabulary {
    type Trainer = BpeTrainer;

    fn tokenize(&self, sequence: &str) -> Result<Vec<Token>> {
        self.0.bpe.tokenize(sequence)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.others.get(token).copied().or_else(|| self.0.bpe.token_to_id(token))
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.texts.get(id as usize).cloned()
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.texts.iter().cloned().zip(0..).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.0.texts.len()
    }

    fn save(&self, _folder: &Path, _prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        Err("a vocabulary from a model file is never saved".into())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}
