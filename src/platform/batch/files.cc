#include "platform/batch/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <soci/soci.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "platform/identity/api_key_text.h"
#include "platform/identity/rows.h"

namespace ridge::platform {
namespace {

constexpr int64_t orphan_after_ms = 3'600'000;
constexpr int most_swept = 1'000;  // at once
constexpr std::size_t most_name_bytes = 255;

constexpr std::string_view open_batches =
    "status IN ('validating', 'in_progress', 'finalizing', 'cancelling')";

constexpr std::string_view file_columns =
    "SELECT id, project_id, store, name, purpose, bytes, created_at_ms, expires_at_ms FROM files ";

// The id that servers of one folder share; whoever is first makes it.
std::string store_id(const Folder& folder) {
  constexpr std::string_view name = Files::store_file, draft = "store.new";
  for (int tries = 0; tries < 200; ++tries) {
    if (const FileDescriptor file = folder.open(name, O_RDONLY)) {
      return read_all(file.get(), 100, name);
    }
    const auto lock = FileLock::try_acquire(folder, "store.lock");
    if (lock && !folder.status(name)) {
      const FileDescriptor file = folder.open(draft, O_WRONLY | O_CREAT | O_TRUNC, 0600);
      write_to_disk(file.get(), new_id("store_"));
      sync(file.get(), draft);
      folder.rename(draft, folder, name);
      folder.sync();
    } else if (!lock) {  // another server makes it
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  throw Error(ErrorCode::unavailable,
              fmt::format("another server has locked {} for too long", folder.path().string()));
}

Error no_such_file(const std::string& id) {
  return Error(ErrorCode::not_found, fmt::format("there is no file '{}'", id.substr(0, 100)), "id");
}

// Without the name, which is the project's own affair.
std::string details_of(const ClientFile& file) {
  return nlohmann::json(
             {{"purpose", file.purpose}, {"bytes", file.bytes}, {"project", file.project_id}})
      .dump();
}

void check(const NewFile& wanted) {
  const bool has_control = std::ranges::any_of(
      wanted.name, [](unsigned char letter) { return letter < 0x20 || letter == 0x7f; });
  if (!wanted.name.empty() && wanted.name.size() <= most_name_bytes && !has_control &&
      rows::is_utf8(wanted.name)) {
    return;
  }
  throw Error(ErrorCode::invalid_argument,
              fmt::format("a file's name must be 1 to {} bytes of UTF-8 without control characters",
                          most_name_bytes),
              "file");
}

// Binds what `file_columns` selects to a file.
struct FileRow {
  ClientFile file;
  int64_t expires_at_ms = 0;
  soci::indicator expires = soci::i_null;

  template <typename Statement>
  auto bind(Statement&& statement) {
    return (std::forward<Statement>(statement), soci::into(file.id), soci::into(file.project_id),
            soci::into(file.store), soci::into(file.name), soci::into(file.purpose),
            soci::into(file.bytes), soci::into(file.created_at_ms),
            soci::into(expires_at_ms, expires));
  }
  ClientFile take() const {
    ClientFile taken = file;
    if (expires == soci::i_ok) taken.expires_at_ms = expires_at_ms;
    return taken;
  }
};

std::optional<ClientFile> find_file(soci::session& session, const std::string& project,
                                    const std::string& id, int64_t now_ms) {
  FileRow row;
  row.bind((session << file_columns
                    << "WHERE id = :id AND project_id = :project AND (expires_at_ms IS NULL OR "
                       "expires_at_ms > :now)",
            soci::use(id), soci::use(project), soci::use(now_ms)));
  return session.got_data() ? std::optional(row.take()) : std::nullopt;
}

}  // namespace

void write_to_disk(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
      throw Error(ErrorCode::unavailable,
                  "the server has no room on its disk for this file; delete files that are not "
                  "needed any more, or ask its operator for more room");
    } else if (errno != EINTR) {
      throw DiskError(fmt::format("cannot write a file: {}", std::strerror(errno)));
    }
  }
}

namespace {

// `read`: into the rest of the bytes; they begin at `done`.
template <typename Read>
void read_whole(std::span<char> bytes, Read read) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t got = read(bytes.subspan(done), done);
    if (got > 0) {
      done += static_cast<std::size_t>(got);
    } else if (got == 0) {
      throw DiskError("a file that is kept is shorter than it was");
    } else if (errno != EINTR) {
      throw DiskError(fmt::format("cannot read a file: {}", std::strerror(errno)));
    }
  }
}

}  // namespace

void read_from_disk(int descriptor, std::span<char> bytes) {
  read_whole(bytes, [&](std::span<char> rest, std::size_t) {
    return ::read(descriptor, rest.data(), rest.size());
  });
}

void read_from_disk_at(int descriptor, std::span<char> bytes, int64_t start) {
  read_whole(bytes, [&](std::span<char> rest, std::size_t done) {
    return ::pread(descriptor, rest.data(), rest.size(), start + static_cast<off_t>(done));
  });
}

FileDraft::FileDraft(const Folder& folder, std::string id)
    : folder_(folder),
      id_(std::move(id)),
      name_(id_ + "." + new_id("")),
      file_(folder_.open(name_, O_WRONLY | O_CREAT | O_EXCL, 0600)) {}

FileDraft::~FileDraft() {
  if (is_kept_) return;
  try {
    folder_.remove(name_);
  } catch (const Error& error) {
    log::warning("{}", error.message());  // swept later
  }
}

void FileDraft::write(std::string_view bytes) {
  write_to_disk(file_.get(), bytes);
  bytes_ += static_cast<int64_t>(bytes.size());
}

void FileDraft::keep(const Folder& kept) {
  sync(file_.get(), name_);
  folder_.rename(name_, kept, id_);
  is_kept_ = true;
  kept.sync();
}

Files::Files(Database& database, const std::filesystem::path& folder, const FileLimits& limits,
             Identity::NowMs now_ms)
    : database_(database),
      limits_(limits),
      now_ms_(Identity::clock_of(database, now_ms)),
      least_now_ms_(now_ms ? std::move(now_ms) : [&database] { return database.least_now_ms(); }),
      folder_(Folder::open_path(folder)),
      incoming_(folder_.open_folder("incoming")),
      kept_(folder_.open_folder(kept_folder)),
      results_(folder_.open_folder(results_folder)),
      store_(store_id(folder_)) {}

void Files::check_room_for(const std::string& project_id, int64_t bytes) {
  database_.read([&](soci::session& session) { check_room(session, project_id, bytes); });
}

FileDescriptor Files::begin_upload() const {
  const std::string name = new_id("upload.");
  FileDescriptor file = incoming_.open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
  incoming_.remove(name);  // so that nothing is left of it, however this ends
  return file;
}

// With nothing but what the project has already where `bytes` is 0.
void Files::check_room(soci::session& session, const std::string& project, int64_t bytes) const {
  int64_t files = 0, used = 0;
  session << "SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM files WHERE project_id "
             "= :project",
      soci::use(project), soci::into(files), soci::into(used);
  if (files >= limits_.most_project_files) {
    throw Error(ErrorCode::payload_too_large,
                fmt::format("this project has {} files, which is the most; delete some that are "
                            "not needed any more",
                            files));
  }
  if (used + bytes > limits_.most_project_bytes) {
    throw Error(ErrorCode::payload_too_large,
                fmt::format("the files of this project have {} bytes, and with this one's {} they "
                            "would have more than {}; delete some that are not needed any more",
                            used, bytes, limits_.most_project_bytes));
  }
}

ClientFile Files::add(const NewFile& wanted, std::string_view content) {
  check(wanted);
  const auto bytes = static_cast<int64_t>(content.size());
  if (bytes > limits_.most_file_bytes) {
    throw Error(ErrorCode::payload_too_large,
                fmt::format("the file has {} bytes, and a file may have {}", bytes,
                            limits_.most_file_bytes),
                "file");
  }
  check_room_for(wanted.project_id, bytes);
  FileDraft draft(incoming_, new_id("file-"));
  draft.write(content);
  draft.keep(kept_);
  ClientFile file{.id = draft.id(),
                  .project_id = wanted.project_id,
                  .store = store_,
                  .name = wanted.name,
                  .purpose = wanted.purpose,
                  .bytes = bytes,
                  .created_at_ms = now_ms_()};
  if (wanted.lifetime_ms) file.expires_at_ms = file.created_at_ms + *wanted.lifetime_ms;
  try {
    database_.write([&](soci::session& session) {
      check_room(session, wanted.project_id, bytes);
      record(session, file);
      rows::record_event(session, file.created_at_ms, wanted.actor, "file.create", file.id,
                         details_of(file));
    });
  } catch (const Error& error) {
    // Where the database failed, it may have it all the same; if not, the file is swept later.
    if (error.code() == ErrorCode::payload_too_large) kept_.remove(file.id);
    throw;
  }
  return file;
}

void Files::record(soci::session& session, const ClientFile& file) const {
  soci::indicator expires = file.expires_at_ms ? soci::i_ok : soci::i_null;
  const int64_t expires_at_ms = file.expires_at_ms.value_or(0);
  session << "INSERT INTO files (id, project_id, store, name, purpose, bytes, created_at_ms, "
             "expires_at_ms) VALUES (:id, :project, :store, :name, :purpose, :bytes, :created, "
             ":expires)",
      soci::use(file.id), soci::use(file.project_id), soci::use(file.store), soci::use(file.name),
      soci::use(file.purpose), soci::use(file.bytes), soci::use(file.created_at_ms),
      soci::use(expires_at_ms, expires);
}

FilePage Files::list(const FileQuery& query) {
  const int64_t now_ms = now_ms_();
  const std::string_view order = query.oldest_first ? "ASC" : "DESC";
  return database_.read([&](soci::session& session) {
    FilePage page;
    int64_t after_ms = 0;
    if (!query.after.empty()) {
      const auto after = find_file(session, query.project_id, query.after, now_ms);
      if (!after) throw no_such_file(query.after);
      after_ms = after->created_at_ms;
    }
    FileRow row;
    const std::string text = fmt::format(
        "{}WHERE project_id = :project AND (expires_at_ms IS NULL OR expires_at_ms > :now) AND "
        "('' = :purpose OR purpose = :purpose) AND ('' = :after OR (created_at_ms, id) {} "
        "(:after_ms, :after)) ORDER BY created_at_ms {}, id {} LIMIT {}",
        file_columns, query.oldest_first ? ">" : "<", order, order, query.limit + 1);
    soci::statement select =
        row.bind((session.prepare << text, soci::use(query.project_id, "project"),
                  soci::use(now_ms, "now"), soci::use(query.purpose, "purpose"),
                  soci::use(query.after, "after"), soci::use(after_ms, "after_ms")));
    select.execute();
    while (select.fetch()) page.files.push_back(row.take());
    page.has_more = page.files.size() > query.limit;
    if (page.has_more) page.files.pop_back();
    return page;
  });
}

ClientFile Files::find(const std::string& project_id, const std::string& id) {
  const int64_t now_ms = now_ms_();
  auto found = database_.read(
      [&](soci::session& session) { return find_file(session, project_id, id, now_ms); });
  if (!found) throw no_such_file(id);
  return std::move(*found);
}

FileDescriptor Files::open(const ClientFile& file) const {
  FileDescriptor descriptor;
  if (file.store == store_) descriptor = kept_.open(file.id, O_RDONLY);
  if (descriptor) return descriptor;
  throw Error(ErrorCode::unavailable,
              fmt::format("the bytes of the file '{}' are not in this server's folder of files; "
                          "servers that share a database share that folder, too (--files-dir)",
                          file.id));
}

void Files::remove(const std::string& project_id, const std::string& id, std::string_view actor) {
  const int64_t now_ms = now_ms_();
  const ClientFile file = database_.write([&](soci::session& session) {
    auto found = find_file(session, project_id, id, now_ms);
    if (!found) throw no_such_file(id);
    std::string batch;
    session << fmt::format("SELECT id FROM batches WHERE input_file_id = :id AND {} LIMIT 1",
                           open_batches),
        soci::use(id), soci::into(batch);
    if (session.got_data()) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("the file '{}' is the input of the batch '{}', which has not ended; "
                              "cancel that first",
                              id, batch),
                  "id");
    }
    session << "DELETE FROM files WHERE id = :id", soci::use(id);
    rows::record_event(session, now_ms, actor, "file.delete", id, details_of(*found));
    return std::move(*found);
  });
  if (file.store == store_) kept_.remove(file.id);
}

FileDescriptor Files::open_bytes(const std::string& id) const {
  FileDescriptor file = kept_.open(id, O_RDONLY);
  if (file) return file;
  throw Error(ErrorCode::not_found, fmt::format("the bytes of the file '{}' are gone", id));
}

FileDescriptor Files::open_results(const std::string& name) const {
  FileDescriptor file = results_.open(name, O_RDONLY);
  if (file) return file;
  throw DiskError(fmt::format("the results {} are gone", name));
}

void Files::remove_results(const std::string& batch_id) const {
  for (const std::string& name : results_.list()) {
    if (name.starts_with(batch_id + ".")) results_.remove(name);
  }
}

int Files::sweep() { return remove_expired() + remove_orphans(); }

int Files::remove_expired() {
  const int64_t now_ms = least_now_ms_();
  const std::vector<std::string> ids = database_.read([&](soci::session& session) {
    std::vector<std::string> expired;
    std::string id;
    soci::statement select =
        (session.prepare << fmt::format(
             "SELECT id FROM files WHERE (expires_at_ms <= :now OR project_id IN (SELECT id FROM "
             "projects WHERE removed_at_ms IS NOT NULL)) AND store = :store AND id NOT IN "
             "(SELECT input_file_id FROM batches WHERE {}) LIMIT {}",
             open_batches, most_swept),
         soci::use(now_ms), soci::use(store_), soci::into(id));
    select.execute();
    while (select.fetch()) expired.push_back(id);
    return expired;
  });
  if (ids.empty()) return 0;
  database_.write([&](soci::session& session) {
    for (const std::string& id : ids) {
      session << "DELETE FROM files WHERE id = :id", soci::use(id);
    }
  });
  for (const std::string& id : ids) kept_.remove(id);
  return static_cast<int>(ids.size());
}

int Files::remove_orphans() {
  // The wall clock sets the times of files. Where it was put forward, they must not look old, and
  // where it was put back, neither.
  const int64_t now_ms = std::min(Identity::wall_clock_ms(), database_.least_now_ms());
  const int64_t before_ns = (now_ms - orphan_after_ms) * 1'000'000;
  int removed = 0;
  for (const Folder* folder : {&incoming_, &kept_, &results_}) {
    std::vector<std::string> old = folder->list();
    std::erase_if(old, [&](const std::string& name) {
      const auto status = folder->status(name);
      return !status || status->mtime_ns >= before_ns;
    });
    const std::string query =
        folder == &kept_
            ? "SELECT COUNT(*) FROM files WHERE id = :id"
            : fmt::format("SELECT COUNT(*) FROM batches WHERE id = :id AND {}", open_batches);
    if (folder != &incoming_ && !old.empty()) {
      database_.read([&](soci::session& session) {
        std::erase_if(old, [&](const std::string& name) {
          const std::string id = name.substr(0, name.find('.'));
          int64_t records = 0;
          session << query, soci::use(id), soci::into(records);
          return records > 0;
        });
      });
    }
    for (const std::string& name : old) removed += folder->remove(name) ? 1 : 0;
  }
  return removed;
}

}  // namespace ridge::platform
