#pragma once

#include "backend/ascend/twin/interface/queue.h"

// Moves between memories. Which pipe makes them follows from the two ends: MTE2 from global memory,
// MTE3 to it, MTE1 from L1 to L0.
namespace ridge::backend::ascend::twin {

// Blocks at equal distances, all in bytes.
struct Strided {
  uint32_t blocks = 1;
  uint32_t block_bytes = 0;
  uint64_t source_step = 0;  // from one block's beginning to the next
  uint64_t target_step = 0;
};
void move_blocks(const Operand& to, const Operand& from, const Strided& shape, Site site);

// As DataCopyPad does; `value` is one element of padding.
struct Padding {
  bool on = false;
  uint32_t left_bytes = 0;
  uint32_t right_bytes = 0;
  uint64_t value = 0;
  uint32_t value_bytes = 1;
};
void move_padded_in(const Operand& to, const Operand& from,
                    const AscendC::DataCopyExtParams& shape, const Padding& padding, Site site);
void move_padded_out(const Operand& to, const Operand& from,
                     const AscendC::DataCopyExtParams& shape, Site site);
void move_nd_to_nz(const Operand& to, const Operand& from, const AscendC::Nd2NzParams& shape,
                   Site site);

}  // namespace ridge::backend::ascend::twin

namespace AscendC {

inline twin::Strided strided(const DataCopyParams& params) {
  return {params.blockCount, params.blockLen * 32u, (params.blockLen + params.srcStride) * 32u,
          (params.blockLen + params.dstStride) * 32u};
}

template <typename T>
twin::Strided contiguous(uint32_t count) {
  const auto bytes = static_cast<uint32_t>(twin::bytes_of(twin::type_of<T>, count));
  return {1, bytes, bytes, bytes};
}

// Contiguous elements, a multiple of 32 bytes.
template <typename T>
void DataCopy(const LocalTensor<T>& to, const GlobalTensor<T>& from, uint32_t count,
              Where where = Where::current()) {
  twin::move_blocks(to.operand(), from.operand(), contiguous<T>(count), {"DataCopy", where});
}
template <typename T>
void DataCopy(const GlobalTensor<T>& to, const LocalTensor<T>& from, uint32_t count,
              Where where = Where::current()) {
  twin::move_blocks(to.operand(), from.operand(), contiguous<T>(count), {"DataCopy", where});
}
// Blocks of 32 bytes with gaps.
template <typename T>
void DataCopy(const LocalTensor<T>& to, const GlobalTensor<T>& from, const DataCopyParams& params,
              Where where = Where::current()) {
  twin::move_blocks(to.operand(), from.operand(), strided(params), {"DataCopy", where});
}
template <typename T>
void DataCopy(const GlobalTensor<T>& to, const LocalTensor<T>& from, const DataCopyParams& params,
              Where where = Where::current()) {
  twin::move_blocks(to.operand(), from.operand(), strided(params), {"DataCopy", where});
}
// A row-major matrix into columns of fractals: element (n, d) goes to column d / C0 of blocks.
template <typename T>
void DataCopy(const LocalTensor<T>& to, const GlobalTensor<T>& from, const Nd2NzParams& params,
              Where where = Where::current()) {
  twin::move_nd_to_nz(to.operand(), from.operand(), params, {"DataCopy", where});
}

// Any number of bytes. In UB each block begins at a multiple of 32 bytes; what lies between its end
// and the next such place is undefined, but for padding.
template <typename T>
void DataCopyPad(const LocalTensor<T>& to, const GlobalTensor<T>& from,
                 const DataCopyExtParams& params, const DataCopyPadExtParams<T>& padding,
                 Where where = Where::current()) {
  twin::Padding bytes{padding.isPad, static_cast<uint32_t>(padding.leftPadding * sizeof(T)),
                      static_cast<uint32_t>(padding.rightPadding * sizeof(T)), 0, sizeof(T)};
  std::memcpy(&bytes.value, &padding.paddingValue, sizeof(T));
  twin::move_padded_in(to.operand(), from.operand(), params, bytes, {"DataCopyPad", where});
}
template <typename T>
void DataCopyPad(const GlobalTensor<T>& to, const LocalTensor<T>& from,
                 const DataCopyExtParams& params, Where where = Where::current()) {
  twin::move_padded_out(to.operand(), from.operand(), params, {"DataCopyPad", where});
}

// Stores to global memory add to what is there, until SetAtomicNone.
template <typename T>
void SetAtomicAdd() {
  static_assert(std::is_same_v<T, float>, "the twin adds floats");
  twin::Core::current().atomic_add = true;
}
inline void SetAtomicNone() { twin::Core::current().atomic_add = false; }

}  // namespace AscendC
