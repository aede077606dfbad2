// Any text as an answer: split into reasoning, content and calls of tools, it has the same parts
// in one piece, byte by byte, and cut anywhere else.
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/reasoning.h"
#include "text/tool_calls.h"

namespace ridge::text {
namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

struct Call {
  std::string name;
  std::string arguments;
  bool operator==(const Call&) const = default;
};

struct Parts {
  std::string reasoning;
  std::string content;
  std::vector<Call> calls;
  bool operator==(const Parts&) const = default;
};

// As engine::Answer joins them.
class Splitter {
 public:
  Splitter(ReasoningMode mode, ToolStyle style)
      : reasoning_(mode), calls_(style, {{"get_weather", {{"city", string_value}}}, {"get_time", {}}, {"f", {}}}) {}

  void push(std::string_view text) { add(reasoning_.push(text)); }
  Parts finish() {
    add(reasoning_.flush());
    add(calls_.flush());
    require(calls_.begun() == static_cast<int>(parts_.calls.size()));
    require(calls_.ended() <= calls_.begun());
    return parts_;
  }

 private:
  void add(const ReasoningDelta& delta) {
    parts_.reasoning += delta.reasoning;
    add(calls_.push(delta.content));
  }
  void add(const AnswerPieces& pieces) {
    for (const AnswerPiece& any : pieces) {
      if (const auto* content = std::get_if<std::string>(&any)) {
        require(!content->empty());
        parts_.content += *content;
        continue;
      }
      const auto& piece = std::get<ToolCallPiece>(any);
      const bool is_next = piece.index == static_cast<int>(parts_.calls.size());
      require(piece.begins == is_next);
      require(piece.begins != piece.name.empty());
      if (piece.begins) parts_.calls.push_back({piece.name, {}});
      require(piece.index + 1 == static_cast<int>(parts_.calls.size()));
      parts_.calls.back().arguments += piece.arguments;
    }
  }

  ReasoningSplitter reasoning_;
  ToolCallParser calls_;
  Parts parts_;
};

}  // namespace
}  // namespace ridge::text

// The first byte says how the answer is read, the second one how it is cut; the rest is its text.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using namespace ridge::text;
  if (size < 2) return 0;
  const int how = (data[0] - '0' + 12 * 256) % 12;
  const auto style = static_cast<ToolStyle>(how % 4);
  const auto mode = static_cast<ReasoningMode>(how / 4);
  std::minstd_rand random(data[1] + 1u);
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);

  Splitter whole(mode, style), bytes(mode, style), pieces(mode, style);
  whole.push(text);
  for (const char byte : text) bytes.push(std::string_view(&byte, 1));
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view piece = rest.substr(0, random() % 24);
    pieces.push(piece);
    rest.remove_prefix(piece.size());
  }
  const Parts parts = whole.finish();
  require(bytes.finish() == parts);
  require(pieces.finish() == parts);
  return 0;
}
