#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "text/callable_tool.h"

namespace ridge::text {

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
