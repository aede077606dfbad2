#pragma once

#include <cstdint>
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
  static void load_passing(const void* from, int64_t stride) {
    load<T>(from, stride);
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
    add_bf16(r.data[A], r.data[B], r.config, A, C, r.data[C]);
    clear_past(C);
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
    add_bytes<Byte>(r.data[a], r.data[b], r.config, a, c, r.data[c]);
    clear_past(c);
  }

  // Between registers whose shapes were checked there is nothing that sanitizers could find, and to
  // look at each byte takes them most of the tests' time: 16,384 products are one instruction.
  template <class Byte>
  [[gnu::no_sanitize("address", "thread", "undefined")]] static void add_bytes(
      const Tile& a, const Tile& b, const TileConfig& config, int a_tile, int c_tile, Tile& c) {
    const int depth = config.column_bytes[a_tile] / 4, columns = config.column_bytes[c_tile] / 4;
    for (int m = 0; m < config.rows[c_tile]; ++m) {
      uint32_t sums[tile_row_bytes / 4];  // wrap, as the instruction's do
      __builtin_memcpy(sums, c.bytes[m], tile_row_bytes);
      for (int k = 0; k < depth; ++k) {
        for (int n = 0; n < columns; ++n) {
          for (int i = 0; i < 4; ++i) {
            const int x = static_cast<int8_t>(a.bytes[m][4 * k + i]);
            sums[n] += static_cast<uint32_t>(x * static_cast<Byte>(b.bytes[k][4 * n + i]));
          }
        }
      }
      __builtin_memcpy(c.bytes[m], sums, tile_row_bytes);
    }
  }

  [[gnu::no_sanitize("address", "thread", "undefined")]] static void add_bf16(
      const Tile& a, const Tile& b, const TileConfig& config, int a_tile, int c_tile, Tile& c) {
    const int depth = config.column_bytes[a_tile] / 4, columns = config.column_bytes[c_tile] / 4;
    float b_values[tile_rows][tile_row_bytes / 2], a_values[tile_row_bytes / 2];
    for (int k = 0; k < depth; ++k) unpack(b.bytes[k], 2 * columns, b_values[k]);
    for (int m = 0; m < config.rows[c_tile]; ++m) {
      unpack(a.bytes[m], 2 * depth, a_values);
      float pairs[tile_row_bytes / 2] = {};
      for (int k = 0; k < depth; ++k) {
        for (int i = 0; i < 2 * columns; ++i) {
          // What std::fma gives: in double the product is exact, and so is the sum, unless one of
          // the two is so small that it changes no float.
          const double exact = static_cast<double>(a_values[2 * k + i % 2]) * b_values[k][i];
          pairs[i] = flushed(static_cast<float>(exact + pairs[i]));
        }
      }
      float sums[tile_row_bytes / 4];
      __builtin_memcpy(sums, c.bytes[m], tile_row_bytes);
      for (int n = 0; n < columns; ++n) {
        sums[n] = flushed(flushed(sums[n]) + flushed(pairs[2 * n] + pairs[2 * n + 1]));
      }
      __builtin_memcpy(c.bytes[m], sums, tile_row_bytes);
    }
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
  // What a product leaves beyond the shape of its sum.
  static void clear_past(int tile) {
    Registers& r = registers();
    const int rows = r.config.rows[tile], used_bytes = r.config.column_bytes[tile];
    for (int row = 0; row < tile_rows; ++row) {
      const int kept_bytes = row < rows ? used_bytes : 0;
      std::memset(r.data[tile].bytes[row] + kept_bytes, 0, tile_row_bytes - kept_bytes);
    }
  }

  // Subnormal numbers are zero before and after every operation, with their sign.
  [[gnu::always_inline, gnu::no_sanitize("address", "thread", "undefined")]] static inline float
  flushed(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000u) == 0) bits &= 0x80000000u;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
  }
  [[gnu::always_inline, gnu::no_sanitize("address", "thread", "undefined")]] static inline void
  unpack(const uint8_t* bf16, int count, float* values) {
    for (int i = 0; i < count; ++i) {
      uint16_t half;
      __builtin_memcpy(&half, bf16 + 2 * i, sizeof half);
      const uint32_t bits = static_cast<uint32_t>(half) << 16;
      __builtin_memcpy(&values[i], &bits, sizeof bits);
      values[i] = flushed(values[i]);
    }
  }
};

}  // namespace
}  // namespace ridge::backend::cpu
