#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace ridge::engine {

// Guesses how a sequence goes on from what followed the same tokens earlier in it: in edits, code,
// quotations and lists much repeats (Saxena, "Prompt lookup decoding", 2023; Oliaro et al.,
// "SuffixDecoding", arXiv 2411.04975).
class SuffixDrafter {
 public:
  static constexpr int least_match = 3;  // tokens that must have been the same

  struct Draft {
    std::span<const int32_t> tokens;  // of `sequence`; may be empty
    int match_length = 0;             // tokens before them that were the same, up to most_match
  };
  // At most `most` tokens. `sequence` is the same one at each call, grown at its end or cut there.
  Draft propose(std::span<const int32_t> sequence, int most);

 private:
  static constexpr int most_match = 32;
  static constexpr int most_places = 8;  // that are compared

  void index(std::span<const int32_t> sequence);

  // Where the last least_match tokens were seen last: hash → the end of those tokens.
  std::unordered_map<uint64_t, int32_t> latest_;
  std::vector<int32_t> previous_;  // end → the end of the same tokens before that, or -1
  int indexed_ = 0;                // ends below this are in the index
};

}  // namespace ridge::engine
