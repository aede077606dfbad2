#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "api/fields.h"

namespace ridge::api {

// A text, or the token ids that stand for one.
using PromptText = std::variant<std::string, std::vector<int32_t>>;

// 1 to `most` texts from a member that holds a string, an array of token ids, or an array of
// these. Throws Error(invalid_argument) naming the element at fault. Ids are not negative; whether
// the model has them is not known here.
std::vector<PromptText> parse_prompts(const Fields& body, const std::string& name,
                                      std::size_t most);

// An array of token ids, which may be empty.
std::vector<int32_t> parse_ids(const Json& array, const std::string& path);

}  // namespace ridge::api
