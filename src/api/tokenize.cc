#include "api/tokenize.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>

#include "api/chat_request.h"
#include "api/logprobs_json.h"
#include "api/model_list.h"
#include "api/prompt.h"
#include "api/prompt_text.h"
#include "base/error.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace ridge::api {
namespace {

const ServedModel& model_of(const Fields& fields, std::span<const ServedModel> models) {
  return find_model(models, parse_model_name(fields));
}

std::vector<int32_t> encode_messages(const Json& body, const Fields& fields,
                                     const ServedModel& model) {
  if (fields.boolean("continue_final_message").value_or(false)) {
    refuse_unsupported("continue_final_message", "the last message is always whole; leave it out");
  }
  const bool opens_answer = fields.boolean("add_generation_prompt").value_or(true);
  // As the chat endpoint does, where the request does not say otherwise.
  const bool add_special =
      fields.boolean("add_special_tokens").value_or(!model.engine->chat_template().writes_bos());
  return model.engine->tokenizer().encode(
      render_chat(parse_chat_request(body), model, opens_answer),
      {.add_special = add_special, .parse_special = true});
}

std::vector<int32_t> encode(const Json& body, const Fields& fields, const ServedModel& model) {
  const auto prompt = fields.string("prompt", text::Tokenizer::max_text_bytes);
  const bool has_messages = fields.find("messages") != nullptr;
  if (prompt.has_value() == has_messages) {
    throw Error(ErrorCode::invalid_argument,
                "the body must have either 'prompt', a string, or 'messages'", "prompt");
  }
  if (has_messages) return encode_messages(body, fields, model);
  const bool add_special = fields.boolean("add_special_tokens").value_or(true);
  return model.engine->tokenizer().encode(*prompt,
                                          {.add_special = add_special, .parse_special = true});
}

void append_token_name(std::string& out, const text::Tokenizer& tokenizer,
                       std::optional<int32_t> token) {
  if (token) {
    append_json_string(out, tokenizer.token_bytes(*token));
  } else {
    out += "null";
  }
}

}  // namespace

std::string tokenize(const Json& body, std::span<const ServedModel> models) {
  const Fields fields(body, "");
  const ServedModel& model = model_of(fields, models);
  const bool with_names = fields.boolean("return_token_strs").value_or(false);
  const std::vector<int32_t> tokens = encode(body, fields, model);
  std::string out = fmt::format("{{\"count\":{},\"max_model_len\":{},\"tokens\":[", tokens.size(),
                                model.engine->model_info().context_tokens);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    fmt::format_to(std::back_inserter(out), "{}{}", i > 0 ? "," : "", tokens[i]);
  }
  out += "],\"token_strs\":";
  if (!with_names) return out + "null}";
  out += '[';
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += ',';
    append_json_string(out,
                       completion_token_name(model.engine->tokenizer().token_bytes(tokens[i])));
  }
  return out + "]}";
}

std::string detokenize(const Json& body, std::span<const ServedModel> models) {
  const Fields fields(body, "");
  const ServedModel& model = model_of(fields, models);
  const Json* tokens = fields.find("tokens");
  if (tokens == nullptr) {
    throw Error(ErrorCode::invalid_argument,
                "'tokens' is missing; it must be an array of token ids", "tokens");
  }
  if (!tokens->is_array()) refuse_field("tokens", *tokens, "an array of token ids");
  const std::vector<int32_t> ids = parse_ids(*tokens, "tokens");
  check_ids(ids, "tokens", model.engine->tokenizer().vocab_size());
  std::string out = "{\"prompt\":";
  append_json_string(out, model.engine->tokenizer().decode(ids, /*skip_special=*/false));
  return out + "}";
}

std::string tokenizer_info(std::span<const ServedModel> models) {
  const engine::Engine& engine = *find_model(models, "").engine;
  const text::Tokenizer& tokenizer = engine.tokenizer();
  std::string out = "{\"bos_token\":";
  append_token_name(out, tokenizer, tokenizer.bos());
  out += ",\"eos_token\":";
  append_token_name(out, tokenizer, tokenizer.eos());
  fmt::format_to(std::back_inserter(out),
                 ",\"pad_token\":null,\"add_bos_token\":{},\"vocab_size\":{},"
                 "\"model_max_length\":{},\"chat_template\":",
                 tokenizer.adds_bos(), tokenizer.vocab_size(), engine.model_info().context_tokens);
  append_json_string(out, engine.chat_template().source());
  return out + "}";
}

}  // namespace ridge::api
