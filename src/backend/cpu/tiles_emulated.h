#pragma once

#include <bit>
#include <cmath>
#include <cstring>

#include "backend/cpu/tiles.h"
#include "base/error.h"

// AMX tiles in plain C++, so that tests run the tile kernels on any machine. What would fault there
// is an assertion here.
namespace ridge::backend::cpu {
namespace {

class EmulatedTiles {
 public:
  static void configure(const TileConfig& config) {
    Registers& r = registers();
    RIDGE_ASSERT(config.palette == 1 && config.start_row == 0);
    for (uint8_t byte : config.reserved) RIDGE_ASSERT(byte == 0);
    for (int t = 0; t < 16; ++t) {
      RIDGE_ASSERT(config.rows[t] <= tile_rows && config.column_bytes[t] <= tile_row_bytes);
      RIDGE_ASSERT((config.rows[t] == 0) == (config.column_bytes[t] == 0));
      RIDGE_ASSERT(t < tile_count || config.rows[t] == 0);
    }
    r = {.configured = true, .config = config};
  }
  static void release() { registers() = {}; }

  template <int T>
  static void zero() {
    used(T);
    registers().data[T] = {};
  }
  template <int T>
  static void load(const void* from, int64_t stride) {
    used(T);
    Registers& r = registers();
    r.data[T] = {};
    for (int row = 0; row < r.config.rows[T]; ++row) {
      std::memcpy(r.data[T].bytes[row], static_cast<const char*>(from) + row * stride,
                  r.config.column_bytes[T]);
    }
  }
  template <int T>
  static void store(void* to, int64_t stride) {
    used(T);
    const Registers& r = registers();
    for (int row = 0; row < r.config.rows[T]; ++row) {
      std::memcpy(static_cast<char*>(to) + row * stride, r.data[T].bytes[row],
                  r.config.column_bytes[T]);
    }
  }

  template <int C, int A, int B>
  static void dot_bf16() {
    check_product(C, A, B);
    Registers& r = registers();
    const int columns = r.config.column_bytes[C] / 4;
    for (int m = 0; m < r.config.rows[C]; ++m) {
      float pairs[tile_row_bytes / 2] = {};
      for (int k = 0; k < r.config.column_bytes[A] / 4; ++k) {
        for (int n = 0; n < columns; ++n) {
          for (int half = 0; half < 2; ++half) {
            const float a = bf16_at(r.data[A].bytes[m] + 4 * k + 2 * half);
            const float b = bf16_at(r.data[B].bytes[k] + 4 * n + 2 * half);
            float& sum = pairs[2 * n + half];
            sum = flushed(std::fma(a, b, sum));
          }
        }
      }
      for (int n = 0; n < columns; ++n) {
        float c;
        std::memcpy(&c, r.data[C].bytes[m] + 4 * n, 4);
        c = flushed(flushed(c) + flushed(pairs[2 * n] + pairs[2 * n + 1]));
        std::memcpy(r.data[C].bytes[m] + 4 * n, &c, 4);
      }
      clear_past_columns(C, m);
    }
    clear_past_rows(C);
  }

  template <int C, int A, int B>
  static void dot_s8u8() {
    dot_bytes<uint8_t>(C, A, B);
  }
  template <int C, int A, int B>
  static void dot_s8s8() {
    dot_bytes<int8_t>(C, A, B);
  }

 private:
  struct Tile {
    uint8_t bytes[tile_rows][tile_row_bytes] = {};
  };
  struct Registers {
    bool configured = false;
    TileConfig config = {};
    Tile data[tile_count] = {};
  };
  // Of this thread, as the real ones are.
  static Registers& registers() {
    thread_local Registers r;
    return r;
  }

  template <class Byte>
  static void dot_bytes(int c, int a, int b) {
    check_product(c, a, b);
    Registers& r = registers();
    for (int m = 0; m < r.config.rows[c]; ++m) {
      for (int k = 0; k < r.config.column_bytes[a] / 4; ++k) {
        for (int n = 0; n < r.config.column_bytes[c] / 4; ++n) {
          uint32_t sum;  // wraps, as the instruction does
          std::memcpy(&sum, r.data[c].bytes[m] + 4 * n, 4);
          for (int i = 0; i < 4; ++i) {
            const int x = static_cast<int8_t>(r.data[a].bytes[m][4 * k + i]);
            sum += static_cast<uint32_t>(x * static_cast<Byte>(r.data[b].bytes[k][4 * n + i]));
          }
          std::memcpy(r.data[c].bytes[m] + 4 * n, &sum, 4);
        }
      }
      clear_past_columns(c, m);
    }
    clear_past_rows(c);
  }

  static void used(int tile) {
    RIDGE_ASSERT(registers().configured);
    RIDGE_ASSERT(registers().config.rows[tile] > 0);
  }
  static void check_product(int c, int a, int b) {
    used(c), used(a), used(b);
    const TileConfig& config = registers().config;
    RIDGE_ASSERT(c != a && c != b && a != b);
    RIDGE_ASSERT(config.column_bytes[c] % 4 == 0 && config.column_bytes[a] % 4 == 0);
    RIDGE_ASSERT(config.rows[c] == config.rows[a]);
    RIDGE_ASSERT(config.column_bytes[c] == config.column_bytes[b]);
    RIDGE_ASSERT(config.column_bytes[a] / 4 == config.rows[b]);
  }
  static void clear_past_columns(int tile, int row) {
    Registers& r = registers();
    const int used_bytes = r.config.column_bytes[tile];
    std::memset(r.data[tile].bytes[row] + used_bytes, 0, tile_row_bytes - used_bytes);
  }
  static void clear_past_rows(int tile) {
    Registers& r = registers();
    for (int row = r.config.rows[tile]; row < tile_rows; ++row) {
      std::memset(r.data[tile].bytes[row], 0, tile_row_bytes);
    }
  }

  // Subnormal numbers are zero before and after every operation, with their sign.
  static float flushed(float x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    return (bits & 0x7f800000u) == 0 ? std::bit_cast<float>(bits & 0x80000000u) : x;
  }
  static float bf16_at(const uint8_t* bytes) {
    uint16_t bits;
    std::memcpy(&bits, bytes, 2);
    return flushed(std::bit_cast<float>(static_cast<uint32_t>(bits) << 16));
  }
};

}  // namespace
}  // namespace ridge::backend::cpu
