#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ridge::loadgen {

// Reads server-sent events as they arrive, in pieces of any size
// (https://html.spec.whatwg.org/multipage/server-sent-events.html, "Interpreting an event stream").
// Names and ids of events are not kept: no OpenAI-compatible server needs them here.
class EventStream {
 public:
  static constexpr size_t largest_event_bytes = 16u << 20;

  // The data of each event that `bytes` completes. Throws invalid_argument for an event that is
  // larger than any answer.
  std::vector<std::string> feed(std::string_view bytes);

 private:
  void take_line(std::string_view line, std::vector<std::string>& events);

  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_return_ = false;  // a line that ended with CR may go on with the LF of the same end
};

}  // namespace ridge::loadgen
