#include "fuzz/model_folder_exercise.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/temporary_folder.h"
#include "format/model_folder.h"

namespace ridge::format {

namespace {

constexpr char separator = 0x1e;
constexpr std::array names = {"config.json", "tokenizer.json", "tokenizer_config.json",
                              "model.safetensors.index.json", "model.safetensors"};

volatile uint64_t folder_sink = 0;

// One folder for the life of the process.
const std::filesystem::path& scratch() {
  static const TemporaryFolder folder;
  return folder.path();
}

void write_files(std::string_view text) {
  for (size_t i = 0; i < names.size(); ++i) {
    const bool is_last = i + 1 == names.size();
    const size_t end = is_last ? text.npos : text.find(separator);
    const std::string_view content = text.substr(0, end);
    const std::filesystem::path path = scratch() / names[i];
    if (content.empty()) {
      std::filesystem::remove(path);
    } else {
      std::ofstream(path, std::ios::binary)
          .write(content.data(), static_cast<std::streamsize>(content.size()));
    }
    text = end == text.npos ? std::string_view() : text.substr(end + 1);
  }
}

void read_tensors(const GgufFile& file, size_t input_bytes) {
  // Nothing that is made is larger than four times what it is made of, but for blocks of few
  // columns.
  RIDGE_ASSERT(file.tensor_bytes() <= 64 * static_cast<uint64_t>(input_bytes) + 4096);
  for (const GgufTensor& tensor : file.tensors()) {
    file.ready(tensor.view);
    for (std::byte byte : tensor.view.bytes)
      folder_sink = folder_sink + static_cast<uint64_t>(byte);
    file.advise(tensor.view, Access::done);
  }
}

}  // namespace

bool exercise_model_folder(std::span<const std::byte> bytes) {
  write_files({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  try {
    read_tensors(open_model(scratch()), bytes.size());
    return true;
  } catch (const Error& error) {
    using enum ErrorCode;
    RIDGE_ASSERT(error.code() == invalid_file || error.code() == unsupported ||
                 error.code() == not_found);
    RIDGE_ASSERT(!error.message().empty());
    return false;
  }
}

}  // namespace ridge::format
