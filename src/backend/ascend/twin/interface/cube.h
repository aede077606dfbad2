#pragma once

#include "backend/ascend/twin/interface/tensor.h"

// The cube unit: fractals of 16 rows and 32 bytes. L1 holds NZ (columns of fractals), L0A rows of
// fractals with rows inside, L0B rows of fractals with columns inside, L0C columns of 16·16.
namespace ridge::backend::ascend::twin {

void load_fractals(const Operand& to, const Operand& from, const AscendC::LoadData2DParams& params,
                   Site site);
void multiply(const Operand& to, const Operand& a, const Operand& b,
              const AscendC::MmadParams& params, Site site);
void fixpipe(const Operand& to, const Operand& from, const AscendC::FixpipeParamsV220& params,
             AscendC::CO2Layout layout, Site site);

}  // namespace ridge::backend::ascend::twin

namespace AscendC {

// L1 to L0A or L0B by fractals of 512 bytes.
template <typename T>
void LoadData(const LocalTensor<T>& to, const LocalTensor<T>& from, const LoadData2DParams& params,
              Where where = Where::current()) {
  twin::load_fractals(to.operand(), from.operand(), params, {"LoadData", where});
}

// to[m, n] (+)= a[m, k] b[k, n].
template <typename To, typename A, typename B>
void Mmad(const LocalTensor<To>& to, const LocalTensor<A>& a, const LocalTensor<B>& b,
          const MmadParams& params, Where where = Where::current()) {
  twin::multiply(to.operand(), a.operand(), b.operand(), params, {"Mmad", where});
}

// Accumulators to global memory, converted on the way.
template <typename To, typename From, const FixpipeConfig& config = CFG_ROW_MAJOR>
void Fixpipe(const GlobalTensor<To>& to, const LocalTensor<From>& from,
             const FixpipeParamsV220& params, Where where = Where::current()) {
  twin::fixpipe(to.operand(), from.operand(), params, config.format, {"Fixpipe", where});
}

}  // namespace AscendC
