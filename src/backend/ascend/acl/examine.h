#pragma once

#include <string>

#include "backend/device_finding.h"

namespace ridge::backend::ascend::acl {

// Where to look; tests have places of their own.
struct ExaminedPlaces {
  std::string device_folder = "/dev";
  std::string driver_version_file = "/usr/local/Ascend/driver/version.info";
  std::string library;  // as for Library::open
};

// Takes the devices into use for a moment, which may take seconds, and where that fails says which
// of library, driver, device nodes and permissions is missing. Never throws for what it finds.
DeviceFinding examine(const ExaminedPlaces& places = {});

}  // namespace ridge::backend::ascend::acl
