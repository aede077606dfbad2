#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/answer.h"
#include "api/json_text.h"

namespace ridge::api {

// An answer of one choice as a list of parts that follow each other: thoughts, text, calls of
// tools. Formats that number their parts and tell where each begins and ends are made of it.
class PartedAnswer : public Answer {
 public:
  void add(int choice, const engine::Delta& delta, std::string& out) final;
  void finish_choice(int choice, engine::FinishReason reason, std::string& out) final;

 protected:
  enum class Kind { reasoning, text, call };
  struct Part {
    Kind kind = Kind::text;
    std::size_t index = 0;  // among the parts
    std::string id;         // of what the format makes of it
    std::string call_id;    // of a call
    std::string name;       // of a call
    std::string text;       // so far; the arguments of a call
    std::string logprobs;   // what the format makes of those of a text
  };

  // Called in order; each part is closed before the next is opened. A call may stay empty, others
  // do not. What they append is sent at once.
  virtual void open_part(Part& part, std::string& out) = 0;
  // `tokens` came with a text, where logprobs were asked for.
  virtual void extend_part(Part& part, std::string_view piece,
                           std::span<const engine::TokenInfo> tokens, std::string& out) = 0;
  virtual void close_part(const Part& part, std::string& out) = 0;

  const std::vector<Part>& parts() const { return parts_; }
  // How the answer ended, from finish on.
  engine::FinishReason reason() const { return reason_; }
  const std::string& stop_sequence() const { return stop_sequence_; }

 private:
  void open(Kind kind, const std::string& name, std::string& out);
  void extend(Kind kind, std::string_view piece, std::span<const engine::TokenInfo> tokens,
              std::string& out);
  void close(std::string& out);

  std::vector<Part> parts_;
  bool is_open_ = false;  // the last one
  engine::FinishReason reason_ = engine::FinishReason::stop;
  std::string stop_sequence_;
};

// The arguments of a call as an object. What a model wrote wrongly, or had no room to finish, is
// kept as {"invalid_json": "…"}: clients of these formats cannot read anything but objects.
Json arguments_object(const std::string& text);

}  // namespace ridge::api
