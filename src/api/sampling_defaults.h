#pragma once

#include <string_view>

#include "api/generation_fields.h"
#include "engine/engine.h"

namespace ridge::api {

// The sampling for requests that say nothing: temperature 0.6 and top_p 0.95 for DeepSeek-R1 and
// its distills, as their model cards advise (lower repeats itself, higher wanders off); OpenAI's
// defaults, 1 and 1, for all others. A model is known by the name
// in its file or that it is served under.
SamplingDefaults default_sampling(std::string_view served_name, const engine::ModelInfo& info);

}  // namespace ridge::api
