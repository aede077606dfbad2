// What ridge_sample_rows picks is what sampling::Sampler picks.
#include <algorithm>
#include <functional>
#include <numeric>

#include "backend/ascend/kernel_test.h"
#include "backend/ascend/layouts.h"
#include "backend/ascend/tiling.h"
#include "sampling/sampler.h"

namespace ridge::backend::ascend::sampling_kernel_test {

namespace {

using sampling::SamplingParams;

class SamplingKernel : public KernelTest {
 protected:
  // One row for each of `params`, all of `logits` [rows, columns]; the choice and the token's number
  // differ.
  std::vector<int32_t> on_device(const std::vector<float>& logits,
                                 const std::vector<SamplingParams>& params) {
    const auto rows = static_cast<uint32_t>(params.size());
    const auto columns = static_cast<uint32_t>(logits.size() / params.size());
    std::vector<SamplingRow> how;
    for (uint32_t r = 0; r < rows; ++r) {
      const SamplingParams& p = params[r];
      how.push_back(sampling_row(p.temperature, p.top_k, p.top_p, p.min_p, *p.seed, choice_of(r),
                                 tokens_before(r)));
    }
    DeviceMemory device;
    const uint64_t ids = device.reserve(rows * sizeof(int32_t));
    const auto plan = plan_sample_rows(soc(), rows, columns, columns);
    launch(device, "ridge_sample_rows", plan.block_dim, device.store(logits), device.store(how), ids,
           device.store_tiling(plan.tiling));
    return device.load<int32_t>(ids, rows);
  }

  std::vector<int32_t> on_host(const std::vector<float>& logits,
                               const std::vector<SamplingParams>& params) {
    const size_t columns = logits.size() / params.size();
    std::vector<int32_t> ids;
    sampling::Workspace workspace;
    for (size_t r = 0; r < params.size(); ++r) {
      sampling::Sampler sampler(params[r], {}, choice_of(r));
      for (uint64_t t = 0; t < tokens_before(r); ++t) sampler.accept(0);
      ids.push_back(
          sampler.pick(std::span(logits).subspan(r * columns, columns), {}, workspace).token);
    }
    return ids;
  }

  // Of the most_top_k likeliest tokens, of all probability.
  static double share_of_best(std::span<const float> logits, float temperature) {
    std::vector<double> powers;
    for (const float logit : logits) powers.push_back(std::exp(logit / temperature));
    std::ranges::sort(powers, std::greater());
    const auto best = powers.begin() + std::min<ptrdiff_t>(most_top_k, std::ssize(powers));
    return std::accumulate(powers.begin(), best, 0.0) /
           std::accumulate(powers.begin(), powers.end(), 0.0);
  }

  static uint32_t choice_of(size_t row) { return static_cast<uint32_t>(row % 3); }
  static uint64_t tokens_before(size_t row) { return row / 2; }

  // Every combination, each with seeds of its own.
  std::vector<SamplingParams> combinations(const std::vector<int>& top_ks,
                                           const std::vector<float>& top_ps) {
    std::vector<SamplingParams> all;
    for (const float temperature : {0.0f, 0.3f, 1.0f, 2.0f}) {
      for (const int top_k : top_ks) {
        for (const float top_p : top_ps) {
          for (const float min_p : {0.0f, 0.02f, 0.5f}) {
            SamplingParams params;
            params.temperature = temperature;
            params.top_k = top_k;
            params.top_p = top_p;
            params.min_p = min_p;
            params.seed = static_cast<uint64_t>(random()) << 32 | random();
            all.push_back(params);
          }
        }
      }
    }
    return all;
  }
};

// Below, at and beyond a step of the kernel.
TEST_P(SamplingKernel, PicksWhatTheHostPicks) {
  const std::vector<SamplingParams> params =
      combinations({0, 1, 7, 128}, {1.0f, 0.9f, 0.3f, 1e-6f});
  for (const size_t columns : {1u, 5u, 128u, 300u, 2048u, 5000u}) {
    SCOPED_TRACE(columns);
    // As of models: a few tokens have most of the probability.
    std::vector<float> logits = random_floats(random, params.size() * columns, 2.0f);
    for (size_t r = 0; r < params.size(); ++r) {
      for (int i = 0; i < 5; ++i) logits[r * columns + random() % columns] += 12;
    }
    const std::vector<int32_t> got = on_device(logits, params), wanted = on_host(logits, params);
    for (size_t r = 0; r < params.size(); ++r) {
      const SamplingParams& p = params[r];
      SCOPED_TRACE("temperature " + std::to_string(p.temperature) + ", top_k " +
                   std::to_string(p.top_k) + ", top_p " + std::to_string(p.top_p) + ", min_p " +
                   std::to_string(p.min_p));
      if (got[r] >= 0 || p.top_k > 0 || p.min_p == 0.5f) {
        ASSERT_EQ(got[r], wanted[r]);
      } else {
        ASSERT_LT(share_of_best(std::span(logits).subspan(r * columns, columns), p.temperature),
                  p.top_p + 1e-6);
      }
    }
  }
}

// Ties at the last place of every cut, and sums that meet top-p exactly.
TEST_P(SamplingKernel, PicksWhatTheHostPicksOfTokensThatTie) {
  const std::vector<SamplingParams> params = combinations({0, 3, 40}, {1.0f, 0.5f, 0.25f, 0.1f});
  for (const size_t columns : {8u, 100u}) {
    SCOPED_TRACE(columns);
    std::vector<float> logits = random_floats(random, params.size() * columns, 2.0f);
    for (float& value : logits) value = std::round(value);
    std::fill_n(logits.begin(), 20 * columns, 1.0f);
    EXPECT_EQ(on_device(logits, params), on_host(logits, params));
    if (HasFailure()) return;
  }
}

// A nucleus of more tokens than the kernel looks at is left to the host.
TEST_P(SamplingKernel, SaysWhereItCannotPick) {
  const size_t columns = 600;
  SamplingParams params;
  params.seed = 3;
  params.top_p = 0.99f;
  const std::vector<float> flat(columns, 0.5f);
  EXPECT_EQ(on_device(flat, {params}), std::vector<int32_t>{-1});
  params.top_p = 0.2f;  // 120 of them
  EXPECT_EQ(on_device(flat, {params}), on_host(flat, {params}));
  params.top_p = 0.22f;  // 132
  EXPECT_EQ(on_device(flat, {params}), std::vector<int32_t>{-1});
}

// Of many draws each token has its share.
TEST_P(SamplingKernel, DrawsByProbability) {
  const size_t draws = 2000;
  const std::vector<float> row = {std::log(0.5f), std::log(0.25f), std::log(0.125f),
                                  std::log(0.125f)};
  std::vector<float> logits;
  std::vector<SamplingParams> params(draws);
  for (size_t i = 0; i < draws; ++i) {
    logits.insert(logits.end(), row.begin(), row.end());
    params[i].seed = i;
  }
  std::vector<double> counts(row.size());
  for (const int32_t id : on_device(logits, params)) ++counts.at(static_cast<size_t>(id));
  // Four deviations of half of the draws.
  for (size_t id = 0; id < row.size(); ++id) {
    EXPECT_NEAR(counts[id], draws * std::exp(row[id]), 4 * std::sqrt(draws * 0.25)) << id;
  }
}

INSTANTIATE_FOR_SETTINGS(SamplingKernel);

}  // namespace

}  // namespace ridge::backend::ascend::sampling_kernel_test
