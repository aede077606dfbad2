#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "platform/database/database.h"
#include "platform/identity/identity.h"

namespace ridge::platform {

struct ChatSummary {
  std::string id;  // the client's: 1 to 64 of A-Z a-z 0-9 _ -
  std::string title;
  int64_t bytes = 0;  // of the messages
  int64_t created_at_ms = 0, updated_at_ms = 0;
};

struct Chat : ChatSummary {
  std::string messages;  // a JSON array
};

// Conversations that people keep; each has one owner, to whom alone they are there. They go with
// the owner. Beyond Database's errors, they throw as said.
class Chats {
 public:
  static constexpr std::size_t most_title_bytes = 200;
  static constexpr std::size_t most_messages_bytes = 1u << 20;
  // Of one person.
  static constexpr int64_t most_chats = 500;
  static constexpr int64_t most_bytes = 64 << 20;

  explicit Chats(Database& database, Identity::NowMs now_ms = {});

  std::vector<ChatSummary> list(const std::string& user_id);  // what was changed last first
  // Throws not_found.
  Chat get(const std::string& user_id, const std::string& id);
  // Makes it, or takes the place of what it was. Throws invalid_argument for a bad id or title,
  // payload_too_large where the messages or all that the user keeps would be too much, not_found
  // where there is no such user.
  ChatSummary put(const std::string& user_id, const std::string& id, const std::string& title,
                  const std::string& messages);
  // Throws not_found.
  void remove(const std::string& user_id, const std::string& id);

 private:
  Database& database_;
  Identity::NowMs now_ms_;
};

}  // namespace ridge::platform
