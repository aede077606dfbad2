#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "text/callable_tool.h"

namespace ridge::text {

// Whether a keyword says nothing of which values there may be (JSON Schema 2020-12, Validation 9
// and Core 8.3).
bool is_annotation(std::string_view keyword);

// What `schema`, a part of `root`, stands for: follows "$ref" within `root` and an "allOf" of one,
// where nothing stands beside them that narrows it. What leads nowhere, or in circles, stays.
const nlohmann::ordered_json& resolved(const nlohmann::ordered_json& schema,
                                       const nlohmann::ordered_json& root);

// Schemas looked at for one tool: schemas that refer to each other several times grow with powers.
inline constexpr int most_schemas = 10'000;

// The types that values may have under `schema`, a part of `root`; any_value where it does not say,
// or where `budget` schemas have been looked at.
ValueTypes types_under(const nlohmann::ordered_json& schema, const nlohmann::ordered_json& root,
                       int& budget);

ValueTypes type_of(const nlohmann::ordered_json& value);

}  // namespace ridge::text
