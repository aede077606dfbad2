#include <cstddef>
#include <cstdint>
#include <span>

#include "fuzz/model_folder_exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ridge::format::exercise_model_folder(std::as_bytes(std::span(data, size)));
  return 0;
}
