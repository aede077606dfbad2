#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "loadgen/load_run.h"

namespace ridge::loadgen {

// An SVG picture of a run: for the time to the first token, between tokens, and of whole answers,
// which share of them was at most so long; and the tokens of each moment. One curve for each group.
// Needs nothing but the fonts of whatever shows it.
std::string plot_svg(std::string_view title, const RunResult& result,
                     const std::vector<Group>& groups);

}  // namespace ridge::loadgen
