#pragma once

#include <string>

#include "loadgen/random.h"

namespace ridge::loadgen {

// How a tokenizer that only the server knows counts our words: tokens = fixed + per_word * words.
// The fixed part is a chat's template and whatever else stands around a prompt.
struct PromptScale {
  double fixed_tokens = 0;
  double tokens_per_word = 1;

  // The line through two prompts that the server counted. Throws invalid_argument where they give
  // none, as where the longer has no more tokens.
  static PromptScale through(int words_a, int tokens_a, int words_b, int tokens_b);
  // At least 1.
  int words_for(int tokens) const;
};

// So many common English words drawn at random, with spaces between: nothing that an answer to an
// earlier prompt could be taken from, but for the first tokens by chance.
std::string random_words(Random& random, int words);

}  // namespace ridge::loadgen
