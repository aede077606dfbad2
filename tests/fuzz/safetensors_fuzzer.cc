#include <cstddef>
#include <cstdint>
#include <span>

#include "fuzz/safetensors_exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ridge::format::exercise_safetensors(std::as_bytes(std::span(data, size)));
  return 0;
}
