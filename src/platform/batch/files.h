#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_descriptor.h"
#include "platform/database/database.h"
#include "platform/folder.h"
#include "platform/identity/identity.h"

namespace ridge::platform {

// What is known of a file that a client keeps here.
struct ClientFile {
  std::string id;  // "file-..."
  std::string project_id;
  std::string store;  // the folder that has its bytes
  std::string name;   // what the client calls it; never a path
  std::string purpose;
  int64_t bytes = 0;
  int64_t created_at_ms = 0;
  std::optional<int64_t> expires_at_ms;
};

struct NewFile {
  std::string project_id;
  std::string name;  // 1 to 255 bytes of UTF-8 without control characters
  std::string purpose;
  std::optional<int64_t> lifetime_ms;  // for ever where there is none
  std::string actor = "server";        // for the audit log
};

struct FileLimits {
  int64_t most_file_bytes = int64_t{200} << 20;    // as much as OpenAI takes for a batch
  int64_t most_project_bytes = int64_t{10} << 30;  // of all files of a project
  int64_t most_project_files = 10'000;
};

// That clients may ask for, as in OpenAI's API.
inline constexpr int64_t least_file_lifetime_s = 3'600, most_file_lifetime_s = 30 * 24 * 3'600;

// Which files are listed, and from where on.
struct FileQuery {
  std::string project_id;
  std::string purpose;  // empty: all
  std::string after;    // the id of the file before the first; empty: from the beginning
  std::size_t limit = 20;
  bool oldest_first = false;
};

struct FilePage {
  std::vector<ClientFile> files;
  bool has_more = false;
};

// A file while it is written, under a name of its own; it goes with this unless it is kept.
class FileDraft {
 public:
  FileDraft(const Folder& folder, std::string id);
  ~FileDraft();
  FileDraft(const FileDraft&) = delete;
  FileDraft& operator=(const FileDraft&) = delete;

  // Throws unavailable where the disk is full, io where it fails.
  void write(std::string_view bytes);
  // Over a file of the same id, if there is one. Durable when it returns. Throws as write().
  void keep(const Folder& kept);

  const std::string& id() const { return id_; }
  int64_t bytes() const { return bytes_; }

 private:
  const Folder& folder_;
  const std::string id_, name_;
  FileDescriptor file_;
  int64_t bytes_ = 0;
  bool is_kept_ = false;
};

// Writes all of it. Throws unavailable where the disk is full, io where it fails.
void write_to_disk(int descriptor, std::string_view bytes);
// Fills `bytes` from where the file stands. Throws io where it ends before.
void read_from_disk(int descriptor, std::span<char> bytes);
void read_from_disk_at(int descriptor, std::span<char> bytes, int64_t start);

// The files of all projects: records in the database, bytes in a folder. Each is one project's, and
// to all others as if it were not there. Any thread. Throws as Database and Folder, and what is
// said.
class Files {
 public:
  // In the folder: its id, bytes of files by their ids, and results of batches that have not ended.
  static constexpr std::string_view store_file = "store.id", kept_folder = "kept",
                                    results_folder = "results";

  // `folder` is created where missing. Servers that share it and the database serve the same files.
  Files(Database& database, const std::filesystem::path& folder, const FileLimits& limits = {},
        Identity::NowMs now_ms = {});

  const FileLimits& limits() const { return limits_; }
  // Of the folder.
  const std::string& store() const { return store_; }

  // Before so much is received: throws payload_too_large where the project would have more than it
  // may. add() looks again.
  void check_room_for(const std::string& project_id, int64_t bytes);

  // A file without a name for what comes from a client; it goes when it is closed.
  FileDescriptor begin_upload() const;

  // Throws invalid_argument for a bad name, payload_too_large for a file or a project that would be
  // over its limit, unavailable where the disk is full.
  ClientFile add(const NewFile& wanted, std::string_view content);

  // Throws not_found for an `after` that is none of the project's.
  FilePage list(const FileQuery& query);
  // Throws not_found where the project has none of this id, or no longer.
  ClientFile find(const std::string& project_id, const std::string& id);
  // Throws unavailable where another folder has the bytes.
  FileDescriptor open(const ClientFile& file) const;
  // Throws not_found, and invalid_argument for the input of a batch that has not ended.
  void remove(const std::string& project_id, const std::string& id,
              std::string_view actor = "server");

  // For those who run batches: what no client has access to. A file of the id, whatever its record
  // says; throws not_found where the folder has none.
  FileDescriptor open_bytes(const std::string& id) const;
  FileDraft draft(const std::string& id) const { return {incoming_, id}; }
  void keep(FileDraft& draft) const { draft.keep(kept_); }
  // Within a write() of the database; without looking at limits.
  void record(soci::session& session, const ClientFile& file) const;
  // Of batches that have not ended; each name begins with the batch's id and a dot.
  const Folder& results() const { return results_; }
  FileDescriptor open_results(const std::string& name) const;
  void remove_results(const std::string& batch_id) const;
  const std::filesystem::path& path() const { return folder_.path(); }
  // For what cannot be undone, as Database has it.
  int64_t least_now_ms() const { return least_now_ms_(); }

  // Takes away what has expired, what was a removed project's, and what was begun more than an hour
  // ago and has no record. Returns how many files these were.
  int sweep();

 private:
  void check_room(soci::session& session, const std::string& project, int64_t bytes) const;
  int remove_expired();
  int remove_orphans();

  Database& database_;
  const FileLimits limits_;
  const Identity::NowMs now_ms_, least_now_ms_;
  const Folder folder_, incoming_, kept_, results_;
  const std::string store_;
};

}  // namespace ridge::platform
