#include <cstddef>
#include <cstdint>
#include <span>

#include "fuzz/gguf_exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ridge::format::exercise_gguf(std::as_bytes(std::span(data, size)));
  return 0;
}
