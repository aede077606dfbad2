//! Tokenizers, chat templates and grammars behind the C ABI of `include/textkit.h`.
//!
//! Each area is safe Rust in its own module with a thin `*_abi` module over it; `abi` holds what
//! every entry shares. No panic crosses the boundary.

pub mod abi;
mod budget;
pub mod grammar;
mod grammar_abi;
pub mod template;
mod template_abi;
pub mod tokenizer;
mod tokenizer_abi;
