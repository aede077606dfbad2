#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/kv_cache.h"
#include "tile_test_data.h"

// Attention in int16 (WordMath) where its integers come nearest to their bounds, which random numbers do
// not; the conformance suite has these.
namespace ridge::backend::cpu::word_attention_test {
namespace {

struct Shape {
  int key_dim, value_dim;
  int rows, context;  // rows are tokens, the last ones of the context
};

// Numbers that float16 has, by token (or row) and dimension.
struct Numbers {
  std::string name;
  std::function<float(int, int)> q, k, v;
};

class WordAttention : public testing::Test {
 protected:
  void SetUp() override {
    const auto isas = available_isas();
    if (std::find(isas.begin(), isas.end(), "avx512_vnni") == isas.end()) {
      GTEST_SKIP() << "NOT CHECKED: this machine has no AVX-512 VNNI";
    }
    kernels_ = select_isa("avx512_vnni").kernels;
  }

  std::vector<float> attend(const Shape& shape, const Numbers& numbers) const {
    constexpr int block = 16;
    const int blocks = (shape.context + block - 1) / block;
    const CpuKvCache cache({.layers = 1,
                            .blocks = blocks,
                            .block_tokens = block,
                            .kv_heads = 1,
                            .key_dim = shape.key_dim,
                            .value_dim = shape.value_dim,
                            .dtype = DType::f16});
    const KvGeometry& kv = cache.geometry();
    std::vector<int32_t> table;
    for (int b = 0; b < blocks; ++b) table.push_back(b);
    const auto filled = [](int count, int width, const std::function<float(int, int)>& of) {
      std::vector<float> all;
      for (int i = 0; i < count; ++i) {
        for (int d = 0; d < width; ++d) all.push_back(of(i, d));
      }
      return all;
    };
    const auto k = filled(shape.context, shape.key_dim, numbers.k);
    const auto v = filled(shape.context, shape.value_dim, numbers.v);
    for (int t = 0; t < shape.context; ++t) {
      kernels_->store_kv(&k[t * shape.key_dim], &v[t * shape.value_dim],
                         cache.head(0, 0) + t / block * kv.block_stride, t % block, kv);
    }
    const auto q = filled(shape.rows, shape.key_dim, numbers.q);
    std::vector<float> out(static_cast<size_t>(shape.rows) * shape.value_dim, -7.0f);
    std::vector<std::byte> scratch(
        attention_scratch_bytes(kv, kernels_->attention_rows[static_cast<int>(DType::f16)], false) + 64);
    AttentionJob job{};
    job.q = q.data();
    job.q_stride = shape.key_dim;
    job.q_dims = shape.key_dim;
    job.out = out.data();
    job.out_stride = shape.value_dim;
    job.group_heads = 1;
    job.rows = shape.rows;
    job.first_position = shape.context - shape.rows;
    job.range_end = shape.context;
    job.block_table = table.data();
    job.cache = cache.head(0, 0);
    job.kv = &kv;
    job.scale = 1;
    job.scratch = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
    kernels_->attention(job);
    return out;
  }

  // What the formula gives, in float64.
  static std::vector<double> wanted(const Shape& shape, const Numbers& numbers) {
    std::vector<double> out;
    for (int r = 0; r < shape.rows; ++r) {
      const int end = shape.context - shape.rows + r + 1;
      std::vector<double> scores;
      for (int t = 0; t < end; ++t) {
        double dot = 0;
        for (int d = 0; d < shape.key_dim; ++d) dot += double{numbers.q(r, d)} * numbers.k(t, d);
        scores.push_back(dot);
      }
      const double best = *std::max_element(scores.begin(), scores.end());
      double total = 0;
      for (double& score : scores) total += score = std::exp(score - best);
      for (int d = 0; d < shape.value_dim; ++d) {
        double sum = 0;
        for (int t = 0; t < end; ++t) sum += scores[t] / total * numbers.v(t, d);
        out.push_back(sum);
      }
    }
    return out;
  }

  const KernelTable* kernels_ = nullptr;
};

constexpr float largest = 65504;  // of float16
float sign(int i) { return i % 2 == 0 ? 1.0f : -1.0f; }

TEST_F(WordAttention, StaysExactWhereSumsComeNearTheirBounds) {
  const auto one_hot = [](int place, float value) {
    return [=](int, int d) { return d == place ? value : 0.0f; };
  };
  const std::vector<Numbers> all = {
      {"all equal", [](int, int) { return 0.25f; }, [](int, int) { return 0.5f; },
       [](int, int) { return largest; }},
      {"opposite", [](int, int) { return 0.25f; }, [](int t, int) { return -0.5f * sign(t); },
       [](int t, int) { return largest * sign(t / 2); }},
      {"one dimension", one_hot(0, 3.0f), one_hot(0, 1.5f), [](int t, int d) { return sign(t + d); }},
      {"one dimension beside small ones", [](int, int d) { return d == 3 ? 4.0f : 0.01f; },
       [](int t, int d) { return d == 3 ? 2.0f : 0.01f * sign(t); },
       [](int t, int d) { return static_cast<float>(t % 7 - 3 + d % 2); }},
      {"16 alike, the others zero", [](int, int d) { return d < 16 ? 0.5f : 0.0f; },
       [](int t, int d) { return d < 16 ? 0.5f * sign(t) : 0.0f; },
       [](int t, int) { return largest * sign(t); }},
      {"one key has all the weight", [](int, int) { return 1.0f; },
       [](int t, int) { return t == 5 ? 1.0f : -1.0f; },
       [](int t, int) { return t == 5 ? largest : -largest; }},
      {"zeros", [](int, int) { return 0.0f; }, [](int, int) { return 0.0f; },
       [](int t, int) { return t % 3 == 0 ? 0.0f : 1.0f; }},
  };
  for (const Shape& shape : {Shape{64, 64, 16, 64}, {128, 128, 128, 200}, {80, 96, 13, 77},
                             {17, 33, 40, 130}, {16, 16, 48, 48}}) {
    for (const Numbers& numbers : all) {
      const auto got = attend(shape, numbers);
      const auto want = wanted(shape, numbers);
      double size = 0;
      for (int t = 0; t < shape.context; ++t) size = std::max(size, std::abs(double{numbers.v(t, 0)}));
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(got[i], want[i], 1e-3 * size)
            << numbers.name << ", " << shape.rows << " rows of " << shape.key_dim << ", output " << i;
      }
    }
  }
}

// As over other caches: whoever picks tokens sees by it that a model computes nonsense.
TEST_F(WordAttention, GivesNoNumberWhereAValueIsNone) {
  const Shape shape{64, 64, 16, 64};
  const auto plain = [](int t, int d) { return 0.125f * static_cast<float>((t + d) % 5); };
  for (const int dim : {0, 20, 63}) {
    const auto with_none = [&](int t, int d) {
      return t == 7 && d == dim ? std::numeric_limits<float>::quiet_NaN() : plain(t, d);
    };
    const auto out = attend(shape, {"", plain, plain, with_none});
    EXPECT_TRUE(std::isnan(out[dim]));
  }
}

}  // namespace
}  // namespace ridge::backend::cpu::word_attention_test
