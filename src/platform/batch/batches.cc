#include "platform/batch/batches.h"

#include <fmt/format.h>
#include <soci/soci.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "platform/identity/api_key_text.h"
#include "platform/identity/rows.h"

namespace ridge::platform {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(BatchError, code, message, param, line)

namespace {

using Json = nlohmann::json;

constexpr BatchStatus statuses[] = {BatchStatus::validating, BatchStatus::in_progress,
                                    BatchStatus::finalizing, BatchStatus::cancelling,
                                    BatchStatus::completed,  BatchStatus::failed,
                                    BatchStatus::expired,    BatchStatus::cancelled};

constexpr std::string_view open_ones =
    "status IN ('validating', 'in_progress', 'finalizing', 'cancelling')";

constexpr std::string_view batch_columns =
    "SELECT id, project_id, key_id, is_person, endpoint, input_file_id, output_file_id, "
    "error_file_id, output_lifetime_ms, metadata, status, errors, waits_code, waits_message, "
    "total, completed, failed, created_at_ms, expires_at_ms, in_progress_at_ms, finalizing_at_ms, "
    "completed_at_ms, failed_at_ms, expired_at_ms, cancelling_at_ms, cancelled_at_ms, runner, "
    "lease_ends_at_ms FROM batches ";

Error no_such_batch(const std::string& id) {
  return Error(ErrorCode::not_found, fmt::format("there is no batch '{}'", id.substr(0, 100)),
               "id");
}

// Binds what `batch_columns` selects.
struct BatchRow {
  Batch batch;
  int64_t is_person = 0, lease_ends_at_ms = 0;
  std::string status, errors, runner;

  template <typename Statement>
  auto bind(Statement&& statement) {
    return (std::forward<Statement>(statement), soci::into(batch.id), soci::into(batch.project_id),
            soci::into(batch.key_id), soci::into(is_person), soci::into(batch.endpoint),
            soci::into(batch.input_file_id), soci::into(batch.output_file_id),
            soci::into(batch.error_file_id), soci::into(batch.output_lifetime_ms),
            soci::into(batch.metadata), soci::into(status), soci::into(errors),
            soci::into(batch.waits_code), soci::into(batch.waits_message), soci::into(batch.total),
            soci::into(batch.completed), soci::into(batch.failed), soci::into(batch.created_at_ms),
            soci::into(batch.expires_at_ms), soci::into(batch.in_progress_at_ms),
            soci::into(batch.finalizing_at_ms), soci::into(batch.completed_at_ms),
            soci::into(batch.failed_at_ms), soci::into(batch.expired_at_ms),
            soci::into(batch.cancelling_at_ms), soci::into(batch.cancelled_at_ms),
            soci::into(runner), soci::into(lease_ends_at_ms));
  }

  Batch take() const {
    Batch taken = batch;
    taken.is_person = is_person != 0;
    const auto known = std::ranges::find(statuses, status, [](BatchStatus s) { return name(s); });
    if (known == std::end(statuses)) {
      throw Error(ErrorCode::internal, fmt::format("a batch has the status '{}'", status));
    }
    taken.status = *known;
    if (!errors.empty()) taken.errors = Json::parse(errors).get<std::vector<BatchError>>();
    return taken;
  }
};

std::optional<Batch> find_batch(soci::session& session, const std::string& id) {
  BatchRow row;
  row.bind((session << batch_columns << "WHERE id = :id", soci::use(id)));
  return session.got_data() ? std::optional(row.take()) : std::nullopt;
}

std::optional<Batch> find_batch(soci::session& session, const std::string& project,
                                const std::string& id) {
  auto found = find_batch(session, id);
  if (found && found->project_id != project) found.reset();
  return found;
}

void record(soci::session& session, int64_t now_ms, std::string_view actor, std::string_view action,
            const Batch& batch) {
  const Json details = {{"input_file_id", batch.input_file_id}, {"project", batch.project_id}};
  rows::record_event(session, now_ms, actor, action, batch.id, details.dump());
}

void insert(soci::session& session, const Batch& batch, const std::string& store) {
  const int64_t is_person = batch.is_person ? 1 : 0;
  session << "INSERT INTO batches (id, project_id, key_id, is_person, store, endpoint, "
             "input_file_id, output_file_id, error_file_id, output_lifetime_ms, metadata, status, "
             "errors, waits_code, waits_message, total, completed, failed, created_at_ms, "
             "expires_at_ms, in_progress_at_ms, finalizing_at_ms, completed_at_ms, failed_at_ms, "
             "expired_at_ms, cancelling_at_ms, cancelled_at_ms, runner, lease_ends_at_ms) VALUES "
             "(:id, :project, :key, :person, :store, :endpoint, :input, '', '', :lifetime, "
             ":metadata, 'validating', '', '', '', 0, 0, 0, :created, :expires, 0, 0, 0, 0, 0, 0, "
             "0, '', 0)",
      soci::use(batch.id), soci::use(batch.project_id), soci::use(batch.key_id),
      soci::use(is_person), soci::use(store), soci::use(batch.endpoint),
      soci::use(batch.input_file_id), soci::use(batch.output_lifetime_ms),
      soci::use(batch.metadata), soci::use(batch.created_at_ms), soci::use(batch.expires_at_ms);
}

// At most so many of those that are free, which come in the order of their age: first the oldest of
// each project that has none yet, then of those that have one, so that no project that has to wait
// keeps the others waiting.
std::vector<Batch> choose(std::vector<Batch> free, const std::vector<Batch>& held,
                          std::size_t most) {
  std::map<std::string, int> projects;
  for (const Batch& batch : held) ++projects[batch.project_id];
  std::vector<Batch> chosen, second;
  for (Batch& batch : free) {
    const int before = projects[batch.project_id]++;
    if (before < 2) (before == 0 ? chosen : second).push_back(std::move(batch));
  }
  std::ranges::move(second, std::back_inserter(chosen));
  if (chosen.size() > most) chosen.resize(most);
  return chosen;
}

}  // namespace

std::string_view name(BatchStatus status) {
  switch (status) {
    case BatchStatus::validating:
      return "validating";
    case BatchStatus::in_progress:
      return "in_progress";
    case BatchStatus::finalizing:
      return "finalizing";
    case BatchStatus::cancelling:
      return "cancelling";
    case BatchStatus::completed:
      return "completed";
    case BatchStatus::failed:
      return "failed";
    case BatchStatus::expired:
      return "expired";
    case BatchStatus::cancelled:
      return "cancelled";
  }
  return {};
}

bool has_ended(BatchStatus status) {
  return status == BatchStatus::completed || status == BatchStatus::failed ||
         status == BatchStatus::expired || status == BatchStatus::cancelled;
}

Batches::Batches(Database& database, Files& files, Identity::NowMs now_ms)
    : database_(database),
      files_(files),
      now_ms_(Identity::clock_of(database, now_ms)),
      least_now_ms_(now_ms ? std::move(now_ms) : [&database] { return database.least_now_ms(); }) {}

Batch Batches::create(Batch wanted, std::string_view actor) {
  const ClientFile input = files_.find(wanted.project_id, wanted.input_file_id);
  if (input.purpose != "batch") {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the file '{}' has the purpose '{}'; a batch needs one with 'batch'",
                            input.id, input.purpose),
                "input_file_id");
  }
  wanted.id = new_id("batch_");
  wanted.created_at_ms = now_ms_();
  wanted.expires_at_ms = wanted.created_at_ms + window_ms;
  database_.write([&](soci::session& session) {
    int64_t open = 0, files = 0;
    session << fmt::format("SELECT COUNT(*) FROM batches WHERE project_id = :project AND {}",
                           open_ones),
        soci::use(wanted.project_id), soci::into(open);
    if (open >= most_open) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("{} batches of this project have not ended, which is the most; wait "
                              "for one, or cancel one",
                              open));
    }
    // From here on it stays until the batch has ended.
    session << "SELECT COUNT(*) FROM files WHERE id = :id", soci::use(input.id), soci::into(files);
    if (files == 0) {
      throw Error(ErrorCode::not_found, fmt::format("there is no file '{}'", input.id),
                  "input_file_id");
    }
    insert(session, wanted, input.store);
    record(session, wanted.created_at_ms, actor, "batch.create", wanted);
  });
  return wanted;
}

Batch Batches::find(const std::string& project_id, const std::string& id) {
  auto found =
      database_.read([&](soci::session& session) { return find_batch(session, project_id, id); });
  if (!found) throw no_such_batch(id);
  return std::move(*found);
}

BatchPage Batches::list(const std::string& project_id, const std::string& after,
                        std::size_t limit) {
  return database_.read([&](soci::session& session) {
    BatchPage page;
    int64_t after_ms = 0;
    if (!after.empty()) {
      const auto last = find_batch(session, project_id, after);
      if (!last) throw no_such_batch(after);
      after_ms = last->created_at_ms;
    }
    BatchRow row;
    const std::string text = fmt::format(
        "{}WHERE project_id = :project AND ('' = :after OR (created_at_ms, id) < (:after_ms, "
        ":after)) ORDER BY created_at_ms DESC, id DESC LIMIT {}",
        batch_columns, limit + 1);
    soci::statement select = row.bind((session.prepare << text, soci::use(project_id, "project"),
                                       soci::use(after, "after"), soci::use(after_ms, "after_ms")));
    select.execute();
    while (select.fetch()) page.batches.push_back(row.take());
    page.has_more = page.batches.size() > limit;
    if (page.has_more) page.batches.pop_back();
    return page;
  });
}

Batch Batches::cancel(const std::string& project_id, const std::string& id,
                      std::string_view actor) {
  const int64_t now_ms = now_ms_();
  return database_.write([&](soci::session& session) {
    auto found = find_batch(session, project_id, id);
    if (!found) throw no_such_batch(id);
    if (found->status == BatchStatus::cancelling) return std::move(*found);
    if (found->status != BatchStatus::validating && found->status != BatchStatus::in_progress) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("the batch '{}' cannot be cancelled any more: it is {}", id,
                              name(found->status)));
    }
    session << "UPDATE batches SET status = 'cancelling', cancelling_at_ms = :at WHERE id = :id",
        soci::use(now_ms), soci::use(id);
    found->status = BatchStatus::cancelling;
    found->cancelling_at_ms = now_ms;
    record(session, now_ms, actor, "batch.cancel", *found);
    return std::move(*found);
  });
}

std::vector<Batch> Batches::claim(const std::string& server, std::size_t most) {
  const int64_t now_ms = now_ms_();
  std::vector<Batch> held, free;
  bool renews = false;
  database_.read([&](soci::session& session) {
    BatchRow row;
    soci::statement select = row.bind(
        (session.prepare << fmt::format("{}WHERE store = :store AND {} ORDER BY created_at_ms, id",
                                        batch_columns, open_ones),
         soci::use(files_.store())));
    select.execute();
    while (select.fetch()) {
      if (row.runner == server) {
        held.push_back(row.take());
        renews |= row.lease_ends_at_ms - now_ms < lease_ms * 2 / 3;
      } else if (row.runner.empty() || row.lease_ends_at_ms <= now_ms) {
        free.push_back(row.take());
      }
    }
  });
  free = choose(std::move(free), held, most - std::min(most, held.size()));
  if (free.empty() && !renews) return held;
  const int64_t ends_at_ms = now_ms + lease_ms;
  database_.write([&](soci::session& session) {
    session << fmt::format(
        "UPDATE batches SET lease_ends_at_ms = :ends WHERE runner = :server AND "
        "{}",
        open_ones),
        soci::use(ends_at_ms), soci::use(server);
    for (Batch& batch : free) {
      session << fmt::format(
          "UPDATE batches SET runner = :server, lease_ends_at_ms = :ends WHERE id = :id AND {} AND "
          "(runner = '' OR lease_ends_at_ms <= :now)",
          open_ones),
          soci::use(server), soci::use(ends_at_ms), soci::use(batch.id), soci::use(now_ms);
      int64_t is_ours = 0;
      session << "SELECT COUNT(*) FROM batches WHERE id = :id AND runner = :server",
          soci::use(batch.id), soci::use(server), soci::into(is_ours);
      if (is_ours > 0) held.push_back(*find_batch(session, batch.id));
    }
  });
  return held;
}

void Batches::begin(const std::string& id, int64_t total) {
  const int64_t now_ms = now_ms_();
  database_.write([&](soci::session& session) {
    session << "UPDATE batches SET status = 'in_progress', in_progress_at_ms = :at, total = :total "
               "WHERE id = :id AND status = 'validating'",
        soci::use(now_ms), soci::use(total), soci::use(id);
    // One that is cancelled meanwhile has lines all the same, which are then told as such.
    session << "UPDATE batches SET total = :total WHERE id = :id AND status = 'cancelling'",
        soci::use(total), soci::use(id);
  });
}

void Batches::fail(const std::string& id, const std::vector<BatchError>& errors) {
  const int64_t now_ms = now_ms_();
  const std::string text = Json(errors).dump(-1, ' ', false, Json::error_handler_t::replace);
  database_.write([&](soci::session& session) {
    session << fmt::format(
        "UPDATE batches SET status = 'failed', failed_at_ms = :at, errors = "
        ":errors, waits_code = '', waits_message = '' WHERE id = :id AND {}",
        open_ones),
        soci::use(now_ms), soci::use(text), soci::use(id);
    session << "DELETE FROM batch_lines WHERE batch_id = :id", soci::use(id);
  });
}

void Batches::set_waiting(const std::string& id, const std::string& code,
                          const std::string& message) {
  database_.write([&](soci::session& session) {
    session << "UPDATE batches SET waits_code = :code, waits_message = :message WHERE id = :id",
        soci::use(code), soci::use(message), soci::use(id);
  });
}

void Batches::mark(const BatchMark& mark) {
  database_.write([&](Session& session) { insert_mark(session, mark); });
}

std::vector<BatchMark> Batches::marks(const std::string& id) {
  return database_.read([&](soci::session& session) {
    std::vector<BatchMark> marks;
    BatchMark mark{.batch_id = id};
    int64_t is_error = 0;
    soci::statement select =
        (session.prepare << "SELECT line, server, start, bytes, is_error FROM batch_lines WHERE "
                            "batch_id = :id ORDER BY line",
         soci::use(id), soci::into(mark.line), soci::into(mark.server), soci::into(mark.start),
         soci::into(mark.bytes), soci::into(is_error));
    select.execute();
    while (select.fetch()) {
      marks.push_back(mark);
      marks.back().is_error = is_error != 0;
    }
    return marks;
  });
}

Batch Batches::begin_finalizing(const std::string& id) {
  const int64_t now_ms = now_ms_();
  const std::string output = new_id("file-"), error = new_id("file-");
  return database_.write([&](soci::session& session) {
    session << "UPDATE batches SET output_file_id = :output, error_file_id = :error WHERE id = :id "
               "AND output_file_id = ''",
        soci::use(output), soci::use(error), soci::use(id);
    session
        << "UPDATE batches SET status = 'finalizing', finalizing_at_ms = :at WHERE id = :id AND "
           "status = 'in_progress'",
        soci::use(now_ms), soci::use(id);
    auto found = find_batch(session, id);
    if (!found) throw no_such_batch(id);
    return std::move(*found);
  });
}

void Batches::finish(const Batch& batch, BatchStatus status, int64_t output_bytes,
                     int64_t error_bytes) {
  const int64_t now_ms = now_ms_();
  const std::string_view time = status == BatchStatus::completed ? "completed_at_ms"
                                : status == BatchStatus::expired ? "expired_at_ms"
                                                                 : "cancelled_at_ms";
  const std::string text(name(status));
  database_.write([&](soci::session& session) {
    auto now = find_batch(session, batch.id);
    if (!now || has_ended(now->status)) return;
    const auto record = [&](const std::string& id, std::string_view kind, int64_t bytes) {
      if (bytes == 0) return std::string();
      files_.record(session, {.id = id,
                              .project_id = batch.project_id,
                              .store = files_.store(),
                              .name = fmt::format("{}_{}.jsonl", batch.id, kind),
                              .purpose = "batch_output",
                              .bytes = bytes,
                              .created_at_ms = now_ms,
                              .expires_at_ms = now_ms + batch.output_lifetime_ms});
      return id;
    };
    const std::string output = record(batch.output_file_id, "output", output_bytes);
    const std::string error = record(batch.error_file_id, "error", error_bytes);
    session << fmt::format(
        "UPDATE batches SET status = :status, {} = :at, output_file_id = "
        ":output, error_file_id = :error, waits_code = '', waits_message = '' "
        "WHERE id = :id",
        time),
        soci::use(text), soci::use(now_ms), soci::use(output), soci::use(error),
        soci::use(batch.id);
    session << "DELETE FROM batch_lines WHERE batch_id = :id", soci::use(batch.id);
  });
}

int Batches::sweep() {
  const int64_t before_ms = least_now_ms_() - kept_ms;
  const std::string query = fmt::format(
      "FROM batches WHERE (created_at_ms < :before OR project_id IN (SELECT id FROM projects WHERE "
      "removed_at_ms IS NOT NULL)) AND NOT ({})",
      open_ones);
  const auto count = [&](soci::session& session) {
    int64_t old = 0;
    session << "SELECT COUNT(*) " << query, soci::use(before_ms), soci::into(old);
    return old;
  };
  if (database_.read(count) == 0) return 0;
  return static_cast<int>(database_.write([&](soci::session& session) {
    const int64_t old = count(session);
    session << "DELETE " << query, soci::use(before_ms);
    return old;
  }));
}

}  // namespace ridge::platform
