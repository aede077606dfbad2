#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/communicator.h"
#include "backend/device.h"
#include "backend/device_finding.h"

namespace ridge::backend {

// Names that open_device takes on any machine, the preferred one first: "cpu", "reference".
std::vector<std::string> device_names();
// Others, which need what few machines have or are models of it: "ascend", "ascend-twin". A colon and
// a word behind one say which: "ascend:1", "ascend-twin:910B4".
std::vector<std::string> special_device_names();
// What DeviceOptions::isa may ask of a device on this machine, the plainest first; empty where
// there is nothing to choose. Throws not_found as open_device.
std::vector<std::string> device_isas(std::string_view name);
// Likewise those that the device can only imitate here: for tests, with
// DeviceOptions::allow_emulation.
std::vector<std::string> device_emulated_isas(std::string_view name);

// What this machine has, or half has, beside its processors, for people to read. May take seconds.
std::vector<DeviceFinding> examine_devices();

// Opens a device: "auto" is the first of device_names(). Throws not_found naming what there is, or
// unsupported where the machine lacks what `options` ask for.
std::unique_ptr<Device> open_device(std::string_view name, const DeviceOptions& options = {});

// Likewise the device of one rank of several, whose programs gather from the others. The communicator
// must outlive it. Throws unsupported as well where the device can only be alone.
std::unique_ptr<Device> open_rank_device(std::string_view name, const DeviceOptions& options,
                                         Communicator& communicator);

// A device that is a StepCounter too (step_profile.h). Throws unsupported for those that cannot count,
// not_found for what there is not.
std::unique_ptr<Device> open_counting_device(std::string_view name);

}  // namespace ridge::backend
