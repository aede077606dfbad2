// Linears by themselves, at the shapes of a model of 1.5 billion parameters and at one that fits
// the second-level cache: checks each result against float64 sums over the dequantised weight, then
// prints its speed as a share of what this machine's own threads measured (ridge bench --machine):
// of reads of memory for few rows, whose weights come from there, and of what the instruction that
// multiplies can do. A second plane of activations counts as a row: it is multiplied like one.
//   linear_benchmark [--isa NAME]… [--dtype NAME]… [--rows N]… [--shape NAME]… [--threads N]
//                    [--precision full|bf16|int8]… [--seconds S]
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "backend/cpu/isa.h"
#include "backend/cpu/machine_probe.h"
#include "backend/recorder.h"
#include "backend/registry.h"
#include "base/error.h"
#include "conformance/random_weights.h"
#include "kernel_limits.h"
#include "measure.h"
#include "tensor/dequantize.h"

namespace ridge::benchmarks {
namespace {

using backend::Precision;

struct Shape {
  std::string name;
  int rows, columns;
};
const std::vector<Shape> all_shapes = {{"qkv", 2048, 1536},
                                       {"output", 1536, 1536},
                                       {"gate_up", 17920, 1536},
                                       {"down", 1536, 8960},
                                       {"cached", 1024, 1536}};

const std::map<std::string, Precision> precision_names = {
    {"full", Precision::full}, {"bf16", Precision::bf16}, {"int8", Precision::int8}};

struct Options {
  std::vector<std::string> isas;
  std::vector<std::string> dtypes = {"q4_k", "q6_k", "q4_0", "q8_0", "f16"};
  std::vector<std::string> shapes;
  std::vector<std::string> precisions = {"full", "int8"};
  std::vector<int> rows = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 32, 64, 512};
  int threads = 0;
  double seconds = 0.2;  // for each figure
};

// Few rows wait for weights, which come from memory in a model: all copies together exceed the
// caches.
constexpr int few_rows = 16;

// Beside so many linears, starting a run takes no time.
constexpr int least_linears = 16;

// A run of linears over the same activations, whose weights take `total_bytes` or are one.
class Chain {
 public:
  Chain(backend::Device& device, const Shape& shape, DType dtype, Precision precision, int max_rows,
        size_t total_bytes)
      : device_(device), stream_(device.create_stream()), shape_(shape), dtype_(dtype) {
    conformance::Random random(1);
    inputs_ = conformance::random_values(random, static_cast<size_t>(max_rows) * shape.columns);
    table_ = conformance::weight_of(inputs_, shape.columns, backend::WeightUse::embedding);
    weight_ = conformance::random_weight(random, {{dtype, shape.rows}}, shape.columns);
    const auto input = [&](size_t count) {
      buffers_.push_back(device.allocate(count * sizeof(int32_t)));
      return buffers_.back().get();
    };
    token_ids_ = input(max_rows);
    std::vector<int32_t> ids(max_rows);
    for (int i = 0; i < max_rows; ++i) ids[i] = i;
    stream_->upload(*token_ids_, 0, std::as_bytes(std::span(ids)));
    const backend::StepBuffers inputs{token_ids_, input(1), input(1), input(2), input(1),
                                      input(1),   input(1), input(1), input(1)};
    prepared_.push_back(device.prepare_weight(table_->source));
    backend::Recorder recorder({.tokens = max_rows, .sequences = 1, .blocks_per_sequence = 1},
                               inputs, device.activation_dtype());
    const backend::Value x = recorder.embed(*prepared_.back());
    const size_t bytes = weight_->bytes[0].size();
    for (size_t i = 0; i < std::max<size_t>(1, total_bytes / bytes); ++i) {
      prepared_.push_back(device.prepare_weight(weight_->source));
    }
    weight_bytes_ = prepared_.back()->size_bytes();
    const size_t weights = prepared_.size() - 1;  // the first is the table
    linears_ = max_rows > few_rows && shape.name != "cached" ? 1 : least_linears;
    linears_ = std::max(linears_, static_cast<int>(weights));
    backend::Value out;
    for (int i = 0; i < linears_; ++i) {
      out = recorder.linear(x, *prepared_[1 + i % weights], nullptr, precision);
    }
    recorder.mark_output(out);
    program_ = device.compile(recorder.finish());
  }

  int linears() const { return linears_; }
  double weight_bytes() const { return static_cast<double>(weight_bytes_); }

  double seconds_of_run(int rows) {
    const auto start = std::chrono::steady_clock::now();
    stream_->run(*program_, {.tokens = rows, .sequences = 1});
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  // Root mean square error of some of the last run's outputs over their size.
  double error(int rows) {
    std::vector<float> got(static_cast<size_t>(rows) * shape_.rows);
    stream_->download(program_->output(0), 0, std::as_writable_bytes(std::span(got)));
    stream_->synchronize();
    const size_t row_size = row_bytes(dtype_, shape_.columns);
    std::vector<float> weight_row(shape_.columns);
    double squares = 0, error_squares = 0;
    const int stride = std::max(1, shape_.rows / 150) | 1;
    for (int n = 0; n < shape_.rows; n += stride) {
      dequantize_row(dtype_, std::span(weight_->bytes[0]).subspan(n * row_size, row_size),
                     weight_row);
      for (int t = 0; t < rows; t += 7) {
        double sum = 0;
        for (int k = 0; k < shape_.columns; ++k) {
          sum += static_cast<double>(weight_row[k]) * inputs_[t * shape_.columns + k];
        }
        const double difference = got[static_cast<size_t>(t) * shape_.rows + n] - sum;
        squares += sum * sum;
        error_squares += difference * difference;
      }
    }
    return std::sqrt(error_squares / squares);
  }

 private:
  backend::Device& device_;
  std::unique_ptr<backend::Stream> stream_;
  Shape shape_;
  DType dtype_;
  std::vector<float> inputs_;  // [max_rows, columns]
  conformance::TestWeightPointer table_, weight_;
  std::vector<std::unique_ptr<backend::Buffer>> buffers_;
  backend::Buffer* token_ids_ = nullptr;
  std::vector<std::unique_ptr<backend::Weight>> prepared_;
  std::unique_ptr<backend::Program> program_;
  int linears_ = 0;
  size_t weight_bytes_ = 0;
};

// Throws internal where a result is wrong: its speed would say nothing.
void check(Chain& chain, int rows, Precision precision, const std::string& what) {
  chain.seconds_of_run(rows);
  const double error = chain.error(rows);
  const double allowed = precision == Precision::full ? 1e-4 : 2e-2;
  if (!(error <= allowed)) {
    throw Error(ErrorCode::internal, fmt::format("{}: an error of {:.1e} of the output's size; at "
                                                 "most {:.0e} is right",
                                                 what, error, allowed));
  }
}

void measure(backend::Device& device, const backend::cpu::KernelTable& kernels,
             const Limits& limits, const Options& options, const Shape& shape, DType dtype,
             const std::string& precision_name, bool few) {
  std::vector<int> rows_of_chain;
  for (int rows : options.rows) {
    if ((rows <= few_rows && shape.name != "cached") == few) rows_of_chain.push_back(rows);
  }
  if (rows_of_chain.empty()) return;
  const Precision precision = precision_names.at(precision_name);
  Chain chain(device, shape, dtype, precision,
              *std::max_element(rows_of_chain.begin(), rows_of_chain.end()),
              few ? backend::cpu::uncached_bytes() : 0);
  for (int rows : rows_of_chain) {
    const std::string what = fmt::format("{:<16} {:<8} {:<6} {:<8} {:>4}", device.info().name,
                                         shape.name, name(dtype), precision_name, rows);
    check(chain, rows, precision, what);
    const double best = least_seconds(options.seconds, [&] { return chain.seconds_of_run(rows); });
    const double each = best / chain.linears();
    const double bytes = chain.weight_bytes() / each;
    const double flops = 2.0 * shape.rows * shape.columns * rows / each;
    // Weights that stay in a cache say nothing of memory.
    const std::string of_memory =
        few ? fmt::format("{:>8.1f} {:>5.0f} %", bytes / 1e9, 100 * bytes / limits.bytes_per_second)
            : fmt::format("{:>8} {:>7}", "", "");
    fmt::print("{} {:>10.1f} {} {:>9.0f} {:>5.0f} %\n", what, each * 1e6, of_memory, flops / 1e9,
               100 * flops / peak_of(limits, kernels, dtype, precision, rows));
  }
}

void run(Options options) {
  if (options.isas.empty()) options.isas = backend::device_isas("cpu");
  for (const std::string& isa : options.isas) {
    const auto device = backend::open_device("cpu", {.threads = options.threads, .isa = isa});
    const backend::cpu::KernelTable& kernels = *backend::cpu::select_isa(isa).kernels;
    const Limits limits = measure_limits(kernels, device->info().threads);
    fmt::print("{}, {} threads: {}\n", device->info().name, device->info().threads,
               to_string(limits));
    fmt::print("{:<16} {:<8} {:<6} {:<8} {:>4} {:>10} {:>8} {:>7} {:>9} {:>7}\n", "device", "shape",
               "dtype", "", "rows", "µs", "GB/s", "share", "Gop/s", "share");
    for (const Shape& shape : all_shapes) {
      const auto& wanted = options.shapes;
      if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), shape.name) == wanted.end()) {
        continue;
      }
      for (const std::string& dtype : options.dtypes) {
        const auto known = dtype_from_name(dtype);
        if (!known) throw Error(ErrorCode::invalid_argument, "no dtype is called " + dtype);
        for (const std::string& precision : options.precisions) {
          for (bool few : {true, false}) {
            measure(*device, kernels, limits, options, shape, *known, precision, few);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace ridge::benchmarks

int main(int argc, char** argv) {
  ridge::benchmarks::Options options;
  CLI::App app{"Measures linears by themselves."};
  app.add_option("--isa", options.isas, "Instruction sets; all by default");
  app.add_option("--dtype", options.dtypes, "Weights' dtypes")->capture_default_str();
  app.add_option("--shape", options.shapes, "qkv, output, gate_up, down, cached; all by default");
  app.add_option("--rows", options.rows, "Rows of activations");
  app.add_option("--precision", options.precisions, "full, bf16, int8")
      ->check(CLI::IsMember({"full", "bf16", "int8"}));
  app.add_option("--threads", options.threads, "0: all");
  app.add_option("--seconds", options.seconds, "For each figure");
  CLI11_PARSE(app, argc, argv);
  return ridge::benchmarks::exit_code_of("linear_benchmark", [&] { ridge::benchmarks::run(options); });
}
