#pragma once

#include <memory>

#include "backend/prepared_store.h"
#include "cli/context.h"
#include "platform/resolve.h"

namespace ridge::cli {

inline constexpr const char* prepared_cache_description =
    "Keep weights on the disk as this device wants them, so that later starts map them";

// Says when the weights are on the disk: at once, or not before the store goes, where a note would
// stand in the middle of an answer.
enum class NoteKept { at_once, at_the_end };

// Where prepared weights of `model` are found and kept, in the store's folder `prepared`; nullptr
// where they are not `wanted`. Tells a person what it finds, how much it will keep, and what it
// could not do: a model loads without it as well. Writing to the disk goes on in a thread of its
// own after loading; the destructor waits for it. `context` must outlive the result. The digest of
// a file outside the store is computed here, once. `threads` as DeviceOptions.
std::shared_ptr<backend::PreparedStore> prepared_store(Context& context,
                                                       const platform::ResolvedModel& model,
                                                       bool wanted, int threads, NoteKept note);

}  // namespace ridge::cli
