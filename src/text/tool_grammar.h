#pragma once

#include <span>
#include <string>

#include "text/grammar.h"
#include "text/tool_style.h"

namespace ridge::text {

class Tokenizer;

// A tool as a grammar sees it.
struct ToolFunction {
  std::string name;        // of letters, digits and _ - . : /
  std::string parameters;  // a JSON schema of its arguments
  bool strict = false;     // else keywords that cannot be enforced are ignored
};

struct GrammarSource {
  GrammarKind kind = GrammarKind::json_schema;
  std::string text;
};

// The names of parts that were made of a function's parameters, for error messages: "arguments_0"
// ….
std::string arguments_part(std::size_t function);

// Both throw Error(invalid_argument) where a strict function asks for what its style cannot hold.

// One call of any of the functions, from its opening on: for an answer that may call.
GrammarSource one_call(ToolStyle style, const Tokenizer& tokenizer,
                       std::span<const ToolFunction> functions);

// Of a style in which content has tags of its own (harmony): content that is `form`.
GrammarSource content_alone(const Tokenizer& tokenizer, const GrammarSource& form);

// A whole answer: one call or, where `several`, more; or `otherwise`, unless that is nullptr.
GrammarSource whole_answer(ToolStyle style, const Tokenizer& tokenizer,
                           std::span<const ToolFunction> functions, bool several,
                           const GrammarSource* otherwise);

}  // namespace ridge::text
