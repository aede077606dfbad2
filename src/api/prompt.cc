#include "api/prompt.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "api/answer_rules.h"
#include "api/chat_request.h"
#include "api/completion_request.h"
#include "api/conversation_form.h"
#include "base/error.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ridge::api {
namespace {

void check_fits(std::size_t prompt_tokens, const ServedModel& model, const std::string& param) {
  const auto context = static_cast<std::size_t>(model.engine->model_info().context_tokens);
  if (prompt_tokens < context) return;
  throw Error(ErrorCode::context_length,
              fmt::format("This model's context holds {} tokens, prompt and answer together; the "
                          "prompt alone has {}. Shorten it.",
                          context, prompt_tokens),
              param);
}

void check_ids(const std::vector<int32_t>& ids, const std::string& param, int vocab_size) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < vocab_size) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' has the token id {} at place {}; this model's ids end at {}",
                            param, ids[i], i, vocab_size - 1),
                param);
  }
}

engine::Request continue_prompt(const GenerationFields& fields, const ServedModel& model,
                                int default_tokens, int top_logprobs) {
  engine::Request request;
  request.sampling = sampling_params(fields, model.sampling, top_logprobs);
  std::vector<int32_t> biased;
  for (const auto& [token, bias] : fields.logit_bias) biased.push_back(token);
  check_ids(biased, "logit_bias", model.engine->model_info().vocab_size);
  request.max_tokens = fields.max_tokens.value_or(default_tokens);
  request.min_tokens = fields.min_tokens;
  request.ignore_eos = fields.ignore_eos;
  request.choices = fields.choices;
  request.stop = fields.stop;
  return request;
}

std::vector<int32_t> ids_of(const PromptText& prompt, const ServedModel& model) {
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) {
    check_ids(*ids, "prompt", model.engine->model_info().vocab_size);
    return *ids;
  }
  const text::Tokenizer& tokenizer = model.engine->tokenizer();
  auto ids =
      tokenizer.encode(std::get<std::string>(prompt), {.add_special = true, .parse_special = true});
  // A model has to begin somewhere: an empty prompt is the beginning of a text.
  if (ids.empty() && tokenizer.bos()) ids.push_back(*tokenizer.bos());
  if (ids.empty() && tokenizer.eos()) ids.push_back(*tokenizer.eos());
  return ids;
}

std::string render(const ChatRequest& chat, const ServedModel& model) {
  text::RenderOptions options;
  if (chat.tools.may_call()) options.tools = &chat.tools.tools;
  options.variables = &chat.thinking.variables;
  return model.engine->chat_template().render(messages_for_template(chat, model), options);
}

std::vector<int32_t> encode(const std::string& prompt, const ServedModel& model) {
  const bool add_special = !model.engine->chat_template().writes_bos();
  return model.engine->tokenizer().encode(prompt,
                                          {.add_special = add_special, .parse_special = true});
}

}  // namespace

engine::Request prepare(const ChatRequest& chat, const ServedModel& model, std::string id) {
  const int context = model.engine->model_info().context_tokens;
  const int default_tokens =
      model.default_output_tokens > 0 ? model.default_output_tokens : context;
  engine::Request request =
      continue_prompt(chat.generation, model, default_tokens, chat.top_logprobs);
  request.id = std::move(id);

  const std::string prompt = render(chat, model);
  request.prompt_tokens = encode(prompt, model);
  check_fits(request.prompt_tokens.size(), model, chat.prompt_param);

  const text::ReasoningMode mode = model.engine->chat_template().reasoning_mode(prompt);
  request.split_reasoning = mode != text::ReasoningMode::none;
  request.prompt_opens_reasoning = mode == text::ReasoningMode::starts_inside;
  request.thinking_budget = chat.thinking.budget_tokens;
  // Where the template cannot switch thinking off, it is over before it begins.
  if (chat.thinking.enabled == false) request.thinking_budget = 0;
  set_rules(chat, model, request);
  return request;
}

int count_prompt_tokens(const ChatRequest& request, const ServedModel& model) {
  return static_cast<int>(encode(render(request, model), model).size());
}

std::vector<engine::Request> prepare(const CompletionRequest& completion, const ServedModel& model,
                                     const std::string& id) {
  std::vector<engine::Request> requests;
  for (const PromptText& prompt : completion.prompts) {
    engine::Request request = continue_prompt(completion.generation, model,
                                              default_completion_tokens, completion.top_logprobs);
    request.id = id;
    request.prompt_tokens = ids_of(prompt, model);
    check_fits(request.prompt_tokens.size(), model, "prompt");
    set_rules(completion, model, request);
    requests.push_back(std::move(request));
  }
  return requests;
}

}  // namespace ridge::api
