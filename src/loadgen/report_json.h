#pragma once

#include <nlohmann/json_fwd.hpp>

#include "loadgen/report.h"

namespace ridge::loadgen {

// {"duration_s","requests","ok",...,"ttft_ms":{"mean","p50",...},...,"groups":[...]}. Speeds are
// over duration_s, which for a group is that of the whole run.
nlohmann::ordered_json report_json(const Report& report);

}  // namespace ridge::loadgen
