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

// What the pictures are made of, for tests.

// 1, 2 or 5 times a power of ten: the marks of a logarithmic axis that begins at the last one that
// is at most `least` and ends at the first that is at least `most`; at least two. Above 0 both.
std::vector<double> logarithmic_marks(double least, double most);
// From 0 in equal steps of 1, 2 or 5 times a power of ten to at least `most`; 4 to 11 of them.
std::vector<double> linear_marks(double most);

}  // namespace ridge::loadgen
