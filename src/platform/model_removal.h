#pragma once

#include <cstdint>
#include <string_view>

#include "platform/store.h"

namespace ridge::platform {

// Takes a model away from the store: those of its files that no other model has, and what was
// prepared of them. Returns the bytes freed. Throws not_found.
int64_t remove_model(Store& store, std::string_view name);

}  // namespace ridge::platform
