#pragma once

#include <string>
#include <string_view>

#include "api/answer.h"

namespace ridge::api {

// What chat completions and completions have in common.

// The document up to its choices, or what stands in front of those in each event of a stream:
// {"id","object","created","model","system_fingerprint"
std::string open_document(const AnswerHead& head, std::string_view object);

// Behind the choices of an event: where usage comes at the end, it is null before.
std::string_view event_closing(bool include_usage);

// The end of a stream: usage, where it is wanted, and [DONE]. `opening` begins each event.
void append_stream_end(std::string& out, std::string_view opening, bool include_usage,
                       const engine::Usage& usage);

}  // namespace ridge::api
