#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "api/json_text.h"

namespace ridge::api {

// The events that make a response, numbered from 0
// (https://platform.openai.com/docs/api-reference/responses-streaming).
class ResponseEvents {
 public:
  // Events up to this number are counted, but not written: a client has them already.
  explicit ResponseEvents(int64_t starting_after = -1) : starting_after_(starting_after) {}

  // What tells an item from others.
  struct Item {
    std::string_view type;  // message, reasoning or function_call
    std::string_view id;
    std::size_t index = 0;  // in the output
  };

  // response.created and response.in_progress, of a response without its output.
  void begin(std::string& out, const Json& response);
  // `item` without its text.
  void open(std::string& out, std::size_t index, const Json& item);
  // `logprobs` counts for messages only; an array.
  void extend(std::string& out, const Item& item, std::string_view piece, const Json& logprobs);
  // `item` is whole.
  void close(std::string& out, std::size_t index, const Json& item);
  // response.completed, response.incomplete or response.failed, as its status is.
  void end(std::string& out, const Json& response);

 private:
  void append(std::string& out, const std::string& type, const Json& members);

  const int64_t starting_after_;
  int64_t events_ = 0;
};

// The part of a message or a reasoning item that holds its text.
Json response_content(std::string_view item_type, std::string_view text, Json logprobs);

}  // namespace ridge::api
