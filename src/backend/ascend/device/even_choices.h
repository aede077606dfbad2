#pragma once

#include <cstdint>
#include <vector>

namespace ridge::backend::ascend {

// Which experts tokens choose where no router computes it: each choice takes the expert behind the last one's,
// so that as many have work as can, and equally much. And what ridge_sort_experts makes of that.
struct EvenChoices {
  // None where `experts` is 0.
  EvenChoices(uint32_t experts, uint32_t choices, uint32_t choices_of_row) {
    if (experts == 0) return;
    const uint32_t of_each = choices / experts, more = choices % experts;
    // The first `more` experts have one choice more than the others.
    for (uint32_t e = 0; e <= experts; ++e) {
      starts.push_back(static_cast<int32_t>(e * of_each + (e < more ? e : more)));
    }
    rows.resize(choices);
    for (uint32_t c = 0; c < choices; ++c) {
      const uint32_t expert = c % experts;
      const int32_t place = starts[expert] + static_cast<int32_t>(c / experts);
      ids.push_back(static_cast<int32_t>(expert));
      places.push_back(place);
      rows[static_cast<uint32_t>(place)] = static_cast<int32_t>(c / choices_of_row);
    }
  }

  std::vector<int32_t> ids;     // [choices]
  std::vector<int32_t> starts;  // [experts + 1]
  std::vector<int32_t> rows;    // [choices], of x
  std::vector<int32_t> places;  // [choices]
};

}  // namespace ridge::backend::ascend
