#include "api/openai_form.h"

#include <fmt/format.h>

#include <iterator>

#include "api/json_text.h"
#include "api/usage_json.h"

namespace ridge::api {

std::string open_document(const AnswerHead& head, std::string_view object) {
  std::string out = "{\"id\":";
  append_json_string(out, head.id);
  fmt::format_to(std::back_inserter(out), ",\"object\":\"{}\",\"created\":{},\"model\":", object,
                 head.created_s);
  append_json_string(out, head.model);
  out += ",\"system_fingerprint\":";
  append_json_string(out, head.fingerprint);
  return out;
}

std::string_view event_closing(bool include_usage) {
  return include_usage ? "],\"usage\":null}\n\n" : "]}\n\n";
}

void append_stream_end(std::string& out, std::string_view opening, bool include_usage,
                       const engine::Usage& usage) {
  if (include_usage) {
    out += opening;
    out += ",\"choices\":[],\"usage\":";
    append_usage(out, usage);
    out += "}\n\n";
  }
  out += done_event;
}

}  // namespace ridge::api
