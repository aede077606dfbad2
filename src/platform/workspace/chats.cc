#include "platform/workspace/chats.h"

#include <fmt/format.h>
#include <soci/soci.h>

#include <algorithm>

#include "base/error.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

constexpr std::size_t most_id_bytes = 64;

Error no_chat(const std::string& id) {
  return Error(ErrorCode::not_found,
               fmt::format("there is no chat '{}' of yours", id.substr(0, most_id_bytes)));
}

void check_id(const std::string& id) {
  const bool is_good = !id.empty() && id.size() <= most_id_bytes &&
                       std::ranges::all_of(id, [](char c) {
                         return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                (c >= '0' && c <= '9') || c == '_' || c == '-';
                       });
  if (is_good) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("the id of a chat must be 1 to {} of the characters A-Z a-z 0-9 _ -",
                          most_id_bytes),
              "id");
}

void check_title(const std::string& title) {
  const bool has_control =
      std::ranges::any_of(title, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (title.size() <= Chats::most_title_bytes && !has_control && rows::is_utf8(title)) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("the title must be at most {} bytes of UTF-8 without control characters",
                          Chats::most_title_bytes),
              "title");
}

// Beside the chat of this id.
void check_room(soci::session& session, const std::string& user_id, const std::string& id,
                int64_t bytes) {
  int64_t chats = 0, others = 0;
  session << "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM chats WHERE user_id = :user AND "
             "id <> :id",
      soci::use(user_id), soci::use(id), soci::into(chats), soci::into(others);
  if (chats >= Chats::most_chats) {
    throw Error(ErrorCode::payload_too_large,
                fmt::format("you keep {} chats, which is the most; delete one first", chats));
  }
  if (others + bytes > Chats::most_bytes) {
    throw Error(ErrorCode::payload_too_large,
                fmt::format("your chats would have {} bytes, and the most is {}; delete one first",
                            others + bytes, Chats::most_bytes));
  }
}

void check_user(soci::session& session, const std::string& user_id) {
  std::string found;
  session << "SELECT id FROM users WHERE id = :id AND removed_at_ms IS NULL", soci::use(user_id),
      soci::into(found);
  if (!session.got_data()) {
    throw Error(ErrorCode::not_found, "there is no such user any more");
  }
}

}  // namespace

Chats::Chats(Database& database, Identity::NowMs now_ms)
    : database_(database), now_ms_(Identity::clock_of(database, std::move(now_ms))) {}

std::vector<ChatSummary> Chats::list(const std::string& user_id) {
  return database_.read([&](soci::session& session) {
    std::vector<ChatSummary> chats;
    ChatSummary row;
    soci::statement select =
        (session.prepare << "SELECT id, title, bytes, created_at_ms, updated_at_ms FROM chats "
                            "WHERE user_id = :user ORDER BY updated_at_ms DESC, id",
         soci::use(user_id), soci::into(row.id), soci::into(row.title), soci::into(row.bytes),
         soci::into(row.created_at_ms), soci::into(row.updated_at_ms));
    select.execute();
    while (select.fetch()) chats.push_back(row);
    return chats;
  });
}

Chat Chats::get(const std::string& user_id, const std::string& id) {
  return database_.read([&](soci::session& session) {
    Chat chat;
    chat.id = id;
    session << "SELECT title, bytes, messages, created_at_ms, updated_at_ms FROM chats WHERE "
               "user_id = :user AND id = :id",
        soci::use(user_id), soci::use(id), soci::into(chat.title), soci::into(chat.bytes),
        soci::into(chat.messages), soci::into(chat.created_at_ms), soci::into(chat.updated_at_ms);
    if (!session.got_data()) throw no_chat(id);
    return chat;
  });
}

ChatSummary Chats::put(const std::string& user_id, const std::string& id, const std::string& title,
                       const std::string& messages) {
  check_id(id);
  check_title(title);
  if (messages.size() > most_messages_bytes) {
    throw Error(ErrorCode::payload_too_large,
                fmt::format("the messages have {} bytes; a chat keeps at most {}", messages.size(),
                            most_messages_bytes),
                "messages");
  }
  ChatSummary chat{.id = id, .title = title, .bytes = static_cast<int64_t>(messages.size())};
  database_.write([&](soci::session& session) {
    check_user(session, user_id);
    check_room(session, user_id, id, chat.bytes);
    chat.updated_at_ms = chat.created_at_ms = now_ms_();
    session << "SELECT created_at_ms FROM chats WHERE user_id = :user AND id = :id",
        soci::use(user_id), soci::use(id), soci::into(chat.created_at_ms);
    session << "INSERT INTO chats (user_id, id, title, messages, bytes, created_at_ms, "
               "updated_at_ms) VALUES (:user, :id, :title, :messages, :bytes, :made, :changed) "
               "ON CONFLICT (user_id, id) DO UPDATE SET title = excluded.title, messages = "
               "excluded.messages, bytes = excluded.bytes, updated_at_ms = excluded.updated_at_ms",
        soci::use(user_id), soci::use(id), soci::use(title), soci::use(messages),
        soci::use(chat.bytes), soci::use(chat.created_at_ms), soci::use(chat.updated_at_ms);
  });
  return chat;
}

void Chats::remove(const std::string& user_id, const std::string& id) {
  database_.write([&](soci::session& session) {
    soci::statement remove =
        (session.prepare << "DELETE FROM chats WHERE user_id = :user AND id = :id",
         soci::use(user_id), soci::use(id));
    remove.execute(true);
    if (remove.get_affected_rows() == 0) throw no_chat(id);
  });
}

}  // namespace ridge::platform
