#pragma once

#include "cli/context.h"
#include "platform/pull.h"

namespace ridge::cli {

// platform::pull with a progress bar where there is a terminal; stops at Ctrl-C where an
// InterruptScope lives.
platform::PullResult pull_with_progress(Context& context, const platform::ModelReference& reference,
                                        int attempts = platform::RetryPolicy{}.attempts);

}  // namespace ridge::cli
