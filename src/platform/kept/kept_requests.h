#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "platform/database/database.h"

namespace ridge::platform {

// A request with what was asked and answered. Times are milliseconds since 1970.
struct KeptRequest {
  int64_t number = 0;      // counts up in the order in which requests end
  std::string request_id;  // as the client and the log have it; it may come twice
  std::string project_id, project;
  std::string key_id, key;  // of who had signed in, the user
  std::string user_id;      // of the key's owner or who had signed in; empty: a project's own key
  std::string model;        // as it was asked, which may be an endpoint
  std::string endpoint;     // "/v1/chat/completions"
  int64_t at_ms = 0;        // when it came
  std::string finish_reason;
  int64_t bytes = 0;   // that count for the most of a project
  std::string prompt;  // the body as it was sent, JSON; or where it is cut, its beginning
  std::string answer;  // a JSON array with an object for each choice
  bool prompt_is_cut = false, answer_is_cut = false;
};

// Which are read, the newest first; those that their project no longer keeps are among none.
struct KeptQuery {
  std::string project;     // of this one alone; empty: of all
  std::string key, model;  // likewise
  std::string request_id;
  int64_t from_ms = 0, until_ms = std::numeric_limits<int64_t>::max();
  std::optional<int64_t> number;  // this one alone
  std::optional<int64_t> before;  // those before the one with this number
  // Where there is one: of this person, of services and of keys that nobody owns; not of other
  // people.
  std::optional<std::string> reader_id;
  int most = 100;
};

// Prompts and answers of the projects that have chosen to keep them (Identity::set_keep_days). Each
// is bounded in size, as is what a project keeps; the oldest make room for the newest. Throws as
// Database.
class KeptRequests {
 public:
  static constexpr std::size_t most_prompt_bytes = 256u << 10, most_answer_bytes = 256u << 10;
  // Of one project.
  static constexpr int64_t usual_most_bytes = int64_t{1} << 30;

  explicit KeptRequests(Database& database, int64_t most_project_bytes = usual_most_bytes);

  // Those whose project keeps them at this moment; returns how many these are. Not on the disk yet
  // when it returns.
  int add(std::span<const KeptRequest> requests);

  // Without prompts and answers.
  std::vector<KeptRequest> list(const KeptQuery& query);
  // With them. That `actor` has read them goes into the audit log first, once for each project.
  std::vector<KeptRequest> read(const KeptQuery& query, std::string_view actor);

  // Takes one away, which the audit log has as well; false where there is none with this number.
  bool remove(int64_t number, std::string_view actor);

  // Takes away what the project keeps no more: all where it keeps nothing, else what is too old;
  // some at a time, so that servers at work hardly wait. Returns how many there were, which the
  // audit log has as well where there is an `actor`.
  int64_t forget_unkept(const std::string& project_id, std::string_view actor,
                        const std::stop_token& stop = {});
  // The same of all projects, as time passes.
  int64_t forget_unkept(const std::stop_token& stop = {});

 private:
  std::vector<KeptRequest> select(const KeptQuery& query, bool with_texts);

  Database& database_;
  const int64_t most_project_bytes_;
};

}  // namespace ridge::platform
