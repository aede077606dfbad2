/* Tokenizers, chat templates and grammars: the C interface of the crate `textkit`.
 *
 * Ownership: a `tk_slice` is borrowed for the call. Whatever a function hands out through `out` or
 * `error` belongs to the caller, who returns it to the `_free` function of its type; each of these
 * accepts null.
 * Errors: functions that can fail return a `tk_status`. Where it is not TK_OK, nothing was written to
 * `out`, and `error`, unless null, holds a message in UTF-8. No panic crosses this boundary.
 * Threads: a tokenizer, a template and a grammar environment may be used by any number of threads at
 * once, a matcher by one at a time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tk_status {
  TK_OK = 0,
  TK_INVALID_ARGUMENT = 1, /* the text, messages or grammar of a request */
  TK_INVALID_FILE = 2,     /* a vocabulary or template that breaks its format */
  TK_UNSUPPORTED = 3,      /* a kind of vocabulary that this build does not read */
  TK_TOO_LARGE = 4,        /* over a cap on size */
  TK_INTERNAL = 5,         /* a bug that was caught */
  TK_EXHAUSTED = 6         /* a grammar that was stopped for memory or time, which are not given back */
} tk_status;

typedef struct tk_slice {
  const char* data;
  size_t size; /* bytes */
} tk_slice;

typedef struct tk_buffer {
  char* data;
  size_t size; /* bytes */
} tk_buffer;

typedef struct tk_ids {
  int32_t* data;
  size_t size; /* ids */
} tk_ids;

void tk_buffer_free(tk_buffer* buffer);
void tk_ids_free(tk_ids* ids);

/* ---- Tokenizers ------------------------------------------------------------------------------ */

typedef struct tk_tokenizer tk_tokenizer;

/* The keys `tokenizer.ggml.*` of a GGUF file. Arrays that are missing have the count 0. Ids are -1
 * and flags -1 where the file says nothing; flags are else 0 or 1. */
typedef struct tk_vocabulary {
  tk_slice model;             /* "gpt2" or "llama" */
  tk_slice pre;               /* "" stands for "default" */
  const tk_slice* tokens;     /* by id */
  const int32_t* token_types; /* 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte */
  const float* scores;
  const tk_slice* merges; /* "left right", best first */
  size_t token_count;
  size_t token_type_count;
  size_t score_count;
  size_t merge_count;
  int32_t bos;
  int32_t eos;
  int32_t unknown;
  int32_t add_bos;
  int32_t add_eos;
  int32_t add_space_prefix;
} tk_vocabulary;

/* TK_INVALID_FILE names the key that is wrong, TK_UNSUPPORTED the model or pre-tokenizer. */
int32_t tk_tokenizer_new(const tk_vocabulary* vocabulary, tk_tokenizer** out, tk_buffer* error);
void tk_tokenizer_free(tk_tokenizer* tokenizer);

/* At most 4 MiB of text. `add_special` adds BOS and EOS where the vocabulary says so;
 * `parse_special` recognises control tokens that the text spells. */
int32_t tk_tokenizer_encode(const tk_tokenizer* tokenizer, tk_slice text, bool add_special,
                            bool parse_special, tk_ids* out, tk_buffer* error);
int32_t tk_tokenizer_decode(const tk_tokenizer* tokenizer, const int32_t* ids, size_t count,
                            bool skip_special, tk_buffer* out, tk_buffer* error);
/* `out` points into the tokenizer and is not freed. */
int32_t tk_tokenizer_token_bytes(const tk_tokenizer* tokenizer, int32_t id, tk_slice* out,
                                 tk_buffer* error);
size_t tk_tokenizer_size(const tk_tokenizer* tokenizer);
bool tk_tokenizer_adds_bos(const tk_tokenizer* tokenizer);
/* Control and unknown tokens, `<think>` and `</think>` excepted. False for ids that do not exist. */
bool tk_tokenizer_is_special(const tk_tokenizer* tokenizer, int32_t id);
/* The token that is exactly this text, or -1. */
int32_t tk_tokenizer_find(const tk_tokenizer* tokenizer, tk_slice text);

/* ---- Chat templates -------------------------------------------------------------------------- */

typedef struct tk_template tk_template;

/* At most 256 KiB of source. TK_INVALID_FILE names the line that does not parse. */
int32_t tk_template_new(tk_slice source, tk_template** out, tk_buffer* error);
void tk_template_free(tk_template* chat_template);

/* `context` is a JSON object: the variables that the template sees. `now_unix_seconds` is what
 * `strftime_now` formats, in local time. Runs on a thread of its own, bounded in time, memory,
 * instructions and output. */
int32_t tk_template_render(const tk_template* chat_template, tk_slice context,
                           int64_t now_unix_seconds, tk_buffer* out, tk_buffer* error);

/* ---- Grammars -------------------------------------------------------------------------------- */

typedef struct tk_grammar_environment tk_grammar_environment;
typedef struct tk_matcher tk_matcher;

typedef enum tk_grammar_kind {
  TK_GRAMMAR_JSON_SCHEMA = 0,
  TK_GRAMMAR_REGEX = 1,
  TK_GRAMMAR_LARK = 2,
  TK_GRAMMAR_LENIENT_JSON_SCHEMA = 3, /* keywords that cannot be enforced are ignored */
  /* A JSON array of {"name", "lark" | "json_schema" | "regex", "lenient"?}: the first is the start,
   * and refers to the others as @name. */
  TK_GRAMMAR_PARTS = 4
} tk_grammar_kind;

/* Prepares a vocabulary, once for each model. `ends` are the tokens that may end an answer, at least
 * one. Keeps the tokenizer alive by itself. */
int32_t tk_grammar_environment_new(const tk_tokenizer* tokenizer, const int32_t* ends,
                                   size_t end_count, tk_grammar_environment** out,
                                   tk_buffer* error);
/* The vocabulary in bytes, and an environment of them: grammars take as much to compile in it, and it
 * needs no tokenizer. For another process of this program on this machine. */
int32_t tk_grammar_environment_words(const tk_grammar_environment* environment, tk_buffer* out,
                                     tk_buffer* error);
int32_t tk_grammar_environment_of_words(tk_slice words, tk_grammar_environment** out,
                                        tk_buffer* error);
void tk_grammar_environment_free(tk_grammar_environment* environment);

/* At most 256 KiB and 64 levels of nesting. Runs on a thread of its own, bounded in memory, and waits
 * for it at most `limit_ms`: not for a network thread. Keeps what it needs of the environment alive by
 * itself. */
int32_t tk_matcher_new(const tk_grammar_environment* environment, int32_t kind, tk_slice source,
                       uint64_t limit_ms, tk_matcher** out, tk_buffer* error);
/* A matcher in the same state that goes its own way. */
int32_t tk_matcher_fork(const tk_matcher* matcher, tk_matcher** out, tk_buffer* error);
void tk_matcher_free(tk_matcher* matcher);

/* Sets bit id % 32 of words[id / 32] for each token that may come next, and clears all others;
 * `word_count` is at least tokens / 32, rounded up. */
int32_t tk_matcher_mask(tk_matcher* matcher, uint32_t* words, size_t word_count, tk_buffer* error);
/* Moves on by a token of the mask. After an error the matcher can only be freed. */
int32_t tk_matcher_consume(tk_matcher* matcher, int32_t id, tk_buffer* error);
/* Moves on by a text, whatever its tokens; it spells no control token. */
int32_t tk_matcher_consume_text(tk_matcher* matcher, tk_slice text, tk_buffer* error);
/* How many of `ids` could be consumed one after the other; consumes none. */
int32_t tk_matcher_count_valid(tk_matcher* matcher, const int32_t* ids, size_t count, size_t* out,
                               tk_buffer* error);
/* Takes the last `count` tokens back. */
int32_t tk_matcher_rollback(tk_matcher* matcher, size_t count, tk_buffer* error);
/* Whether the text so far is complete. */
int32_t tk_matcher_is_accepting(tk_matcher* matcher, bool* out, tk_buffer* error);
/* Whether nothing may follow any more. */
int32_t tk_matcher_is_stopped(const tk_matcher* matcher, bool* out, tk_buffer* error);

#ifdef __cplusplus
}
#endif
