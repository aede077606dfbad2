#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/communicator.h"
#include "backend/device.h"

namespace ridge::backend::cpu {

// Opens the host's processors as one device. DeviceOptions::isa must be one of available_isas() or
// empty for the best; throws unsupported naming what there is.
// communicator: of the ranks that this device is one of, which must outlive it; nullptr: it is alone.
std::unique_ptr<Device> open(const DeviceOptions& options, Communicator* communicator = nullptr);
// The same with one form of latent attention (latent_forms.h), for tests and benchmarks.
enum class LatentForm : uint8_t;
std::unique_ptr<Device> open(const DeviceOptions& options, LatentForm latent_form);

// Instruction sets that this machine can run, the plainest first: "scalar", "avx2", "avx512",
// "avx512_vnni", "avx512_bf16", "amx".
std::vector<std::string> available_isas();
// Those that it can only imitate, slowly, for tests of their kernels: "amx_emulated",
// "amx_emulated_avx512". open takes them with DeviceOptions::allow_emulation.
std::vector<std::string> emulated_isas();

}  // namespace ridge::backend::cpu
