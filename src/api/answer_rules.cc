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
std::shared_ptr<const Grammar> compile(const ServedModel& model, const std::string& group,
                                       const GrammarSource& source, const std::string& param) {
  try {
    return model.grammars->compile(group, source.kind, source.text);
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
std::shared_ptr<const Grammar> compile_calls(const ServedModel& model, const std::string& group,
                                             const ChatRequest& request,
                                             const std::vector<ToolFunction>& functions,
                                             const GrammarSource& source) {
  try {
    return model.grammars->compile(group, source.kind, source.text);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    for (const ToolFunction& function : functions) {
      const auto kind =
          function.strict ? text::GrammarKind::json_schema : text::GrammarKind::lenient_json_schema;
      compile(model, group, {kind, function.parameters},
              parameters_path(request.tools, function.name));
    }
    if (request.form.grammar) compile(model, group, *request.form.grammar, request.form.param);
    throw Error(error.code(), fmt::format("'tools': {}", error.message()), "tools");
  }
}

bool set_form(const OutputForm& form, const ServedModel& model, Grammars grammars,
              engine::Request& to) {
  if (!form.grammar) return true;
  to.grammar = grammars == Grammars::only_kept
                   ? model.grammars->find(to.group, form.grammar->kind, form.grammar->text)
                   : compile(model, to.group, *form.grammar, form.param);
  return to.grammar != nullptr;
}

bool any_strict(const std::vector<ToolFunction>& functions) {
  return std::any_of(functions.begin(), functions.end(),
                     [](const ToolFunction& function) { return function.strict; });
}

}  // namespace

bool set_rules(const ChatRequest& request, const ServedModel& model, Grammars grammars,
               engine::Request& to) {
  const OutputForm& form = request.form;
  const ToolFields& tools = request.tools;
  if (!tools.may_call()) {
    if (!form.grammar || !model.is_harmony()) return set_form(form, model, grammars, to);
    OutputForm in_message = form;
    in_message.grammar = text::content_alone(model.engine->tokenizer(), *form.grammar);
    return set_form(in_message, model, grammars, to);
  }
  const std::vector<ToolFunction> functions = callable_functions(tools);
  engine::ToolUse use;
  use.style = model.tool_style;
  use.parallel = tools.parallel;
  // Others write JSON, which says itself of which type a value is.
  const bool wants_types = use.style == text::ToolStyle::qwen3_coder;
  for (const ToolFunction& function : functions) {
    use.tools.push_back(wants_types ? text::callable_tool(function.name, function.parameters)
                                    : text::CallableTool{function.name, {}});
  }
  const text::Tokenizer& tokenizer = model.engine->tokenizer();
  const bool binds_all = tools.must_call() || form.grammar;
  if (binds_all || any_strict(functions)) {
    GrammarSource source;
    if (binds_all) {
      // A named tool is called once, as OpenAI's service does.
      const bool several = tools.parallel && tools.choice.kind != ToolChoice::Kind::named;
      const GrammarSource* otherwise = tools.must_call() ? nullptr : &*form.grammar;
      source = text::whole_answer(use.style, tokenizer, functions, several, otherwise);
    } else {
      source = text::one_call(use.style, tokenizer, functions);
    }
    auto grammar = grammars == Grammars::only_kept
                       ? model.grammars->find(to.group, source.kind, source.text)
                       : compile_calls(model, to.group, request, functions, source);
    if (!grammar) return false;
    (binds_all ? to.grammar : use.call_grammar) = std::move(grammar);
  }
  to.tools = std::move(use);
  return true;
}

bool set_rules(const CompletionRequest& request, const ServedModel& model, Grammars grammars,
               engine::Request& to) {
  return set_form(request.form, model, grammars, to);
}

}  // namespace ridge::api
