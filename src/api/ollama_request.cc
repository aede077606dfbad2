#include "api/ollama_request.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "api/duration_text.h"
#include "api/request_limits.h"

namespace ridge::api {
namespace {

// What Ollama's engine means by these is said otherwise here: a seed of -1 is any, and a top_p of 0
// leaves the best token alone.
Json in_our_terms(const Json& given) {
  Json options = given;
  if (options.value("seed", Json()) == -1) options.erase("seed");
  if (options.value("top_p", Json()) == 0) {
    options.erase("top_p");
    options["top_k"] = 1;
  }
  return options;
}

void read_options(const Fields& body, GenerationFields& fields) {
  if (!body.object("options")) return;
  const Json in_terms = in_our_terms(*body.find("options"));
  const Fields options(in_terms, "options");
  read_sampling(options, fields);
  refuse_several_choices(options);
  if (const auto penalty = options.number("repeat_penalty", 0, 2, /*open_low=*/true)) {
    fields.repetition_penalty = *penalty;
  }
  fields.stop = parse_stop(options, "stop");
  // -1 and -2 mean as many as there is room for.
  const auto tokens = options.integer("num_predict", -2, max_requested_tokens);
  if (tokens && *tokens > 0) fields.max_tokens = static_cast<int>(*tokens);
  check_token_bounds(fields, "options.min_tokens");
}

GenerationFields parse_generation(const Fields& body) {
  GenerationFields fields;
  fields.model = parse_model_name(body);
  fields.stream = body.boolean("stream").value_or(true);
  refuse_several_choices(body);
  fields.timeout = parse_timeout(body);
  read_options(body, fields);
  return fields;
}

// "json", a schema, or "" for any.
OutputForm parse_format(const Fields& body) {
  const Json* format = body.find("format");
  if (format == nullptr || *format == "") return {};
  if (*format == "json") {
    return {schema_grammar({{"type", "object"}}, /*strict=*/true), "format"};
  }
  if (!format->is_object()) refuse_field("format", *format, "\"json\" or a JSON schema");
  return {schema_grammar(*format, /*strict=*/false), "format"};
}

// true, false, or how much: "low", "medium", "high".
ThinkingFields parse_think(const Fields& body) {
  ThinkingFields thinking;
  const Json* think = body.find("think");
  if (think == nullptr) return thinking;
  if (think->is_boolean()) {
    thinking.enable(think->get<bool>());
  } else {
    read_effort(body, "think", thinking);
    if (*think != "none") thinking.enable(true);
  }
  return thinking;
}

// Seconds, or a duration such as "5m".
std::optional<Clock::Duration> parse_keep_alive(const Fields& body) {
  const Json* keep = body.find("keep_alive");
  if (keep == nullptr) return std::nullopt;
  if (keep->is_number()) return duration_of(keep->get<double>());
  std::optional<Clock::Duration> duration;
  if (keep->is_string()) duration = parse_duration(keep->get_ref<const std::string&>());
  if (!duration) {
    refuse_field("keep_alive", *keep,
                 "a number of seconds or a duration such as \"5m\"; -1 keeps the model, 0 unloads "
                 "it");
  }
  return duration;
}

void refuse_images(const Fields& fields) {
  const Json* images = fields.array("images", max_messages);
  if (images == nullptr || images->empty()) return;
  refuse_unsupported(fields.path_of("images"), "this model reads text only; leave them out");
}

Json message_of(const Json& value, const std::string& path) {
  const Fields fields(value, path);
  refuse_images(fields);
  Json message = value;
  // A message may be only thoughts, or nothing.
  if (fields.find("content") == nullptr) message["content"] = "";
  Json parsed = parse_message(message, path);
  if (auto name = fields.string("tool_name", max_name_bytes)) parsed["name"] = std::move(*name);
  return parsed;
}

void refuse_given(const Fields& body, const char* name, std::string_view why) {
  const Json* value = body.find(name);
  if (value == nullptr || *value == "" || (value->is_array() && value->empty())) return;
  refuse_unsupported(name, why);
}

}  // namespace

OllamaRequest parse_ollama_chat(const Json& body) {
  const Fields fields(body, "");
  ChatRequest chat;
  chat.generation = parse_generation(fields);
  chat.top_logprobs = parse_top_logprobs(fields);
  chat.messages = Json::array();
  const Json* messages = fields.array("messages", max_messages);
  for (std::size_t i = 0; messages != nullptr && i < messages->size(); ++i) {
    chat.messages.push_back(message_of((*messages)[i], fmt::format("messages[{}]", i)));
  }
  chat.tools = parse_tool_fields(fields);
  chat.form = parse_format(fields);
  chat.thinking = parse_think(fields);
  OllamaRequest request;
  request.kind = OllamaRequest::Kind::chat;
  request.keep_alive = parse_keep_alive(fields);
  request.is_empty = chat.messages.empty();
  request.core = std::move(chat);
  return request;
}

OllamaRequest parse_ollama_generate(const Json& body) {
  const Fields fields(body, "");
  refuse_images(fields);
  refuse_given(fields, "suffix", "filling in before a suffix is not supported");
  refuse_given(fields, "template", "the model's own template is used; or send 'raw': true");
  refuse_given(fields, "context", "it is out of date; use /api/chat with its 'messages'");
  OllamaRequest request;
  request.kind = OllamaRequest::Kind::generate;
  request.keep_alive = parse_keep_alive(fields);
  std::string prompt = fields.string("prompt", max_text_bytes).value_or("");
  std::string system = fields.string("system", max_text_bytes).value_or("");
  request.is_empty = prompt.empty();
  GenerationFields generation = parse_generation(fields);
  const int top_logprobs = parse_top_logprobs(fields);
  OutputForm form = parse_format(fields);
  ThinkingFields thinking = parse_think(fields);
  if (fields.boolean("raw").value_or(false)) {
    CompletionRequest completion;
    completion.generation = std::move(generation);
    // Ollama's default is as many as there is room for.
    completion.default_tokens = static_cast<int>(max_requested_tokens);
    completion.top_logprobs = top_logprobs;
    completion.form = std::move(form);
    completion.prompts = {std::move(prompt)};
    request.core = std::move(completion);
    return request;
  }
  ChatRequest chat;
  chat.generation = std::move(generation);
  chat.top_logprobs = top_logprobs;
  chat.prompt_param = "prompt";
  chat.messages = Json::array();
  if (!system.empty()) {
    chat.messages.push_back({{"role", "system"}, {"content", std::move(system)}});
  }
  chat.messages.push_back({{"role", "user"}, {"content", std::move(prompt)}});
  chat.form = std::move(form);
  chat.thinking = std::move(thinking);
  request.core = std::move(chat);
  return request;
}

OllamaEmbedding parse_ollama_embed(const Json& body) {
  const Fields fields(body, "");
  OllamaEmbedding request;
  EmbeddingRequest& embedding = request.embedding;
  embedding.form = EmbeddingRequest::Form::ollama;
  embedding.vectors = parse_vector_fields(fields);
  embedding.vectors.cuts = fields.boolean("truncate").value_or(true);
  if (const auto dimensions = fields.integer("dimensions", 1, INT32_MAX)) {
    embedding.dimensions = static_cast<int>(*dimensions);
  }
  const Json* input = fields.find("input");
  const bool is_empty = input != nullptr && (*input == "" || *input == Json::array());
  if (!is_empty) embedding.inputs = parse_prompts(fields, "input", max_embedded_texts);
  request.keep_alive = parse_keep_alive(fields);
  return request;
}

OllamaEmbedding parse_ollama_embeddings(const Json& body) {
  const Fields fields(body, "");
  OllamaEmbedding request;
  EmbeddingRequest& embedding = request.embedding;
  embedding.form = EmbeddingRequest::Form::ollama_single;
  embedding.vectors = parse_vector_fields(fields);
  embedding.vectors.cuts = true;
  embedding.normalize = false;
  std::string prompt = fields.string("prompt", max_text_bytes).value_or("");
  if (!prompt.empty()) embedding.inputs = {std::move(prompt)};
  request.keep_alive = parse_keep_alive(fields);
  return request;
}

std::string parse_ollama_show(const Json& body) {
  const Fields fields(body, "");
  std::string name = parse_model_name(fields);
  return name.empty() ? parse_model_name(fields, "name") : name;  // the older field
}

}  // namespace ridge::api
