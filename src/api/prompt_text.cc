#include "api/prompt_text.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace ridge::api {
namespace {

PromptText parse_prompt(const Json& value, const std::string& path) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array() && !value.empty() && value[0].is_number()) return parse_ids(value, path);
  refuse_field(path, value, "a string or an array of token ids");
}

}  // namespace

std::vector<int32_t> parse_ids(const Json& array, const std::string& path) {
  std::vector<int32_t> ids;
  ids.reserve(array.size());
  for (std::size_t i = 0; i < array.size(); ++i) {
    const Json& id = array[i];
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      refuse_field(fmt::format("{}[{}]", path, i), id, "a token id, a whole number from 0");
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

std::vector<PromptText> parse_prompts(const Fields& body, const std::string& name,
                                      std::size_t most) {
  const Json* prompt = body.find(name);
  const std::string path = body.path_of(name);
  if (prompt == nullptr) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is missing; it must be a string, an array of token ids, or an "
                            "array of these",
                            path),
                path);
  }
  const bool several = prompt->is_array() && !prompt->empty() && !(*prompt)[0].is_number();
  if (!several) return {parse_prompt(*prompt, path)};
  if (prompt->size() > most) {
    refuse_field(path, *prompt, fmt::format("an array of at most {}", most));
  }
  std::vector<PromptText> prompts;
  for (std::size_t i = 0; i < prompt->size(); ++i) {
    prompts.push_back(parse_prompt((*prompt)[i], fmt::format("{}[{}]", path, i)));
  }
  return prompts;
}

}  // namespace ridge::api
