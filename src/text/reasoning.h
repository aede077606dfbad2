#pragma once

#include <string>
#include <string_view>

namespace ridge::text {

inline constexpr std::string_view think_open_tag = "<think>";
inline constexpr std::string_view think_close_tag = "</think>";

enum class ReasoningMode {
  // The model does not reason: everything is content, tags included.
  none,
  // The answer begins inside the reasoning, because the prompt ended with `<think>` or the model is
  // trained to reason first (R1 with an older template). The rules of vLLM's `deepseek_r1` parser.
  starts_inside,
  // The answer is reasoning only if its first text, white space aside, is `<think>` (Qwen 3 and
  // other models that may reason).
  optional,
};

struct ReasoningDelta {
  std::string reasoning;
  std::string content;
  bool empty() const { return reasoning.empty() && content.empty(); }
};

// Splits an answer into reasoning and content while it streams. The rules of `starts_inside`:
// an opening tag at the start is dropped, with white space before it; the first `</think>` ends the
// reasoning; without one all of it is reasoning. A tag that is split over several deltas is held
// back, never shown in part. Newlines at the start of the reasoning and of the content are left out
// (vLLM keeps them; DeepSeek's own service does not send them).
class ReasoningSplitter {
 public:
  explicit ReasoningSplitter(ReasoningMode mode);

  ReasoningDelta push(std::string_view text);
  // The end of the answer: gives out what was held back as a possible tag.
  ReasoningDelta flush();

  // What comes is content, tags and newlines included; for an answer that has not begun.
  void begin_content();
  // Of the newlines between reasoning and content only so many are left out, in all.
  void leave_out_at_most(std::size_t newlines) { most_left_out_ = newlines; }
  // Newlines that were left out between reasoning and content so far.
  std::size_t newlines_left_out() const { return left_out_; }

  bool in_reasoning() const {
    return phase_ == Phase::reasoning || phase_ == Phase::before_reasoning;
  }
  // True once the closing tag was seen, or from the start where the model does not reason. Grammars
  // begin here.
  bool in_content() const { return phase_ == Phase::content; }

 private:
  enum class Phase { undecided, before_reasoning, reasoning, content };

  void advance(ReasoningDelta& delta, bool ended);
  bool pass_opening_tag(bool ended);
  void give_out(std::string& out, std::size_t size);

  Phase phase_;
  bool trims_newlines_ = true;  // nothing of the present part was given out yet
  std::size_t left_out_ = 0;
  std::size_t most_left_out_ = std::string::npos;
  std::string held_;  // text not yet given out
};

}  // namespace ridge::text
