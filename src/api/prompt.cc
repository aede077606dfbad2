#include "api/prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <set>

#include "api/chat_request.h"
#include "api/completion_request.h"
#include "api/conversation_form.h"
#include "api/embedding_request.h"
#include "api/ranking_request.h"
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

// Before the work on a text that is much too long.
void check_may_fit(std::string_view text, const ServedModel& model, const std::string& param) {
  const auto context = static_cast<std::size_t>(model.engine->model_info().context_tokens);
  const std::size_t fewest = model.engine->tokenizer().fewest_tokens(text.size());
  if (fewest < context) return;
  throw Error(ErrorCode::context_length,
              fmt::format("This model's context holds {} tokens, prompt and answer together; the "
                          "prompt alone has {} bytes, which are at least {} tokens. Shorten it.",
                          context, text.size(), fewest),
              param);
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
  request.deadline = fields.timeout;
  request.priority = -fields.priority;  // there, larger ones come first
  request.adapter = model.adapter;
  return request;
}

// Told before the work begins, since an answer that is too large would fail behind it.
void check_echo(int64_t prompt_tokens, const CompletionRequest& completion) {
  const int64_t values =
      prompt_tokens * (std::max(0, completion.top_logprobs) + 1) * completion.generation.choices;
  if (values <= max_echoed_logprobs) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("the prompts' tokens · ('logprobs' + 1) · 'n' are more than {}, the most "
                          "that one answer holds; send fewer or shorter prompts, or ask for less",
                          max_echoed_logprobs),
              "logprobs");
}

void check_vectors(std::size_t texts, const ServedModel& model, const std::string& param) {
  const int64_t width = model.engine->model_info().hidden_size;
  if (static_cast<int64_t>(texts) * width <= max_vector_values) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("{} texts are too many for one request: vectors of this model have {} "
                          "numbers, so that {} texts are the most",
                          texts, width, max_vector_values / width),
              param);
}

std::vector<int32_t> encode_whole(const PromptText& prompt, const ServedModel& model,
                                  const std::string& param) {
  if (const auto* ids = std::get_if<std::vector<int32_t>>(&prompt)) {
    // A model may have rows for more ids than there are tokens.
    check_ids(
        *ids, param,
        std::min(model.engine->model_info().vocab_size, model.engine->tokenizer().vocab_size()));
    return *ids;
  }
  const text::Tokenizer& tokenizer = model.engine->tokenizer();
  auto ids =
      tokenizer.encode(std::get<std::string>(prompt), {.add_special = true, .parse_special = true});
  // A model has to begin somewhere: an empty prompt is the beginning of a text.
  if (ids.empty() && tokenizer.bos()) ids.push_back(*tokenizer.bos());
  if (ids.empty() && tokenizer.eos()) ids.push_back(*tokenizer.eos());
  if (ids.empty()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is empty, and this model has no token that begins a text; give "
                            "it at least one character",
                            param),
                param);
  }
  return ids;
}

// As much as fits the context.
std::vector<int32_t> encode_beginning(const PromptText& prompt, const ServedModel& model,
                                      const std::string& param) {
  std::vector<int32_t> ids = encode_whole(prompt, model, param);
  const auto most = static_cast<std::size_t>(model.engine->model_info().context_tokens) - 1;
  if (ids.size() > most) ids.resize(most);
  return ids;
}

engine::Request embed(const PromptText& text, const VectorFields& vectors, const ServedModel& model,
                      const std::string& id, const std::string& param) {
  engine::Request request;
  request.id = id;
  request.prompt_tokens =
      vectors.cuts ? encode_beginning(text, model, param) : encode_prompt(text, model, param);
  request.embedding = vectors.pooling;
  request.deadline = vectors.timeout;
  request.priority = -vectors.priority;
  request.adapter = model.adapter;
  return request;
}

// All that may be names of variables in a template.
std::set<std::string_view> words_of(std::string_view source) {
  const auto is_part = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  std::set<std::string_view> words;
  for (auto at = source.begin(); at != source.end();) {
    const auto first = std::find_if(at, source.end(), is_part);
    at = std::find_if_not(first, source.end(), is_part);
    if (first != at) words.emplace(first, at);
  }
  return words;
}

// A variable that the template does not read changes nothing, as a field that is not known; one
// that it reads would change the prompt, and with it the answer.
void check_variables(const ChatRequest& chat, const ServedModel& model) {
  if (chat.thinking.unknown_variables.empty()) return;
  const std::set<std::string_view> words = words_of(model.engine->chat_template().source());
  for (const std::string& name : chat.thinking.unknown_variables) {
    if (!words.contains(name)) continue;
    refuse_unsupported(fmt::format("chat_template_kwargs.{}", name.substr(0, 40)),
                       "of what this model's template reads, only enable_thinking, thinking, "
                       "reasoning_effort and thinking_budget may be set");
  }
}

// Templates of gpt-oss write each tool's description, and fail where there is none.
Json with_descriptions(Json tools) {
  for (Json& tool : tools) {
    Json& function = tool["function"];
    if (!function.contains("description")) function["description"] = "";
  }
  return tools;
}

}  // namespace

void check_ids(std::span<const int32_t> ids, const std::string& param, int vocab_size) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < vocab_size) continue;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' has the token id {} at place {}; this model's ids end at {}",
                            param, ids[i], i, vocab_size - 1),
                param);
  }
}

std::vector<int32_t> encode_prompt(const PromptText& prompt, const ServedModel& model,
                                   const std::string& param) {
  if (const auto* text = std::get_if<std::string>(&prompt)) check_may_fit(*text, model, param);
  std::vector<int32_t> ids = encode_whole(prompt, model, param);
  check_fits(ids.size(), model, param);
  return ids;
}

std::string render_chat(const ChatRequest& chat, const ServedModel& model,
                        bool add_generation_prompt) {
  check_variables(chat, model);
  text::RenderOptions options;
  options.add_generation_prompt = add_generation_prompt;
  Json described;
  if (chat.tools.may_call()) options.tools = &chat.tools.tools;
  if (options.tools != nullptr && model.is_harmony()) {
    described = with_descriptions(chat.tools.tools);
    options.tools = &described;
  }
  options.variables = &chat.thinking.variables;
  return model.engine->chat_template().render(messages_for_template(chat, model), options);
}

std::vector<int32_t> encode_chat(const std::string& rendered, const ServedModel& model) {
  const bool add_special = !model.engine->chat_template().writes_bos();
  return model.engine->tokenizer().encode(rendered,
                                          {.add_special = add_special, .parse_special = true});
}

engine::Request prepare(const ChatRequest& chat, const ServedModel& model, std::string id) {
  const int context = model.engine->model_info().context_tokens;
  const int default_tokens =
      model.default_output_tokens > 0 ? model.default_output_tokens : context;
  engine::Request request =
      continue_prompt(chat.generation, model, default_tokens, chat.top_logprobs);
  request.id = std::move(id);

  const std::string prompt = render_chat(chat, model);
  check_may_fit(prompt, model, chat.prompt_param);
  request.prompt_tokens = encode_chat(prompt, model);
  check_fits(request.prompt_tokens.size(), model, chat.prompt_param);

  const text::ReasoningMode mode = model.engine->chat_template().reasoning_mode(prompt);
  request.harmony = model.is_harmony();
  request.split_reasoning = mode != text::ReasoningMode::none;
  request.prompt_opens_reasoning = mode == text::ReasoningMode::starts_inside;
  request.thinking_budget = chat.thinking.budget_tokens;
  // Where the template cannot switch thinking off, it is over before it begins.
  if (chat.thinking.enabled == false) request.thinking_budget = 0;
  return request;
}

int count_prompt_tokens(const ChatRequest& request, const ServedModel& model) {
  return static_cast<int>(encode_chat(render_chat(request, model), model).size());
}

std::vector<engine::Request> prepare(const CompletionRequest& completion, const ServedModel& model,
                                     const std::string& id) {
  std::vector<engine::Request> requests;
  int64_t echoed_tokens = 0;
  for (const PromptText& prompt : completion.prompts) {
    const int default_tokens =
        model.default_output_tokens > 0 ? model.default_output_tokens : completion.default_tokens;
    engine::Request request =
        continue_prompt(completion.generation, model, default_tokens, completion.top_logprobs);
    request.id = id;
    request.prompt_tokens = encode_prompt(prompt, model, "prompt");
    // Without an answer, the engine takes a request for its prompt's logprobs only.
    const bool scores_prompt = completion.top_logprobs >= 0 || request.max_tokens == 0;
    if (completion.echo && scores_prompt) {
      request.prompt_logprobs = std::max(0, completion.top_logprobs);
      echoed_tokens += static_cast<int64_t>(request.prompt_tokens.size());
      check_echo(echoed_tokens, completion);
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

std::vector<engine::Request> prepare(const EmbeddingRequest& embedding, const ServedModel& model,
                                     const std::string& id) {
  const int width = model.engine->model_info().hidden_size;
  if (embedding.dimensions.value_or(width) != width) {
    refuse_unsupported("dimensions",
                       fmt::format("vectors have this model's own width, {}, since it was not "
                                   "trained for shorter ones; leave it out",
                                   width));
  }
  check_vectors(embedding.inputs.size(), model, "input");
  std::vector<engine::Request> requests;
  for (const PromptText& input : embedding.inputs) {
    requests.push_back(embed(input, embedding.vectors, model, id, "input"));
  }
  return requests;
}

std::vector<engine::Request> prepare(const RankingRequest& ranking, const ServedModel& model,
                                     const std::string& id) {
  const bool is_rerank = ranking.kind == RankingRequest::Kind::rerank;
  check_vectors(ranking.queries.size() + ranking.documents.size(), model,
                is_rerank ? "documents" : "text_2");
  std::vector<engine::Request> requests;
  for (const std::string& query : ranking.queries) {
    requests.push_back(embed(query, ranking.vectors, model, id, is_rerank ? "query" : "text_1"));
  }
  for (const std::string& document : ranking.documents) {
    requests.push_back(
        embed(document, ranking.vectors, model, id, is_rerank ? "documents" : "text_2"));
  }
  return requests;
}

engine::Request prepare_load(const ServedModel& model, std::string id) {
  engine::Request request;
  request.id = std::move(id);
  const text::Tokenizer& tokenizer = model.engine->tokenizer();
  request.prompt_tokens = {tokenizer.bos().value_or(tokenizer.eos().value_or(0))};
  request.embedding = engine::Pooling::last;
  request.adapter = model.adapter;
  return request;
}

std::vector<EchoedPrompt> echoed_prompts(const CompletionRequest& completion,
                                         std::span<const engine::Request> requests,
                                         const ServedModel& model) {
  std::vector<EchoedPrompt> prompts;
  if (!completion.echo) return prompts;
  const text::Tokenizer& tokenizer = model.engine->tokenizer();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const std::vector<int32_t>& tokens = requests[i].prompt_tokens;
    const auto* text = std::get_if<std::string>(&completion.prompts[i]);
    prompts.push_back(
        {.text = text != nullptr ? *text : tokenizer.decode(tokens, /*skip_special=*/false),
         .first = {.token = tokens.front(),
                   .bytes = std::string(tokenizer.token_bytes(tokens.front()))}});
  }
  return prompts;
}

}  // namespace ridge::api
