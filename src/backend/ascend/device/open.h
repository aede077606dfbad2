#pragma once

#include <memory>
#include <string_view>

#include "backend/ascend/acl/examine.h"
#include "backend/device.h"

namespace ridge::backend::ascend {

// Names the binary of compiled kernels; else kernels_file beside the program or in ../lib/ridge.
inline constexpr const char* kernels_setting = "RIDGE_ASCEND_KERNELS";
inline constexpr const char* kernels_file = "ridge_ascend_kernels.o";
inline constexpr const char* kernels_advice =
    "compile them with CANN's toolkit (docs/ascend.md) and name the file with RIDGE_ASCEND_KERNELS";

// "off": steps are launched kernel by kernel also where the library can capture graphs.
inline constexpr const char* graphs_setting = "RIDGE_ASCEND_GRAPHS";

// A device of CANN's runtime; `variant` is its number, "" for 0. Throws as acl::Library::open and
// acl::Device; not_found where there are no compiled kernels.
std::unique_ptr<Device> open(std::string_view variant, const DeviceOptions& options);

// What `ridge doctor` says: what acl::examine finds, and whether there are compiled kernels for it.
DeviceFinding examine(const acl::ExaminedPlaces& places = {});

// The model of a chip; `variant` is the chip, as find_soc takes it, "" for 910B2. Throws not_found
// for a chip that there is not.
std::unique_ptr<Device> open_twin(std::string_view variant, const DeviceOptions& options);

// The same, a StepCounter: kernels are counted and not run.
std::unique_ptr<Device> open_counting_twin(std::string_view variant);

}  // namespace ridge::backend::ascend
