#include "api/answer_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/grammar.h"
#include "text/tool_grammar.h"

namespace ridge::api {
namespace {

using text::Grammar;
using text::GrammarSource;
using text::ToolFunction;

// Says which field a grammar came from.
std::shared_ptr<const Grammar> compile(const ServedModel& model, const GrammarSource& source,
                                       const std::string& param) {
  try {
    return model.grammars->compile(source.kind, source.text);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    throw Error(error.code(), fmt::format("'{}': {}", param, error.message()), param);
  }
}

std::string parameters_path(const ToolFields& fields, const std::string& name) {
  for (std::size_t i = 0; i < fields.tools.size(); ++i) {
    if (fields.tools[i].at("function").at("name") == name) {
      return fmt::format("tools[{}].{}", i, fields.parameters_path);
    }
  }
  return "tools";
}

// A grammar that is made of several parts. Where it cannot be, each is tried alone, to name it.
std::shared_ptr<const Grammar> compile_calls(const ServedModel& model, const ChatRequest& request,
                                             const std::vector<ToolFunction>& functions,
                                             const GrammarSource& source) {
  try {
    return model.grammars->compile(source.kind, source.text);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    for (const ToolFunction& function : functions) {
      const auto kind =
          function.strict ? text::GrammarKind::json_schema : text::GrammarKind::lenient_json_schema;
      compile(model, {kind, function.parameters}, parameters_path(request.tools, function.name));
    }
    if (request.form.grammar) compile(model, *request.form.grammar, request.form.param);
    throw Error(error.code(), fmt::format("'tools': {}", error.message()), "tools");
  }
}

bool any_strict(const ToolFields& fields) {
  const auto functions = callable_functions(fields);
  return std::any_of(functions.begin(), functions.end(),
                     [](const ToolFunction& function) { return function.strict; });
}

}  // namespace

bool needs_grammar(const ChatRequest& request) {
  if (request.form.grammar) return true;
  return request.tools.may_call() && (request.tools.must_call() || any_strict(request.tools));
}

bool needs_grammar(const CompletionRequest& request) { return request.form.grammar.has_value(); }

void set_rules(const ChatRequest& request, const ServedModel& model, engine::Request& to) {
  const OutputForm& form = request.form;
  const ToolFields& tools = request.tools;
  if (!tools.may_call()) {
    if (form.grammar) to.grammar = compile(model, *form.grammar, form.param);
    return;
  }
  const std::vector<ToolFunction> functions = callable_functions(tools);
  engine::ToolUse use;
  use.style = model.tool_style;
  use.parallel = tools.parallel;
  for (const ToolFunction& function : functions) use.names.push_back(function.name);
  const text::Tokenizer& tokenizer = model.engine->tokenizer();
  if (tools.must_call() || form.grammar) {
    // A named tool is called once, as OpenAI's service does.
    const bool several = tools.parallel && tools.choice.kind != ToolChoice::Kind::named;
    const GrammarSource* otherwise = tools.must_call() ? nullptr : &*form.grammar;
    to.grammar =
        compile_calls(model, request, functions,
                      text::whole_answer(use.style, tokenizer, functions, several, otherwise));
  } else if (any_strict(tools)) {
    use.call_grammar =
        compile_calls(model, request, functions, text::one_call(use.style, tokenizer, functions));
  }
  to.tools = std::move(use);
}

void set_rules(const CompletionRequest& request, const ServedModel& model, engine::Request& to) {
  if (request.form.grammar) to.grammar = compile(model, *request.form.grammar, request.form.param);
}

}  // namespace ridge::api
