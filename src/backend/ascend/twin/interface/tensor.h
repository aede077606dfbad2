#pragma once

#include "backend/ascend/twin/interface/types.h"

namespace AscendC {

// A tensor of a local memory: a place, and the buffer that it may not leave.
template <typename T>
class LocalTensor {
 public:
  LocalTensor() = default;
  explicit LocalTensor(const twin::Operand& operand) : operand_(operand) {}

  T GetValue(uint32_t index, Where where = Where::current()) const {
    T value;
    twin::Core::current().scalar_read(operand_, index * sizeof(T), sizeof(T), &value,
                                      {"GetValue", where});
    return value;
  }
  template <typename T1>
  void SetValue(uint32_t index, T1 value, Where where = Where::current()) const {
    const T stored = static_cast<T>(value);
    twin::Core::current().scalar_write(operand_, index * sizeof(T), sizeof(T), &stored,
                                       {"SetValue", where});
  }
  LocalTensor operator[](uint32_t offset) const { return LocalTensor(operand_.at(offset)); }
  template <typename U>
  LocalTensor<U> ReinterpretCast() const {
    twin::Operand other = operand_;
    other.type = twin::type_of<U>;
    return LocalTensor<U>(other);
  }

  const twin::Operand& operand() const { return operand_; }

 private:
  twin::Operand operand_{};
};

template <typename T>
class GlobalTensor {
 public:
  void SetGlobalBuffer(__gm__ T* buffer) {
    operand_ = {twin::Space::gm, twin::type_of<T>, reinterpret_cast<uint64_t>(buffer), 0,
                ~uint64_t{0}};
  }
  void SetGlobalBuffer(__gm__ T* buffer, uint64_t size) {
    const auto address = reinterpret_cast<uint64_t>(buffer);
    operand_ = {twin::Space::gm, twin::type_of<T>, address, address,
                address + twin::bytes_of(twin::type_of<T>, size)};
  }
  GlobalTensor operator[](uint64_t offset) const {
    GlobalTensor moved = *this;
    moved.operand_ = operand_.at(offset);
    return moved;
  }
  T GetValue(uint64_t offset, Where where = Where::current()) const {
    T value;
    twin::Core::current().cached_read(operand_, offset * sizeof(T), sizeof(T), &value,
                                      {"GetValue", where});
    return value;
  }
  void SetValue(uint64_t offset, T value, Where where = Where::current()) {
    twin::Core::current().cached_write(operand_, offset * sizeof(T), sizeof(T), &value,
                                       {"SetValue", where});
  }

  const twin::Operand& operand() const { return operand_; }

 private:
  twin::Operand operand_{};
};

// Writes back and forgets what the scalar unit's cache holds of `at`, or all of it.
template <typename T, CacheLine lines, DcciDst destination = DcciDst::CACHELINE_ALL>
void DataCacheCleanAndInvalid(const GlobalTensor<T>& at, Where where = Where::current()) {
  twin::Core::current().clean_cache(at.operand(), lines == CacheLine::ENTIRE_DATA_CACHE,
                                    {"DataCacheCleanAndInvalid", where});
}

}  // namespace AscendC
