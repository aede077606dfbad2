#pragma once

#include <string>

#include "cli/context.h"
#include "loadgen/report.h"

namespace ridge::cli {

// A load's report for people: counts and speeds, then the times as a table, by group.
void print_report(const Context& context, const std::string& title, const loadgen::Report& report);

}  // namespace ridge::cli
