#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "text/callable_tool.h"

namespace ridge::text {

// What `schema`, a part of `root`, stands for: follows "$ref" within `root` and an "allOf" of one,
// where nothing stands beside them that narrows it. What leads nowhere, or in circles, stays.
const nlohmann::ordered_json& resolved(const nlohmann::ordered_json& schema,
                                       const nlohmann::ordered_json& root);

// The types that values may have under `schema`, a part of `root`; any_value where it does not say.
ValueTypes types_under(const nlohmann::ordered_json& schema, const nlohmann::ordered_json& root);

ValueTypes type_of(const nlohmann::ordered_json& value);

}  // namespace ridge::text
