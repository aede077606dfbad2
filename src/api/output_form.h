#pragma once

#include <optional>
#include <string>

#include "api/fields.h"
#include "text/tool_grammar.h"

namespace ridge::api {

// The form that a request wants its answer in.
struct OutputForm {
  std::optional<text::GrammarSource> grammar;  // absent: any
  std::string param;                           // the field that says it, for errors
};

// response_format (text, json_object, json_schema) as OpenAI has it; guided_json, guided_regex,
// guided_choice, guided_grammar and structured_outputs as vLLM has them; json_schema as llama.cpp
// has it. Throws Error(invalid_argument) naming the field at fault, also where two say different
// things, and Error(unsupported) for a form that no grammar can hold.
OutputForm parse_output_form(const Fields& body);

// A schema as the source of a grammar. Where it is not `strict`, keywords that cannot be enforced
// are ignored.
text::GrammarSource schema_grammar(const Json& schema, bool strict);

}  // namespace ridge::api
