#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "platform/digest.h"
#include "platform/retries.h"
#include "platform/store.h"

namespace ridge::platform {

// A file on a server, and what its hub says of it.
struct RemoteFile {
  std::string file_name;  // for people, and for the manifest
  std::string url;
  std::string bearer_token;  // for the URL's own origin only; may be empty
  Digest digest;
  int64_t size_bytes = 0;  // 0 where the hub does not say
};

struct DownloadProgress {
  std::string_view file_name;
  int64_t done_bytes;
  int64_t total_bytes;  // 0 where it is not known
};

struct DownloadOptions {
  RetryPolicy retry;               // attempts are those without any progress between them
  std::chrono::seconds stall{60};  // below 1 kB/s for this long: a failed attempt
  std::function<void(const DownloadProgress&)> on_progress;
  std::function<void(std::string_view)> on_note;  // a retry, a wait: one line for a person
  std::function<bool()> is_cancelled;             // asked a few times a second
};

// Fetches the file into the store's blobs, unless it is there. It is written to
// partial/sha256-DIGEST and digested meanwhile; what is there from an earlier try is digested again
// and continued, with If-Range where the server gave a strong ETag. It gets its place only when its
// size and digest are right and it is on the disk (write, fsync, rename, fsync of the folder). One
// process at a time works on a digest; others wait.
//
// Throws DiskError before the first byte where the space does not suffice and whenever writing
// fails; invalid_file, naming both digests, where the bytes are not the stated ones, which are then
// removed; HttpError where the server gives up; cancelled, after which a later call continues.
StoredFile download(Store& store, const RemoteFile& file, const DownloadOptions& options);

// Those of one listing or file.
Retries retries_of(const DownloadOptions& options);

// The space that remains to be written must be there, with a margin for what else the disk needs.
// Throws DiskError that says how much is missing.
void check_space(const Store& store, int64_t needed_bytes, std::string_view what);

// Waits until nobody else works on the digest. Throws cancelled.
FileLock lock_digest(const Store& store, const Digest& digest, const DownloadOptions& options);

// What the store has of a digest already, as a manifest records it, after reading it all again: a
// blob that no longer has its digest goes to the quarantine.
// nullopt where there is none that is right.
std::optional<StoredFile> checked_file(Store& store, const Digest& digest,
                                       std::string_view file_name, const DownloadOptions& options);

}  // namespace ridge::platform
