#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace ridge::platform {

// The size of one member of a zip file, as the archive states it. Throws invalid_file where the
// archive is damaged or has no such member.
int64_t zip_member_bytes(int zip_descriptor, const std::string& member);

// Unpacks one member of a zip file, a piece at a time. Throws invalid_file where the archive is
// damaged or the member is missing, encrypted, or not exactly `size_bytes` long: nothing beyond
// that is unpacked.
void read_zip_member(int zip_descriptor, const std::string& member, int64_t size_bytes,
                     const std::function<void(std::span<const std::byte>)>& take);

// What goes into a zip file: a text, or a file where `path` is not empty.
struct ZipEntry {
  std::string member;
  std::filesystem::path path;
  std::string text;
};

// Makes a zip file of these, compressed, that only its owner may read. What is there is replaced.
// Not synced. Throws io.
void write_zip(const std::filesystem::path& file, const std::vector<ZipEntry>& entries);

}  // namespace ridge::platform
