#include "platform/kept/kept_requests.h"

#include <fmt/format.h>
#include <soci/soci.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "platform/identity/identity.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

constexpr int64_t day_ms = 86'400'000;
constexpr int64_t row_bytes = 400;  // beside the texts, about
// While they are, nobody else writes.
constexpr int taken_away_at_once = 200;
constexpr int64_t bytes_at_once = 4 << 20;
constexpr std::chrono::milliseconds others_turn{5};

int64_t bytes_of(const KeptRequest& request) {
  return row_bytes + static_cast<int64_t>(request.prompt.size() + request.answer.size());
}

struct Keeping {
  int64_t days = 0, bytes = 0, added_bytes = 0;
};

// Nothing is kept where the project is gone.
Keeping keeping_of(soci::session& session, const std::string& project_id) {
  Keeping keeping;
  session << "SELECT keep_days, kept_bytes FROM projects WHERE id = :id", soci::use(project_id),
      soci::into(keeping.days), soci::into(keeping.bytes);
  return keeping;
}

void add_bytes(soci::session& session, const std::string& project_id, int64_t bytes) {
  session << "UPDATE projects SET kept_bytes = kept_bytes + :bytes WHERE id = :id",
      soci::use(bytes), soci::use(project_id);
}

void insert(soci::session& session, const KeptRequest& request) {
  const int64_t bytes = bytes_of(request), prompt_is_cut = request.prompt_is_cut ? 1 : 0,
                answer_is_cut = request.answer_is_cut ? 1 : 0;
  session << "INSERT INTO kept_requests (project_id, at_ms, request_id, key_id, key_name, user_id, "
             "model, endpoint, finish_reason, bytes, prompt_is_cut, answer_is_cut, prompt, answer) "
             "VALUES (:project, :at, :request, :key, :name, :user, :model, :endpoint, :reason, "
             ":bytes, :cut, :short, :prompt, :answer)",
      soci::use(request.project_id), soci::use(request.at_ms), soci::use(request.request_id),
      soci::use(request.key_id), soci::use(request.key), soci::use(request.user_id),
      soci::use(request.model), soci::use(request.endpoint), soci::use(request.finish_reason),
      soci::use(bytes), soci::use(prompt_is_cut), soci::use(answer_is_cut),
      soci::use(request.prompt), soci::use(request.answer);
}

struct TakenAway {
  int64_t requests = 0, bytes = 0;
};

// The first of what the project keeps of requests before `until_ms`: `most` of them, or fewer where
// these have `enough_bytes`.
TakenAway take_away_some(soci::session& session, const std::string& project_id, int64_t until_ms,
                         int most, int64_t enough_bytes) {
  TakenAway away;
  int64_t number = 0, bytes = 0, last = 0;
  {
    soci::statement select =
        (session.prepare << "SELECT number, bytes FROM kept_requests WHERE project_id = :project "
                            "AND at_ms < :until ORDER BY number LIMIT :most",
         soci::use(project_id), soci::use(until_ms), soci::use(most), soci::into(number),
         soci::into(bytes));
    select.execute();
    while (away.bytes < enough_bytes && select.fetch()) {
      last = number;
      ++away.requests;
      away.bytes += bytes;
    }
  }
  if (away.requests == 0) return away;
  session << "DELETE FROM kept_requests WHERE project_id = :project AND at_ms < :until AND number "
             "<= :last",
      soci::use(project_id), soci::use(until_ms), soci::use(last);
  add_bytes(session, project_id, -away.bytes);
  return away;
}

constexpr int64_t any_time = std::numeric_limits<int64_t>::max(), any_number = any_time;

}  // namespace

KeptRequests::KeptRequests(Database& database, int64_t most_project_bytes)
    : database_(database), most_project_bytes_(most_project_bytes) {}

int KeptRequests::add(std::span<const KeptRequest> requests) {
  const auto work = [&](soci::session& session) {
    int added = 0;
    std::map<std::string, Keeping> projects;
    for (const KeptRequest& request : requests) {
      const auto [project, is_new] = projects.try_emplace(request.project_id);
      Keeping& keeping = project->second;
      if (is_new) keeping = keeping_of(session, request.project_id);
      if (keeping.days == 0) continue;
      insert(session, request);
      keeping.added_bytes += bytes_of(request);
      ++added;
    }
    for (auto& [id, keeping] : projects) {
      if (keeping.added_bytes > 0) add_bytes(session, id, keeping.added_bytes);
      keeping.bytes += keeping.added_bytes;
      while (keeping.days > 0 && keeping.bytes > most_project_bytes_) {
        const TakenAway away = take_away_some(session, id, any_time, taken_away_at_once,
                                              keeping.bytes - most_project_bytes_);
        keeping.bytes -= away.bytes;
        if (away.requests == 0) break;
      }
    }
    return added;
  };
  return database_.write(work, Durability::after_sync);
}

std::vector<KeptRequest> KeptRequests::list(const KeptQuery& query) {
  return select(query, /*with_texts=*/false);
}

std::vector<KeptRequest> KeptRequests::read(const KeptQuery& query, std::string_view actor) {
  std::vector<KeptRequest> requests = select(query, /*with_texts=*/true);
  struct Of {
    std::string name;
    int64_t requests = 0, first = 0, last = 0;
  };
  std::map<std::string, Of> projects;
  for (const KeptRequest& request : requests) {
    Of& of = projects[request.project_id];
    of.name = request.project;
    if (of.requests++ == 0) of.last = request.number;
    of.first = request.number;
  }
  if (projects.empty()) return requests;
  database_.write([&](soci::session& session) {
    for (const auto& [id, of] : projects) {
      const nlohmann::json details = {
          {"project", of.name}, {"requests", of.requests}, {"first", of.first}, {"last", of.last}};
      rows::record_event(session, database_.now_ms(), actor, "kept.read", id, details.dump());
    }
  });
  return requests;
}

bool KeptRequests::remove(int64_t number, std::string_view actor) {
  return database_.write([&](soci::session& session) {
    std::string project_id, request_id;
    int64_t bytes = 0;
    session << "DELETE FROM kept_requests WHERE number = :number RETURNING project_id, request_id, "
               "bytes",
        soci::use(number), soci::into(project_id), soci::into(request_id), soci::into(bytes);
    if (!session.got_data()) return false;
    add_bytes(session, project_id, -bytes);
    const nlohmann::json details = {{"number", number}, {"request", request_id}};
    rows::record_event(session, database_.now_ms(), actor, "kept.remove", project_id,
                       details.dump());
    return true;
  });
}

std::vector<KeptRequest> KeptRequests::select(const KeptQuery& query, bool with_texts) {
  const int64_t now_ms = database_.now_ms(), first = query.number.value_or(0),
                last = query.number.value_or(any_number),
                before = query.before.value_or(any_number);
  const int reads_all = query.reader_id ? 0 : 1;
  const std::string reader = query.reader_id.value_or("");
  const std::string text = fmt::format(
      "SELECT k.number, k.project_id, p.name, k.at_ms, k.request_id, k.key_id, k.key_name, "
      "k.user_id, k.model, k.endpoint, k.finish_reason, k.bytes, k.prompt_is_cut, "
      "k.answer_is_cut, {} FROM kept_requests k JOIN projects p ON p.id = k.project_id WHERE "
      "k.number >= :first AND k.number <= :last AND k.number < :before AND k.at_ms >= :from AND k.at_ms < :until AND "
      "k.at_ms > :now - p.keep_days * {} AND ('' = :project OR p.name = :project) AND ('' = :key "
      "OR "
      "k.key_name = :key) AND ('' = :model OR k.model = :model) AND ('' = :request OR k.request_id "
      "= :request) AND (1 = :all OR k.user_id IN ('', :reader) OR k.user_id IN (SELECT id FROM "
      "users WHERE kind = 'service')) ORDER BY k.number DESC LIMIT :most",
      with_texts ? "k.prompt, k.answer" : "'', ''", day_ms);
  return database_.read([&](soci::session& session) {
    std::vector<KeptRequest> requests;
    KeptRequest row;
    int64_t prompt_is_cut = 0, answer_is_cut = 0;
    soci::statement select =
        (session.prepare << text, soci::use(first, "first"), soci::use(last, "last"),
         soci::use(before, "before"),
         soci::use(query.from_ms, "from"), soci::use(query.until_ms, "until"),
         soci::use(now_ms, "now"), soci::use(query.project, "project"), soci::use(query.key, "key"),
         soci::use(query.model, "model"), soci::use(query.request_id, "request"),
         soci::use(reads_all, "all"), soci::use(reader, "reader"), soci::use(query.most, "most"),
         soci::into(row.number), soci::into(row.project_id), soci::into(row.project),
         soci::into(row.at_ms), soci::into(row.request_id), soci::into(row.key_id),
         soci::into(row.key), soci::into(row.user_id), soci::into(row.model),
         soci::into(row.endpoint), soci::into(row.finish_reason), soci::into(row.bytes),
         soci::into(prompt_is_cut), soci::into(answer_is_cut), soci::into(row.prompt),
         soci::into(row.answer));
    select.execute();
    while (select.fetch()) {
      row.prompt_is_cut = prompt_is_cut != 0;
      row.answer_is_cut = answer_is_cut != 0;
      requests.push_back(row);
    }
    return requests;
  });
}

int64_t KeptRequests::forget_unkept(const std::string& project_id, std::string_view actor,
                                    const std::stop_token& stop) {
  const int64_t now_ms = database_.least_now_ms();
  int64_t requests = 0;
  while (!stop.stop_requested()) {
    const TakenAway away = database_.write([&](soci::session& session) {
      const int64_t days = keeping_of(session, project_id).days;
      const int64_t until_ms = days == 0 ? any_time : now_ms - days * day_ms + 1;
      return take_away_some(session, project_id, until_ms, taken_away_at_once, bytes_at_once);
    });
    if (away.requests == 0) break;
    requests += away.requests;
    std::this_thread::sleep_for(others_turn);
  }
  if (requests > 0 && !actor.empty()) {
    database_.write([&](soci::session& session) {
      const nlohmann::json details = {{"requests", requests}};
      rows::record_event(session, database_.now_ms(), actor, "kept.forget", project_id,
                         details.dump());
    });
  }
  return requests;
}

int64_t KeptRequests::forget_unkept(const std::stop_token& stop) {
  const int64_t now_ms = database_.least_now_ms();
  const auto projects = database_.read([&](soci::session& session) {
    std::vector<std::string> ids;
    std::string id;
    soci::statement select =
        (session.prepare << "SELECT p.id FROM projects p WHERE EXISTS (SELECT 1 FROM kept_requests "
                            "k WHERE k.project_id = p.id AND (p.keep_days = 0 OR k.at_ms <= :now - "
                            "p.keep_days * 86400000))",
         soci::use(now_ms), soci::into(id));
    select.execute();
    while (select.fetch()) ids.push_back(id);
    return ids;
  });
  int64_t requests = 0;
  for (const std::string& id : projects) requests += forget_unkept(id, /*actor=*/"", stop);
  return requests;
}

}  // namespace ridge::platform
