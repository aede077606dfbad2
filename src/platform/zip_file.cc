#include "platform/zip_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/file_descriptor.h"

namespace ridge::platform {
namespace {

constexpr size_t chunk_bytes = size_t{1} << 20;

using Archive = std::unique_ptr<zip_t, void (*)(zip_t*)>;

std::string text_of(int code) {
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  std::string text = zip_error_strerror(&error);
  zip_error_fini(&error);
  return text;
}

Archive open_archive(int zip_descriptor) {
  // libzip closes what it is given.
  int code = 0;
  const int copy = dup(zip_descriptor);
  Archive archive(copy < 0 ? nullptr : zip_fdopen(copy, ZIP_CHECKCONS, &code), zip_discard);
  if (archive == nullptr) {
    if (copy >= 0) close(copy);
    throw Error(ErrorCode::invalid_file, fmt::format("not a zip file: {}", text_of(code)));
  }
  return archive;
}

zip_stat_t status_of_member(zip_t* archive, const std::string& member) {
  zip_stat_t status;
  zip_stat_init(&status);
  if (zip_stat(archive, member.c_str(), ZIP_FL_ENC_RAW, &status) != 0) {
    throw Error(ErrorCode::invalid_file, fmt::format("there is no {} inside", member));
  }
  return status;
}

}  // namespace

int64_t zip_member_bytes(int zip_descriptor, const std::string& member) {
  const Archive archive = open_archive(zip_descriptor);
  const zip_stat_t status = status_of_member(archive.get(), member);
  if ((status.valid & ZIP_STAT_SIZE) == 0 || status.size > INT64_MAX) {
    throw Error(ErrorCode::invalid_file, fmt::format("the size of {} is not stated", member));
  }
  return static_cast<int64_t>(status.size);
}

void read_zip_member(int zip_descriptor, const std::string& member, int64_t size_bytes,
                     const std::function<void(std::span<const std::byte>)>& take) {
  const Archive archive = open_archive(zip_descriptor);
  const zip_stat_t status = status_of_member(archive.get(), member);
  if ((status.valid & ZIP_STAT_SIZE) == 0 || static_cast<int64_t>(status.size) != size_bytes) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{} has {} bytes instead of {}", member, status.size, size_bytes));
  }
  const std::unique_ptr<zip_file_t, int (*)(zip_file_t*)> file(
      zip_fopen_index(archive.get(), status.index, 0), zip_fclose);
  if (file == nullptr) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("cannot unpack {}: {}", member, zip_strerror(archive.get())));
  }
  std::vector<std::byte> chunk(chunk_bytes);
  int64_t done_bytes = 0;
  while (true) {
    const zip_int64_t got = zip_fread(file.get(), chunk.data(), chunk.size());
    if (got < 0) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{} is damaged: {}", member, zip_file_strerror(file.get())));
    }
    if (got == 0) break;
    done_bytes += got;
    if (done_bytes > size_bytes) break;
    take(std::span(chunk).first(got));
  }
  if (done_bytes != size_bytes) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{} unpacks to another size than it states", member));
  }
}

void write_zip(const std::filesystem::path& file, const std::vector<ZipEntry>& entries) {
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorCode::io, fmt::format("cannot write {}: {}", file.string(), why));
  };
  // libzip writes beside it, with the mode of what it replaces.
  if (!FileDescriptor(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) ||
      ::chmod(file.c_str(), 0600) != 0) {
    fail(std::strerror(errno));
  }
  int code = 0;
  Archive archive(zip_open(file.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &code), zip_discard);
  if (archive == nullptr) fail(text_of(code));
  for (const ZipEntry& entry : entries) {
    zip_source_t* source =
        entry.path.empty()
            ? zip_source_buffer(archive.get(), entry.text.data(), entry.text.size(), /*freep=*/0)
            : zip_source_file(archive.get(), entry.path.c_str(), 0, -1);
    if (source == nullptr) fail(zip_strerror(archive.get()));
    if (zip_file_add(archive.get(), entry.member.c_str(), source, ZIP_FL_ENC_UTF_8) < 0) {
      const std::string why = zip_strerror(archive.get());
      zip_source_free(source);
      fail(why);
    }
  }
  if (zip_close(archive.get()) != 0) fail(zip_strerror(archive.get()));
  (void)archive.release();  // closed, which frees it
}

}  // namespace ridge::platform
